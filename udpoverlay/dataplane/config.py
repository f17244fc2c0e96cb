"""What an engine was told to do: one frozen dataclass, one docstring a field.

Owns: names, types, defaults and the names of the offloads. Must not know: flags, registries.
"""

from __future__ import annotations

from dataclasses import dataclass

from netaddr import IPAddress, IPNetwork

from udpoverlay.errors import OperatorError

__all__ = ["OFFLOADS", "SOURCE_CHECKS", "DataplaneConfig"]

OFFLOADS: dict[str, str] = {
    "vnet-hdr": "super-packets on the TUN: IFF_VNET_HDR with TCP segmentation and checksum offload",
    "uso": "UDP super-packets on the TUN (TUN_F_USO4/USO6, Linux 6.2)",
    "udp-segment": "many equal datagrams in one send (UDP_SEGMENT, Linux 4.18)",
    "udp-gro": "many equal datagrams in one receive (UDP_GRO, Linux 5.0)",
    "coalesce-tcp": "runs of TCP segments as one write to the TUN",
    "coalesce-udp": "runs of UDP datagrams as one write to the TUN (Linux 6.2)",
    "mmsg": "several packets a system call (recvmmsg, sendmmsg)",
    "busy-poll": "spin a little after the last packet before sleeping",
    "multi-queue": "one TUN queue per sending worker (IFF_MULTI_QUEUE)",
}
"""Every offload that can be switched off, with what it does; per-packet mode uses none."""


SOURCE_CHECKS = ("enforce", "warn", "off")
"""Values of `source_check`, the strictest first."""


@dataclass(frozen=True, slots=True)
class DataplaneConfig:
    """Settings of one engine; nothing in it changes while the engine lives."""

    mtu: int
    """Longest inner packet in bytes: underlay MTU - 28 for flannel's udp wire."""
    tun_address: IPAddress
    """Source of the ICMP errors we originate: the device's own address."""
    subnet: IPNetwork
    """Our own IPv4 lease: what a datagram may be addressed to."""
    bind: tuple[str, int]
    """Interface address and UDP port (host byte order) to receive on and to send from."""
    tun_pattern: str = "flannel%d"
    """Device name; the kernel replaces %d with the first free number."""
    workers: str = "auto"
    """auto or a number of threads."""
    busy_poll_us: int = -1
    """Microseconds to spin after the last packet; 0: never; -1: the measured default."""
    offloads_off: frozenset[str] = frozenset()
    """Offloads switched off, by their names in OFFLOADS."""
    per_packet: bool = False
    """One packet a system call and no offload at all, as flannel's own proxy works."""
    source_check: str = "enforce"
    """enforce: a datagram must come from a peer, from its subnets, to ours; warn: what does not is
    counted and delivered; off: as flanneld. From and to martian addresses nothing ever passes."""
    public_ip: IPAddress | None = None
    """Our own address to others, where it is not that of `bind`: no peer's inner source."""

    def __post_init__(self) -> None:
        unknown = sorted(self.offloads_off - OFFLOADS.keys())
        if unknown:
            raise OperatorError(
                f"unknown offload {unknown[0]!r}", fix=f"use one of {', '.join(sorted(OFFLOADS))}"
            )
        if self.source_check not in SOURCE_CHECKS:
            raise OperatorError(
                f"unknown source-check {self.source_check!r}",
                fix=f"use one of {', '.join(SOURCE_CHECKS)}",
            )
        if self.workers != "auto" and not (
            self.workers.isascii()
            and self.workers.isdigit()
            and 1 <= int(self.workers) <= MAX_WORKERS
        ):
            raise OperatorError(
                f"workers is {self.workers!r}", fix=f"use auto or a number from 1 to {MAX_WORKERS}"
            )
        if not MIN_MTU <= self.mtu <= MAX_MTU:
            raise OperatorError(
                f"the tunnel's MTU would be {self.mtu}",
                fix=f"it must be {MIN_MTU} to {MAX_MTU}; check the interface's MTU",
            )
        if not 0 < self.bind[1] < 65536:
            raise OperatorError(
                f"Backend.Port is {self.bind[1]}", fix="use a UDP port from 1 to 65535"
            )
        if self.busy_poll_us < -1 or self.busy_poll_us > MAX_BUSY_POLL_US:
            raise OperatorError(
                f"busy-poll-us is {self.busy_poll_us}",
                fix=f"use -1 (default) or 0 to {MAX_BUSY_POLL_US}",
            )


MIN_MTU = 68
"""Every IPv4 link carries 68 bytes (RFC 791)."""
MAX_MTU = 65507
"""The longest payload of a UDP datagram over IPv4."""
MAX_WORKERS = 64
MAX_BUSY_POLL_US = 1000
