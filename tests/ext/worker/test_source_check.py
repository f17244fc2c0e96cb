"""The source check on the loopback interface: every address in 127/8 can be a sender."""

from __future__ import annotations

import os
import random
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.packets import icmp, ipv4, reply_to
from tests.support.pumprig import MTU, NET, OWN, Rig, forwarded, from_peer, received, rig
from udpoverlay import _fastpath as fp

SUBNET = (socket.inet_aton(OWN), 24)
PEER, ALIAS, OTHER, STRANGER = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"
OTHER_NET = "10.5.98.0"
VERDICT = {facts[0]: number for number, facts in enumerate(fp.VERDICTS)}


def routes(r: Rig, *aliases: tuple[str, str]) -> None:
    """NET is the peer's, OTHER_NET is OTHER's."""
    port = r.peer.getsockname()[1]
    r.table.publish(
        [
            (socket.inet_aton(NET), 24, socket.inet_aton(PEER), port, 0),
            (socket.inet_aton(OTHER_NET), 24, socket.inet_aton(OTHER), port, 0),
        ],
        [(socket.inet_aton(alias), socket.inet_aton(of)) for alias, of in aliases],
    )


@contextmanager
def strict(mode: str = "enforce", **more: Any) -> Iterator[Rig]:
    with rig(source_check=mode, subnet=SUBNET, **more) as r:
        routes(r)
        yield r


def send(r: Rig, packet: bytes, source: str = PEER) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        sender.sendto(packet, r.udp.getsockname())


def verdict_of(r: Rig, packet: bytes, source: str = PEER) -> str:
    """The verdict of one datagram."""
    before = r.verdicts()
    send(r, packet, source)
    r.step(fp.INBOUND)
    after = r.verdicts()
    [changed] = [name for name in after if after[name] != before.get(name, 0)]
    return changed


GOOD = from_peer()
SOURCES = {
    "10.5.99.7": "inbound_delivered",
    "10.5.99.0": "inbound_delivered",  # its TUN address
    "10.5.99.255": "inbound_delivered",
    "10.5.98.7": "inbound_foreign_source",  # another peer's
    "10.5.97.7": "inbound_foreign_source",  # not leased
    "192.0.2.9": "inbound_foreign_source",
    "10.5.72.3": "inbound_martian_source",  # ours
    "10.5.72.0": "inbound_martian_source",
    "203.0.113.1": "inbound_martian_source",  # our public IP
    **{
        address: "inbound_martian_source"
        for address in ("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.9.9.9", "169.254.169.254")
    },
    **{
        address: "inbound_martian_source"
        for address in ("224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255")
    },
}
DESTINATIONS = {
    "10.5.72.3": "inbound_delivered",
    "10.5.72.0": "inbound_delivered",  # our TUN address
    "10.5.72.1": "inbound_delivered",
    "10.5.72.255": "inbound_martian_destination",  # the subnet's broadcast address
    "10.5.99.7": "inbound_foreign_destination",
    "10.5.98.7": "inbound_foreign_destination",
    "203.0.113.1": "inbound_foreign_destination",  # our public IP
    "8.8.8.8": "inbound_foreign_destination",
    **{
        address: "inbound_martian_destination"
        for address in ("0.0.0.0", "127.0.0.1", "127.1.2.3", "169.254.169.254")
    },
    **{
        address: "inbound_martian_destination"
        for address in ("224.0.0.1", "239.1.2.3", "255.255.255.255")
    },
}


@pytest.mark.parametrize("source", SOURCES)
def test_an_inner_source_must_be_the_senders(source: str) -> None:
    with strict(own_addresses=[socket.inet_aton("203.0.113.1")]) as r:
        assert verdict_of(r, from_peer(source=source)) == SOURCES[source]
        # Not the cache of what passed before, either.
        assert verdict_of(r, GOOD) == "inbound_delivered"
        assert verdict_of(r, from_peer(source=source)) == SOURCES[source]


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_an_inner_destination_must_be_ours(destination: str) -> None:
    verdict = DESTINATIONS[destination]
    with strict() as r:
        assert verdict_of(r, from_peer(destination=destination)) == verdict
        # And behind a good one of the same source, in one batch.
        before = r.verdicts().get(verdict, 0)
        send(r, GOOD)
        send(r, from_peer(destination=destination))
        r.step(fp.INBOUND, 1)
        assert r.verdicts()[verdict] == before + (2 if verdict == "inbound_delivered" else 1)


