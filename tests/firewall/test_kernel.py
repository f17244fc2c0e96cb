"""firewall/ against the kernel: real nft, real iptables, real traffic through a router.

pod 10.5.1.2 ── 10.5.1.1 router 192.0.2.1 ── 192.0.2.9 world
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from netaddr import IPNetwork
from pyroute2 import IPRoute

from tests.support.engines import Host
from udpoverlay.errors import KernelError
from udpoverlay.firewall import command
from udpoverlay.firewall.manager import Firewall, Tools, install, prepare
from udpoverlay.model.config import FirewallSettings
from udpoverlay.model.lease import Subnet
from udpoverlay.model.netconf import NetConf, parse_netconf

pytestmark = pytest.mark.root

CONF = parse_netconf('{"Network": "10.5.0.0/16"}')
NFT = replace(CONF, enable_nftables=True)
SUBNET = Subnet(IPNetwork("10.5.1.0/24"))
BOTH = FirewallSettings(masquerade=True)
WORLD = ("192.0.2.9", 5000)
ROUTER, POD = "192.0.2.1", "10.5.1.2"

needs_iptables = pytest.mark.skipif(shutil.which("iptables") is None, reason="no iptables on PATH")
needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on PATH")
each_mode = pytest.mark.parametrize(
    "conf",
    [
        pytest.param(CONF, id="iptables", marks=needs_iptables),
        pytest.param(NFT, id="nftables", marks=needs_nft),
    ],
)


def run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


class Net:
    """The three hosts; `router` has the rules."""

    def __init__(self) -> None:
        self.pod, self.router, self.world = Host(1), Host(2), Host(3)
        self.hosts = (self.pod, self.router, self.world)
        self._cable(self.pod, "10.5.1.2", "10.5.1.1", 24)
        self._cable(self.world, "192.0.2.9", "192.0.2.1", 24)
        for host, gateway in ((self.pod, "10.5.1.1"), (self.world, "192.0.2.1")):
            host.call(partial(run, "ip", "route", "add", "default", "via", gateway))
        self.router.call(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))

    def _cable(self, host: Host, near: str, far: str, length: int) -> None:
        name = f"to{host.number}"

        def lay() -> None:
            with IPRoute() as ipr:
                ipr.link("add", ifname=name, kind="veth", peer={"ifname": "eth0"})
                ipr.link("set", index=ipr.link_lookup(ifname="eth0")[0], net_ns_fd=host.namespace)

        self.router.call(lay)
        for owner, device, address in ((self.router, name, far), (host, "eth0", near)):

            def configure(device: str = device, address: str = address) -> None:
                with IPRoute() as ipr:
                    index = ipr.link_lookup(ifname=device)[0]
                    ipr.addr("add", index=index, address=address, prefixlen=length)
                    ipr.link("set", index=1, state="up")
                    ipr.link("set", index=index, state="up")

            owner.call(configure)

    def install(self, conf: NetConf, settings: FirewallSettings = BOTH) -> Firewall:
        async def put() -> Firewall:
            tools = await prepare(conf, settings)
            firewall = await install(conf, SUBNET, settings, tools)
            await firewall.settle()
            return firewall

        return self.router.run(put())

    def saved(self, *words: str) -> str:
        return self.router.call(lambda: run(*words))

    @contextmanager
    def server(self) -> Iterator[set[str]]:
        """Source addresses of all that reaches the world while the block runs."""
        sources: set[str] = set()
        here = self.world.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        here.bind(WORLD)
        here.settimeout(0.2)
        over = threading.Event()

        def read() -> None:
            while not over.is_set():
                try:
                    sources.add(here.recvfrom(100)[1][0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield sources
        finally:
            over.set()
            thread.join()
            here.close()

    def new_connection(self) -> None:
        """One datagram of a connection that conntrack has never seen."""
        made = self.pod.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with made:
            made.sendto(b"x", WORLD)

    @contextmanager
    def busy(self) -> Iterator[list[int]]:
        """New connections without a pause while the block runs; yields how many, one by one."""
        sent: list[int] = []
        over = threading.Event()

        def send() -> None:
            while not over.is_set():
                self.new_connection()
                sent.append(1)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield sent
        finally:
            over.set()
            thread.join()

    def close(self) -> None:
        for host in self.hosts:
            host.close()


@pytest.fixture
def net() -> Iterator[Net]:
    made = Net()
    try:
        yield made
    finally:
        made.close()


async def until(condition: object, seconds: float = 30.0) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not condition():  # type: ignore[operator] # a function
        assert asyncio.get_running_loop().time() < end, "the condition did not come true"
        await asyncio.sleep(0.01)


def arrived(sources: set[str], net: Net) -> None:
    """Send new connections until one arrives."""
    for _ in range(3000):
        if sources:
            return
        net.new_connection()
        threading.Event().wait(0.01)
    raise AssertionError("nothing arrived")


def test_without_rules_the_world_sees_the_pod(net: Net) -> None:
    with net.server() as sources:
        arrived(sources, net)
    assert sources == {POD}


@each_mode
def test_pod_reaches_the_world_masqueraded(net: Net, conf: NetConf) -> None:
    net.install(conf)
    with net.server() as sources:
        arrived(sources, net)
    assert sources == {ROUTER}


@each_mode
def test_restart_leaves_no_moment_without_rules(net: Net, conf: NetConf) -> None:
    """flannel issue 2237: a restart empties the chain and pods lose the outside."""
    net.install(conf)
    with net.server() as sources, net.busy() as sent:
        for _ in range(15):
            net.install(conf)
        arrived(sources, net)
    assert sum(sent) > 100
    assert sources == {ROUTER}


@needs_iptables
@needs_nft
def test_change_of_mode_leaves_no_moment_without_rules_and_removes_the_old(net: Net) -> None:
    net.install(CONF)
    with net.server() as sources, net.busy() as sent:
        for conf in (NFT, CONF) * 5:
            net.install(conf)
        arrived(sources, net)
    assert sum(sent) > 100
    assert sources == {ROUTER}
    assert "flannel-ipv4" not in net.saved("nft", "list", "tables")
    net.install(NFT)
    for table in ("nat", "filter"):
        assert "FLANNEL" not in net.saved("iptables-save", "-t", table)


@each_mode
def test_rules_that_vanish_are_set_again(net: Net, conf: NetConf) -> None:
    firewall = net.install(conf)
    firewall.resync_seconds = 0.05
    task = asyncio.run_coroutine_threadsafe(firewall.run(), net.router._loop)
    flush = (
        ["nft", "flush", "chain", "ip", "flannel-ipv4", "postrtg"]
        if conf.enable_nftables
        else ["iptables", "-t", "nat", "-F", "POSTROUTING"]
    )
    try:
        net.saved(*flush)
        net.router.run(until(lambda: firewall.repairs == 1))
        with net.server() as sources:
            arrived(sources, net)
        assert sources == {ROUTER}
        assert firewall.facts()["error"] == ""
    finally:
        task.cancel()


@needs_iptables
def test_foreign_rules_stay_and_a_previous_subnet_goes(net: Net) -> None:
    net.saved("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16", "-j", "ACCEPT")
    net.saved("iptables", "-N", "OTHERS")
    other = Subnet(IPNetwork("10.5.9.0/24"))
    net.router.run(install(CONF, other, BOTH, Tools(nftables=False)))
    assert "10.5.9.0/24" in net.saved("iptables-save", "-t", "nat")
    net.install(CONF)
    saved = net.saved("iptables-save", "-t", "nat")
    assert "10.5.9.0/24" not in saved
    assert "-A POSTROUTING -s 172.17.0.0/16 -j ACCEPT" in saved
    assert saved.count("-j FLANNEL-POSTRTG") == 1
    assert ":OTHERS" in net.saved("iptables-save", "-t", "filter")


@needs_iptables
def test_saved_rules_are_flannels_golden_output(net: Net) -> None:
    net.install(CONF)
    saved = [
        line
        for line in net.saved("iptables-save", "-t", "nat").splitlines()
        if line.startswith("-A") and "FLANNEL" in line
    ]
    head, comment = "-A FLANNEL-POSTRTG", '-m comment --comment "flanneld masq"'
    assert saved == [
        f"-A POSTROUTING {comment} -j FLANNEL-POSTRTG",
        f"{head} -m mark --mark 0x4000/0x4000 {comment} -j RETURN",
        f"{head} -s 10.5.1.0/24 -d 10.5.0.0/16 {comment} -j RETURN",
        f"{head} -s 10.5.0.0/16 -d 10.5.1.0/24 {comment} -j RETURN",
        f"{head} ! -s 10.5.0.0/16 -d 10.5.1.0/24 {comment} -j RETURN",
        f"{head} -s 10.5.0.0/16 ! -d 224.0.0.0/4 {comment} -j MASQUERADE --random-fully",
        f"{head} ! -s 10.5.0.0/16 -d 10.5.0.0/16 {comment} -j MASQUERADE --random-fully",
    ]


@needs_nft
def test_missing_iptables_uses_nftables(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """RHEL 10 and Rocky 10 ship no iptables."""
    real = command.find

    def find(name: str) -> str | None:
        return None if "iptables" in name else real(name)

    monkeypatch.setattr("udpoverlay.firewall.iptables.find", find)
    firewall = net.install(CONF)
    assert firewall.mode == "nftables"
    with net.server() as sources:
        arrived(sources, net)
    assert sources == {ROUTER}


@pytest.mark.parametrize("conf", [CONF, NFT], ids=["iptables", "nftables"])
def test_no_tool_at_all_is_an_error_for_masquerading_only(
    net: Net, conf: NetConf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("iptables", "nftables"):
        monkeypatch.setattr(f"udpoverlay.firewall.{module}.find", lambda _name: None)
    with pytest.raises(KernelError, match="not on PATH: install"):
        net.install(conf)
    firewall = net.install(conf, FirewallSettings(forward=True))
    assert "not on PATH" in str(firewall.facts()["error"])


@each_mode
def test_trying_rules_out_changes_nothing(net: Net, conf: NetConf) -> None:
    def all_rules() -> list[str]:
        saved = [net.saved("nft", "list", "ruleset"), net.saved("iptables-save")]
        return [line for line in "".join(saved).splitlines() if "flannel" in line.lower()]

    tools = net.router.run(prepare(conf, BOTH))
    assert tools.nftables == conf.enable_nftables
    assert all_rules() == []
    net.router.run(install(conf, SUBNET, BOTH, tools))
    assert all_rules()


@each_mode
def test_forward_rules_pass_a_policy_of_drop(net: Net, conf: NetConf) -> None:
    if shutil.which("iptables") is None:
        pytest.skip("no iptables on PATH")
    net.saved("iptables", "-P", "FORWARD", "DROP")
    if conf.enable_nftables:
        # An accept in one table does not overrule a drop in another: flannel's mode neither.
        net.install(conf)
        with net.server() as sources:
            for _ in range(20):
                net.new_connection()
        assert sources == set()
    net.install(CONF)
    with net.server() as sources:
        arrived(sources, net)
    assert sources == {ROUTER}


@needs_iptables
@pytest.mark.parametrize("kind", ["nft", "legacy"])
def test_rules_go_where_the_kubelet_left_its_mark(net: Net, kind: str) -> None:
    if shutil.which(f"iptables-{kind}") is None:
        pytest.skip(f"no iptables-{kind} on PATH")
    net.saved(f"iptables-{kind}", "-t", "mangle", "-N", "KUBE-KUBELET-CANARY")
    net.install(CONF)
    other = "legacy" if kind == "nft" else "nft"
    assert "FLANNEL-POSTRTG" in net.saved(f"iptables-{kind}-save", "-t", "nat")
    assert "FLANNEL-POSTRTG" not in net.saved(f"iptables-{other}-save", "-t", "nat")
    with net.server() as sources:
        arrived(sources, net)
    assert sources == {ROUTER}
