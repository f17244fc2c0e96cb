"""flannel's udp backend: IPv4 packets as they are, in UDP datagrams.

Owns: what of a network configuration it can carry, its port, what its leases tell (flannel
pkg/backend/udp/udp_amd64.go). Must not know: devices, sockets, registries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from netaddr import IPAddress, IPNetwork

from udpoverlay.errors import OperatorError
from udpoverlay.log import get_logger
from udpoverlay.model.lease import LeaseAttrs
from udpoverlay.model.netconf import NetConf

__all__ = ["DEFAULT_PORT", "UdpBackend"]

_log = get_logger(__name__)

BACKENDS = ("udp",)
"""What `Backend.Type` may be, lower-cased."""
DEFAULT_PORT = 8285


@dataclass(frozen=True, slots=True)
class UdpBackend:
    """One network's."""

    name: ClassVar[str] = "udp"
    network: IPNetwork
    """The whole overlay, which the TUN device carries."""
    port: int
    """UDP port, ours and every peer's."""

    @classmethod
    def of(cls, netconf: NetConf) -> UdpBackend:
        """Raises OperatorError for what this program cannot carry."""
        if netconf.backend_type.lower() not in BACKENDS:
            raise OperatorError(
                f"network configuration: Backend.Type {netconf.backend_type!r} is not supported",
                fix=f"this program supports: {', '.join(BACKENDS)}",
            )
        if not netconf.enable_ipv4:
            raise OperatorError(
                "network configuration: EnableIPv4 false leaves nothing for the udp backend to "
                "carry",
                fix="enable IPv4: this backend carries IPv4 alone",
            )
        if netconf.network is None:
            raise OperatorError("network configuration: Network is missing", fix='set "Network"')
        if netconf.enable_ipv6:
            _log.warning("the udp backend carries IPv4 alone: IPv6 gets a subnet, but no tunnel")
        return cls(netconf.network, netconf.backend_int("Port", DEFAULT_PORT, 1, 65535))

    def lease_attrs(self, public_ip: IPAddress | None) -> LeaseAttrs:
        """What our lease tells: the IPv4 address alone and no backend type."""
        assert public_ip is not None  # IPv4 is enabled
        return LeaseAttrs(public_ip)

    def warn_of_overlap(self, address: IPAddress | None) -> None:
        """Say what an interface whose own address lies in the overlay leads to."""
        if address in self.network:
            _log.warning(
                "the interface's own address lies in the overlay's network: other hosts of its "
                "link may become unreachable",
                address=address,
                network=self.network,
                fix="choose a Network that no host uses",
            )
