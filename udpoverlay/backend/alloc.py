"""flannel's alloc backend: a host gets a subnet, and something else carries its packets.

Owns: that nothing is made. Must not know: devices, sockets (flannel pkg/backend/alloc/alloc.go).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from netaddr import IPAddress, IPNetwork

from udpoverlay.backend.base import Choose, Former, Leaving, OnChange
from udpoverlay.dataplane.recorder import Recorder
from udpoverlay.errors import OperatorError
from udpoverlay.host.interfaces import Choice
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.fallback import Fallback
from udpoverlay.model.histogram import Histogram
from udpoverlay.model.impairment import Impairment, ImpairmentState
from udpoverlay.model.lease import Lease, LeaseAttrs
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.refusal import Refusal
from udpoverlay.model.report import PathReport
from udpoverlay.model.sender import RefusedSender
from udpoverlay.model.traffic import PeerTraffic, WorkerTimes

__all__ = ["AllocBackend", "AllocNetwork"]


@dataclass(frozen=True, slots=True)
class AllocBackend:
    """See backend.base.Backend."""

    name: ClassVar[str] = "alloc"
    port: ClassVar[int] = 0
    overhead: ClassVar[int] = 0
    network: IPNetwork

    @classmethod
    def of(cls, netconf: NetConf) -> AllocBackend:
        """Raises OperatorError for a configuration without an IPv4 network."""
        if not netconf.enable_ipv4 or netconf.network is None:
            raise OperatorError(
                "network configuration: without an IPv4 Network there is nothing to hand out",
                fix='set "Network", and "EnableIPv4" to true',
            )
        return cls(netconf.network)

    def check(self, choice: Choice, held: tuple[str, int] | None = None) -> None:
        """Nothing is opened."""

    def lease_attrs(self, public_ip: IPAddress | None) -> LeaseAttrs:
        """The IPv4 address alone, as the udp backend."""
        assert public_ip is not None  # IPv4 is enabled
        return LeaseAttrs(public_ip)

    def rejects(self, peer: Lease) -> Refusal | None:
        """None: nothing is sent to any."""
        return None

    def route(self, peer: Lease) -> Endpoint:
        """Where the peer is; what carries packets there is not ours."""
        return Endpoint(peer.attrs.public_ip, 0)

    @contextlib.asynccontextmanager
    async def open(
        self,
        lease: Lease,
        choice: Choice,
        settings: DataplaneSettings,
        *,
        choose: Choose,
        former: Former | None = None,
    ) -> AsyncIterator[AllocNetwork]:
        """See backend.base.Backend."""
        yield AllocNetwork(choice)


class AllocNetwork:
    """See backend.base.Network: no device of ours, no packet, nothing that could need repair."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.on_change: OnChange = lambda _: None
        self.recorder: Recorder | None = None
        self.leaving: Leaving | None = None
        self.counting_since = time.monotonic()

    @property
    def device(self) -> str:
        """The underlay's interface."""
        return self.choice.name

    @property
    def address(self) -> IPAddress | None:
        """None: there is no device of ours."""
        return None

    @property
    def mtu(self) -> int:
        """The interface's."""
        return self.choice.mtu

    def replace(self, routes: Mapping[IPNetwork, Endpoint]) -> None:
        """Nothing is routed."""

    async def start(self) -> None:
        """Nothing begins."""

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.Event().wait()

    def alive(self) -> bool:
        """There is nothing that could end."""
        return True

    def troubles(self) -> dict[str, str]:
        """None."""
        return {}

    def repairs(self) -> dict[str, int]:
        """None."""
        return {"repairs": 0, "rebuilds": 0}

    def route_count(self) -> int:
        """None."""
        return 0

    def counters(self) -> dict[str, int]:
        """Nothing is counted."""
        return {}

    kernel_drops = sender_counters = report_counters = counters

    def histograms(self) -> Mapping[str, Histogram]:
        """Nothing is measured."""
        return {}

    def worker_times(self) -> Sequence[WorkerTimes]:
        """There is no worker."""
        return ()

    def traffic(self) -> Mapping[str, PeerTraffic]:
        """None passes through us."""
        return {}

    def heard(self, seconds: float | None) -> int:
        """No peer sends to us."""
        return 0

    def features(self) -> dict[str, str]:
        """No offload is used."""
        return {}

    def fallbacks(self) -> Sequence[Fallback]:
        """None."""
        return ()

    def path_reports(self) -> Sequence[PathReport]:
        """None."""
        return ()

    def refused_senders(self) -> Sequence[RefusedSender]:
        """None."""
        return ()

    def proved_senders(self) -> Mapping[str, Sequence[str]]:
        """None."""
        return {}

    def impairments(self) -> Sequence[ImpairmentState]:
        """None."""
        return ()

    def impair(self, wanted: Impairment) -> None:
        """Refused."""
        raise OperatorError("this backend carries no packets that could be impaired")

    def end_impairment(self, peer: str) -> bool:
        """There is none."""
        return False
