"""`udpoverlay doctor` between hosts: daemons, real links, what is broken on the way.

n1 doctor --peer n2 ──── switch ──── n2 a daemon, or doctor --listen, or nothing
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, Node, wait_until
from udpoverlay.lab.actions import links
from udpoverlay.lab.hosts import Host

pytestmark = [
    pytest.mark.root,
    pytest.mark.etcd,
    pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on PATH"),
]

DOCTOR = [sys.executable, "-m", "udpoverlay.cli", "doctor"]
TABLE = """
table inet doctor {
    chain in { type filter hook prerouting priority -300; policy accept; }
    chain out { type filter hook output priority 300; policy accept; }
}
"""
NO_CHECKSUM_OFFLOAD = """
import fcntl, socket, struct
from ctypes import addressof, create_string_buffer
value = create_string_buffer(struct.pack("II", 0x17, 0), 8)  # ETHTOOL_STXCSUM
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    fcntl.ioctl(sock, 0x8946, struct.pack("16sP16x", b"eth0", addressof(value)))
"""
Findings = list[tuple[str, str, str]]


class World:
    """Two hosts; n1 asks."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.n1, self.n2 = cluster.fabric.hosts["n1"], cluster.fabric.hosts["n2"]
        self.address = cluster.fabric.address("n2")

    def doctor(self, *words: str, only: str = "peer") -> tuple[int, Findings]:
        """Exit status and findings (level, fact, fix) on n1."""
        argv = [*DOCTOR, f"--etcd-endpoints={self.cluster.etcd.endpoint}", f"--only={only}"]
        status, out = self.n1.run([*argv, "--json", *words])
        document = json.loads(out)
        return status, [
            (found["level"], found["fact"], found["fix"])
            for check in document["checks"]
            for found in check["findings"]
        ]

    def peer(self, address: str = "") -> tuple[int, Findings]:
        return self.doctor(f"--peer={address or self.address}")


@pytest.fixture
def world() -> Iterator[World]:
    with Cluster("n1", "n2") as cluster:
        yield World(cluster)


@pytest.fixture(scope="module")
def daemons() -> Iterator[tuple[World, Node, Node]]:
    """Both hosts with a daemon; what a test breaks it puts right again."""
    with Cluster("n1", "n2") as cluster:
        n1, n2 = cluster.start("n1"), cluster.start("n2")
        cluster.wait_for_peers(n1, n2)
        yield World(cluster), n1, n2


@contextlib.contextmanager
def ruled(host: Host, chain: str, rule: str) -> Iterator[None]:
    """A packet rule while the block runs."""
    assert host.run(["sh", "-c", f"echo '{TABLE}' | nft -f -"]) == (0, "")
    try:
        status, out = host.run(["nft", "add", "rule", "inet", "doctor", chain, *rule.split()])
        assert status == 0, out
        yield
    finally:
        host.run(["nft", "delete", "table", "inet", "doctor"])


@contextlib.contextmanager
def listening(host: Host) -> Iterator[None]:
    """`doctor --listen` in a host while the block runs."""
    process = host.popen([*DOCTOR, "--listen"], log="doctor-listen.log")
    try:
        wait_until(lambda: "answering on UDP" in process.log(), "doctor listens")
        yield
    finally:
        process.stop()


def about(findings: Findings, word: str) -> tuple[str, str, str]:
    """The one finding whose fact has a word."""
    (found,) = [each for each in findings if word in each[1]]
    return found


# --- two daemons ---------------------------------------------------------------------------------


def test_peer_that_is_well(daemons: tuple[World, Node, Node]) -> None:
    world, _, n2 = daemons
    for address in (world.address, n2.address):  # a public address, or one of its subnet
        status, findings = world.peer(address)
        assert status == 0, findings
        assert about(findings, "the way to")[:2] == ("ok", f"the way to {world.address} is eth0")
        assert about(findings, "through the tunnel")[0] == "ok"
        assert about(findings, "packets of 1472 bytes")[0] == "ok"
        for port in (8472, 4789):  # n2 says that nothing listens there: they arrive
            assert about(findings, f"UDP {port}")[0] == "ok"


