"""What this host publishes about itself, and that it follows what changes.

Owns: which facts the subnet file, the status, the log, the service manager and the others' registry
get, and when again. Must not know: how a fact comes about, the order of start (daemon.py).

    network.on_change ─► Moves.to ─► subnet file (its MTU), who counts as ourselves, our lease
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from udpoverlay.backend.base import Backend, Network
from udpoverlay.control import Control
from udpoverlay.host import ownsubnet
from udpoverlay.host.interfaces import Choice
from udpoverlay.host.notify import ServiceManager
from udpoverlay.model.config import DaemonConfig
from udpoverlay.model.lease import Lease
from udpoverlay.model.netconf import NetConf
from udpoverlay.observe.status import NodeFacts
from udpoverlay.peers.admission import Admission
from udpoverlay.trace.origin import Origin

__all__ = ["Facts", "Moves"]


class Facts:
    """What this host publishes about itself: the subnet file, the status, the log."""

    def __init__(
        self,
        config: DaemonConfig,
        backend: Backend,
        netconf: NetConf,
        lease: Lease,
        network: Network,
    ) -> None:
        self.written = False
        """Whether the subnet file is."""
        self.backend = backend
        self._config = config
        self._netconf = netconf
        self._lease = lease
        self._network = network
        self._published: tuple[int, Choice | None] = (0, None)

    def current(self) -> bool:
        """Whether what was published is still true."""
        return self._published == (self._network.mtu, self._network.choice)

    def publish(self) -> None:
        """Write the subnet file, where its MTU is another one."""
        mtu, before = self._network.mtu, self._published[0]
        self._published = (mtu, self._network.choice)
        if mtu != before:
            self.written = ownsubnet.publish(self._config, self._netconf, self._lease.subnet, mtu)

    def now(self) -> NodeFacts:
        """For the status."""
        choice, backend = self._network.choice, self.backend
        return NodeFacts(
            public_ip=str(choice.public_ip),
            interface=choice.name,
            interface_address=str(choice.address),
            interface_mtu=choice.mtu,
            backend=backend.name,
            port=backend.port,
            network=str(backend.network),
            tun=self._network.device,
            tun_address=str(self._network.address or ""),
            mtu=self._network.mtu,
            source_check=self._config.dataplane.source_check,
            subnet_file=self._config.subnet_file,
            subnet_file_written=self.written,
        )

    def origin(self) -> Origin:
        """For captures."""
        return Origin(
            host=socket.gethostname(),
            address=str(self._network.choice.address),
            port=self.backend.port,
            device=self._network.device,
        )

    def line(self) -> str:
        """For the service manager."""
        return f"subnet {self._lease.subnet}, {self._network.device}, MTU {self._network.mtu}"

    def ready(self) -> dict[str, object]:
        """For the log."""
        return {
            "subnet": self._lease.subnet,
            "device": self._network.device,
            "mtu": self._network.mtu,
            "public_ip": self._network.choice.public_ip,
            "port": self.backend.port,
        }


@dataclass(frozen=True, slots=True)
class Moves:
    """Who must know that the underlay is another one than before."""

    facts: Facts
    admission: Admission
    control: Control
    manager: ServiceManager

    def to(self, choice: Choice) -> None:
        """The tunnel goes by `choice` now, and may have another MTU."""
        if self.facts.current():
            return
        self.manager.reloading()
        self.facts.publish()
        addresses = (choice.address, choice.public_ip)
        self.admission.move([address for address in addresses if address is not None])
        if choice.public_ip != self.control.lease.attrs.public_ip:
            self.control.move(self.facts.backend.lease_attrs(choice.public_ip))
        self.manager.ready(self.facts.line())
