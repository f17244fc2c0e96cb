"""What is counted of each peer: every packet whose peer is known, once, and no other."""

from __future__ import annotations

import socket
import time
from collections import Counter
from typing import Any

from tests.ext.worker.test_source_check import OTHER, OTHER_NET, PEER, STRANGER, send, strict
from tests.support.coalescing import built, run
from tests.support.pumprig import MTU, NET, Rig, from_peer, names, received, rig, to_peer
from tests.support.segments import Segment
from udpoverlay import _fastpath as fp

NAMES = names()[0]
CLOCK_MONOTONIC_COARSE = 6
"""linux/time.h"""


def traffic(r: Rig) -> dict[str, dict[str, int]]:
    """By peer, what is not zero."""
    found: dict[str, dict[str, int]] = {}
    for address, _, verdicts, sent, delivered, _heard in r.table.traffic():
        counts = {NAMES[number]: count for number, count in verdicts.items()}
        extra = {"sent_bytes": sent, "delivered_bytes": delivered}
        found[socket.inet_ntoa(address)] = {
            **counts,
            **{name: count for name, count in extra.items() if count},
        }
    return found


def heard(r: Rig) -> dict[str, int]:
    return {socket.inet_ntoa(address): at for address, _, _, _, _, at in r.table.traffic()}


def to_other(**fields: Any) -> bytes:
    return to_peer(**{"destination": "10.5.98.7", **fields})


def from_other(**fields: Any) -> bytes:
    return from_peer(**{"source": "10.5.98.7", **fields})


def test_packet_sent_counts_for_its_peer_with_its_bytes() -> None:
    with strict() as r:
        for packet in (to_peer(b"x" * 100), to_peer(b"y" * 50), to_other()):
            r.device.send(packet)
        r.step(fp.OUTBOUND)
        assert traffic(r) == {
            PEER: {"outbound_sent": 2, "sent_bytes": len(to_peer(b"x" * 100 + b"y" * 50)) + 20},
            OTHER: {"outbound_sent": 1, "sent_bytes": len(to_other())},
        }


def test_packet_refused_before_and_after_its_route_is_known() -> None:
    with strict() as r:
        r.device.send(to_peer(ttl=1))
        r.device.send(to_peer(destination="192.0.2.1"))
        r.step(fp.OUTBOUND)
        assert traffic(r)[PEER] == {"outbound_ttl_expired": 1}
        assert r.verdicts() == {"outbound_ttl_expired": 1, "outbound_no_route": 1}
        assert traffic(r)[OTHER] == {}


def test_datagram_delivered_or_refused_counts_for_who_sent_it() -> None:
    with strict() as r:
        send(r, from_peer())
        send(r, from_other(), OTHER)
        send(r, from_other(), PEER)  # a foreign source, from the peer
        send(r, from_peer(ttl=1))
        send(r, b"x" * (MTU + 1), OTHER)
        send(r, from_peer(), STRANGER)
        r.step(fp.INBOUND)
        assert traffic(r) == {
            PEER: {
                "inbound_delivered": 1,
                "inbound_foreign_source": 1,
                "inbound_ttl_expired": 1,
                "delivered_bytes": len(from_peer()),
            },
            OTHER: {
                "inbound_delivered": 1,
                "inbound_oversize": 1,
                "delivered_bytes": len(from_other()),
            },
        }
        assert r.verdicts()["inbound_unknown_sender"] == 1


def test_peers_behind_one_address_are_told_apart_by_their_subnets() -> None:
    """A NAT: both send from the alias."""
    with strict() as r:
        port = r.peer.getsockname()[1]
        r.table.publish(
            [
                (socket.inet_aton(NET), 24, socket.inet_aton(PEER), port, 0),
                (socket.inet_aton(OTHER_NET), 24, socket.inet_aton(OTHER), port, 0),
            ],
            [(socket.inet_aton(STRANGER), socket.inet_aton(of)) for of in (PEER, OTHER)],
        )
        for packet in (
            from_peer(),
            from_other(),
            from_other(),
            from_peer(source="192.0.2.9"),  # of neither
            from_peer(),
            from_peer(ttl=1),
        ):
            send(r, packet, STRANGER)
        r.step(fp.INBOUND)
        assert {peer: counts.get("inbound_delivered") for peer, counts in traffic(r).items()} == {
            PEER: 2,
            OTHER: 2,
        }
        assert traffic(r)[PEER]["inbound_ttl_expired"] == 1
        assert r.verdicts()["inbound_foreign_source"] == 1
        assert not any("inbound_foreign_source" in counts for counts in traffic(r).values())


