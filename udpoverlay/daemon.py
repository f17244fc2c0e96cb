"""The composition root of `udpoverlayd`: the order of start and stop, signals, who watches whom.

Owns: the order below, what a signal does, what is fatal. Must not know: flags' spelling (cli/), and
how anything is done: each step is one call into a part. The order is flanneld's (flannel main.go),
because supervisors, CNI plugins and probes observe it:

    signals ► registry ► network configuration (retried for ever) ► public IP, interface
      ► backend type ► is the host able? ► lease ► UDP socket, TUN ► address, MTU, link up, route
      ► subnet file ► packets ► admin socket ► READY=1 ► lease watch, complete, renew until a signal

What was begun is undone in reverse, on every way out: the TUN vanishes with its address and route
when its descriptor closes. The lease and the subnet file stay, so that a restart finds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

import uvloop
from netaddr import IPAddress, IPNetwork

from udpoverlay.control import Control
from udpoverlay.dataplane.config import DataplaneConfig
from udpoverlay.dataplane.engine import Engine
from udpoverlay.errors import KernelError, OperatorError, RegistryError
from udpoverlay.gocompat import net as goip
from udpoverlay.host import garbage, notify, subnetfile
from udpoverlay.host.interfaces import Choice, Stack, Wanted, choose_interface, tunnel_mtu
from udpoverlay.host.netlink import LinkWatch, Netlink, host_view
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model import subnetenv
from udpoverlay.model.config import DaemonConfig
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.netconf import NetConf
from udpoverlay.observe.admin import AdminServer
from udpoverlay.observe.documents import Documents
from udpoverlay.observe.status import NodeFacts
from udpoverlay.registry.base import Registry
from udpoverlay.registry.etcd.registry import EtcdRegistry

__all__ = ["run"]

_log = get_logger(__name__)

BACKENDS = ("udp",)
"""What `Backend.Type` may be, lower-cased."""
DEFAULT_PORT = 8285
"""flannel pkg/backend/udp/udp_amd64.go."""
CONFIG_RETRY_SECONDS = 1.0
"""Pause between two attempts to read the network configuration (flannel main.go, getConfig)."""
CANCEL_AGAIN_SECONDS = 1.0
"""Before Python 3.12 a wait_for() in a library can swallow a cancellation: it is repeated."""
BRIDGE_NETFILTER = {
    4: "/proc/sys/net/bridge/bridge-nf-call-iptables",
    6: "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
}


def run(config: DaemonConfig, *, notify_socket: str = "") -> int:
    """Be the daemon until a signal; returns the exit status.

    `notify_socket` is where the service manager wants to hear of readiness (NOTIFY_SOCKET), "" for
    nowhere. 0: a signal, or an administrator took the lease away. Raises UdpOverlayError for
    everything else that ends the daemon.
    """
    status: int = uvloop.run(_until_signal(_Daemon(config, notify_socket)))
    return status


async def _until_signal(daemon: _Daemon) -> int:
    """Run the daemon; the first signal stops it in good order, the second one kills."""
    loop = asyncio.get_running_loop()
    signalled: asyncio.Future[None] = loop.create_future()

    def stop(number: signal.Signals) -> None:
        _log.info("stopping", signal=number.name)
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        signalled.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    work = asyncio.create_task(daemon.run())
    both: set[asyncio.Future[Any]] = {work, signalled}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        while not work.done():
            if not daemon.unwinding:
                work.cancel()
            await asyncio.wait({work}, timeout=CANCEL_AGAIN_SECONDS)
    finally:
        # uvloop leaves its handlers behind when it closes: the process would be deaf from then on.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    if work.cancelled():
        _log.info("stopped")
        return 0
    return work.result()


class _Daemon:
    """One life of the daemon: `run` holds the order, each step its part."""

    def __init__(self, config: DaemonConfig, notify_socket: str) -> None:
        self._config = config
        self._notify_socket = notify_socket
        self.unwinding = False
        """Set while what was begun is undone: from then on nothing may be cancelled."""

    async def run(self) -> int:
        """Run until something ends; whatever the reason, nothing is left behind."""
        async with contextlib.AsyncExitStack() as undo:
            try:
                return await self._run(undo)
            finally:
                self.unwinding = True

    async def _run(self, undo: contextlib.AsyncExitStack) -> int:
        """Start everything in flanneld's order, then wait until something ends."""
        config = self._config
        # Before the registry, which may be waited for.
        subnetfile.check(config.subnet_file)
        registry = await _open_registry(config)
        undo.push_async_callback(registry.aclose)
        netconf = await _network_config(registry)
        stack = Stack.of(netconf.enable_ipv4, netconf.enable_ipv6)
        _warn_without_bridge_netfilter(netconf)
        choice = await _external_interface(config, stack, await registry.stored_public_ips())
        network, port = _udp_backend(netconf, choice)
        mtu = tunnel_mtu(choice)
        # Before the lease: no peer shall be told of a host that cannot carry packets.
        Engine.check((str(choice.address), port))

        lease = await _acquire(config, registry, choice)
        subnet = lease.subnet.v4
        assert subnet is not None  # _udp_backend() has refused IPv6 alone
        engine = Engine.open(
            DataplaneConfig(
                mtu=mtu,
                tun_address=subnet.ip,
                bind=(str(choice.address), port),
                workers=config.workers,
                busy_poll_us=config.busy_poll_us,
                offloads_off=config.offloads_off,
                per_packet=config.per_packet,
            )
        )
        undo.push_async_callback(engine.stop)
        await _configure_device(engine, subnet.ip, mtu, network)
        written = _write_subnet_file(config, netconf, lease, mtu)

        control = Control(
            registry,
            engine,
            lease,
            port=port,
            renew_margin=config.subnet_lease_renew_margin * 60.0,
            on_first_routes=garbage.keep_for_good,
        )
        await engine.start()
        node = NodeFacts(
            public_ip=str(choice.public_ip),
            interface=choice.name,
            interface_address=str(choice.address),
            interface_mtu=choice.mtu,
            backend=netconf.backend_type.lower(),
            port=port,
            network=str(network),
            tun=engine.tun_name,
            tun_address=str(subnet.ip),
            mtu=mtu,
            subnet_file=config.subnet_file,
            subnet_file_written=written,
        )
        documents = Documents(
            node,
            registry_kind="kube" if config.kube_subnet_mgr else "etcd",
            registry=registry,
            control=control,
            engine=engine,
        )
        await self._serve_admin(undo, documents)
        self._say_ready()
        return await _first_end(
            _vanished(engine), engine.wait(), control.run(), _complete(registry, lease)
        )

    async def _serve_admin(self, undo: contextlib.AsyncExitStack, documents: Documents) -> None:
        """Let others look in; a daemon that cannot still carries packets."""
        if not self._config.admin_socket:
            return
        server = AdminServer(
            self._config.admin_socket,
            {
                "/v1/status": documents.status,
                "/v1/peers": documents.peers,
                "/v1/counters": documents.counters,
            },
        )
        try:
            await server.start()
        except OperatorError as error:
            _log.warning("no admin socket", reason=str(error))
        else:
            undo.push_async_callback(server.stop)

    def _say_ready(self) -> None:
        try:
            if notify.notify(self._notify_socket, notify.READY):
                _log.info("told the service manager that we are ready")
        except OperatorError as error:
            _log.error("cannot tell the service manager that we are ready", reason=str(error))


