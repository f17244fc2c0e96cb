"""What a backend is, and what it makes: the model is flannel's pkg/backend/common.go.

Owns: the two protocols. Must not know: any backend.

    Backend   what a `Backend.Type` means: overhead, what a lease tells, which peers it can reach
    Network   the running data path: what the daemon holds, rebuilt rather than restarted
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from netaddr import IPAddress, IPNetwork

from udpoverlay.dataplane.recorder import Recorder
from udpoverlay.dataplane.tun import Tun
from udpoverlay.dataplane.tunnel import Tunnel
from udpoverlay.dataplane.udp import Sockets
from udpoverlay.host.interfaces import Choice
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.fallback import Fallback
from udpoverlay.model.histogram import Histogram
from udpoverlay.model.impairment import Impairment, ImpairmentState
from udpoverlay.model.lease import Lease, LeaseAttrs
from udpoverlay.model.legacy import Legacy
from udpoverlay.model.refusal import Refusal
from udpoverlay.model.report import PathReport
from udpoverlay.model.sender import RefusedSender
from udpoverlay.model.traffic import PeerTraffic, WorkerTimes

__all__ = ["Backend", "Choose", "Former", "Leaving", "Network", "Offered", "OnChange"]

Choose = Callable[[], Awaitable[Choice]]
"""Looks at the host again."""
OnChange = Callable[[Choice], None]
"""Hears of another public IP, interface or MTU, when packets flow by it."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What a former daemon leaves open for us."""

    tun: Tun
    sockets: Sockets | None
    """None: ours has another address or port."""


class Former(Protocol):
    """A daemon that ran before us, or still runs, and whose tunnel we go on with (handover/).

    offer ─► we are able ─► release: it stops, we begin ─► commit: it ends
    """

    @property
    def bound(self) -> tuple[str, int] | None:
        """Address and port that its socket holds."""

    @property
    def recorder(self) -> Recorder | None:
        """Its flight recorder, when it is in this process."""

    async def offer(self, tunnel: Tunnel, network: IPNetwork) -> Offered | None:
        """Its open device and socket, while it goes on; None: they do not fit and are closed.

        Raises OperatorError where it must go on and cannot be followed.
        """

    async def release(self) -> Legacy:
        """Stop moving packets; routes and counts at that moment."""

    async def commit(self) -> None:
        """We move packets now: it may end."""

    async def aclose(self) -> None:
        """Idempotent. Without a `release` we have failed: what of it is in this process ends."""


class Leaving(Protocol):
    """A network whose tunnel another daemon can go on with."""

    def legacy(self) -> Legacy:
        """What it needs to know, now."""

    @property
    def publications(self) -> int:
        """How often routes were published: with each, `legacy` has others."""

    def descriptors(self) -> tuple[list[int], int]:
        """Of the device's queues and of the UDP socket; ours."""

    async def suspend(self) -> Legacy:
        """Let no packet move, and keep all open; what has been counted by then."""

    async def resume(self) -> None:
        """As before: nothing has come of it."""


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

    def check(self, choice: Choice, held: tuple[str, int] | None = None) -> None:
        """Raise the UdpOverlayError with which `open` would end, as far as that can be foreseen.

        `held`: address and port that a former daemon's socket has for us.
        """

    def lease_attrs(self, public_ip: IPAddress | None) -> LeaseAttrs:
        """What our lease tells the others."""

    def rejects(self, peer: Lease) -> Refusal | None:
        """Why we cannot reach `peer`, by what its lease tells; None: we can."""

    def route(self, peer: Lease) -> Endpoint:
        """Where packets for a peer that is not rejected go."""

    def open(
        self,
        lease: Lease,
        choice: Choice,
        settings: DataplaneSettings,
        *,
        choose: Choose,
        former: Former | None = None,
    ) -> AbstractAsyncContextManager[Network]:
        """The data path; no packet moves by it yet. Raises KernelError."""


class Network(Protocol):
    """The data path of one host. It is rebuilt when it must be, and the daemon goes on."""

    choice: Choice
    """What it goes by now."""
    on_change: OnChange
    recorder: Recorder | None
    """The last packets; it outlives what is rebuilt. None: there is none."""

    @property
    def leaving(self) -> Leaving | None:
        """How another daemon goes on with it; None: there is nothing to go on with."""

    @property
    def counting_since(self) -> float:
        """When its counts began, on the monotonic clock."""

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
