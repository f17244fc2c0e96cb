"""From the control plane's mapping to the C table."""

from __future__ import annotations

import pytest
from netaddr import IPAddress, IPNetwork

from tests.support.leases import endpoint
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