def test_super_packets_count_each_packet_for_its_own_sender() -> None:
    """One flow from two addresses, which only the mode "warn" lets pass: no run has both."""
    packets = built(run(Segment(), *[500] * 8))
    options = {"vnet_header": True, "coalesce_tcp": True, "subnet": (bytes([10, 1, 1, 0]), 24)}
    with rig(source_check="warn", **options) as r:
        port = r.peer.getsockname()[1]
        r.table.publish([(bytes([10, 1, 0, 0]), 24, socket.inet_aton(PEER), port, 0)])
        for number, packet in enumerate(packets):
            send(r, packet, PEER if number < 5 else STRANGER)
        r.step(fp.INBOUND)
        assert r.counts()["coalesced_super_packets"] == 2
        assert r.verdicts() == {"inbound_delivered": 8}
        assert traffic(r) == {PEER: {"inbound_delivered": 5, "delivered_bytes": 5 * 540}}


def test_datagram_that_waited_for_room_counts_for_its_peer() -> None:
    with rig(narrow=True) as r:
        for _ in range(60):
            r.device.send(to_peer(b"x" * 1000))
        assert r.step(fp.OUTBOUND) & fp.BLOCKED
        while received(r.peer):
            r.step(fp.OUTBOUND)
        assert r.verdicts() == {"outbound_sent": 60}
        assert traffic(r)["127.0.0.1"]["outbound_sent"] == 60


def test_datagram_that_waited_is_not_the_next_peers() -> None:
    """The peer's slot rests when it is gone."""
    with rig(narrow=True) as r:
        for _ in range(60):
            r.device.send(to_peer(b"x" * 1000))
        assert r.step(fp.OUTBOUND) & fp.BLOCKED
        sent = traffic(r)["127.0.0.1"]["outbound_sent"]
        assert 0 < sent < 60
        r.table.publish([(socket.inet_aton(NET), 24, socket.inet_aton(OTHER), 9, 0)])
        assert traffic(r) == {OTHER: {}}
        while received(r.peer):
            r.step(fp.OUTBOUND)
        late = r.verdicts()["outbound_sent"] - sent
        assert late > 0
        # What was read after the change is the new peer's; what waited is not.
        assert traffic(r)[OTHER].get("outbound_sent", 0) < late


def test_peer_that_takes_a_used_slot_begins_at_zero() -> None:
    """Slots run out of fresh ones after thousands of peers that came and went."""
    with rig() as r:
        host, port = r.peer.getsockname()
        for number in range(1200):
            r.table.publish([(socket.inet_aton(NET), 24, number.to_bytes(4, "big"), 9, 0)])
            r.table.collect()
        r.route_to((host, port))
        r.device.send(to_peer())
        r.step(fp.OUTBOUND)
        assert traffic(r)[host]["outbound_sent"] == 1
        seen: Counter[str] = Counter()
        for number in range(1, 2600):
            address = f"127.1.{number // 250}.{number % 250 + 1}"
            r.route_to((address, port))
            seen[address] = traffic(r)[address].get("outbound_sent", 0)
            if number % 2:
                r.device.send(to_peer())
                r.step(fp.OUTBOUND)
                assert traffic(r)[address]["outbound_sent"] == 1
        assert not +seen


def test_peers_and_nobody_add_up_to_all() -> None:
    with strict() as r:
        for packet in (to_peer(), to_other(), to_peer(ttl=1), to_peer(destination="192.0.2.1")):
            r.device.send(packet)
        for packet, source in ((from_peer(), PEER), (from_other(), PEER), (from_peer(), STRANGER)):
            send(r, packet, source)
        r.step()
        total = Counter(r.verdicts())
        of_peers = sum((Counter(counts) for counts in traffic(r).values()), Counter())
        for name in ("sent_bytes", "delivered_bytes"):
            del of_peers[name]
        assert total - of_peers == {"outbound_no_route": 1, "inbound_unknown_sender": 1}
        assert not of_peers - total


def test_heard_is_the_time_of_the_latest_datagram_whatever_became_of_it() -> None:
    with strict() as r:
        assert heard(r) == {PEER: 0, OTHER: 0}
        assert r.table.heard(1) == 0
        before = time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)
        send(r, from_peer(ttl=1))
        send(r, from_peer(), STRANGER)
        r.step(fp.INBOUND)
        first = heard(r)
        assert before <= first[PEER] <= time.monotonic_ns()
        assert first[OTHER] == 0
        assert r.table.heard(first[PEER]) == 1
        assert r.table.heard(first[PEER] + 1) == 0
        send(r, from_other(), OTHER)
        r.step(fp.INBOUND)
        assert heard(r)[OTHER] >= first[PEER]
        assert r.table.heard(first[PEER]) == 2


def test_sender_is_nobody_without_a_source_check() -> None:
    """Its address is not asked for then."""
    with strict("off") as r:
        send(r, from_peer())
        r.step(fp.INBOUND)
        assert r.verdicts() == {"inbound_delivered": 1}
        assert traffic(r) == {PEER: {}, OTHER: {}}
