"""What a backend is, and what it makes: the model is flannel's pkg/backend/common.go.

Owns: the two protocols. Must not know: any backend.

    Backend   what a `Backend.Type` means: overhead, what a lease tells, which peers it can reach
    Network   the running data path: what the daemon holds, rebuilt rather than restarted
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from netaddr import IPAddress, IPNetwork

from udpoverlay.dataplane.recorder import Recorder
from udpoverlay.host.interfaces import Choice
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.fallback import Fallback
from udpoverlay.model.histogram import Histogram
from udpoverlay.model.impairment import Impairment, ImpairmentState
from udpoverlay.model.lease import Lease, LeaseAttrs
from udpoverlay.model.refusal import Refusal
from udpoverlay.model.report import PathReport
from udpoverlay.model.sender import RefusedSender
from udpoverlay.model.traffic import PeerTraffic, WorkerTimes

__all__ = ["Backend", "Choose", "Network", "OnChange"]

Choose = Callable[[], Awaitable[Choice]]
"""Looks at the host again."""
OnChange = Callable[[Choice], None]
"""Hears of another public IP, interface or MTU, when packets flow by it."""


class Backend(Protocol):
    """One kind of backend with one network's configuration."""

    @property
    def name(self) -> str:
        """As `Backend.Type` has it, lower-cased."""

    @property
    def network(self) -> IPNetwork:
        """The whole overlay."""

    @property
    def port(self) -> int:
        """UDP port, ours and every peer's; 0: none."""

    @property
    def overhead(self) -> int:
        """Bytes on the underlay around each packet."""

    def check(self, choice: Choice) -> None:
        """Raise the UdpOverlayError with which `open` would end, as far as that can be foreseen."""

    def lease_attrs(self, public_ip: IPAddress | None) -> LeaseAttrs:
        """What our lease tells the others."""

    def rejects(self, peer: Lease) -> Refusal | None:
        """Why we cannot reach `peer`, by what its lease tells; None: we can."""

    def route(self, peer: Lease) -> Endpoint:
        """Where packets for a peer that is not rejected go."""

    def open(
        self, lease: Lease, choice: Choice, settings: DataplaneSettings, *, choose: Choose
    ) -> AbstractAsyncContextManager[Network]:
        """The data path; no packet moves yet. Raises KernelError."""


class Network(Protocol):
    """The data path of one host. It is rebuilt when it must be, and the daemon goes on."""

    choice: Choice
    """What it goes by now."""
    on_change: OnChange
    recorder: Recorder | None
    """The last packets; it outlives what is rebuilt. None: there is none."""

    @property
    def device(self) -> str:
        """The device by which packets leave, now."""

    @property
    def address(self) -> IPAddress | None:
        """The device's own, where it has one."""

    @property
    def mtu(self) -> int:
        """Of an inner packet, in bytes, now."""

    def replace(self, routes: Mapping[IPNetwork, Endpoint]) -> None:
        """Publish `routes` as the whole of what is known, also to what is built later.

        Raises MemoryError or OSError when the table cannot be built; then the old one stays.
        """

    async def start(self) -> None:
        """Packets flow from here, or from the first routes."""

    async def run(self) -> None:
        """Keep it as it has to be, until cancelled: it heals, or says why it cannot."""

    # What is seen of it; see dataplane.engine.

    def alive(self) -> bool:
        """Whether workers move packets."""

    def troubles(self) -> dict[str, str]:
        """What keeps packets from flowing now, by part, in a sentence each; {} when nothing."""

    def repairs(self) -> dict[str, int]:
        """How often it was repaired, by kind."""

    def route_count(self) -> int:
        """Routes in the current table."""

    def counters(self) -> dict[str, int]:
        """Verdicts and counters by name since start."""

    def histograms(self) -> Mapping[str, Histogram]:
        """Sizes of batches and super-packets, and how long batches take, by name."""

    def worker_times(self) -> Sequence[WorkerTimes]:
        """What each worker spent its time on since it began."""

    def kernel_drops(self) -> dict[str, int]:
        """Packets that the kernel dropped in front of a worker, by direction."""

    def sender_counters(self) -> dict[str, int]:
        """What was done to find out from where peers send."""

    def traffic(self) -> Mapping[str, PeerTraffic]:
        """What went to each peer and came from it since start, by its public IP."""

    def heard(self, seconds: float | None) -> int:
        """How many peers sent a datagram in the last `seconds`; None: since start."""

    def report_counters(self) -> dict[str, int]:
        """ICMP errors that came back for our datagrams, by kind."""

    def features(self) -> dict[str, str]:
        """State of each offload."""

    def fallbacks(self) -> Sequence[Fallback]:
        """Offloads that the kernel refused."""

    def path_reports(self) -> Sequence[PathReport]:
        """ICMP errors by peer."""

    def refused_senders(self) -> Sequence[RefusedSender]:
        """Who sent what did not pass the source check."""

    def proved_senders(self) -> Mapping[str, Sequence[str]]:
        """Public IP of a peer → other addresses that it was proved to send from."""

    # What is done to it on purpose; see dataplane.impairments.

    def impairments(self) -> Sequence[ImpairmentState]:
        """Peers whose packets are made worse on purpose, now."""

    def impair(self, wanted: Impairment) -> None:
        """Make a peer's packets worse. Raises OperatorError where that is not allowed."""

    def end_impairment(self, peer: str) -> bool:
        """Let a peer's packets be again; False: nothing was done to them."""
