"""reach/follow.py: what the records of two hosts say together."""

from __future__ import annotations

from typing import Any

from tests.support.packets import ipv4
from udpoverlay.reach.follow import End, Stop, follow

HERE, THERE = "10.5.72.0", "10.5.73.0"
NO_ROUTE = "no peer has a subnet with the destination"


def packet(identity: str, direction: str = "outbound", **changed: Any) -> dict[str, Any]:
    data = ipv4(b"\0" * 20, source=HERE, destination=THERE)
    found = {
        "id": identity,
        "direction": direction,
        "point": "udp-out" if direction == "outbound" else "tun-out",
        "verdict": "outbound_sent" if direction == "outbound" else "inbound_delivered",
        "dropped": False,
        "meaning": "",
        "peer": "192.0.2.2",
        "packets": 1,
        "length": len(data),
        "source": HERE,
        "destination": THERE,
        "protocol": 6,
        "source_port": 1000,
        "destination_port": 80,
        "data": data.hex(),
    }
    return {**found, **changed}


def drop(identity: str, direction: str, point: str, verdict: str, **changed: Any) -> dict[str, Any]:
    return packet(
        identity, direction, point=point, verdict=verdict, dropped=True, meaning=NO_ROUTE, **changed
    )


def test_packet_that_both_saw_was_delivered() -> None:
    way = follow(HERE, THERE, End("a", [packet("1")]), End("b", [packet("1", "inbound")]))
    assert (way.seen, way.sent, way.delivered, way.stops) == (1, 1, 1, ())


def test_packets_of_the_other_way_are_not_counted() -> None:
    back = packet("2", source=THERE, destination=HERE)
    assert follow(HERE, THERE, End("a", [back]), End("b", [])).seen == 0


def test_packet_that_never_came_stops_between_the_hosts() -> None:
    way = follow(
        HERE, THERE, End("a", [packet("1"), packet("2")]), End("b", [packet("1", "inbound")])
    )
    assert (way.sent, way.delivered) == (2, 1)
    assert way.stops == (Stop("", "udp-out", "", "sent to 192.0.2.2, and never came in", 1),)


def test_most_frequent_stop_comes_first_and_each_host_is_named() -> None:
    sent = [
        drop("1", "outbound", "tun-in", "outbound_no_route"),
        packet("2"),
        packet("3"),
    ]
    came = [drop(each, "inbound", "udp-in", "inbound_foreign_source") for each in ("2", "3")]
    way = follow(HERE, THERE, End("a", sent), End("b", came))
    found = [(stop.host, stop.verdict, stop.packets) for stop in way.stops]
    assert found == [("b", "inbound_foreign_source", 2), ("a", "outbound_no_route", 1)]
    assert (way.seen, way.sent, way.stopped) == (3, 2, 3)


def test_end_of_what_was_sent_is_unknown_when_the_receiver_was_not_asked() -> None:
    way = follow(HERE, THERE, End("a", [packet("1")]), End("b", None))
    assert (way.sent, way.delivered, way.stops) == (1, 0, ())


def test_run_counts_as_delivered_however_the_receiver_divides_the_flow() -> None:
    way = follow(
        HERE,
        THERE,
        End("a", [packet("1", packets=40), packet("2")]),
        End("b", [packet("7", "inbound", packets=20)]),
    )
    assert (way.sent, way.delivered, way.stops) == (41, 41, ())


def test_run_of_a_flow_of_which_nothing_was_delivered_never_came() -> None:
    other = packet("9", "inbound", source_port=2000)
    way = follow(HERE, THERE, End("a", [packet("1", packets=40)]), End("b", [other]))
    assert [(stop.host, stop.packets) for stop in way.stops] == [("", 40)]


def test_packet_that_came_past_the_senders_tunnel_is_the_receivers() -> None:
    nothing: list[dict[str, Any]] = []
    for sent in (nothing, None):
        came = [drop("1", "inbound", "udp-in", "inbound_unknown_sender"), packet("2", "inbound")]
        way = follow(HERE, THERE, End("a", sent), End("b", came))
        assert (way.seen, way.delivered) == (2, 1)
        assert [(stop.host, stop.verdict) for stop in way.stops] == [
            ("b", "inbound_unknown_sender")
        ]


def test_delivered_packet_with_a_wrong_header_checksum_stops_in_the_kernel() -> None:
    data = bytearray.fromhex(packet("1")["data"])
    data[10] ^= 1
    came = packet("1", "inbound", data=data.hex())
    way = follow(HERE, THERE, End("a", [packet("1")]), End("b", [came]))
    [stop] = way.stops
    assert (stop.host, stop.point, stop.verdict) == ("b", "tun-out", "")
    assert stop.meaning.startswith("bad inner checksum, the kernel drops it: header checksum")


def test_checksum_of_a_run_is_the_kernels_to_make() -> None:
    data = bytearray.fromhex(packet("1")["data"])
    data[10] ^= 1
    came = packet("1", "inbound", data=data.hex(), packets=3)
    assert follow(HERE, THERE, End("a", None), End("b", [came])).delivered == 3