# --- the steps, in order -----------------------------------------------------------------------


async def _open_registry(config: DaemonConfig) -> Registry:
    if not config.kube_subnet_mgr:
        return EtcdRegistry(config.etcd)
    from udpoverlay.registry.kubernetes.registry import open_kube  # noqa: PLC0415 - costs memory; etcd needs it not

    return await open_kube(config.kube)


async def _network_config(registry: Registry) -> NetConf:
    """Ask every second until there is one; what is stored but wrong is the operator's to mend."""
    complaints = RateLimited(_log, time.monotonic)
    while True:
        try:
            netconf = await registry.network_config()
        except RegistryError as error:
            complaints.error("config", "no network configuration yet", reason=str(error))
            await asyncio.sleep(CONFIG_RETRY_SECONDS)
        else:
            _log.info(
                "network configuration",
                network=netconf.network,
                subnet_len=netconf.subnet_len,
                backend=netconf.backend_type,
                backend_settings=dict(netconf.backend),
            )
            return netconf


def _warn_without_bridge_netfilter(netconf: NetConf) -> None:
    """flanneld refuses to start without br_netfilter, whose rules need it; we set no rules."""
    if netconf.enable_nftables:
        return
    enabled = {4: netconf.enable_ipv4, 6: netconf.enable_ipv6}
    for version, path in BRIDGE_NETFILTER.items():
        if enabled[version] and not Path(path).exists():
            _log.warning(
                "br_netfilter is not loaded: kube-proxy's rules do not see bridged packets",
                missing=path,
                fix="modprobe br_netfilter",
            )


