"""The composition root of `udpoverlayd`: the order of start and stop, who watches whom.

Owns: the order below, what is fatal. Must not know: flags' spelling (cli/), and how anything is
done: each step is one call into a part. The order is flanneld's (flannel main.go), because
supervisors, CNI plugins and probes observe it; only our rights are looked at before all else:

    rights ► registry ► health server ► network configuration (waited for) ► interface, public IP
      ► backend ► is the host able? ► lease ► UDP socket, TUN, address, MTU, link up, route
      ► packet rules, blackhole route ► subnet file: ready ► packets ► admin socket ► READY=1
      ► lease watch, complete, renew until a signal

A step that begins something is a context manager: what was begun is undone in reverse, on every way
out. The TUN vanishes with its address and route when its descriptor closes. The lease and the
subnet file stay, so that a restart finds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from functools import partial

from udpoverlay.aio import first_to_end
from udpoverlay.backend.udp import UdpBackend
from udpoverlay.control import Control
from udpoverlay.dataplane.config import DataplaneConfig
from udpoverlay.dataplane.engine import Engine
from udpoverlay.dataplane.tun import check_tun
from udpoverlay.errors import KernelError, RegistryError
from udpoverlay.firewall.blackhole import keep_blackhole
from udpoverlay.firewall.manager import install, prepare
from udpoverlay.firewall.policy import look_at_forwarding
from udpoverlay.host import garbage, ownsubnet, subnetfile, sysctl
from udpoverlay.host.interfaces import Choice, Stack, Wanted, tunnel_mtu
from udpoverlay.host.linkwatch import link_deleted
from udpoverlay.host.netlink import configure_tunnel
from udpoverlay.host.notify import ServiceManager
from udpoverlay.host.underlay import find_interface
from udpoverlay.host.ways import Ways
from udpoverlay.log import get_logger
from udpoverlay.loop import run_until_signal
from udpoverlay.model.config import DaemonConfig
from udpoverlay.model.lease import Lease
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.place import Places
from udpoverlay.observe.admin import admin_socket
from udpoverlay.observe.documents import Documents
from udpoverlay.observe.health import health_server
from udpoverlay.observe.status import NodeFacts
from udpoverlay.peers.admission import Admission
from udpoverlay.peers.peers import Peers
from udpoverlay.registry.base import Registry
from udpoverlay.registry.etcd.registry import EtcdRegistry
from udpoverlay.registry.waiting import network_config

__all__ = ["run"]

_log = get_logger(__name__)


def run(config: DaemonConfig, manager: ServiceManager | None = None) -> int:
    """Be the daemon until a signal; returns the exit status.

    0: a signal, or an administrator took the lease away. Raises UdpOverlayError for everything else
    that ends the daemon.
    """
    told = manager if manager is not None else ServiceManager()

    def stopping(name: str) -> None:
        _log.info("stopping", signal=name)
        told.stopping()

    status = run_until_signal(partial(_life, config, told), stopping)
    _log.info("stopped")
    return status


async def _life(config: DaemonConfig, manager: ServiceManager, unwinding: asyncio.Event) -> int:
    """Run until something ends; whatever the reason, nothing is left behind."""
    async with contextlib.AsyncExitStack() as begun:
        try:
            await _start(config, manager, begun)
        finally:
            unwinding.set()
    return 0


async def _start(
    config: DaemonConfig, manager: ServiceManager, begun: contextlib.AsyncExitStack
) -> None:
    """Start everything in flanneld's order, then wait until something ends."""
    enter, started = begun.enter_async_context, time.monotonic()
    # What is wrong here must not wait for a registry that may never come.
    check_tun()
    subnetfile.check(config.subnet_file)
    registry = await enter(_registry(config))
    health = await enter(health_server(config.health.ip, config.health.port))
    manager.status("waiting for the network configuration")
    netconf = await network_config(registry)
    if not netconf.enable_nftables:
        sysctl.check_bridge_netfilter(
            ipv4=netconf.enable_ipv4,
            ipv6=netconf.enable_ipv6,
            fatal=config.firewall.bridge_check,
        )
    plan = await _plan(config, netconf, registry)
    # Before the lease: no peer shall be told of a host that cannot carry packets.
    Engine.check(plan.bind)
    tools = await prepare(netconf, config.firewall)
    attrs = plan.backend.lease_attrs(plan.choice.public_ip)
    lease = await registry.acquire(attrs, ownsubnet.remembered(config.subnet_file))
    engine = await enter(_engine(plan, lease))
    firewall = await install(netconf, lease.subnet, config.firewall, tools)
    written = ownsubnet.publish(config, netconf, lease.subnet, plan.mtu)
    health.ready = written
    await engine.start()
    control = Control(
        registry,
        engine,
        lease,
        _peers(plan, netconf, lease),
        renew_margin=config.subnet_lease_renew_margin * 60.0,
        on_first_routes=garbage.keep_for_good,
    )
    documents = Documents(
        _facts(plan, engine, written=written),
        registry_kind="kube" if config.kube_subnet_mgr else "etcd",
        registry=registry,
        control=control,
        engine=engine,
        firewall=firewall,
    )
    health.details = documents.health
    await enter(admin_socket(config.admin_socket, documents.by_path()))
    _say_ready(manager, plan, engine, lease, time.monotonic() - started)
    await first_to_end(
        _vanished(engine),
        engine.wait(),
        control.run(),
        firewall.run(),
        keep_blackhole(lease.subnet, config.firewall),
        manager.watch(engine.alive),
        _aside(_complete(registry, lease)),
        _aside(look_at_forwarding(plan.backend.network, engine.tun_name)),
    )