def test_everything_is_looked_at_while_the_daemon_runs(
    daemons: tuple[World, Node, Node],
) -> None:
    world, n1, _ = daemons
    before = world.cluster.leases()
    checks = "privileges,tun,kernel,vxlan,registry,interface,public-ip,daemon,reverse-path,mtu"
    status, findings = world.doctor(only=f"{checks},overlap,firewall,peer")
    assert (status, {level for level, _, _ in findings}) <= (0, {"ok", "skipped"}), findings
    assert about(findings, "udpoverlayd runs")[1].endswith("peers: 1")
    assert n1.subnet in about(findings, "udpoverlayd runs")[1]
    assert about(findings, "leases: 2")[0] == "ok"
    assert world.cluster.leases() == before
    assert n1.errors() == []


@pytest.mark.parametrize("chain", ["in", "out"])
def test_tunnel_that_is_blocked_at_the_peer_is_a_failure(
    daemons: tuple[World, Node, Node], chain: str
) -> None:
    world, _, n2 = daemons
    with ruled(world.n2, chain, "udp dport 8285 drop"):
        status, findings = world.peer()
        assert status == 1
        level, fact, fix = about(findings, "does not answer through the tunnel")
        assert level == "failure"
        assert n2.address in fact
        assert "8285" in fix
    status, findings = world.peer()
    assert status == 0, findings


def test_path_that_carries_less_than_the_mtu_is_a_failure(
    daemons: tuple[World, Node, Node],
) -> None:
    world, _, n2 = daemons
    with ruled(world.n2, "in", "udp dport 8285 meta length > 1400 drop"):
        status, findings = world.peer()
        assert status == 1
        level, fact, _ = about(findings, "packets of 1472 bytes do not pass")
        assert level == "failure"
        assert n2.address in fact
    assert world.peer()[0] == 0


def test_peer_that_answers_no_ping_still_answers_probes(
    daemons: tuple[World, Node, Node],
) -> None:
    world, _, _ = daemons
    with ruled(world.n2, "in", "meta iifname flannel0 icmp type echo-request drop"):
        status, findings = world.peer()
        assert status == 0
        assert about(findings, "answers through the tunnel")[0] == "ok"
        assert about(findings, "answers no ping")[0] == "skipped"


def test_address_of_no_lease_is_a_failure(daemons: tuple[World, Node, Node]) -> None:
    world, _, _ = daemons
    status, findings = world.peer("10.5.255.7")
    assert status == 1
    assert "no lease has 10.5.255.7" in findings[0][1]


def test_daemon_that_ended_is_told_by_its_host(daemons: tuple[World, Node, Node]) -> None:
    """Last: n2's daemon is gone."""
    world, _, n2 = daemons
    n2.process.stop()
    status, findings = world.peer()
    assert status == 1
    assert about(findings, "does not answer through the tunnel")[0] == "failure"
    level, fact, _ = about(findings, "arrives, and nothing listens there")
    assert level == "failure"
    assert f"says {world.address}" in fact
    n2_again = world.cluster.start("n2")
    assert n2_again.subnet == n2.subnet
    wait_until(lambda: world.peer()[0] == 0, "and all is well again")


# --- one daemon, or none -------------------------------------------------------------------------


def test_daemon_of_the_peer_answers_while_ours_is_stopped(world: World) -> None:
    n1, n2 = world.cluster.start("n1"), world.cluster.start("n2")
    world.cluster.wait_for_peers(n1, n2)
    n1.process.stop()
    status, findings = world.peer()
    assert status == 0, findings
    assert about(findings, "its daemon answers")[0] == "ok"


def test_listener_answers_on_all_ports(world: World) -> None:
    with listening(world.n2):
        status, findings = world.peer()
    assert status == 0, findings
    assert about(findings, "doctor --listen answers")[0] == "ok"
    for port in (8472, 4789):
        assert "arrives and is answered" in about(findings, f"UDP {port}")[1]


