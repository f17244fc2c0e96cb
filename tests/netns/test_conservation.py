"""Under a flood every packet is somewhere: what came is what left, and each drop has its reason.

Two senders on n1 flood a socket on n2 without a reader. Each hop is closed by counting alone:

    sent by the programs = dropped in front of n1's worker + n1's outbound verdicts
    sent by n1           = dropped in front of n2's worker + n2's inbound verdicts
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.cluster import Cluster, Node, wait_until
from tests.support.wire import transfer
from udpoverlay import _fastpath as fp

pytestmark = [pytest.mark.root, pytest.mark.etcd]

SECONDS = 1.5
PORT = 7000
FLOOD = """
import json, socket, sys, time
here, there, port, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((here, 0))
sock.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: what the host itself drops is an error
sock.setsockopt(socket.SOL_SOCKET, 32, 64 << 20)  # SO_SNDBUFFORCE
sent, end = 0, time.monotonic() + seconds
data = bytes(64)
while time.monotonic() < end:
    for _ in range(64):
        try:
            sock.sendto(data, (there, port))
            sent += 1
        except OSError:
            pass
print(json.dumps(sent))
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster("n1", "n2") as cluster:
        yield cluster


def verdicts(node: Node, direction: str) -> int:
    """Packets of a direction that were decided about."""
    counters = node.counters()
    return sum(counters[name] for name, of, *_ in fp.VERDICTS if of == direction)


def test_flood_leaves_no_packet_unaccounted(cluster: Cluster) -> None:
    n1, n2 = cluster.start("n1"), cluster.start("n2")
    cluster.wait_for_peers(n1, n2)
    full = n2.host.socket(socket.AF_INET, socket.SOCK_DGRAM)  # a closed port would answer
    full.bind((n2.address, PORT))
    before_out, before_in = verdicts(n1, "outbound"), verdicts(n2, "inbound")
    argv = [sys.executable, "-c", FLOOD, n1.address, n2.address, str(PORT), str(SECONDS)]
    senders = [n1.host.popen(argv, log=f"flood{number}.log") for number in (1, 2)]
    for sender in senders:
        assert sender.wait(60) == 0, sender.log()
    sent = sum(json.loads(sender.log()) for sender in senders)

    def unaccounted() -> tuple[int, int]:
        one, two = n1.counters(), n2.counters()
        out = verdicts(n1, "outbound") - before_out
        came = verdicts(n2, "inbound") - before_in
        return (
            sent - one["outbound_kernel_dropped"] - out,
            one["outbound_sent"] - two["inbound_kernel_dropped"] - came,
        )

    wait_until(lambda: unaccounted() == (0, 0), f"each packet has its reason: {unaccounted()}")
    for node in (n1, n2):
        said = node.status()["dataplane"]["unaccounted"]
        assert said == {"outbound": 0, "inbound": 0}, node.name
    full.close()
    one, two = n1.counters(), n2.counters()
    assert one["outbound_kernel_dropped"] + two["inbound_kernel_dropped"] > 0, "it was a flood"
    started = time.monotonic()
    went, came = transfer(n1.end, n2.end, 100_000_000)  # and full speed is back
    assert went == came
    assert time.monotonic() - started < 10, "80 Mbit/s is far below what any machine carries"
    for node in (n1, n2):
        wait_until(partial(adds_up, node), f"{node.name}'s only peer has all that there was")


def adds_up(node: Node) -> bool:
    return traffic(node) == totals(node)


def traffic(node: Node) -> dict[str, int]:
    [peer] = node.ask("/v1/peers")["peers"]
    found = peer["traffic"]
    assert found.pop("heard_seconds_ago") < 60
    drops: dict[str, int] = found.pop("drops")
    return {**found, **drops}


def totals(node: Node) -> dict[str, int]:
    """What the traffic of a peer is when no other host sends: those of no peer are left out."""
    counters = node.counters()
    unknown = {"outbound_no_route", "outbound_wrong_version", "inbound_unknown_sender"}
    drops = {name for name, _, kind, _ in fp.VERDICTS if kind == "drop"} - unknown
    return {
        "sent_packets": counters["outbound_sent"],
        "sent_bytes": counters["outbound_bytes"],
        "delivered_packets": counters["inbound_delivered"],
        "delivered_bytes": counters["inbound_bytes"],
        **{name: counters[name] for name in drops if counters[name]},
    }
