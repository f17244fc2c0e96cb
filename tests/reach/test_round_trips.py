"""reach/live/round_trips.py over real tunnels, and on the loopback against what could fool it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, Node, wait_until
from tests.support.patience import DEADLINE
from udpoverlay.errors import KernelError
from udpoverlay.reach.live.round_trips import MOST, round_trips

CLI = [sys.executable, "-m", "udpoverlay.cli"]


def test_source_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(KernelError, match=r"cannot send from 10\.5\.9\.0"):
        round_trips("10.5.9.0", ["10.5.9.1"])


def test_more_addresses_than_may_be_are_refused() -> None:
    with pytest.raises(ValueError, match="1001 addresses"):
        round_trips("127.0.0.1", ["127.0.0.2"] * (MOST + 1))


@pytest.fixture(scope="module")
def three() -> Iterator[list[Node]]:
    with Cluster("n1", "n2", "n3") as cluster:
        nodes = [cluster.start(name) for name in ("n1", "n2", "n3")]
        cluster.wait_for_peers(*nodes)
        yield nodes


def trips(node: Node, *words: str) -> dict[str, float | None]:
    status, text = node.host.run([*CLI, "peers", "--json", *words], DEADLINE)
    assert status == 0, text
    return {peer["public_ip"]: peer["rtt_ms"] for peer in json.loads(text)["peers"]}


@pytest.mark.root
@pytest.mark.etcd
def test_peers_shows_the_round_trip_to_each_and_none_to_one_that_is_silent(
    three: list[Node],
) -> None:
    one, other, third = three
    wait_until(lambda: all(trips(one).values()), "both answer")
    assert all(0 < (rtt or 0) < 1000 for rtt in trips(one).values())
    _, shown = one.host.run([*CLI, "peers"], DEADLINE)
    assert shown.count(" ms ") == 2
    assert max(map(len, shown.splitlines())) <= 80
    assert trips(one, "--no-rtt") == {other.public_ip: None, third.public_ip: None}
    rule = "add table inet t; add chain inet t c { type filter hook input priority 0; }"
    other.host.run(["nft", f"{rule}; add rule inet t c udp dport 8285 drop"], DEADLINE)
    try:
        found = trips(one)
        assert (found[other.public_ip], found[third.public_ip] is None) == (None, False)
    finally:
        other.host.run(["nft", "delete table inet t"], DEADLINE)
    wait_until(lambda: all(trips(one).values()), "both answer again")


@pytest.mark.root
@pytest.mark.etcd
def test_delay_on_purpose_shows_in_the_round_trip() -> None:
    with Cluster("n1", "n2") as cluster:
        one, other = cluster.start("n1", "--allow-impair"), cluster.start("n2")
        cluster.wait_for_peers(one, other)
        words = [*CLI, "impair", other.public_ip, "delay", "50ms", "--for", "60s"]
        status, text = one.host.run(words, DEADLINE)
        assert status == 0, text
        wait_until(lambda: (trips(one)[other.public_ip] or 0) >= 50, "the delay shows")
