"""The composition root of `udpoverlayd`: the order of start and stop, who watches whom.

Owns: the order below, what is fatal. Must not know: flags' spelling (cli/), and how anything is
done: each step is one call into a part. The order is flanneld's (flannel main.go), because
supervisors, CNI plugins and probes observe it; only our rights are looked at before all else:

    rights ► the tunnel of the last run (handover/) ► registry ► health server
      ► network configuration (waited for) ► interface, public IP ► backend ► is the host able?
      ► lease ► UDP socket, TUN, address, MTU, link up, route ► packet rules, blackhole route
      ► subnet file: ready ► rights given up ► packets ► admin socket ► READY=1
      ► lease watch, complete, renew until a signal, or until another daemon has taken over

A step that starts something is a context manager: it is undone in reverse, on every way out. The
TUN vanishes with its address and route when its descriptor closes. The lease and the subnet file
stay, so that a restart finds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from functools import partial

from udpoverlay.aio import first_to_end
from udpoverlay.backend.base import Backend, Choose
from udpoverlay.backend.kinds import backend_of
from udpoverlay.control import Control
from udpoverlay.dataplane.tun import TUN_PATH, check_tun
from udpoverlay.errors import KernelError, RegistryError, UdpOverlayError
from udpoverlay.facts import Facts, Moves
from udpoverlay.firewall.blackhole import keep_blackhole
from udpoverlay.firewall.manager import install, prepare
from udpoverlay.firewall.policy import look_at_forwarding
from udpoverlay.handover.former import former_daemon, runs
from udpoverlay.handover.keeper import keeping
from udpoverlay.handover.offer import Offer
from udpoverlay.handover.statefile import StateFile
from udpoverlay.host import garbage, ownsubnet, subnetfile, sysctl
from udpoverlay.host.interfaces import Choice, Stack, Wanted
from udpoverlay.host.notify import ServiceManager
from udpoverlay.host.privileges.needs import Needs
from udpoverlay.host.privileges.process import Privileges
from udpoverlay.host.underlay import find_interface, look_for_interface
from udpoverlay.host.ways import Ways
from udpoverlay.log import get_logger
from udpoverlay.loop import on_signal, run_until_signal
from udpoverlay.model.config import DaemonConfig
from udpoverlay.model.lease import Lease
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.place import Places
from udpoverlay.observe.admin import admin_socket
from udpoverlay.observe.documents import Documents
from udpoverlay.observe.dumps import Dumps
from udpoverlay.observe.health import Health, health_server
from udpoverlay.observe.metrics import Metrics
from udpoverlay.observe.trace import Traces
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
    service = manager if manager is not None else ServiceManager()

    def stopping(name: str) -> None:
        _log.info("stopping", signal=name)
        service.stopping()

    privileges = Privileges(config.privileges)
    privileges.before_the_loop()
    status = run_until_signal(partial(_run_daemon, config, service, privileges), stopping)
    _log.info("stopped")
    return status


async def _run_daemon(
    config: DaemonConfig,
    manager: ServiceManager,
    privileges: Privileges,
    unwinding: asyncio.Event,
) -> int:
    """Run until something ends; whatever the reason, nothing is left behind."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            await _start(config, manager, privileges, stack)
        finally:
            unwinding.set()
    return 0


