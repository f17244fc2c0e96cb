"""Longest-prefix routes: what they answer, how they are replaced, what they take."""

from __future__ import annotations

import random
import threading
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import twin
from tests.support.twin.face import ROUTES, Routes
from udpoverlay import _fastpath

Route = tuple[bytes, int, bytes, int, int]


@pytest.fixture(params=list(ROUTES))
def table(request: pytest.FixtureRequest) -> Routes:
    return ROUTES[request.param]()


def packed(address: str) -> bytes:
    return ip_address(address).packed


def route(prefix: str, peer: str, port: int = 8285, mtu: int = 1472) -> Route:
    address, _, length = prefix.partition("/")
    return packed(address), int(length), packed(peer), port, mtu


def peer_of(table: Routes, address: str) -> str | None:
    found = table.lookup(packed(address))
    return None if found is None else str(ip_address(found[0]))


def test_an_empty_table_has_no_route(table: Routes) -> None:
    assert peer_of(table, "10.1.0.1") is None
    assert peer_of(table, "fd00::1") is None
    assert len(table) == 0
    assert table.generation == 0


def test_a_route_leads_to_its_peer_with_port_and_mtu(table: Routes) -> None:
    table.publish([route("10.1.0.0/16", "192.0.2.1", 8472, 1400)])
    assert table.lookup(packed("10.1.255.255")) == (packed("192.0.2.1"), 8472, 1400)
    assert table.lookup(packed("10.2.0.0")) is None
    assert (len(table), table.generation) == (1, 1)


def test_the_longest_prefix_wins_in_whatever_order(table: Routes) -> None:
    routes = [
        route("0.0.0.0/0", "192.0.2.1"),
        route("10.0.0.0/8", "192.0.2.2"),
        route("10.1.0.0/16", "192.0.2.3"),
        route("10.1.128.0/17", "192.0.2.4"),
        route("10.1.200.0/24", "192.0.2.5"),
        route("10.1.200.64/26", "192.0.2.6"),
        route("10.1.200.65/32", "192.0.2.7"),
    ]
    for order in (routes, routes[::-1], routes[3:] + routes[:3]):
        table.publish(order)
        assert [
            peer_of(table, address)
            for address in (
                "9.9.9.9",
                "10.200.0.1",
                "10.1.0.1",
                "10.1.129.1",
                "10.1.200.1",
                "10.1.200.66",
                "10.1.200.65",
            )
        ] == [f"192.0.2.{n}" for n in range(1, 8)]


def test_of_two_routes_with_one_prefix_the_last_counts(table: Routes) -> None:
    table.publish([route("10.1.0.0/24", "192.0.2.1"), route("10.1.0.0/24", "192.0.2.2")])
    assert peer_of(table, "10.1.0.9") == "192.0.2.2"
    table.publish([route("10.1.0.7/32", "192.0.2.1"), route("10.1.0.7/32", "192.0.2.2")])
    assert peer_of(table, "10.1.0.7") == "192.0.2.2"


@pytest.mark.parametrize("length", range(33))
def test_every_ipv4_prefix_length_ends_where_it_ends(table: Routes, length: int) -> None:
    net = ip_network(f"170.85.170.85/{length}", strict=False)
    table.publish([route(f"170.85.170.85/{length}", "192.0.2.1")])
    assert peer_of(table, str(net[0])) == "192.0.2.1"
    assert peer_of(table, str(net[-1])) == "192.0.2.1"
    if length > 0:
        assert peer_of(table, str(net[0] - 1)) is None
    if length > 1:
        assert peer_of(table, str(net[-1] + 1)) is None


@pytest.mark.parametrize("length", range(129))
def test_every_ipv6_prefix_length_ends_where_it_ends(table: Routes, length: int) -> None:
    address = "aaaa:5555:aaaa:5555:aaaa:5555:aaaa:5555"
    net = ip_network(f"{address}/{length}", strict=False)
    table.publish([route(f"{address}/{length}", "2001:db8::1")])
    assert peer_of(table, str(net[0])) == "2001:db8::1"
    assert peer_of(table, str(net[-1])) == "2001:db8::1"
    if length > 0:
        assert peer_of(table, str(net[0] - 1)) is None
    if length > 1:
        assert peer_of(table, str(net[-1] + 1)) is None


