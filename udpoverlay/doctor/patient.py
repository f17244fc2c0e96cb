"""What a check may look at: files, programs, the daemon's settings, the daemon, the registry.

Owns: the access, bounded in time and size; that what several checks need is learned once. Must not
know: what is healthy. `root` stands in front of every path, so that a test can show a host that it
made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from netaddr import IPNetwork

from udpoverlay.backend.udp import DEFAULT_PORT
from udpoverlay.doctor.facts.etcd import EtcdSide
from udpoverlay.doctor.facts.kube import KubeSide
from udpoverlay.doctor.facts.side import Side
from udpoverlay.errors import KernelError, OperatorError, RegistryUnavailable, UdpOverlayError
from udpoverlay.firewall import command
from udpoverlay.gocompat.net import parse_cidr4, parse_ip
from udpoverlay.host.interfaces import Choice, Stack, Wanted, choose_interface
from udpoverlay.host.links import HostView
from udpoverlay.host.netlink import host_view
from udpoverlay.model.config import DaemonConfig
from udpoverlay.model.lease import Lease, Subnet
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.subnetenv import parse_subnet_env, previous_subnet
from udpoverlay.observe.client import AdminClient

__all__ = ["LEARN_SECONDS", "Patient"]

LEARN_SECONDS = 10.0
"""For one thing that several checks need: less than a check has."""
_ADMIN_SECONDS = 5.0
_PIECE_BYTES = 1 << 16
_MOST_PIECES = 128
"""An index of kernel modules has about a megabyte."""

_T = TypeVar("_T")


@dataclass(slots=True)
class Patient:
    """One host as the checks see it."""

    config: DaemonConfig
    root: Path = Path("/")
    peers: tuple[str, ...] = ()
    """--peer: public or overlay addresses."""
    learned: dict[str, Any] = field(default_factory=dict)
    """By name, what was learned, or the UdpOverlayError that came instead."""

    # ------------------------------------------------------------------ files and programs

    def path(self, path: str) -> Path:
        """The place of an absolute path below `root`."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str | None:
        """The text of a file; None when it is not there or cannot be read."""
        try:
            with self.path(path).open("rb", buffering=0) as file:
                # The kernel refuses to make more than 4 MB of a setting at once.
                pieces = iter(partial(file.read, _PIECE_BYTES), b"")
                found = b"".join(islice(pieces, _MOST_PIECES))
        except OSError:
            return None
        return found.decode("utf-8", "replace")

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        return self.path(path).exists()

    def names(self, folder: str) -> list[str]:
        """What is in a folder, sorted; empty when it is not there."""
        try:
            return sorted(os.listdir(self.path(folder)))
        except OSError:
            return []

    def sysctl(self, name: str) -> str | None:
        """The value of a setting named with slashes, such as net/ipv4/ip_forward."""
        text = self.read(f"/proc/sys/{name}")
        return None if text is None else text.strip()

    def mtu(self, device: str) -> int | None:
        """A device's MTU in bytes, None when there is no such device."""
        text = (self.read(f"/sys/class/net/{device}/mtu") or "").strip()
        return int(text) if text.isdigit() else None

    def devices(self, kind: str = "") -> list[str]:
        """Names of network devices; of one kind, such as vxlan (DEVTYPE of its uevent)."""
        names = self.names("/sys/class/net")
        if not kind:
            return names
        wanted = f"DEVTYPE={kind}"
        return [
            name
            for name in names
            if wanted in (self.read(f"/sys/class/net/{name}/uevent") or "").split()
        ]

    async def output(self, argv: Sequence[str], seconds: float = 5.0) -> str | None:
        """What a program prints; None when it is not installed, fails or takes too long."""
        try:
            done = await command.run(argv, seconds=seconds)
        except KernelError:
            return None
        return done.stdout if done.status == 0 else None

    # ------------------------------------------------------------------ what is learned once

    async def known(self, learn: Callable[[], Awaitable[_T]]) -> _T | None:
        """What one of the methods below tells; None where it cannot. The reason is a check's."""
        try:
            return await learn()
        except UdpOverlayError:
            return None

    async def side(self) -> Side:
        """The registry that the settings name. Raises OperatorError for settings that are wrong."""

        async def make() -> Side:
            config = self.config
            return KubeSide(config.kube) if config.kube_subnet_mgr else EtcdSide(config.etcd)

        return await self._once("side", make)

    async def netconf(self) -> NetConf:
        """The network configuration. Raises OperatorError, RegistryError."""

        async def make() -> NetConf:
            return await (await self.side()).netconf()

        return await self._once("netconf", make)

    async def leases(self) -> Sequence[Lease]:
        """All leases of the registry, our own too. Raises RegistryError."""

        async def make() -> Sequence[Lease]:
            return await (await self.side()).leases()

        return await self._once("leases", make)

    async def view(self) -> HostView:
        """Links, addresses and default routes. Raises KernelError."""

        async def make() -> HostView:
            return await host_view(parse_ip(self.config.iface_can_reach))

        return await self._once("view", make)

    async def choice(self) -> Choice:
        """The interface that the daemon would take. Raises OperatorError, KernelError."""
        return await self._once("choice", self._choose)

    async def _choose(self) -> Choice:
        config, netconf = self.config, await self.known(self.netconf)
        side = await self.known(self.side)
        stored = ("", "") if side is None else await side.stored_public_ips()
        wanted = Wanted(
            iface=config.iface,
            iface_regex=config.iface_regex,
            iface_can_reach=config.iface_can_reach,
            public_ip=stored[0] or config.public_ip,
            public_ipv6=stored[1] or config.public_ipv6,
        )
        stack = Stack.V4 if netconf is None else _stack(netconf)
        return choose_interface(wanted, stack, await self.view(), lambda _: None)

    async def status(self) -> Mapping[str, Any] | None:
        """`/v1/status` of the daemon that runs here; None where none answers."""

        async def make() -> Mapping[str, Any] | None:
            return await self._admin("/v1/status")

        return None if not self.config.admin_socket else await self._once("status", make)

    async def daemon_peers(self) -> Sequence[Mapping[str, Any]]:
        """`peers` of `/v1/peers` of the daemon that runs here; none where it does not."""

        async def make() -> Sequence[Mapping[str, Any]]:
            document = await self._admin("/v1/peers") or {}
            peers: Sequence[Mapping[str, Any]] = document.get("peers", ())
            return peers

        return () if not self.config.admin_socket else await self._once("peers", make)

    async def _admin(self, url: str) -> Mapping[str, Any] | None:
        client = AdminClient(str(self.path(self.config.admin_socket)), _ADMIN_SECONDS)
        with contextlib.suppress(OperatorError):
            return await asyncio.to_thread(client.get, url)
        return None

    # ------------------------------------------------------------------ what follows from it

    def subnet_file(self) -> dict[str, str]:
        """The variables of the subnet file; empty when there is none."""
        return parse_subnet_env(self.read(self.config.subnet_file) or "")

    def remembered(self) -> Subnet | None:
        """The subnet that this host had last."""
        return previous_subnet(self.read(self.config.subnet_file) or "")

    async def network(self) -> IPNetwork | None:
        """The overlay's network: of the configuration, the daemon or the subnet file."""
        netconf = await self.known(self.netconf)
        if netconf is not None:
            return netconf.network
        status = await self.status() or {}
        said = status.get("node", {}).get("network") or self.subnet_file().get("FLANNEL_NETWORK")
        return parse_cidr4(said or "")

    async def port(self) -> int:
        """The tunnel's UDP port."""
        netconf, status = await self.known(self.netconf), await self.status()
        if netconf is not None:
            return netconf.backend_int("Port", DEFAULT_PORT, 1, 65535)
        return DEFAULT_PORT if status is None else int(status["node"]["port"])

    async def tunnel(self) -> str:
        """Name of the tunnel device: the daemon's, else the one that would be made first."""
        status = await self.status()
        return "flannel0" if status is None else str(status["node"]["tun"])

    async def aclose(self) -> None:
        """Close what was opened."""
        side = self.learned.get("side")
        if side is not None and not isinstance(side, UdpOverlayError):
            await side.aclose()

    async def _once(self, name: str, make: Callable[[], Awaitable[_T]]) -> _T:
        if name not in self.learned:
            try:
                self.learned[name] = await asyncio.wait_for(make(), LEARN_SECONDS)
            except asyncio.TimeoutError:
                self.learned[name] = RegistryUnavailable(
                    f"no answer within {LEARN_SECONDS:g} s", fix="udpoverlay doctor --only registry"
                )
            except UdpOverlayError as error:
                self.learned[name] = error
        found = self.learned[name]
        if isinstance(found, UdpOverlayError):
            raise found
        value: _T = found
        return value


def _stack(netconf: NetConf) -> Stack:
    return Stack.of(netconf.enable_ipv4, netconf.enable_ipv6)
