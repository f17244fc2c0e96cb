"""From the control plane's mapping to the C table."""

from __future__ import annotations

import pytest
from netaddr import IPAddress, IPNetwork

from tests.support.leases import endpoint
from tests.support.pumprig import NET, forwarded, receive, rig, to_peer
from udpoverlay import _fastpath as fp
from udpoverlay.dataplane.sink import Publisher
from udpoverlay.model.endpoint import Endpoint


def lookup(table: fp.RouteTable, address: str) -> str | None:
    found = table.lookup(IPAddress(address).packed)
    return None if found is None else f"{'.'.join(map(str, found[0]))}:{found[1]}"


def test_a_mapping_becomes_the_whole_table() -> None:
    table = fp.RouteTable()
    publisher = Publisher(table)
    publisher.publish({IPNetwork("10.5.1.0/24"): endpoint("192.0.2.1", 8285)})
    assert lookup(table, "10.5.1.9") == "192.0.2.1:8285"
    publisher.publish({IPNetwork("10.5.2.0/24"): endpoint("192.0.2.2", 8285)})
    assert lookup(table, "10.5.1.9") is None
    assert lookup(table, "10.5.2.9") == "192.0.2.2:8285"


def test_a_changed_endpoint_under_the_same_network_object_is_seen() -> None:
    table = fp.RouteTable()
    publisher = Publisher(table)
    network = IPNetwork("10.5.1.0/24")
    routes = {network: endpoint("192.0.2.1")}
    publisher.publish(routes)
    routes[network] = endpoint("192.0.2.7", 9)
    publisher.publish(routes)
    assert lookup(table, "10.5.1.9") == "192.0.2.7:9"


def test_new_objects_at_reused_addresses_are_no_old_ones() -> None:
    table = fp.RouteTable()
    publisher = Publisher(table)
    for round_ in range(50):
        routes = {
            IPNetwork(f"10.{round_}.{i}.0/24"): Endpoint(IPAddress(f"192.0.2.{i}"), 1 + round_)
            for i in range(1, 20)
        }
        publisher.publish(routes)
        assert len(table) == 19
        assert lookup(table, f"10.{round_}.7.1") == f"192.0.2.7:{1 + round_}"


def test_header_of_an_endpoint_stands_in_front_of_each_packet_to_it_alone() -> None:
    """22 bytes, as VXLAN's with its inner Ethernet header would be."""
    header = bytes(range(22))
    with rig(udp_segment=True) as r:
        host, port = r.peer.getsockname()
        peer = IPAddress(host)
        Publisher(r.table).publish(
            {
                IPNetwork(f"{NET}/24"): Endpoint(peer, port, header=header),
                IPNetwork("10.5.98.0/24"): Endpoint(peer, port),
            }
        )
        packets = [to_peer(b"one"), to_peer(b"two"), to_peer(destination="10.5.98.7")]
        for packet in packets:
            r.device.send(packet)
        r.step(fp.OUTBOUND)
        one, two, bare = (forwarded(packet) for packet in packets)
        assert receive(r.peer, 3) == [header + one, header + two, bare]
        assert r.counts()["outbound_bytes"] == sum(map(len, packets))


def test_header_that_is_too_long_leaves_the_old_table() -> None:
    table = fp.RouteTable()
    publisher = Publisher(table)
    publisher.publish({IPNetwork("10.5.1.0/24"): endpoint("192.0.2.1")})
    odd = Endpoint(IPAddress("192.0.2.2"), 8285, header=bytes(25))
    with pytest.raises(ValueError, match="24 bytes at most"):
        publisher.publish({IPNetwork("10.5.2.0/24"): odd})
    assert lookup(table, "10.5.1.9") == "192.0.2.1:8285"


def test_a_mapping_that_cannot_be_published_leaves_the_old_table() -> None:
    table = fp.RouteTable()
    publisher = Publisher(table)
    publisher.publish({IPNetwork("10.5.1.0/24"): endpoint("192.0.2.1")})
    with pytest.raises(OverflowError):
        publisher.publish({IPNetwork("10.5.2.0/24"): endpoint("192.0.2.2", 1 << 40)})
    assert lookup(table, "10.5.1.9") == "192.0.2.1:8285"


def test_a_mapping_that_cannot_be_published_is_not_what_is_known() -> None:
    table = fp.RouteTable()
    publisher = Publisher(table)
    publisher.publish({IPNetwork("10.5.1.0/24"): endpoint("192.0.2.1")})
    with pytest.raises(OverflowError):
        publisher.publish({IPNetwork("10.5.2.0/24"): endpoint("192.0.2.2", 1 << 40)})
    publisher.publish_aliases([(IPAddress("198.51.100.1").packed, IPAddress("192.0.2.1").packed)])
    assert lookup(table, "10.5.1.9") == "192.0.2.1:8285"
    assert publisher.holder(IPAddress("10.5.2.9").packed) is None