def test_one_batch_may_hold_everything() -> None:
    """Good and bad, of all senders, in one system call: each gets its own verdict."""
    mixed = [
        (GOOD, PEER, "inbound_delivered"),
        (GOOD, STRANGER, "inbound_unknown_sender"),
        (from_peer(source="10.5.98.7"), OTHER, "inbound_delivered"),
        (GOOD, OTHER, "inbound_foreign_source"),
        (from_peer(source="10.5.98.7"), PEER, "inbound_foreign_source"),
        (GOOD, PEER, "inbound_delivered"),
        (from_peer(destination="10.5.99.7"), PEER, "inbound_foreign_destination"),
        (from_peer(source="127.0.0.1"), PEER, "inbound_martian_source"),
    ] * 5
    random.Random(1).shuffle(mixed)
    with strict() as r:
        for packet, source, _ in mixed:
            send(r, packet, source)
        r.step(fp.INBOUND, 1)
        verdicts = [verdict for *_, verdict in mixed]
        assert r.verdicts() == {name: verdicts.count(name) for name in set(verdicts)}
        good = [packet for packet, _, verdict in mixed if verdict == "inbound_delivered"]
        assert received(r.device) == [forwarded(packet) for packet in good]


def test_merged_datagrams_of_a_stranger_are_all_refused() -> None:
    with strict(udp_gro=True) as r:
        r.udp.setsockopt(fp.SOL_UDP, fp.UDP_GRO, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((STRANGER, 0))
            sender.setsockopt(fp.SOL_UDP, fp.UDP_SEGMENT, len(GOOD))
            sender.sendto(GOOD * 20 + GOOD[:22], r.udp.getsockname())
        r.step(fp.INBOUND)
        assert r.counts()["udp_gro_receives"] == 1
        assert r.verdicts() == {"inbound_unknown_sender": 21}
        [(address, verdict, datagrams, *_)] = r.worker.refused()
        assert (address, verdict) == (socket.inet_aton(STRANGER), VERDICT["inbound_unknown_sender"])
        assert datagrams == 21


@pytest.mark.parametrize("length", [0, 1, 19, MTU + 1, 9000])
def test_what_a_stranger_sends_is_a_strangers_whatever_else_is_wrong_with_it(length: int) -> None:
    with strict() as r:
        assert verdict_of(r, bytes(length), STRANGER) == "inbound_unknown_sender"
        assert [row[0] for row in r.worker.refused()] == [socket.inet_aton(STRANGER)]


def test_a_longer_prefix_of_another_peer_is_not_the_senders() -> None:
    with strict() as r:
        port = r.peer.getsockname()[1]
        r.table.publish(
            [
                (socket.inet_aton("10.5.96.0"), 22, socket.inet_aton(PEER), port, 0),
                (socket.inet_aton(NET), 24, socket.inet_aton(OTHER), port, 0),
            ]
        )
        assert verdict_of(r, from_peer(source="10.5.97.7")) == "inbound_delivered"
        assert verdict_of(r, GOOD) == "inbound_foreign_source"
        assert verdict_of(r, GOOD, OTHER) == "inbound_delivered"


def test_a_public_ip_is_an_inner_source_of_its_own_node_alone() -> None:
    """The rule needs public IPs that are no martians, which loopback addresses are."""
    with strict() as r:
        port = r.peer.getsockname()[1]
        r.table.publish(
            [
                (socket.inet_aton(NET), 24, socket.inet_aton("192.0.2.1"), port, 0),
                (socket.inet_aton(OTHER_NET), 24, socket.inet_aton("192.0.2.2"), port, 0),
            ],
            [(socket.inet_aton(PEER), socket.inet_aton("192.0.2.1"))],
        )
        assert verdict_of(r, from_peer(source="192.0.2.1")) == "inbound_delivered"
        assert verdict_of(r, from_peer(source="192.0.2.2")) == "inbound_foreign_source"


def test_an_alias_counts_as_its_peer() -> None:
    with strict() as r:
        assert verdict_of(r, GOOD, ALIAS) == "inbound_unknown_sender"
        routes(r, (ALIAS, PEER))
        assert verdict_of(r, GOOD, ALIAS) == "inbound_delivered"
        assert verdict_of(r, GOOD, PEER) == "inbound_delivered"
        assert verdict_of(r, from_peer(source="10.5.98.7"), ALIAS) == "inbound_foreign_source"
        routes(r)
        assert verdict_of(r, GOOD, ALIAS) == "inbound_unknown_sender"


def test_an_alias_may_stand_for_several_peers() -> None:
    """Two nodes behind one NAT, and one of them has the NAT's address as its own."""
    with strict() as r:
        routes(r, (ALIAS, PEER), (ALIAS, OTHER), (PEER, OTHER), (ALIAS, STRANGER))
        for source in (ALIAS, PEER):
            assert verdict_of(r, GOOD, source) == "inbound_delivered"
            assert verdict_of(r, from_peer(source="10.5.98.7"), source) == "inbound_delivered"
            assert verdict_of(r, from_peer(source="10.5.97.7"), source) == "inbound_foreign_source"


def test_a_subnet_that_moves_is_its_old_nodes_no_more() -> None:
    with strict() as r:
        assert verdict_of(r, GOOD) == "inbound_delivered"
        port = r.peer.getsockname()[1]
        r.table.publish([(socket.inet_aton(NET), 24, socket.inet_aton(OTHER), port, 0)])
        assert verdict_of(r, GOOD) == "inbound_unknown_sender"
        assert verdict_of(r, GOOD, OTHER) == "inbound_delivered"


def test_without_routes_every_sender_is_unknown() -> None:
    with strict() as r:
        r.table.publish([])
        assert verdict_of(r, GOOD) == "inbound_unknown_sender"


def test_warn_delivers_what_it_counts_but_no_martians() -> None:
    with strict("warn") as r:
        for packet, source, counter in (
            (GOOD, STRANGER, "warned_unknown_sender"),
            (from_peer(source="10.5.98.7"), PEER, "warned_foreign_source"),
            (from_peer(destination="10.5.99.7"), PEER, "warned_foreign_destination"),
        ):
            for times in (1, 2):
                assert verdict_of(r, packet, source) == "inbound_delivered"
                assert r.counts()[counter] == times
        assert verdict_of(r, from_peer(source="127.0.0.1")) == "inbound_martian_source"
        assert verdict_of(r, from_peer(destination="127.0.0.1")) == "inbound_martian_destination"
        assert {row[0] for row in r.worker.refused()} == {
            socket.inet_aton(address) for address in (STRANGER, PEER)
        }


def test_off_delivers_all_but_martians_and_counts_nothing() -> None:
    with strict("off") as r:
        assert verdict_of(r, GOOD, STRANGER) == "inbound_delivered"
        assert verdict_of(r, from_peer(source="8.8.8.8"), STRANGER) == "inbound_delivered"
        assert verdict_of(r, from_peer(destination="8.8.8.8"), STRANGER) == "inbound_delivered"
        assert not [name for name in r.counts() if name.startswith("warned")]
        assert verdict_of(r, from_peer(source="127.0.0.1"), STRANGER) == "inbound_martian_source"
        assert verdict_of(r, from_peer(source="10.5.72.9"), STRANGER) == "inbound_martian_source"
        assert r.worker.refused() == []  # where it came from was not asked


# ---- ICMP


@pytest.mark.parametrize("mode", ["enforce", "warn", "off"])
def test_only_what_may_be_the_peers_gets_an_icmp_error(mode: str) -> None:
    with strict(mode) as r:
        for packet, source in (
            (from_peer(b"12345678", ttl=1), STRANGER),
            (from_peer(b"12345678", ttl=1, source="10.5.98.7"), PEER),
            (from_peer(b"12345678", ttl=1, source="8.8.8.8"), PEER),
        ):
            verdict_of(r, packet, source)
            assert received(r.device) == []
        assert r.counts().get("icmp_unverified", 0) == (0 if mode == "enforce" else 3)
        assert verdict_of(r, from_peer(b"12345678", ttl=1)) == "inbound_ttl_expired"
        if mode == "off":
            assert received(r.device) == []
            return
        [answer] = received(r.device)
        assert answer[16:20] == socket.inet_aton("10.5.99.7")
        assert answer[20] == 11


@pytest.mark.parametrize(
    ("source", "answered"),
    [
        ("10.5.72.3", True),
        ("10.5.72.0", True),
        ("203.0.113.1", True),
        ("10.5.99.7", True),  # a peer's packet that came back
        ("8.8.8.8", False),
        ("192.0.2.77", False),
    ],
)
def test_a_packet_from_the_tun_is_answered_if_its_source_is_ours_or_a_peers(
    source: str, answered: bool
) -> None:
    with strict(own_addresses=[socket.inet_aton("203.0.113.1")]) as r:
        r.device.send(ipv4(b"12345678", source=source, destination="10.6.0.1"))
        r.step(fp.OUTBOUND)
        assert len(received(r.device)) == answered
        assert r.counts().get("icmp_unverified", 0) == (not answered)


# ---- who was refused


def test_who_sends_steadily_keeps_its_place_in_a_flood_of_addresses() -> None:
    """256 places, 4 a set: 5,000 senders of one datagram each do not displace the steady one."""
    with strict() as r:
        steady = 0
        for number in range(5000):
            send(r, GOOD, f"127.{1 + number % 250}.{number // 250}.9")
            if number % 100 == 0:
                send(r, GOOD, STRANGER)
                steady += 1
            r.step(fp.INBOUND, 4)
        rows = {row[0]: row[2] for row in r.worker.refused()}
        assert len(rows) <= 256
        assert rows[socket.inet_aton(STRANGER)] >= steady - 1
        assert r.verdicts()["inbound_unknown_sender"] == 5000 + steady


def test_a_stray_datagram_takes_no_steady_senders_place() -> None:
    """Where all places of a set are taken by senders of many, one of one does not get in."""

    def many(number: int) -> str:
        return f"127.{10 + number // 200}.{number % 200}.9"

    with strict(udp_gro=True) as r:
        r.udp.setsockopt(fp.SOL_UDP, fp.UDP_GRO, 1)
        for number in range(1000):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((many(number), 0))
                sender.setsockopt(fp.SOL_UDP, fp.UDP_SEGMENT, len(GOOD))
                sender.sendto(GOOD * 40, r.udp.getsockname())
            r.step(fp.INBOUND)
        steady = {row[0] for row in r.worker.refused()}
        assert len(steady) == 256
        for number in range(300):
            send(r, GOOD, f"127.100.{number}.9" if number < 250 else f"127.101.{number - 250}.9")
        r.step(fp.INBOUND, 9)
        assert {row[0] for row in r.worker.refused()} == steady


def test_a_row_has_the_latest_datagrams_addresses_and_time() -> None:
    with strict() as r:
        before = time.monotonic_ns()
        send(r, from_peer(source="10.5.1.2", destination="10.5.72.9"), STRANGER)
        send(r, b"no packet at all", STRANGER)
        send(r, from_peer(source="10.5.1.3", destination="10.5.72.8"), STRANGER)
        r.step(fp.INBOUND)
        [(address, verdict, datagrams, source, destination, seen)] = r.worker.refused()
        assert address == socket.inet_aton(STRANGER)
        assert fp.VERDICTS[verdict][0] == "inbound_unknown_sender"
        assert datagrams == 3
        assert (source, destination) == (
            socket.inet_aton("10.5.1.3"),
            socket.inet_aton("10.5.72.8"),
        )
        assert before <= seen <= time.monotonic_ns()


def test_a_short_last_piece_borrows_no_addresses() -> None:
    """Of merged datagrams the last may be too short for a header; what lies behind it is old."""
    with strict(udp_gro=True) as r:
        r.udp.setsockopt(fp.SOL_UDP, fp.UDP_GRO, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((STRANGER, 0))
            sender.setsockopt(fp.SOL_UDP, fp.UDP_SEGMENT, len(GOOD))
            sender.sendto(GOOD * 3 + b"short", r.udp.getsockname())
        r.step(fp.INBOUND)
        [(_, _, datagrams, source, *_)] = r.worker.refused()
        assert (datagrams, source) == (4, socket.inet_aton("10.5.99.7"))
        send(r, b"E", STRANGER)
        r.step(fp.INBOUND)
        [(_, _, datagrams, source, *_)] = r.worker.refused()
        assert (datagrams, source) == (5, bytes(4))


def alarm(r: Rig) -> bool:
    """Whether the eventfd was written; reads it."""
    if not select.select([r.pump.alarm_fd], [], [], 0)[0]:
        return False
    assert os.eventfd_read(r.pump.alarm_fd) == 1
    return True


def test_the_alarm_rings_once_each_time_it_is_armed() -> None:
    with strict() as r:
        send(r, GOOD, STRANGER)
        r.step(fp.INBOUND)
        assert not alarm(r)
        for _ in range(2):
            r.pump.arm()
            for _ in range(3):
                send(r, GOOD, STRANGER)
            r.step(fp.INBOUND)
            assert alarm(r)
            assert not alarm(r)
        r.pump.arm()
        send(r, GOOD)
        r.step(fp.INBOUND)
        assert not alarm(r)


# ---- probes

TUN = socket.inet_aton(OWN)
THEIR_TUN = socket.inet_aton(NET)
NONCE = 0x0123456789ABCDEF


def test_a_probe_is_an_echo_request_with_right_checksums() -> None:
    probe = fp.build_probe(TUN, THEIR_TUN, NONCE)
    rebuilt = ipv4(icmp(8, 0, probe[24:]), source=OWN, destination=NET, protocol=1)
    assert probe == rebuilt


def test_an_answer_proves_the_address_it_comes_from() -> None:
    with strict() as r:
        r.pump.open_probe(3, NONCE)
        r.pump.arm()
        assert r.pump.probe_answer(3, NONCE) is None
        reply = reply_to(fp.build_probe(TUN, THEIR_TUN, NONCE))
        assert verdict_of(r, reply, ALIAS) == "inbound_probe"
        assert alarm(r)
        assert r.pump.probe_answer(3, NONCE) == socket.inet_aton(ALIAS)
        # The number is used up: a copy proves nothing more.
        assert verdict_of(r, reply, STRANGER) == "inbound_unknown_sender"
        assert r.pump.probe_answer(3, NONCE) == socket.inet_aton(ALIAS)
        assert received(r.device) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda p: p[:-1] + bytes([p[-1] ^ 1]), id="another number"),
        pytest.param(lambda p: p + b"x", id="longer"),
        pytest.param(lambda p: p[:-1], id="shorter"),
        pytest.param(lambda p: p[:28] + b"X" + p[29:], id="no magic"),
        pytest.param(lambda p: p[:24] + b"X" + p[25:], id="another identifier"),
        pytest.param(lambda p: p[:20] + b"\x03" + p[21:], id="another type"),
        pytest.param(lambda p: p[:6] + b"\x20\x00" + p[8:], id="a fragment"),
        pytest.param(lambda p: p[:9] + b"\x11" + p[10:], id="UDP"),
        pytest.param(lambda p: p[:16] + socket.inet_aton("10.5.72.9") + p[20:], id="to another"),
    ],
)
def test_what_is_not_the_answer_proves_nothing(change: Any) -> None:
    with strict() as r:
        r.pump.open_probe(0, NONCE)
        reply = reply_to(fp.build_probe(TUN, THEIR_TUN, NONCE))
        assert verdict_of(r, change(reply), STRANGER) == "inbound_unknown_sender"
        assert r.pump.probe_answer(0, NONCE) is None
        assert verdict_of(r, reply, ALIAS) == "inbound_probe"