def test_peer_with_nothing_is_a_failure_that_says_so(world: World) -> None:
    status, findings = world.peer()
    assert status == 1
    level, _, fix = about(findings, "arrives, and nothing listens there")
    assert level == "failure"
    assert "doctor --listen" in fix


@pytest.mark.parametrize("chain", ["in", "out"])
def test_vxlan_that_is_dropped_on_the_way_is_told_from_the_tunnel(world: World, chain: str) -> None:
    rule = {"in": "udp dport 8472 drop", "out": "udp sport 8472 drop"}[chain]
    with listening(world.n2):
        with ruled(world.n2, chain, rule):
            status, findings = world.peer()
        assert status == 0
        assert about(findings, "doctor --listen answers")[0] == "ok"
        level, fact, fix = about(findings, "UDP 8472")
        assert (level, "lost" in fact) == ("warning", True)
        assert "flannel issue 2388" in fix
        assert about(findings, "UDP 4789")[0] == "ok"
        assert {level for level, _, _ in world.peer()[1]} <= {"ok", "skipped"}


def test_damaged_checksums_are_counted_there(world: World) -> None:
    """As of a card that computes them wrongly."""
    assert world.n1.run([sys.executable, "-c", NO_CHECKSUM_OFFLOAD]) == (0, "")
    with listening(world.n2):
        with ruled(world.n2, "in", "udp dport 8472 udp checksum set 0x1234"):
            status, findings = world.peer()
        assert status == 0
        level, fact, _ = about(findings, "UDP 8472")
        assert level == "warning"
        assert "datagrams came there with a wrong checksum" in fact


def test_silence_on_every_port_is_a_warning(world: World) -> None:
    with listening(world.n2), ruled(world.n2, "in", "udp dport { 8285, 8472, 4789 } drop"):
        status, findings = world.peer()
        assert status == 0
        assert about(findings, "UDP 8285: no answer")[0] == "warning"
        for port in (8472, 4789):
            assert about(findings, f"UDP {port}")[0] == "skipped"


def test_port_of_a_vxlan_device_is_not_taken_for_a_loss(world: World) -> None:
    try:
        world.n2.call(
            links.add_vxlan, name="flannel.1", vni=1, local=world.address, dev="eth0", mtu=1450
        )
    except Exception as error:  # a kernel without VXLAN
        pytest.skip(str(error))
    with listening(world.n2):
        status, findings = world.peer()
    assert status == 0, findings
    taken = [port for port in (8472, 4789) if about(findings, f"UDP {port}")[0] == "skipped"]
    assert len(taken) == 1
    assert "the port is taken there" in about(findings, f"UDP {taken[0]}")[1]


def test_way_into_the_tunnel_itself_is_a_failure(world: World) -> None:
    n1 = world.cluster.start("n1")
    n1.host.run(["ip", "route", "add", "203.0.113.9", "dev", "flannel0"])
    status, findings = world.peer("203.0.113.9")
    assert status == 1
    assert about(findings, "into the tunnel itself")[0] == "failure"


# --- flanneld ------------------------------------------------------------------------------------


@pytest.mark.flanneld
def test_flanneld_is_a_peer_like_any_other(world: World) -> None:
    """Its host answers, by the kernel."""
    n2 = world.cluster.start("n2", "--iptables-forward-rules=false", program=["flanneld"])
    n1 = world.cluster.start("n1")
    world.cluster.wait_for_peers(n1)
    wait_until(lambda: n1.status()["dataplane"]["routes"] == 1, "n1 knows flanneld's lease")
    status, findings = world.peer(n2.address)
    assert status == 0, findings
    assert about(findings, f"{n2.address} answers through the tunnel")[0] == "ok"
    assert about(findings, "packets of 1472 bytes")[0] == "ok"
    n1.process.stop()
    status, findings = world.peer()
    assert status == 0, findings
    assert about(findings, "its daemon answers")[0] == "ok"
