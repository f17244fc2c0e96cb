"""What one tunnel is: the facts that follow from lease, interface and network configuration.

Owns: their names and limits. Must not know: what the operator chose (model/dataplane.py), who
decided (backend/).
"""

from __future__ import annotations

from dataclasses import dataclass

from netaddr import IPAddress, IPNetwork

from udpoverlay.errors import OperatorError

__all__ = ["Tunnel"]

MIN_MTU = 68
"""Every IPv4 link carries 68 bytes (RFC 791)."""
MAX_MTU = 65507
"""The longest payload of a UDP datagram over IPv4."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One tunnel; nothing in it changes while its engine lives. Raises OperatorError."""

    mtu: int
    """Longest inner packet in bytes: underlay MTU less the backend's overhead."""
    address: IPAddress
    """The device's own, and the source of the ICMP errors that we originate."""
    subnet: IPNetwork
    """Our own IPv4 lease: what a datagram may be addressed to."""
    bind: tuple[str, int]
    """Interface address and UDP port (host byte order) to receive on and to send from."""
    device: str = "flannel%d"
    """Device name; the kernel replaces %d with the first free number."""
    public_ip: IPAddress | None = None
    """Our own address to others, where it is not that of `bind`: no peer's inner source."""

    def __post_init__(self) -> None:
        if not MIN_MTU <= self.mtu <= MAX_MTU:
            raise OperatorError(
                f"the tunnel's MTU would be {self.mtu}",
                fix=f"it must be {MIN_MTU} to {MAX_MTU}; check the interface's MTU",
            )
        if not 0 < self.bind[1] < 65536:
            raise OperatorError(
                f"Backend.Port is {self.bind[1]}", fix="use a UDP port from 1 to 65535"
            )