def test_a_place_that_was_closed_or_opened_anew_takes_no_old_answer() -> None:
    with strict() as r:
        reply = reply_to(fp.build_probe(TUN, THEIR_TUN, NONCE))
        r.pump.open_probe(0, NONCE)
        r.pump.close_probe(0)
        assert verdict_of(r, reply, ALIAS) == "inbound_unknown_sender"
        r.pump.open_probe(0, NONCE)
        assert verdict_of(r, reply, ALIAS) == "inbound_probe"
        r.pump.open_probe(0, NONCE + 1)
        assert r.pump.probe_answer(0, NONCE + 1) is None


def test_a_probe_is_answered_to_the_lease_and_not_to_the_sender() -> None:
    request = fp.build_probe(THEIR_TUN, TUN, NONCE)
    with strict() as r, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((STRANGER, 0))
        stranger.setblocking(False)
        stranger.sendto(request, r.udp.getsockname())
        r.step(fp.INBOUND)
        assert r.verdicts() == {"inbound_probe": 1}
        [answer] = received(r.peer)
        assert received(stranger) == []
        expected = ipv4(icmp(0, 0, request[24:]), source=OWN, destination=NET, protocol=1)
        assert answer == expected
        assert r.counts()["probes_answered"] == 1
        assert received(r.device) == []


