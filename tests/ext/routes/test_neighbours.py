"""ext/routes: routes that differ in little: the same prefix, the same peer, host bits."""

from __future__ import annotations

import threading
from ipaddress import ip_address

import pytest

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


def found(table: Routes, address: str) -> tuple[str, int, int] | None:
    answer = table.lookup(packed(address))
    return None if answer is None else (str(ip_address(answer[0])), answer[1], answer[2])


@pytest.mark.parametrize("length", [8, 16, 24, 25, 32])
def test_host_bits_of_a_route_do_not_matter(table: Routes, length: int) -> None:
    # Another route far away, so that little of the address is common to both.
    table.publish([route(f"10.5.1.7/{length}", "192.0.2.1"), route("172.16.0.0/24", "192.0.2.2")])
    assert found(table, "10.5.1.7") == ("192.0.2.1", 8285, 1472)
    assert (found(table, "10.5.1.6") is None) == (length == 32)


def test_host_bits_of_a_wider_route_do_not_move_it(table: Routes) -> None:
    """A longer route inside takes it apart, entry by entry."""
    far = route("172.16.0.0/24", "192.0.2.3")
    table.publish([route("10.5.23.7/20", "192.0.2.1"), route("10.5.20.0/24", "192.0.2.2"), far])
    assert found(table, "10.5.20.1") == ("192.0.2.2", 8285, 1472)
    for address in ("10.5.16.0", "10.5.19.1", "10.5.31.255"):
        assert found(table, address) == ("192.0.2.1", 8285, 1472)
    for address in ("10.5.15.255", "10.5.32.0", "10.5.38.1"):
        assert found(table, address) is None


@pytest.mark.parametrize("length", [16, 24, 32])
def test_last_of_equal_prefixes_counts_beside_others(table: Routes, length: int) -> None:
    prefix = f"10.5.1.7/{length}"
    others = [route("10.9.0.0/24", "192.0.2.9"), route("172.16.0.0/24", "192.0.2.8")]
    table.publish([*others, route(prefix, "192.0.2.1"), route(prefix, "192.0.2.2")])
    assert found(table, "10.5.1.7") == ("192.0.2.2", 8285, 1472)


def test_each_route_to_a_peer_keeps_its_mtu(table: Routes) -> None:
    table.publish(
        [
            route("10.5.1.0/24", "192.0.2.1", mtu=1472),
            route("10.5.2.0/24", "192.0.2.1", mtu=1372),
            route("10.5.3.0/24", "192.0.2.1", mtu=1472),
        ]
    )
    assert [found(table, f"10.5.{n}.1") for n in (1, 2, 3)] == [
        ("192.0.2.1", 8285, mtu) for mtu in (1472, 1372, 1472)
    ]


def test_two_ports_of_one_address_are_two_ways(table: Routes) -> None:
    table.publish([route("10.5.1.0/24", "192.0.2.1", 1), route("10.5.2.0/24", "192.0.2.1", 2)])
    assert found(table, "10.5.1.1") == ("192.0.2.1", 1, 1472)
    assert found(table, "10.5.2.1") == ("192.0.2.1", 2, 1472)


def test_table_in_use_is_kept_until_its_reader_has_passed() -> None:
    table = _fastpath.RouteTable()
    table.publish([route("10.5.1.0/24", "192.0.2.1")])
    addresses = packed("10.5.1.1") * 2_000_000  # one batch of some ten milliseconds
    hits: list[int] = []

    def look() -> None:
        hits.append(table.lookup_many(addresses, 4))

    most = 0
    for _ in range(20):
        looking = threading.Thread(target=look)
        looking.start()
        while looking.is_alive():
            table.publish([route("10.5.1.0/24", "192.0.2.1")])
            most = max(most, table.retired)
        looking.join()
        if most:
            break
    assert most > 0, "every replaced table was freed at once"
    assert set(hits) == {2_000_000}
    assert table.collect() == 0
