"""The status document: what the daemon knows about itself, as versioned JSON.

Owns: the schema (docs/reference/admin.md) and its version. Must not know: where facts come from.
Within one version keys are only added; a key that is renamed, removed or means something else
raises the version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from udpoverlay.model.impairment import ImpairmentState
from udpoverlay.model.sender import RefusedSender
from udpoverlay.model.traffic import WorkerTimes

__all__ = [
    "SCHEMA_VERSION",
    "DataplaneFacts",
    "FallbackFacts",
    "LeaseFacts",
    "NetworkFacts",
    "NodeFacts",
    "PeerFacts",
    "RegistryFacts",
    "ReportFacts",
    "RouteFacts",
    "Status",
    "TrafficFacts",
    "counters_document",
    "impairments_document",
    "peers_document",
    "routes_document",
    "status_document",
]

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What was chosen, now; texts are addresses and networks as flannel writes them."""

    public_ip: str
    """Where peers send to; "" when IPv4 is off."""
    interface: str
    interface_address: str
    """What the UDP socket is bound to."""
    interface_mtu: int
    backend: str
    port: int
    """UDP port, ours and every peer's."""
    network: str
    tun: str
    """Name of the TUN device."""
    tun_address: str
    mtu: int
    """MTU of the TUN device in bytes."""
    source_check: str
    """enforce, warn or off."""
    subnet_file: str
    subnet_file_written: bool


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """Device, socket and workers: how often they were seen to, and what is wrong."""

    troubles: Mapping[str, str] = field(default_factory=dict)
    """What keeps packets from flowing now, by part; {} when nothing does."""
    repairs: int = 0
    """How often the device's state, address, MTU or route was set again."""
    rebuilds: int = 0
    """How often device or socket were made again."""


@dataclass(frozen=True, slots=True)
class LeaseFacts:
    """Our own lease."""

    subnet: str
    expires_in_seconds: float | None
    """None when it never runs out."""


@dataclass(frozen=True, slots=True)
class FallbackFacts:
    """An offload that the kernel refused, now or earlier."""

    offload: str
    cause: str
    count: int
    """How often it fell back."""
    retry_seconds: float | None
    """Until it is tried again; None: it is in use again."""
    past_mtu_seconds: float | None = None
    """So long what the kernel believes about the path's MTU is ignored; None: it is not."""


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """ICMP errors of one kind that came back for our datagrams to a peer."""

    kind: str
    """For example port_unreachable: nothing listens on the peer's port."""
    count: int
    reporter: str
    """Who sent the latest: the peer, a router, or this host itself."""
    seconds_ago: float


@dataclass(frozen=True, slots=True)
class TrafficFacts:
    """Inner packets to a peer and from it since start; see model/traffic.py."""

    sent_packets: int = 0
    sent_bytes: int = 0
    delivered_packets: int = 0
    delivered_bytes: int = 0
    drops: Mapping[str, int] = field(default_factory=dict)
    heard_seconds_ago: float | None = None
    """When a datagram of its came last; None: never."""


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """A lease of another host as the registry has it, and what was learned about that host."""

    subnet: str
    public_ip: str
    refused: str = ""
    """Why it has no route (model/refusal.py); "" when it has one."""
    fallbacks: tuple[FallbackFacts, ...] = ()
    also_sends_from: tuple[str, ...] = ()
    """Other addresses that it was proved to send from: a NAT's, another interface's."""
    reports: tuple[ReportFacts, ...] = ()
    traffic: TrafficFacts = field(default_factory=TrafficFacts)
    impaired: str = ""
    """What is done to packets for it on purpose, in words; "": nothing."""
    mtu: int = 0
    """Longest inner packet that it is sent, in bytes; 0: it has no route."""


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """One entry of the table that packets are looked up in."""

    destination: str
    endpoint: str
    """Address and port that datagrams go to."""
    device: str
    """By which packets leave."""