def test_a_probe_from_no_lease_is_not_answered() -> None:
    request = fp.build_probe(socket.inet_aton("10.5.1.0"), TUN, NONCE)
    with strict() as r:
        assert verdict_of(r, request, STRANGER) == "inbound_unknown_sender"
        assert verdict_of(r, request) == "inbound_foreign_source"
        assert received(r.peer) == []


def test_answers_to_probes_are_limited() -> None:
    request = fp.build_probe(THEIR_TUN, TUN, NONCE)
    with strict(probe_rate=1, probe_burst=3) as r:
        for _ in range(10):
            send(r, request, STRANGER)
        r.step(fp.INBOUND)
        assert len(received(r.peer)) == 3
        assert r.counts()["probes_limited"] == 7


def test_a_ping_that_is_no_probe_reaches_the_host() -> None:
    ping = ipv4(icmp(8, 0, bytes(20)), source="10.5.99.7", destination=OWN, protocol=1)
    with strict() as r:
        assert verdict_of(r, ping) == "inbound_delivered"
        assert received(r.device) == [forwarded(ping)]


# ---- what a caller may get wrong


@pytest.mark.parametrize(
    "wrong",
    [
        {"source_check": "perhaps"},
        {"source_check": "enforce", "subnet": None},
        {"subnet": (bytes(4), 0)},
        {"subnet": (bytes(4), 33)},
        {"subnet": (bytes(16), 24)},
        {"own_addresses": [bytes(4)] * 5},
        {"own_addresses": [bytes(16)]},
        {"probe_rate": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"source_check": "enforce", "subnet": SUBNET, **wrong}
    with pytest.raises(ValueError, match=r"."):
        fp.Pump(fp.RouteTable(), mtu=1400, tun_address=TUN, **settings)


@pytest.mark.parametrize("place", [-1, 16, 1 << 20])
def test_a_place_out_of_range_is_refused(place: int) -> None:
    with strict() as r:
        with pytest.raises((ValueError, OverflowError)):
            r.pump.open_probe(place, NONCE)
        with pytest.raises((ValueError, OverflowError)):
            r.pump.probe_answer(place, NONCE)
        with pytest.raises((ValueError, OverflowError)):
            r.pump.close_probe(place)
        with pytest.raises(ValueError, match="nonce 0"):
            r.pump.open_probe(0, 0)


@pytest.mark.parametrize("alias", [(b"abc", bytes(4)), (bytes(4), b"")])
def test_an_alias_of_a_wrong_length_is_refused(alias: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="4 or 16 bytes"):
        fp.RouteTable().publish([], [alias])
