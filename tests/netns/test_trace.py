"""`udpoverlay trace`, `record dump` and SIGUSR1 beside real daemons: what became of packets.

One thing is broken at a time, and its words are looked for.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, Node, wait_until
from tests.support.patience import DEADLINE
from tests.support.stranger import inner
from tests.support.stranger import send as stranger_send
from tests.support.wire import listen, ping
from udpoverlay.lab.actions import links
from udpoverlay.lab.hosts import Process

pytestmark = [pytest.mark.root, pytest.mark.etcd]

Pair = tuple[Node, Node]
FOREIGN = "10.5.253.9"
"""An address of the overlay that no host has leased."""
DATAGRAM = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 0))
sock.sendto(bytes(int(sys.argv[4])), (sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Cluster("n1", "n2") as cluster:
        n1, n2 = cluster.start("n1"), cluster.start("n2")
        cluster.wait_for_peers(n1, n2)
        yield n1, n2


def ask(node: Node, *words: str) -> tuple[int, str]:
    return node.host.run([sys.executable, "-m", "udpoverlay.cli", *words])


def send(node: Node, destination: str, port: int, size: int = 10, source: str = "") -> None:
    argv = [sys.executable, "-c", DATAGRAM, source or node.address, destination, str(port)]
    code, text = node.host.run([*argv, str(size)])
    assert code == 0, text


@contextmanager
def tracing(node: Node, *words: str) -> Iterator[Process]:
    """A trace that runs; gives the process, whose log is what it printed."""
    argv = [sys.executable, "-u", "-m", "udpoverlay.cli", "trace", *words]
    process = node.host.popen(argv, log="trace.log")
    try:
        yield process
    finally:
        process.stop()


def dump(node: Node, *words: str) -> list[dict[str, Any]]:
    code, text = ask(node, "record", "dump", "--json", *words)
    assert code == 0, text
    *packets, counts = [json.loads(line) for line in text.splitlines()]
    assert counts["shown"] == len(packets)
    return packets


def sent_and_counted(node: Node, name: str, act: Callable[[], None]) -> None:
    """`act`, until the daemon counted it."""
    before = node.counters()[name]

    def counted() -> bool:
        act()
        return node.counters()[name] > before

    wait_until(counted, name)


def test_trace_names_what_becomes_of_packets_live(pair: Pair) -> None:
    n1, n2 = pair
    ports = iter(range(7001, 7099))
    with tracing(n1, "out", "and", "port", "7001-7099") as process:

        def told(words: str, destination: str) -> None:
            def look() -> bool:
                send(n1, destination, next(ports))
                return words in process.log()

            wait_until(look, words)

        told(f"{n2.public_ip} sent", n2.address)
        told("dropped, no route: no peer has a subnet with the destination", "10.5.254.1")
        assert ping(n1.host, n1.address, n2.address) is not None
        process.signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
    *lines, last = process.log().splitlines()
    assert all(f" out {point} " in line for line in lines for point in [line.split()[2]])
    assert [line for line in lines if "ICMP" in line] == []
    seen, shown = (int(last.split()[at]) for at in (0, 3))
    assert seen >= shown == len(lines)


def test_dump_names_a_foreign_source_and_a_datagram_that_is_too_long(pair: Pair) -> None:
    n1, n2 = pair
    n2.host.call(links.add_address, name="lo", address=FOREIGN, prefix_len=32)
    sent_and_counted(
        n1, "inbound_foreign_source", lambda: send(n2, n1.address, 7101, source=FOREIGN)
    )
    long = inner(n2.address, n1.address, bytes(2000), port=7102)
    sent_and_counted(n1, "inbound_oversize", lambda: stranger_send(n2.host, n1.public_ip, long))

    found = {packet["verdict"]: packet for packet in dump(n1, "in", "and", "drops")}
    foreign, oversize = found["inbound_foreign_source"], found["inbound_oversize"]
    assert (foreign["source"], foreign["destination_port"]) == (FOREIGN, 7101)
    assert (foreign["peer"], foreign["point"]) == (n2.public_ip, "udp-in")
    assert oversize["meaning"] == "longer than the tunnel's MTU; dropped, not cut"
    _, text = ask(n1, "record", "dump", "reason", "foreign_source")
    assert "dropped, foreign source: from an address outside the sender's subnet" in text
    _, text = ask(n1, "record", "dump", "reason", "oversize")
    assert "dropped, oversize: longer than the tunnel's MTU; dropped, not cut" in text


def test_packet_has_one_id_at_all_four_points_of_both_hosts(pair: Pair, tmp_path: Path) -> None:
    n1, n2 = pair
    listener = listen(n2.host, n2.address)
    with listener, n1.host.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.bind((n1.address, 0))
        client.settimeout(DEADLINE)
        client.connect(listener.getsockname())
        ports = {client.getsockname()[1], listener.getsockname()[1]}
    assert ping(n1.host, n1.address, n2.address) is not None
    sent_and_counted(n2, "inbound_delivered", lambda: send(n1, n2.address, 7201))
    words = ("not", "reason", "probe", "and", "not", "drops")
    ours = {packet["id"]: packet for packet in dump(n1, "out", "and", *words)}
    theirs = {packet["id"]: packet for packet in dump(n2, "in", "and", *words)}

    def kinds(ids: Iterable[str]) -> set[object]:
        """Ports of what was sent; ICMP has none."""
        return {ours[each]["destination_port"] for each in ids}

    both = ours.keys() & theirs.keys()
    assert {None, 7201} <= kinds(both)
    assert ports & kinds(both)
    assert kinds(ours.keys() - theirs.keys()) <= kinds(both) | set(range(7000, 7200))
    if shutil.which("tshark"):
        points: dict[str, set[str]] = {}
        for node in (n1, n2):
            file = tmp_path / f"{node.name}.pcapng"
            code, text = ask(node, "record", "dump", "-w", str(file))
            assert code == 0, text
            for name, identity in fields(file, "frame.interface_name", "frame.packet_id"):
                points.setdefault(f"{int(identity):016x}", set()).add(name)
        seen_everywhere = {each for each, names in points.items() if len(names) == 4}
        assert {None, 7201} <= kinds(seen_everywhere & both)


def fields(file: Path, *names: str) -> list[list[str]]:
    """What tshark says of each packet."""
    argv = ["tshark", "-r", str(file), "-T", "fields"]
    argv += [word for name in names for word in ("-e", name)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_dump_to_a_full_disk_names_the_file_and_leaves_none(pair: Pair) -> None:
    n1, _ = pair
    for argv in (
        ["mkdir", "/run/full"],
        ["mount", "-t", "tmpfs", "-o", "size=4k", "t", "/run/full"],
    ):
        code, text = n1.host.run(argv)
        assert code == 0, text
    sent_and_counted(n1, "outbound_no_route", lambda: send(n1, "10.5.254.1", 7301))
    words = [f"{sys.executable} -m udpoverlay.cli record dump -w /run/full/{n}" for n in range(9)]
    code, text = n1.host.run(["sh", "-c", " && ".join(words)])
    assert code == 1
    assert "cannot write '/run/full/" in text
    assert "No space left on device: make room, or name a file elsewhere" in text
    _, left = n1.host.run(["ls", "-A", "/run/full"])
    assert [name for name in left.split() if name.startswith(".")] == []


def test_sigusr1_leaves_a_dump_for_root_alone(pair: Pair, tmp_path: Path) -> None:
    n1, _ = pair
    sent_and_counted(n1, "outbound_no_route", lambda: send(n1, "10.5.254.1", 7401))
    n1.process.signal(signal.SIGUSR1)
    wait_until(lambda: "packets dumped" in n1.process.log(), "the log names the dump")
    [path] = re.findall(r"packets dumped .*?path=\"?([^\s\"]+)", n1.process.log())
    assert path.startswith("/run/udpoverlay/dumps/udpoverlay-")
    _, mode = n1.host.run(["stat", "-c", "%a %U", path])
    assert mode.split() == ["600", "root"]
    code, text = ask(n1, "decode", "--all", "--json", path)
    assert code in {0, 3}, text
    comments = [json.loads(line)["comment"] for line in text.splitlines()]
    assert any(each.startswith("dropped, outbound_no_route: no peer has") for each in comments)
    assert n1.process.poll() is None