@dataclass(frozen=True, slots=True)
class RegistryFacts:
    """The registry's side."""

    kind: str
    """etcd or kube."""
    counters: Mapping[str, int]
    troubles: Mapping[str, str]
    """What does not work right now, by part."""
    watch_age_seconds: float | None = None
    """Since the registry last said something on the watch of all leases, if only that nothing
    changed; None: it has not yet."""


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What one worker spent its time on since it began, in seconds."""

    total_seconds: float
    working_seconds: float
    spinning_seconds: float
    """Looking on without finding a packet."""
    asleep_seconds: float

    @classmethod
    def of(cls, times: WorkerTimes) -> WorkerFacts:
        """To the millisecond."""
        parts = (times.total, times.working, times.spinning, times.asleep)
        return cls(*(round(part, 3) for part in parts))


@dataclass(frozen=True, slots=True)
class DataplaneFacts:
    """The engine's side."""

    features: Mapping[str, str]
    """Offload → "on", "on, fallen back …: cause", "off (switch)" or "unavailable: reason"."""
    routes: int
    counters: Mapping[str, int]
    senders: Mapping[str, int]
    """What was done to find out from where peers send."""
    fallbacks: tuple[FallbackFacts, ...] = ()
    """Of our own TUN device; those towards a peer stand with the peer."""
    reports: Mapping[str, int] = field(default_factory=dict)
    """ICMP errors that came back for our datagrams, by kind; empty without CAP_NET_RAW."""
    impairments: tuple[Mapping[str, object], ...] = ()
    """Peers whose packets are made worse on purpose now (model/impairment.py)."""
    unaccounted: Mapping[str, int] = field(default_factory=dict)
    """By direction: packets taken that have no verdict (accounts.py)."""
    workers: tuple[WorkerFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """Everything at one moment."""

    version: str
    """The program's version."""
    pid: int
    uptime_seconds: float
    node: NodeFacts
    lease: LeaseFacts
    registry: RegistryFacts
    control: Mapping[str, int]
    """Counts of what was made of the registry's events: publications, renewals, refused leases."""
    dataplane: DataplaneFacts
    peers: int
    """How many leases of other hosts are known; `GET /v1/peers` lists them."""
    firewall: Mapping[str, object]
    """Packet rules: the tool, how often they were repaired, what is wrong with them or ""."""
    network: NetworkFacts = field(default_factory=NetworkFacts)
    log_lines_lost: int = 0
    """Lines that standard error did not take."""
    privileges: Mapping[str, object] = field(default_factory=dict)
    """What the process may do: capabilities, no_new_privs, system calls."""


def status_document(status: Status) -> dict[str, object]:
    """The JSON object of `GET /v1/status`."""
    return {"schema": SCHEMA_VERSION, **asdict(status)}


def peers_document(
    peers: Iterable[PeerFacts], refused: Iterable[RefusedSender]
) -> dict[str, object]:
    """The JSON object of `GET /v1/peers`."""
    return {
        "schema": SCHEMA_VERSION,
        "peers": [asdict(peer) for peer in peers],
        "refused_senders": [asdict(sender) for sender in refused],
    }


def routes_document(network: str, routes: Iterable[RouteFacts]) -> dict[str, object]:
    """The JSON object of `GET /v1/routes`."""
    return {
        "schema": SCHEMA_VERSION,
        "network": network,
        "routes": [asdict(route) for route in routes],
    }


def impairments_document(impairments: Iterable[ImpairmentState]) -> dict[str, object]:
    """The JSON object of `GET /v1/impair`."""
    return {
        "schema": SCHEMA_VERSION,
        "impairments": [each.as_json() for each in impairments],
    }


def counters_document(
    *,
    dataplane: Mapping[str, int],
    senders: Mapping[str, int],
    reports: Mapping[str, int],
    control: Mapping[str, int],
    registry: Mapping[str, int],
) -> dict[str, object]:
    """The JSON object of `GET /v1/counters`."""
    return {
        "schema": SCHEMA_VERSION,
        "dataplane": dict(dataplane),
        "senders": dict(senders),
        "reports": dict(reports),
        "control": dict(control),
        "registry": dict(registry),
    }
