"""daemon.py: the order of start and stop, what is fatal; all parts are recording fakes."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from netaddr import IPAddress, IPNetwork

from tests.support.leases import lease
from udpoverlay import daemon
from udpoverlay.backend import network, udp
from udpoverlay.backend.udp import UdpBackend
from udpoverlay.dataplane.tunnel import Tunnel
from udpoverlay.errors import KernelError, OperatorError, RegistryDenied, RegistryUnavailable
from udpoverlay.firewall.manager import Firewall, Tools
from udpoverlay.host import sysctl, underlay
from udpoverlay.host.interfaces import Choice
from udpoverlay.host.links import Address, DefaultRoute, HostView, Link
from udpoverlay.host.notify import ServiceManager
from udpoverlay.model.config import DaemonConfig, FirewallSettings
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.events import Snapshot
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.netconf import NetConf, parse_netconf
from udpoverlay.model.refusal import Refusal
from udpoverlay.peers.peers import Peers

# --- the whole life, with fakes ----------------------------------------------------------------

CONF = parse_netconf('{"Network": "10.5.0.0/16"}').validated()
OURS = Lease(Subnet(IPNetwork("10.5.72.0/24")), LeaseAttrs(IPAddress("192.0.2.10")))
VIEW = HostView(
    links=(Link(2, "eth0", 1500, addresses=(Address(IPAddress("192.0.2.10"), 24),)),),
    default_v4=DefaultRoute(2),
)


class Rights:
    """Of this process, which has more to do: see tests/netns/test_privileges.py."""

    def __init__(self, _: object) -> None:
        pass

    def before_the_loop(self) -> None:
        pass

    def give_up(self, _: object) -> None:
        pass

    def facts(self) -> dict[str, object]:
        return {}


class World:
    """Stands for registry, engine, netlink and control; writes down what happens to them."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.conf: NetConf = CONF
        self.opened: tuple[Tunnel, DataplaneSettings]
        self.attrs: LeaseAttrs | None = None
        self.previous: Subnet | None = None
        self.stored = ("", "")
        self.on_first_routes: Callable[[], None]

    def note(self, event: str) -> None:
        self.events.append(event)
        if event in self.fails:
            raise self.fails[event]

    # the registry
    async def network_config(self) -> NetConf:
        self.note("config")
        return self.conf

    async def stored_public_ips(self) -> tuple[str, str]:
        return self.stored

    async def acquire(
        self, attrs: LeaseAttrs, previous: Subnet | None, conf: NetConf | None
    ) -> Lease:
        assert conf is self.conf
        self.attrs, self.previous = attrs, previous
        self.note("acquire")
        return OURS

    async def complete(self, lease: Lease) -> None:
        self.note("complete")

    async def aclose(self) -> None:
        self.note("close registry")

    # the engine
    tun_name, tun_index = "flannel0", 7

    def check(self, bind: tuple[str, int]) -> None:
        self.note(f"check {bind[0]}:{bind[1]}")

    def open(self, tunnel: Tunnel, settings: DataplaneSettings, **_: Any) -> World:
        self.opened = tunnel, settings
        self.note("open engine")
        return self

    async def start(self) -> None:
        self.note("start engine")

    async def wait(self) -> None:
        self.note("wait for the engine")
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.note("stop engine")

    def alive(self) -> bool:
        return True

    def replace(self, routes: Mapping[IPNetwork, Endpoint]) -> None:
        self.note("replace")

    # the host
    def check_tun(self) -> None:
        self.note("check rights")

    async def configure_tunnel(
        self, index: int, address: IPAddress, mtu: int, network: IPNetwork
    ) -> bool:
        self.note(f"configure {address} mtu {mtu} route {network}")
        return True

    async def look_at_forwarding(self, network: IPNetwork, device: str) -> None:
        self.note(f"look at forwarding to {device}")

    # the rest

    def expect_successor(self) -> None:
        """Of the control."""

    def control(self, *_: object, on_first_routes: Callable[[], None], **__: object) -> World:
        self.on_first_routes = on_first_routes
        return self

    async def run(self) -> None:
        self.note("control")
        self.on_first_routes()

    async def view(self, reach: IPAddress | None) -> HostView:
        self.note("look at the host")
        return VIEW


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    world = World()
    monkeypatch.setattr(daemon, "EtcdRegistry", lambda config: world)
    monkeypatch.setattr(udp, "Engine", world)
    monkeypatch.setattr(daemon, "Control", world.control)
    monkeypatch.setattr(daemon, "Privileges", Rights)
    monkeypatch.setattr(daemon, "check_tun", world.check_tun)
    monkeypatch.setattr(network, "Engine", world)
    monkeypatch.setattr(network, "configure_tunnel", world.configure_tunnel)
    monkeypatch.setattr(network.TunnelNetwork, "run", lambda self: world.wait())
    monkeypatch.setattr(daemon, "look_at_forwarding", world.look_at_forwarding)
    monkeypatch.setattr(underlay, "host_view", world.view)
    monkeypatch.setattr("udpoverlay.registry.waiting.RETRY_SECONDS", 0.0)

    def write(path: str, text: str) -> None:
        world.note("write subnet file")

    def send(address: str, message: str, *_: object) -> bool:
        world.note(message.partition("\n")[0])
        return True

    async def prepare(conf: object, settings: object) -> Tools:
        world.note("try the packet rules")
        return Tools(nftables=True)

    async def install(conf: object, subnet: object, settings: object, tools: Tools) -> Firewall:
        assert tools.nftables
        world.note("packet rules")
        return Firewall("nftables", 5.0)

    async def keep_blackhole(subnet: object, settings: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(gc, "collect", lambda: world.note("collect garbage"))
    monkeypatch.setattr(gc, "freeze", lambda: world.note("freeze what is left"))
    monkeypatch.setattr("udpoverlay.host.subnetfile.write_text", write)
    monkeypatch.setattr("udpoverlay.host.notify.send", send)
    monkeypatch.setattr(daemon, "prepare", prepare)
    monkeypatch.setattr(daemon, "install", install)
    monkeypatch.setattr(daemon, "keep_blackhole", keep_blackhole)
    monkeypatch.setattr(Firewall, "run", lambda self: asyncio.Event().wait())
    return world


def config(tmp_path: Path, **values: Any) -> DaemonConfig:
    return DaemonConfig(admin_socket="", subnet_file=str(tmp_path / "subnet.env"), **values)


def test_everything_happens_in_flannelds_order(world: World, tmp_path: Path) -> None:
    assert daemon.run(config(tmp_path)) == 0
    assert world.events == [
        "check rights",
        "STATUS=waiting for the network configuration",
        "config",
        "look at the host",
        "check 192.0.2.10:8285",
        "try the packet rules",
        "acquire",
        "open engine",
        "configure 10.5.72.0 mtu 1472 route 10.5.0.0/16",
        "packet rules",
        "write subnet file",
        "start engine",
        "READY=1",
        "wait for the engine",
        "control",
        "collect garbage",  # once the first routes are there
        "freeze what is left",  # then the lease was revoked: the end
        "complete",
        "look at forwarding to flannel0",
        "stop engine",
        "close registry",
    ]


STEPS = {
    "look at the host": [],
    "check 192.0.2.10:8285": [],
    "try the packet rules": [],
    "acquire": [],
    "open engine": [],
    "configure 10.5.72.0 mtu 1472 route 10.5.0.0/16": ["stop engine"],
    "packet rules": ["stop engine"],
    "start engine": ["stop engine"],
    "wait for the engine": ["stop engine"],
    "control": ["stop engine"],
}


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_at_any_step_undoes_what_came_before(
    world: World, tmp_path: Path, step: str
) -> None:
    world.fails[step] = KernelError("refused")
    with pytest.raises(KernelError, match="refused"):
        daemon.run(config(tmp_path))
    undone = world.events[world.events.index(step) + 1 :]
    assert [event for event in undone if event.startswith(("stop", "close"))] == [
        *STEPS[step],
        "close registry",
    ]


@pytest.mark.parametrize(
    ("error", "dumps"),
    [(RuntimeError("a defect"), 1), (KernelError("refused"), 1), (OperatorError("wrong"), 0)],
)
def test_defect_that_ends_the_daemon_leaves_the_last_packets(
    world: World, tmp_path: Path, error: Exception, dumps: int
) -> None:
    world.fails["control"] = error
    settings = replace(config(tmp_path), admin_socket=str(tmp_path / "run" / "admin.sock"))
    with pytest.raises(type(error)):
        daemon.run(settings)
    found = list(tmp_path.glob("run/dumps/udpoverlay-*-crash.pcapng"))
    assert len(found) == dumps


def test_the_engine_is_told_address_port_and_mtu(world: World, tmp_path: Path) -> None:
    world.conf = parse_netconf(
        '{"Network": "10.5.0.0/16", "Backend": {"Type": "UDP", "Port": 9999}}'
    ).validated()
    settings = DataplaneSettings(workers="3", per_packet=True)
    daemon.run(config(tmp_path, dataplane=settings))
    tunnel = Tunnel(
        mtu=1472,
        address=IPAddress("10.5.72.0"),
        subnet=IPNetwork("10.5.72.0/24"),
        bind=("192.0.2.10", 9999),
        public_ip=IPAddress("192.0.2.10"),
    )
    assert world.opened == (tunnel, settings)


def test_signals_are_what_they_were_once_it_has_ended(world: World, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    world.fails["acquire"] = KernelError("refused")
    with pytest.raises(KernelError, match="refused"):
        daemon.run(config(tmp_path))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_lease_tells_the_public_ip_alone(world: World, tmp_path: Path) -> None:
    daemon.run(config(tmp_path, iface=("eth0",), public_ip="203.0.113.5"))
    assert world.attrs == LeaseAttrs(IPAddress("203.0.113.5"))
    assert world.opened[0].bind == ("192.0.2.10", 8285)


def test_what_the_registry_has_as_public_ip_wins(world: World, tmp_path: Path) -> None:
    world.stored = ("203.0.113.9", "")
    daemon.run(config(tmp_path, iface=("eth0",), public_ip="203.0.113.5"))
    assert world.attrs == LeaseAttrs(IPAddress("203.0.113.9"))


async def again() -> Choice:
    raise AssertionError("nothing changes")


def planned(config: DaemonConfig) -> daemon._Plan:
    choice = Choice("eth0", 2, 1500, IPAddress("192.0.2.10"), None, IPAddress("203.0.113.5"), None)
    return daemon._Plan(config, choice, again, UdpBackend(CONF.network, 8285))


@pytest.mark.parametrize(
    ("kube", "refused"),
    [(False, {"10.5.128.0/17": Refusal.TOO_WIDE, "10.5.9.7/32": Refusal.TOO_NARROW}), (True, {})],
)
def test_peers_may_have_any_pod_cidr_but_only_a_hosts_subnet_in_etcd(
    kube: bool, refused: dict[str, Refusal]
) -> None:
    """flannel's Kubernetes manager uses neither SubnetLen nor its bounds."""
    conf = parse_netconf('{"Network": "10.5.0.0/16", "SubnetLen": 24}')
    plan = planned(DaemonConfig(kube_subnet_mgr=kube))
    admission = daemon._admission(plan, conf if kube else conf.validated(), OURS)
    peers = Peers(OURS, admission, route=plan.backend.route)
    nets = ("10.5.128.0/17", "10.5.9.7/32", "10.5.10.0/23", "10.6.0.0/24")
    peers.apply(Snapshot(tuple(lease(net, "192.0.2.7") for net in nets)), 0)
    found = {str(one.subnet): why for one, why in peers.leases() if why is not None}
    assert found == {**refused, "10.6.0.0/24": Refusal.OUTSIDE_NETWORK}


def test_peer_with_our_interface_address_has_no_route() -> None:
    """Behind NAT the public IP differs from it; the kernel would hand us our own packets."""
    plan = planned(DaemonConfig())
    peers = Peers(OURS, daemon._admission(plan, CONF, OURS), route=plan.backend.route)
    peers.apply(Snapshot((lease("10.5.9.0/24", "192.0.2.10"),)), 0)
    assert peers.refused == 1


def test_the_previous_subnet_is_read_from_the_subnet_file(world: World, tmp_path: Path) -> None:
    (tmp_path / "subnet.env").write_text("FLANNEL_SUBNET=10.5.9.1/24\n")
    daemon.run(config(tmp_path))
    assert world.previous == Subnet(IPNetwork("10.5.9.0/24"))


def test_a_subnet_file_that_cannot_be_read_costs_only_the_previous_subnet(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "subnet.env").write_bytes(b"x" * 70000)
    assert daemon.run(config(tmp_path)) == 0
    assert world.previous is None
    assert "the previous subnet is not known" in caplog.messages


def test_the_configuration_is_asked_for_until_it_is_there(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [RegistryUnavailable("down"), RegistryDenied("who are you"), None]

    async def network_config() -> NetConf:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return CONF

    monkeypatch.setattr(world, "network_config", network_config)
    assert daemon.run(config(tmp_path)) == 0
    assert not answers


def test_a_configuration_that_is_wrong_is_fatal_at_once(world: World, tmp_path: Path) -> None:
    world.fails["config"] = OperatorError("Network is wrong")
    with pytest.raises(OperatorError, match="Network is wrong"):
        daemon.run(config(tmp_path))
    waiting = "STATUS=waiting for the network configuration"
    assert world.events == ["check rights", waiting, "config", "close registry"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}', "'vxlan' is not supported"),
        ('{"Network": "10.5.0.0/16", "Backend": {}}', "Backend.Type '' is not supported"),
        ('{"Network": "10.5.0.0/16", "Backend": {"Port": 0, "Type": "udp"}}', "Backend.Port"),
        ('{"EnableIPv4": false}', "disables both IPv4 and IPv6"),
        ("{}", "Network is missing"),  # Kubernetes' configuration is not validated when read
    ],
)
def test_what_this_daemon_cannot_do_is_refused_before_a_lease_is_taken(
    world: World, tmp_path: Path, text: str, said: str
) -> None:
    world.conf = parse_netconf(text)
    with pytest.raises(OperatorError, match=said):
        daemon.run(config(tmp_path))
    assert "acquire" not in world.events


def test_a_ready_message_that_nobody_takes_is_an_error_in_the_log_alone(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world.fails["READY=1"] = OperatorError("no reader")
    assert daemon.run(config(tmp_path), ServiceManager("/absent")) == 0
    assert "the service manager cannot be notified" in caplog.messages


def test_a_registry_that_cannot_be_told_changes_nothing(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world.fails["complete"] = RegistryUnavailable("down")
    assert daemon.run(config(tmp_path)) == 0
    assert "cannot tell the registry that we are up" in caplog.messages


@pytest.fixture
def without_bridge_netfilter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "_BRIDGE", "nowhere/")


@pytest.mark.usefixtures("without_bridge_netfilter")
def test_without_br_netfilter_it_does_not_start_and_names_the_commands(
    world: World, tmp_path: Path
) -> None:
    with pytest.raises(KernelError, match="br_netfilter is not loaded") as caught:
        daemon.run(config(tmp_path))
    assert "modprobe br_netfilter" in caught.value.fix
    assert "/etc/modules-load.d/" in caught.value.fix
    assert "acquire" not in world.events


@pytest.mark.usefixtures("without_bridge_netfilter")
def test_without_br_netfilter_nftables_mode_starts(world: World, tmp_path: Path) -> None:
    world.conf = parse_netconf('{"Network": "10.5.0.0/16", "EnableNFTables": true}').validated()
    assert daemon.run(config(tmp_path)) == 0


@pytest.mark.usefixtures("without_bridge_netfilter")
def test_check_for_br_netfilter_can_be_turned_off(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    firewall = FirewallSettings(bridge_check=False)
    assert daemon.run(config(tmp_path, firewall=firewall)) == 0
    messages = [text for text in caplog.messages if "br_netfilter" in text]
    assert len(messages) == 1  # IPv6 is off


def test_interface_inside_the_network_is_warned_of(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world.conf = parse_netconf('{"Network": "192.0.0.0/16"}').validated()
    with caplog.at_level(logging.WARNING):
        daemon.run(config(tmp_path))
    text = " ".join(caplog.messages)
    assert "the interface's own address lies in the overlay's network" in text