def test_ipv4_and_ipv6_do_not_meet(table: Routes) -> None:
    table.publish([route("0.0.0.0/0", "192.0.2.1"), route("a01::/16", "2001:db8::2")])
    assert peer_of(table, "10.1.0.1") == "192.0.2.1"
    assert peer_of(table, "a01::1") == "2001:db8::2"
    assert peer_of(table, "fd00::1") is None


def test_an_ipv6_peer_may_hold_an_ipv4_subnet(table: Routes) -> None:
    table.publish([route("10.1.0.0/24", "2001:db8::1", 1, 0)])
    assert table.lookup(packed("10.1.0.1")) == (packed("2001:db8::1"), 1, 0)


def test_publishing_replaces_everything(table: Routes) -> None:
    table.publish([route("10.1.0.0/24", "192.0.2.1"), route("10.2.0.0/24", "192.0.2.2")])
    table.publish([route("10.2.0.0/24", "192.0.2.3")])
    assert peer_of(table, "10.1.0.1") is None
    assert peer_of(table, "10.2.0.1") == "192.0.2.3"
    table.publish([])
    assert peer_of(table, "10.2.0.1") is None
    assert table.generation == 3


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ((packed("10.0.0.0"), 33, packed("192.0.2.1"), 1, 0), "prefix"),
        ((packed("fd00::"), 129, packed("192.0.2.1"), 1, 0), "prefix"),
        ((b"\x0a\x00\x00", 8, packed("192.0.2.1"), 1, 0), "prefix"),
        ((packed("10.0.0.0"), 8, b"", 1, 0), "4 or 16 bytes"),
    ],
)
def test_a_wrong_route_is_named_and_the_old_table_stays(
    table: Routes, bad: Route, says: str
) -> None:
    table.publish([route("10.1.0.0/24", "192.0.2.1")])
    with pytest.raises(ValueError, match=says):
        table.publish([route("10.2.0.0/24", "192.0.2.2"), bad])
    assert peer_of(table, "10.1.0.1") == "192.0.2.1"
    assert peer_of(table, "10.2.0.1") is None
    assert table.generation == 1


@pytest.mark.parametrize("length", [0, 3, 5, 15, 17])
def test_an_address_of_another_length_is_refused(table: Routes, length: int) -> None:
    with pytest.raises(ValueError, match="4 or 16"):
        table.lookup(bytes(length))


def prefixes(width: int) -> st.SearchStrategy[tuple[bytes, int]]:
    """Prefixes that meet often: few distinct bytes, all lengths."""
    byte = st.sampled_from([0, 1, 2, 127, 128, 255])
    return st.tuples(
        st.lists(byte, min_size=width, max_size=width).map(bytes), st.integers(0, 8 * width)
    )


@pytest.mark.parametrize("width", [4, 16])
@given(data=st.data())
def test_random_tables_answer_as_the_twin_does(width: int, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(prefixes(width), max_size=40))
    # A shared start makes the table skip bytes; with a short prefix among them it must not.
    shared = data.draw(st.integers(0, width - 1))
    common = bytes(range(7, 7 + shared))
    routes: list[Route] = [
        (common + address[shared:], length, packed("192.0.2.1"), number + 1, 0)
        for number, (address, length) in enumerate(drawn)
    ]
    fast, slow = _fastpath.RouteTable(), twin.RouteTable()
    fast.publish(routes)
    slow.publish(routes)
    asked = data.draw(st.lists(prefixes(width), min_size=1, max_size=40))
    for address in [a for a, _ in asked] + [common + a[shared:] for a, _ in asked]:
        assert fast.lookup(address) == slow.lookup(address), address.hex()
    for address, *_ in routes:
        assert fast.lookup(address) == slow.lookup(address), address.hex()


def ladder(count: int, peers: int = 250) -> list[Route]:
    """`count` neighbouring /24 subnets, as an allocator hands them out."""
    return [
        (
            (0x0A000000 + (n << 8)).to_bytes(4, "big"),
            24,
            bytes([192, 0, 2, n % peers]),
            8285,
            1472,
        )
        for n in range(count)
    ]


