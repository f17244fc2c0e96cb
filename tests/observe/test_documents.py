"""What the documents make of a running daemon's parts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from netaddr import IPAddress, IPNetwork

from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.refusal import Refusal
from udpoverlay.observe.documents import Documents


def lease(number: int) -> Lease:
    return Lease(
        Subnet(IPNetwork(f"10.5.{number}.0/24")), LeaseAttrs(IPAddress(f"192.0.2.{number}"))
    )


def documents() -> Documents:
    """Of a daemon that knows a peer, and a lease that it refuses a route."""
    engine = SimpleNamespace(
        fallbacks=lambda: (),
        proved_senders=dict,
        path_reports=lambda: (),
        refused_senders=lambda: (),
    )
    control = SimpleNamespace(peers=lambda: [(lease(1), None), (lease(2), Refusal.OVERLAP)])
    parts: Any = {"registry": None, "control": control, "engine": engine, "firewall": None}
    node = cast("Any", SimpleNamespace(network="10.5.0.0/16", port=8285, tun="flannel0"))
    return Documents(lambda: node, registry_kind="etcd", **parts)


def test_refused_lease_has_its_reason_among_the_peers() -> None:
    peers = cast("Any", documents().peers()["peers"])
    assert [(peer["subnet"], peer["refused"]) for peer in peers] == [
        ("10.5.1.0/24", ""),
        ("10.5.2.0/24", Refusal.OVERLAP.value),
    ]


def test_refused_lease_has_no_route() -> None:
    routes = cast("Any", documents().routes()["routes"])
    assert [(route["destination"], route["endpoint"]) for route in routes] == [
        ("10.5.1.0/24", "192.0.2.1:8285")
    ]
