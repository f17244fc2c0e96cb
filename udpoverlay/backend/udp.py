"""flannel's udp backend: IPv4 packets as they are, in UDP datagrams.

Owns: what of a network configuration it can carry, its port, what its leases tell (flannel
pkg/backend/udp/udp_amd64.go). Must not know: devices, sockets, registries.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import ClassVar

from netaddr import IPAddress, IPNetwork

from udpoverlay.backend.base import Choose, Former
from udpoverlay.backend.network import TunnelNetwork
from udpoverlay.dataplane.engine import Engine
from udpoverlay.dataplane.tunnel import Tunnel
from udpoverlay.errors import OperatorError
from udpoverlay.host.interfaces import Choice, tunnel_mtu
from udpoverlay.log import get_logger
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.lease import Lease, LeaseAttrs
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.refusal import Refusal

__all__ = ["DEFAULT_PORT", "OVERHEAD", "UdpBackend"]

_log = get_logger(__name__)

OVERHEAD = 28
"""IPv4 header (20) and UDP header (8) around each packet (RFC 791, RFC 768)."""
DEFAULT_PORT = 8285


@dataclass(frozen=True, slots=True)
class UdpBackend:
    """See backend.base.Backend."""

    name: ClassVar[str] = "udp"
    overhead: ClassVar[int] = OVERHEAD
    network: IPNetwork
    """The whole overlay, which the TUN device carries."""
    port: int
    """UDP port, ours and every peer's."""

    @classmethod
    def of(cls, netconf: NetConf) -> UdpBackend:
        """Raises OperatorError for what this program cannot carry."""
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

    def rejects(self, peer: Lease) -> Refusal | None:
        """A host with another backend does not listen on our port. flannel's udp tells no type."""
        return None if peer.attrs.backend_type.lower() in {"", self.name} else Refusal.OTHER_BACKEND

    def route(self, peer: Lease) -> Endpoint:
        """The peer's public IP and the network's port."""
        return Endpoint(peer.attrs.public_ip, self.port)

    def check(self, choice: Choice, held: tuple[str, int] | None = None) -> None:
        """See backend.base.Backend; also say what an address inside the overlay leads to."""
        self.warn_of_overlap(choice.address)
        tunnel_mtu(choice, self.overhead)  # raises where the interface is too small
        bind = (str(choice.address), self.port)
        if bind != held:
            Engine.check(bind)

    def open(
        self,
        lease: Lease,
        choice: Choice,
        settings: DataplaneSettings,
        *,
        choose: Choose,
        former: Former | None = None,
    ) -> AbstractAsyncContextManager[TunnelNetwork]:
        """The TUN device, up and routed, and the UDP socket."""
        assert lease.subnet.v4 is not None  # `of` has refused IPv6 alone
        tunnel = Tunnel(
            mtu=tunnel_mtu(choice, self.overhead),
            address=lease.subnet.v4.ip,
            subnet=lease.subnet.v4,
            bind=(str(choice.address), self.port),
            public_ip=choice.public_ip,
        )
        return TunnelNetwork.open(tunnel, settings, choice, self, choose=choose, former=former)

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