async def _start(
    config: DaemonConfig,
    manager: ServiceManager,
    privileges: Privileges,
    stack: contextlib.AsyncExitStack,
) -> None:
    """Start everything in flanneld's order, then wait until something ends."""
    enter, started = stack.enter_async_context, time.monotonic()
    # What is wrong here must not wait for a registry that may never come.
    check_tun()
    subnetfile.check(config.subnet_file)
    # From here packets flow, where a service manager kept the tunnel of the last run.
    former = await enter(former_daemon(config, manager))
    registry = await enter(_registry(config))
    health = Health()
    serve_health = partial(health_server, config.health.ip, config.health.port, health)
    if not runs(former):
        await enter(serve_health())
    manager.status("waiting for the network configuration")
    netconf = await network_config(registry)
    if not netconf.enable_nftables:
        sysctl.check_bridge_netfilter(
            ipv4=netconf.enable_ipv4,
            ipv6=netconf.enable_ipv6,
            fatal=config.firewall.bridge_check,
        )
    plan = await _plan(config, netconf, registry)
    # Before the lease: no peer shall learn of a host that cannot carry packets.
    plan.backend.check(plan.choice, None if former is None else former.bound)
    tools = await prepare(netconf, config.firewall)
    attrs = plan.backend.lease_attrs(plan.choice.public_ip)
    lease = await registry.acquire(attrs, ownsubnet.remembered(config.subnet_file), netconf)
    network = await enter(
        plan.backend.open(lease, plan.choice, config.dataplane, choose=plan.choose, former=former)
    )
    firewall = await install(netconf, lease.subnet, config.firewall, tools)
    facts = Facts(config, plan.backend, netconf, lease, network)
    facts.publish()
    health.ready = facts.written
    # From here on packets are looked at: by threads that have these rights and no more.
    privileges.give_up(_needs(plan))
    await network.start()
    if runs(former):  # it has ended by now
        await enter(serve_health())
    await enter(keeping(network.leaving, manager, StateFile.beside(config.admin_socket)))
    admission = _admission(plan, netconf, lease)
    control = Control(
        registry,
        network,
        lease,
        Peers(lease, admission, route=plan.backend.route),
        renew_margin=config.subnet_lease_renew_margin * 60.0,
        on_first_routes=garbage.keep_for_good,
    )
    network.on_change = Moves(facts, admission, control, manager).to
    kind = "kube" if config.kube_subnet_mgr else "etcd"
    documents = Documents(
        facts.now,
        registry_kind=kind,
        registry=registry,
        control=control,
        engine=network,
        firewall=firewall,
        since=network.counting_since,
        privileges=privileges,
    )
    health.details = documents.health
    health.metrics = Metrics(
        registry_kind=kind, registry=registry, control=control, engine=network
    ).text
    traces = Traces(network.recorder, facts.origin)
    offer = Offer(network.leaving, managed=manager.keeps, on_offer=control.expect_successor)
    await enter(
        admin_socket(
            config.admin_socket,
            documents.by_path(),
            documents.actions(),
            traces.by_path(),
            offer.handlers(),
        )
    )
    dumps = Dumps(_dump_directory(config), network.recorder, facts.origin)
    stack.enter_context(on_signal(signal.SIGUSR1, dumps.request))
    stack.enter_context(_dump_of_a_crash(dumps))
    _log.info("ready", **facts.ready(), seconds=time.monotonic() - started)
    manager.ready(facts.line())
    await first_to_end(
        network.run(),
        control.run(),
        firewall.run(),
        keep_blackhole(lease.subnet, config.firewall),
        manager.watch(network.alive),
        offer.taken(),
        _forever(_complete(registry, lease)),
        _forever(look_at_forwarding(plan.backend.network, network.device)),
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
    choose: Choose
    backend: Backend


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
    again = partial(look_for_interface, wanted, stack)
    return _Plan(config, choice, again, backend_of(netconf))


def _admission(plan: _Plan, netconf: NetConf, lease: Lease) -> Admission:
    """Who can be a peer. The kernel's routes decide about some: the device is up by now."""
    assert lease.subnet.v4 is not None
    assert plan.choice.address is not None
    return Admission(
        # A podCIDR's length is not checked, as in flannel's Kubernetes manager.
        Places.of(netconf, any_length=plan.config.kube_subnet_mgr),
        lease,
        own_addresses=[plan.choice.address],
        rejects=plan.backend.rejects,
        way=Ways(lease.subnet.v4.ip, plan.backend.port).to,
    )


def _needs(plan: _Plan) -> Needs:
    """What is done again later, with the rights that are left."""
    config = plan.config
    etcd, kube = config.etcd, config.kube
    kubeconfig = kube.kubeconfig_file if config.kube_subnet_mgr else ""
    in_pod = "KUBERNETES_SERVICE_HOST" in kube.environment  # with a token and no plugin
    return Needs(
        port=plan.backend.port,
        reads=(etcd.cafile, etcd.certfile, etcd.keyfile, kubeconfig),
        writes=tuple(
            os.path.dirname(os.path.abspath(path))
            for path in (config.subnet_file, config.admin_socket)
            if path
        ),
        device_node=TUN_PATH,
        plugins=bool(kubeconfig) or (config.kube_subnet_mgr and not in_pod),
    )


def _dump_directory(config: DaemonConfig) -> str:
    """Beside the admin socket; "" where there is none."""
    if not config.admin_socket:
        return ""
    return os.path.join(os.path.dirname(os.path.abspath(config.admin_socket)), "dumps")


@contextlib.contextmanager
def _dump_of_a_crash(dumps: Dumps) -> Iterator[None]:
    """Keep the last packets when a defect, or the kernel, ends the daemon."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, UdpOverlayError) or isinstance(error, KernelError):
            dumps.write("crash")
        raise


# --- while it runs -------------------------------------------------------------------------------


async def _forever(work: Awaitable[None]) -> None:
    """Work whose end is not the daemon's."""
    await work
    await asyncio.Event().wait()


async def _complete(registry: Registry, lease: Lease) -> None:
    """Tell the registry that the data path is up."""
    try:
        await registry.complete(lease)
    except RegistryError as error:
        _log.error("cannot tell the registry that we are up", reason=str(error))
