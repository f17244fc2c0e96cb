"""How packets are moved: the settings of the data plane, spelled and validated in one place.

Owns: names, types, defaults and limits, and the names of the offloads. Must not know: flags (cli/),
the tunnel that they are for (dataplane/tunnel.py), what carries them out (dataplane/).
"""

from __future__ import annotations

from dataclasses import dataclass

from udpoverlay.errors import OperatorError

__all__ = [
    "MAX_BUSY_POLL_US",
    "MAX_FLIGHT_RECORDER",
    "MAX_WORKERS",
    "MIN_FLIGHT_RECORDER",
    "OFFLOADS",
    "SOURCE_CHECKS",
    "DataplaneSettings",
]

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
MAX_WORKERS = 64
MAX_BUSY_POLL_US = 1000
MIN_FLIGHT_RECORDER = 64
MAX_FLIGHT_RECORDER = 1 << 20
"""A hundred megabytes for each worker."""


@dataclass(frozen=True, slots=True)
class DataplaneSettings:
    """What the operator may choose. Raises OperatorError for what cannot work."""

    workers: str = "auto"
    """auto or a number of threads."""
    busy_poll_us: int = -1
    """Microseconds to spin after the last packet before sleeping; 0: never; -1: the measured
    default."""
    offloads_off: frozenset[str] = frozenset()
    """Offloads switched off, by their names in OFFLOADS."""
    source_check: str = "enforce"
    """enforce: a datagram must come from a peer, from its subnets, to ours; warn: what does not is
    counted and delivered; off: as flanneld. From and to martian addresses nothing ever passes."""
    flight_recorder: int = 4096
    """How many of the last packets each worker remembers, and a quarter of
    it of those that were dropped; rounded up to a power of two. 0: none."""
    per_packet: bool = False
    """One packet a system call and no offload at all, as flannel's own proxy works."""
    allow_impair: bool = False
    """Packets to a peer may be made worse on purpose, by who may use the admin socket."""

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
        if self.flight_recorder and not (
            MIN_FLIGHT_RECORDER <= self.flight_recorder <= MAX_FLIGHT_RECORDER
        ):
            raise OperatorError(
                f"flight-recorder is {self.flight_recorder}",
                fix=f"use 0 (none) or {MIN_FLIGHT_RECORDER} to {MAX_FLIGHT_RECORDER} packets",
            )
        if self.busy_poll_us < -1 or self.busy_poll_us > MAX_BUSY_POLL_US:
            raise OperatorError(
                f"busy-poll-us is {self.busy_poll_us}",
                fix=f"use -1 (default) or 0 to {MAX_BUSY_POLL_US}",
            )
