"""In `lab --keep`, as the docs tell it: one thing is broken at a time, and the commands name it.

All is run as a person would: `--node`, `--lab`, `lab exec`. Each test ends on a way that is whole.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import wait_until
from tests.support.packets import ipv4
from tests.support.patience import DEADLINE
from tests.support.stranger import udp
from udpoverlay.lab.hosts import Host

pytestmark = [
    pytest.mark.root,
    pytest.mark.etcd,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on PATH"),
]

CLI = [sys.executable, "-m", "udpoverlay.cli"]
LAB = ("n1", "n2", "--lab")
FOREIGN = "10.244.253.9"
"""An address of the overlay that no host has leased, as is the next."""
UNLEASED = "10.244.254.7"
WHOLE = "delivered at n2: tun-out, and answers at n1"
DATAGRAM = """
import socket, sys
source, destination, port, data = sys.argv[1:]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((source, 0))
sock.sendto(bytes.fromhex(data), (destination, int(port)))
"""
PUT = """
import base64, json, sys, urllib.request
url, action, *words = sys.argv[1:]
body = dict(zip(("key", "value"), (base64.b64encode(word.encode()).decode() for word in words)))
urllib.request.urlopen(f"{url}/v3/kv/{action}", json.dumps(body).encode(), timeout=10).read()
"""


class Kept:
    """A kept lab of two nodes, in a host of its own."""

    def __init__(self, nest: Host) -> None:
        self.nest = nest
        status = {
            name: json.loads(self.cli("status", "--json", node=name)) for name in ("n1", "n2")
        }
        self.address = {name: found["node"]["tun_address"] for name, found in status.items()}
        self.public_ip = {name: found["node"]["public_ip"] for name, found in status.items()}

    def cli(self, *words: str, node: str = "") -> str:
        """What a command prints; its errors too."""
        _, text = self.nest.run([*CLI, *words, *([f"--node={node}"] if node else [])], DEADLINE)
        return text

    def inside(self, node: str, *argv: str) -> None:
        """Run this in a node."""
        status, text = self.nest.run([*CLI, "lab", "exec", node, *argv], DEADLINE)
        assert status == 0, text

    def etcd(self) -> str:
        """The URL that n1's daemon was started with."""
        pid = json.loads(self.cli("status", "--json", node="n1"))["pid"]
        words = self.cli("lab", "exec", "n1", "cat", f"/proc/{pid}/cmdline").split("\0")
        [found] = [word for word in words if "etcd-endpoints=" in word]
        return found.partition("=")[2]

    def send(self, source: str, destination: str, port: int, data: bytes = bytes(10)) -> None:
        """A datagram from n1."""
        words = (source, destination, str(port), data.hex())
        self.inside("n1", sys.executable, "-c", DATAGRAM, *words)

    def where(self, *words: str, ends: tuple[str, ...] = LAB) -> tuple[int, dict[str, Any]]:
        """The exit status, and what it says of packets from n1 to n2."""
        status, text = self.nest.run([*CLI, "where", *ends, "--json", *words], DEADLINE)
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError:
            raise AssertionError(text) from None
        return status, found

    def wait_for(
        self,
        answer: str,
        *words: str,
        ends: tuple[str, ...] = LAB,
        act: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """`where` comes to say this, with the status that belongs to it; `act` before each try."""
        found: dict[str, Any] = {}

        def says() -> bool:
            nonlocal found
            act()
            code, found = self.where(*words, ends=ends)
            return answer in found["answer"] and code == (0 if answer == WHOLE else 3)

        try:
            wait_until(says, answer)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {found}") from None
        return found

    def by_command(self, source: str, destination: str) -> tuple[str, ...]:
        """The words for ends that are no nodes by name."""
        path = f"env PATH={Path(sys.executable).parent}"
        reach = f"{sys.executable} -m udpoverlay.cli lab exec {{}} {path}"
        vias = (f"--{end}-via={reach.format(node)}" for end, node in (("src", "n1"), ("dst", "n2")))
        return (source, destination, *vias)

    @contextmanager
    def rule(self, node: str, words: str) -> Iterator[None]:
        """A packet rule in a node's input chain, for a while."""
        chain = "chain inet t c { type filter hook input priority 0; }"
        self.inside(node, "nft", f"add table inet t; add {chain}")
        try:
            self.inside(node, "nft", f"add rule inet t c {words}")
            yield
        finally:
            self.inside(node, "nft", "delete table inet t")


@pytest.fixture(scope="module")
def lab() -> Iterator[Kept]:
    with Host("nest") as nest:
        words = ["lab", "--keep", "--nodes=2", "--seconds=0.1"]
        status, output = nest.run([*CLI, *words], 120)
        assert status == 0, output
        try:
            yield Kept(nest)
        finally:
            assert nest.run([*CLI, "lab", "down"]) == (0, "")


@pytest.fixture
def kept(lab: Kept) -> Iterator[Kept]:
    yield lab
    lab.wait_for(WHOLE)


def test_route_in_the_way_is_named(kept: Kept) -> None:
    route = [f"{kept.address['n2']}/32", "dev", "eth0"]
    kept.inside("n1", "ip", "route", "add", *route)
    try:
        fact = "the kernel sends it to eth0"
        answer = kept.wait_for("stopped at n1: before tun-in, stops at the kernel route")["answer"]
        assert fact in answer
        assert fact in " ".join(kept.cli("explain", kept.address["n2"], node="n1").split())
    finally:
        kept.inside("n1", "ip", "route", "del", *route)


def test_packet_that_is_too_long_is_named(kept: Kept) -> None:
    answer = kept.wait_for("stopped at n1: before tun-in", "--size=2000")["answer"]
    assert "2,000 bytes are too big here" in answer


def test_mtu_on_the_way_is_named_where_short_packets_pass(kept: Kept) -> None:
    """The other host's interface takes less than ours, and nothing on the way says so."""
    size = "--size=1472"
    kept.wait_for(WHOLE, size)
    kept.inside("n2", "ip", "link", "set", "eth0", "mtu", "1400")
    try:
        answer = kept.wait_for("stopped between n1 and n2", size)["answer"]
        assert "an MTU on the way: 1,372 bytes pass" in answer
        assert "a black hole" in answer
        said = " ".join(kept.cli("ping", kept.address["n2"], "--count=2", node="n1").split())
        assert "1,372 bytes pass, of 1,472" in said
        assert "ip link set eth0 mtu 1400" in said
    finally:
        kept.inside("n2", "ip", "link", "set", "eth0", "mtu", "1500")
    kept.wait_for(WHOLE, size)


def test_firewall_that_refuses_is_named(kept: Kept) -> None:
    refuse = "udp dport 8285 reject with icmpx type admin-prohibited"
    with kept.rule("n2", refuse):
        fact = "a firewall refuses our datagrams"
        answer = kept.wait_for(fact)["answer"]
        assert answer.startswith("stopped between n1 and n2: sent to 198.18.0.12")
        assert fact in " ".join(kept.cli("explain", kept.address["n2"], node="n1").split())


def test_firewall_that_drops_is_named_on_either_way(kept: Kept) -> None:
    with kept.rule("n2", "udp dport 8285 drop"):
        found = kept.wait_for("stopped between n1 and n2: sent to 198.18.0.12")
        assert [stop["packets"] for stop in found["there"]["stops"]] == [3]
        assert found["there"]["delivered"] == 0
    with kept.rule("n1", "udp dport 8285 drop"):
        found = kept.wait_for("the way back: stopped between n2 and n1")
        assert found["answer"].startswith("delivered at n2: tun-out")
    with kept.rule("n2", "ip protocol icmp drop"):
        kept.wait_for("delivered at n2: tun-out; its host answers nothing")


def test_registry_entry_that_is_refused_is_named(kept: Kept) -> None:
    ends = kept.by_command(kept.address["n1"], UNLEASED)
    fact = f"no host has a lease with {UNLEASED}"
    kept.wait_for(f"before tun-in, stops at the lease: {fact}", ends=ends)
    url = kept.etcd()
    entry = "/coreos.com/network/subnets/10.244.128.0-17"
    put = (sys.executable, "-c", PUT, url)
    kept.inside("n1", *put, "put", entry, '{"PublicIP": "198.18.0.77"}')
    try:
        kept.wait_for("gets no route: too wide", ends=ends)
        assert "too wide" in kept.cli("explain", UNLEASED, node="n1")
        assert "no route: too wide" in " ".join(kept.cli("peers", node="n1").split())
    finally:
        kept.inside("n1", *put, "deleterange", entry)
    words = "dropped, no route: no peer has a subnet with the destination"

    def recorded() -> bool:
        kept.send(kept.address["n1"], UNLEASED, 7003)
        return words in kept.cli("record", "dump", "port", "7003", node="n1")

    wait_until(recorded, words)
    assert "outbound no route" in " ".join(kept.cli("status", node="n1").replace("_", " ").split())


def test_foreign_sender_is_named(kept: Kept) -> None:
    kept.inside("n1", "ip", "address", "add", f"{FOREIGN}/32", "dev", "lo")
    words = "from an address outside the sender's subnet"
    live = ["trace", "reason", "foreign_source", "-c1", "--node=n2"]
    tracing = kept.nest.popen([*CLI, *live], log="trace.log")
    try:

        def told() -> bool:
            kept.send(FOREIGN, kept.address["n2"], 7001)
            return tracing.poll() is not None

        wait_until(told, "trace shows it")
        assert f"198.18.0.11 dropped, foreign source: {words}" in tracing.log()
    finally:
        tracing.stop()
    ends = kept.by_command(FOREIGN, kept.address["n2"])
    answer = kept.wait_for("stopped at 198.18.0.12: udp-in, foreign source", ends=ends)["answer"]
    assert answer.endswith(words)
    dump = kept.cli("record", "dump", "reason", "foreign_source", node="n2")
    assert f"dropped, foreign source: {words}" in dump
    assert "inbound foreign source" in " ".join(
        kept.cli("status", node="n2").replace("_", " ").split()
    )


def test_bad_inner_checksum_is_named_though_the_tunnel_delivers_it(kept: Kept) -> None:
    addresses = {"source": kept.address["n1"], "destination": kept.address["n2"]}
    packet = bytearray(ipv4(udp(bytes(20), 7002), **addresses))
    packet[26:28] = b"\x12\x34"  # of UDP; 0 would be none
    found = kept.wait_for(
        "bad inner checksum, the kernel drops it: UDP checksum",
        "port",
        "7002",
        act=lambda: kept.send(kept.public_ip["n1"], kept.public_ip["n2"], 8285, bytes(packet)),
    )
    [stop] = found["there"]["stops"]
    assert (stop["host"], stop["point"]) == ("n2", "tun-out")
    dump = "udpoverlay.cli record dump port 7002 -w /run/f.pcapng"
    decode = (
        f"{sys.executable} -m {dump} && {sys.executable} -m udpoverlay.cli decode /run/f.pcapng"
    )
    _, text = kept.nest.run([*CLI, "lab", "exec", "n2", "sh", "-c", decode])
    assert "UDP checksum 1234" in " ".join(text.split())


PAGE = """
import json, subprocess, sys, urllib.error, urllib.request
words = [sys.executable, "-m", "udpoverlay.cli", "web", "--json", *sys.argv[1:]]
web = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
try:
    text = ""
    while not text.endswith("}\\n"):
        text += web.stdout.readline()
    url = json.loads(text)["url"]
    with urllib.request.urlopen(url + "live", timeout=20) as live:
        for line in live:
            hosts = json.loads(line)["hosts"]
            if not any(host["error"] for host in hosts):
                print(json.dumps([[host["name"], host["public_ip"]] for host in hosts]))
                break
finally:
    web.terminate()
    sys.exit(web.wait(20))
"""


def test_page_of_a_kept_lab_has_all_nodes_or_the_one_that_is_named(kept: Kept) -> None:
    for words, names in ((["--lab"], ["n1", "n2"]), (["--node=n2"], ["n2"])):
        status, text = kept.nest.run([sys.executable, "-c", PAGE, *words], DEADLINE)
        assert (status, json.loads(text)) == (0, [[name, kept.public_ip[name]] for name in names])
    assert "one of n1, n2" in kept.cli("web", node="n7")