def test_a_hundred_thousand_routes_all_lead_where_they_should() -> None:
    table = _fastpath.RouteTable()
    routes = ladder(100_000)
    table.publish(routes)
    assert len(table) == 100_000
    for address, _, peer, port, mtu in random.Random(4).sample(routes, 2000):
        inside = address[:3] + b"\xc8"
        assert table.lookup(inside) == (peer, port, mtu)
    assert table.lookup_many(b"".join(r[0] for r in routes), 4) == 100_000
    assert table.lookup(packed("11.134.160.0")) is None


def test_memory_is_bounded_and_reported() -> None:
    table = _fastpath.RouteTable()
    empty = table.memory
    table.publish(ladder(10_000))
    ten_thousand = table.memory
    assert empty < 4096
    assert ten_thousand < 4 * 2**20
    table.publish([])
    assert table.memory == empty


def test_peers_are_counted_once_and_forgotten_when_nobody_needs_them() -> None:
    table = _fastpath.RouteTable()
    table.publish(ladder(1000, peers=7))
    assert table.peers == 7
    table.publish(ladder(10, peers=3))
    assert table.collect() == 0
    assert table.peers == 3
    table.publish([])
    assert table.peers == 0


def test_two_ports_of_one_address_are_two_peers() -> None:
    table = _fastpath.RouteTable()
    table.publish(
        [route("10.1.0.0/24", "192.0.2.1", 1, 0), route("10.2.0.0/24", "192.0.2.1", 2, 0)]
    )
    assert table.peers == 2


def test_a_table_beyond_the_memory_bound_is_refused_and_the_old_one_stays() -> None:
    table = _fastpath.RouteTable()
    table.publish([route("10.1.0.0/24", "192.0.2.1")])
    table.publish(ladder(3))
    before = table.memory
    rng = random.Random(6)
    # Pairs of neighbours that differ in the last bit only, far apart: the worst case there is.
    pairs = [rng.randbytes(15) for _ in range(100_000)]
    worst = [(p + bytes([end]), 128, packed("192.0.2.1"), 1, 0) for p in pairs for end in (0, 1)]
    with pytest.raises(MemoryError, match="256 MiB"):
        table.publish(worst)
    assert table.memory == before
    assert peer_of(table, "10.0.1.1") == "192.0.2.1"


def test_lookups_go_on_while_tables_are_swapped() -> None:
    """Every lookup sees one whole table; what is replaced is freed once all have passed."""
    table = _fastpath.RouteTable()
    both = [route("10.1.0.0/24", "192.0.2.1"), route("10.2.0.0/24", "192.0.2.2")]
    variants = [both + ladder(n * 50)[2 * 256 :] for n in range(1, 5)]
    table.publish(both)
    addresses = (packed("10.1.0.1") + packed("10.2.0.1")) * 500
    stop = threading.Event()
    answers: list[tuple[int, int]] = []

    def worker() -> None:
        while not stop.is_set():
            answers.append((table.lookup_many(addresses, 4, rounds=20), len(addresses) // 4 * 20))

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for swap in range(400):
            table.publish(variants[swap % len(variants)])
            assert peer_of(table, "10.2.0.9") == "192.0.2.2"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert answers
    assert all(hits == asked for hits, asked in answers)
    assert table.generation == 401
    assert table.collect() == 0
    assert table.retired == 0


def test_a_replaced_table_outlives_the_batch_that_uses_it() -> None:
    table = _fastpath.RouteTable()
    table.publish([route("10.1.0.0/24", "192.0.2.1")])
    addresses = packed("10.1.0.1") * 1_000_000
    looking = threading.Thread(target=table.lookup_many, args=(addresses, 4))
    looking.start()
    while looking.is_alive():
        table.publish([route("10.1.0.0/24", "192.0.2.1")])
    looking.join()
    assert table.collect() == 0


def test_publishing_from_many_threads_leaves_one_whole_table() -> None:
    table = _fastpath.RouteTable()
    start = threading.Barrier(4)

    def publisher(number: int) -> None:
        start.wait()
        for _ in range(25):
            table.publish([route(f"10.{n}.0.0/16", f"192.0.2.{number}") for n in range(100)])

    threads = [threading.Thread(target=publisher, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({peer_of(table, f"10.{n}.0.1") for n in range(100)}) == 1
    assert table.generation == 100
    assert table.collect() == 0