# --- the steps, in order -------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _registry(config: DaemonConfig) -> AsyncIterator[Registry]:
    registry: Registry
    if config.kube_subnet_mgr:
        from udpoverlay.registry.kubernetes.registry import open_kube  # noqa: PLC0415 - costs memory; etcd needs it not

        registry = await open_kube(config.kube)
    else:
        registry = EtcdRegistry(config.etcd)
    async with contextlib.aclosing(registry):
        yield registry


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is settled before the lease."""

    config: DaemonConfig
    choice: Choice
    backend: UdpBackend
    mtu: int
    """Of the tunnel device, in bytes."""

    @property
    def bind(self) -> tuple[str, int]:
        """Address and port of the UDP socket."""
        return str(self.choice.address), self.backend.port


async def _plan(config: DaemonConfig, netconf: NetConf, registry: Registry) -> _Plan:
    """The public addresses that the registry has for this host win over the configured ones."""
    stack = Stack.of(netconf.enable_ipv4, netconf.enable_ipv6)
    stored = await registry.stored_public_ips()
    wanted = Wanted(
        iface=config.iface,
        iface_regex=config.iface_regex,
        iface_can_reach=config.iface_can_reach,
        public_ip=stored[0] or config.public_ip,
        public_ipv6=stored[1] or config.public_ipv6,
    )
    choice = await find_interface(wanted, stack)
    backend = UdpBackend.of(netconf)
    backend.warn_of_overlap(choice.address)
    return _Plan(config, choice, backend, tunnel_mtu(choice))


@contextlib.asynccontextmanager
async def _engine(plan: _Plan, lease: Lease) -> AsyncIterator[Engine]:
    """The TUN device, up and routed, and the UDP socket; no packet moves yet."""
    assert lease.subnet.v4 is not None  # the backend has refused IPv6 alone
    config, network = plan.config, plan.backend.network
    address, mtu = lease.subnet.v4.ip, plan.mtu
    engine = Engine.open(
        DataplaneConfig(
            mtu=mtu,
            tun_address=address,
            subnet=lease.subnet.v4,
            bind=plan.bind,
            public_ip=plan.choice.public_ip,
            source_check=config.source_check,
            workers=config.workers,
            busy_poll_us=config.busy_poll_us,
            offloads_off=config.offloads_off,
            per_packet=config.per_packet,
        )
    )
    try:
        if not await configure_tunnel(engine.tun_index, address, mtu, network):
            _log.warning("a route to the network exists already and is kept", network=network)
        _log.info("tunnel device", name=engine.tun_name, address=address, mtu=mtu)
        yield engine
    finally:
        await engine.stop()


def _peers(plan: _Plan, netconf: NetConf, lease: Lease) -> Peers:
    """The table of peers. The kernel's routes decide about some: the device is up by now."""
    assert lease.subnet.v4 is not None
    assert plan.choice.address is not None
    admission = Admission(
        # A podCIDR's length is not checked, as in flannel's Kubernetes manager.
        Places.of(netconf, any_length=plan.config.kube_subnet_mgr),
        lease,
        own_addresses=[plan.choice.address],
        way=Ways(lease.subnet.v4.ip, plan.backend.port).to,
    )
    return Peers(lease, admission, port=plan.backend.port)


def _facts(plan: _Plan, engine: Engine, *, written: bool) -> NodeFacts:
    choice, backend = plan.choice, plan.backend
    return NodeFacts(
        public_ip=str(choice.public_ip),
        interface=choice.name,
        interface_address=str(choice.address),
        interface_mtu=choice.mtu,
        backend=backend.name,
        port=backend.port,
        network=str(backend.network),
        tun=engine.tun_name,
        tun_address=str(engine.config.tun_address),
        mtu=plan.mtu,
        source_check=plan.config.source_check,
        subnet_file=plan.config.subnet_file,
        subnet_file_written=written,
    )


def _say_ready(
    manager: ServiceManager, plan: _Plan, engine: Engine, lease: Lease, seconds: float
) -> None:
    manager.ready(f"subnet {lease.subnet}, {engine.tun_name}, MTU {plan.mtu}")
    _log.info(
        "ready",
        subnet=lease.subnet,
        device=engine.tun_name,
        mtu=plan.mtu,
        public_ip=plan.choice.public_ip,
        port=plan.backend.port,
        seconds=seconds,
    )


# --- while it runs -------------------------------------------------------------------------------


async def _aside(work: Awaitable[None]) -> None:
    """Do what has an end that is not the daemon's."""
    await work
    await asyncio.Event().wait()


async def _complete(registry: Registry, lease: Lease) -> None:
    """Tell the registry that the data path is up."""
    try:
        await registry.complete(lease)
    except RegistryError as error:
        _log.error("cannot tell the registry that we are up", reason=str(error))


async def _vanished(engine: Engine) -> None:
    """Raise KernelError when somebody deletes the TUN device."""
    try:
        await link_deleted(engine.tun_index)
    except KernelError as error:
        _log.warning("cannot watch the tunnel device", reason=str(error))
        await asyncio.Event().wait()
    raise KernelError(f"the device {engine.tun_name} was deleted", fix="start again")
