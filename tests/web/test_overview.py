"""web/overview.py: what a card shows of a daemon, and what an odd document leads to."""

from __future__ import annotations

import pytest

from tests.support.admin import documents
from udpoverlay.observe.rates import Look, rates
from udpoverlay.web.overview import host_document


def found(changed: int = 0, **status: object) -> dict[str, object]:
    known = documents()
    before = Look.at(known["/v1/status"], known["/v1/peers"])
    after = documents()
    after["/v1/status"]["uptime_seconds"] = before.uptime + 2
    plane = after["/v1/status"]["dataplane"]
    assert isinstance(plane, dict)
    plane["counters"]["outbound_no_route"] += changed
    after["/v1/status"] |= status
    flow = rates(before, Look.at(after["/v1/status"], after["/v1/peers"]))
    return host_document("n1", after["/v1/status"], after["/v1/peers"], flow)


def test_card_has_the_host_and_its_drops_with_rate_and_meaning() -> None:
    card = found(changed=10)
    assert (card["name"], card["public_ip"], card["subnet"]) == ("n1", "192.0.2.1", "10.5.72.0/24")
    assert card["drops"] == [
        {
            "reason": "outbound_no_route",
            "per_second": 5.0,
            "since_start": 18,
            "meaning": "no peer has a subnet with the destination",
        }
    ]


def test_peer_that_is_out_of_the_ordinary_says_why() -> None:
    peers = found()["peers"]
    assert isinstance(peers, list)
    notes = {peer["public_ip"]: peer["notes"] for peer in peers}
    assert notes == {
        "192.0.2.2": [],
        "192.0.2.3": [
            "udp-segment is off: datagrams longer than the MTU",
            "12 times port unreachable",
        ],
        "192.0.2.9": ["no route to 10.0.0.0/8: too wide"],
    }


def test_what_does_not_work_is_listed() -> None:
    card = found(
        network={"troubles": {"device": "flannel0 is down"}},
        registry={"troubles": {"watch": "no answer for 12 s"}},
        firewall={"error": "nft: no such command"},
    )
    assert card["troubles"] == [
        "device: flannel0 is down",
        "watch: no answer for 12 s",
        "packet rules: nft: no such command",
    ]


@pytest.mark.parametrize("missing", ["node", "dataplane", "lease", "network"])
def test_document_without_a_part_is_an_error_that_the_asker_knows(missing: str) -> None:
    known = documents()
    flow = rates(Look(), Look.at(known["/v1/status"], known["/v1/peers"]))
    del known["/v1/status"][missing]
    with pytest.raises(KeyError):
        host_document("", known["/v1/status"], known["/v1/peers"], flow)
