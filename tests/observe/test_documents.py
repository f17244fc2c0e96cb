"""What the documents make of a running daemon's parts."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from netaddr import IPAddress, IPNetwork

from udpoverlay.errors import OperatorError
from udpoverlay.model.impairment import ImpairmentState
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.refusal import Refusal
from udpoverlay.model.traffic import PeerTraffic
from udpoverlay.observe.documents import Documents


def lease(number: int) -> Lease:
    return Lease(
        Subnet(IPNetwork(f"10.5.{number}.0/24")), LeaseAttrs(IPAddress(f"192.0.2.{number}"))
    )


def traffic() -> dict[str, PeerTraffic]:
    heard = time.monotonic_ns() - 1_500_000_000
    return {"192.0.2.1": PeerTraffic(3, 300, 2, 200, {"outbound_queue_full": 1}, heard)}


def documents() -> Documents:
    """Of a daemon that knows a peer, and a lease that it refuses a route."""
    impaired: dict[str, ImpairmentState] = {}
    engine = SimpleNamespace(
        fallbacks=lambda: (),
        proved_senders=dict,
        traffic=traffic,
        path_reports=lambda: (),
        refused_senders=lambda: (),
        impairments=lambda: list(impaired.values()),
        impair=lambda wanted: impaired.update(
            {wanted.peer: ImpairmentState(wanted, wanted.seconds)}
        ),
        end_impairment=lambda peer: impaired.pop(peer, None) is not None,
    )
    control = SimpleNamespace(peers=lambda: [(lease(1), None), (lease(2), Refusal.OVERLAP)])
    parts: Any = {"registry": None, "control": control, "engine": engine, "firewall": None}
    parts["privileges"] = None
    node = cast("Any", SimpleNamespace(network="10.5.0.0/16", port=8285, tun="flannel0", mtu=1472))
    return Documents(lambda: node, registry_kind="etcd", **parts)


def test_refused_lease_has_its_reason_among_the_peers() -> None:
    peers = cast("Any", documents().peers()["peers"])
    assert [(peer["subnet"], peer["refused"], peer["mtu"]) for peer in peers] == [
        ("10.5.1.0/24", "", 1472),
        ("10.5.2.0/24", Refusal.OVERLAP.value, 0),
    ]


def test_peer_has_its_traffic_and_a_host_that_was_never_heard_has_none() -> None:
    one, two = (peer["traffic"] for peer in cast("Any", documents().peers()["peers"]))
    assert one.pop("heard_seconds_ago") == pytest.approx(1.5, abs=1)
    assert one == {
        "sent_packets": 3,
        "sent_bytes": 300,
        "delivered_packets": 2,
        "delivered_bytes": 200,
        "drops": {"outbound_queue_full": 1},
    }
    assert two["heard_seconds_ago"] is None
    assert two["sent_packets"] == 0


def test_refused_lease_has_no_route() -> None:
    routes = cast("Any", documents().routes()["routes"])
    assert [(route["destination"], route["endpoint"]) for route in routes] == [
        ("10.5.1.0/24", "192.0.2.1:8285")
    ]


WANTED: dict[str, object] = {
    "peer": "192.0.2.1", "seconds": 60, "seed": 7, "loss_percent": 5.0,
}  # fmt: skip


def test_an_impairment_shows_with_its_peer_and_ends_when_asked() -> None:
    made = documents()
    actions = made.actions()
    done = cast("Any", actions["/v1/impair"](WANTED))
    assert done == made.impairments()
    [one] = done["impairments"]
    assert (one["peer"], one["seed"], one["what"], one["left_seconds"]) == (
        "192.0.2.1", 7, "loss 5 %", 60,
    )  # fmt: skip
    first, second = cast("Any", made.peers()["peers"])
    assert (first["impaired"], second["impaired"]) == ("loss 5 %", "")
    done = cast("Any", actions["/v1/impair/off"]({"peer": "192.0.2.1"}))
    assert done["impairments"] == []


@pytest.mark.parametrize(
    ("path", "wanted", "says"),
    [
        ("/v1/impair", {**WANTED, "peer": "192.0.2.77"}, "no route leads to a peer 192.0.2.77"),
        ("/v1/impair", {**WANTED, "peer": "192.0.2.2"}, "no route leads to a peer 192.0.2.2"),
        ("/v1/impair", {**WANTED, "peer": 7}, "peer is no text"),
        ("/v1/impair", [], "a JSON object"),
        ("/v1/impair/off", {"peer": "192.0.2.1"}, "are not impaired"),
        ("/v1/impair/off", {"peer": 1}, "its public IP"),
        ("/v1/impair/off", {"peer": "192.0.2.1", "x": 1}, "its public IP"),
        ("/v1/impair/off", None, "its public IP"),
    ],
)
def test_a_change_that_cannot_be_made_says_why(path: str, wanted: object, says: str) -> None:
    with pytest.raises(OperatorError, match=says):
        documents().actions()[path](wanted)