async def _external_interface(
    config: DaemonConfig, stack: Stack, stored: tuple[str, str]
) -> Choice:
    """`stored` are public addresses that the registry has for this host; they win over ours."""
    wanted = Wanted(
        iface=config.iface,
        iface_regex=config.iface_regex,
        iface_can_reach=config.iface_can_reach,
        public_ip=stored[0] or config.public_ip,
        public_ipv6=stored[1] or config.public_ipv6,
    )
    view = await host_view(goip.parse_ip(config.iface_can_reach))
    choice = choose_interface(
        wanted, stack, view, lambda why: _log.info("no interface by this option", reason=why)
    )
    _log.info(
        "interface chosen",
        name=choice.name,
        mtu=choice.mtu,
        address=choice.address or choice.address_v6,
        public_ip=choice.public_ip,
        public_ipv6=choice.public_ipv6,
    )
    return choice


def _udp_backend(netconf: NetConf, choice: Choice) -> tuple[IPNetwork, int]:
    """The network that our TUN carries, and the UDP port; refuses what this daemon cannot do."""
    kind = netconf.backend_type.lower()
    if kind not in BACKENDS:
        raise OperatorError(
            f"network configuration: Backend.Type {netconf.backend_type!r} is not supported",
            fix=f"this program supports: {', '.join(BACKENDS)}",
        )
    if not netconf.enable_ipv4:
        raise OperatorError(
            "network configuration: EnableIPv4 false leaves nothing for the udp backend to carry",
            fix="enable IPv4: this backend carries IPv4 alone",
        )
    if netconf.network is None:
        raise OperatorError("network configuration: Network is missing", fix='set "Network"')
    if netconf.enable_ipv6:
        _log.warning("the udp backend carries IPv4 alone: IPv6 gets a subnet, but no tunnel")
    if choice.address in netconf.network:
        _log.warning(
            "the interface's own address lies in the overlay's network: other hosts of its link "
            "may become unreachable",
            address=choice.address,
            network=netconf.network,
            fix="choose a Network that no host uses",
        )
    return netconf.network, netconf.backend_int("Port", DEFAULT_PORT, 1, 65535)


async def _acquire(config: DaemonConfig, registry: Registry, choice: Choice) -> Lease:
    previous = _previous_subnet(config.subnet_file)
    # As flannel's udp backend: its leases tell the IPv4 address alone and no backend type.
    assert choice.public_ip is not None
    return await registry.acquire(LeaseAttrs(public_ip=choice.public_ip), previous)


def _previous_subnet(path: str) -> Subnet | None:
    try:
        text = subnetfile.read_text(path)
    except OperatorError as error:
        _log.warning("the previous subnet is not known", reason=str(error))
        return None
    return None if text is None else subnetenv.previous_subnet(text)


async def _configure_device(
    engine: Engine, address: IPAddress, mtu: int, network: IPNetwork
) -> None:
    """Address, MTU, link up, route: in the order of flannel's configureIface."""
    async with Netlink() as netlink:
        await netlink.add_address(engine.tun_index, address)
        await netlink.set_mtu(engine.tun_index, mtu)
        await netlink.set_no_link_local(engine.tun_index)  # nothing of the kernel's own to drop
        await netlink.set_up(engine.tun_index)
        if not await netlink.add_link_route(network, engine.tun_index):
            _log.warning("a route to the network exists already and is kept", network=network)
    _log.info("tunnel device", name=engine.tun_name, address=address, mtu=mtu, network=network)


def _write_subnet_file(config: DaemonConfig, netconf: NetConf, lease: Lease, mtu: int) -> bool:
    """False when it cannot be written: nothing else is wrong, but CNI will not find us."""
    text = subnetenv.format_subnet_env(netconf, lease.subnet, mtu, config.ip_masq)
    try:
        subnetfile.write_text(config.subnet_file, text)
    except OperatorError as error:
        _log.warning("the subnet file is not written", reason=str(error))
        return False
    _log.info("subnet file written", path=config.subnet_file)
    return True


# --- while it runs -----------------------------------------------------------------------------


async def _complete(registry: Registry, lease: Lease) -> None:
    """Tell the registry that the data path is up, then wait for nothing."""
    try:
        await registry.complete(lease)
    except RegistryError as error:
        _log.error("cannot tell the registry that we are up", reason=str(error))
    await asyncio.Event().wait()


async def _vanished(engine: Engine) -> None:
    """Raise KernelError when somebody deletes the TUN device."""
    try:
        await LinkWatch(engine.tun_index).deleted()
    except KernelError as error:
        _log.warning("cannot watch the tunnel device", reason=str(error))
        await asyncio.Event().wait()
    raise KernelError(f"the device {engine.tun_name} was deleted", fix="start again")


async def _first_end(*parts: Coroutine[Any, Any, None]) -> int:
    """Run all `parts` until one ends; its error is ours."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        await _end(tasks)
    return 0


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until all have ended."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)
