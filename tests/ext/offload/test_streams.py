"""Random traffic through segmenting, wire, coalescing: all arrives as on the plain path.

The streams hold what a tunnel may meet: TCP and UDP of both IP versions, all flags, options, IPv4
ids of every habit, ECN and CWR, fragments, wrong checksums, odd sizes, losses and reorderings on
the way. After coalescing, the kernel's segmentation (the twin's) must give back exactly the packets
that were put in, those of each flow in their order.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.segments import Segment, super_packet
from tests.support.twin import offload as twin
from udpoverlay import _pure

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
FLOWS = [
    Segment(),
    Segment(ports=(40001, 5201)),
    Segment(source=9, options=b"\1\1\x08\x0a" + bytes(8)),
    Segment(tcp=False),
    Segment(tcp=False, ipv6=True),
    Segment(ipv6=True, options=b"\1\1\x08\x0a" + bytes(8)),
]
MTU_PAYLOAD = 48
Writes = list[tuple[bytes, list[bytes]]]


def by_flow(packets: list[bytes]) -> dict[tuple[bytes, ...], list[bytes]]:
    flows: dict[tuple[bytes, ...], list[bytes]] = {}
    for packet in packets:
        flows.setdefault(twin.flow_of(packet), []).append(packet)
    return flows


def taken_apart(writes: Writes) -> list[bytes]:
    """What the kernel behind the TUN makes of the writes."""
    return [
        packet
        for written, _ in writes
        for packet in twin.segment(twin.Vnet.unpack(written), written[10:])
    ]


def check(packets: list[bytes], max_segments: int = 64) -> None:
    writes, counters = _pure.coalesce(packets, max_segments=max_segments)
    arrived = taken_apart(writes)
    assert by_flow(arrived) == by_flow(packets)
    assert [each for _, originals in writes for each in originals] == arrived
    fragments_in_order(packets, arrived)
    # Not only correct, but all that can be coalesced is.
    wanted = twin.coalesce(packets, max_segments)
    assert by_run(writes) == by_run(wanted)
    assert counters["coalesced"] + counters["plain"] == len(packets)
    assert counters["evicted"] == 0


def by_run(writes: Writes) -> dict[tuple[bytes, ...], list[bytes]]:
    flows: dict[tuple[bytes, ...], list[bytes]] = {}
    for written, originals in writes:
        flows.setdefault(twin.flow_of(originals[0]), []).append(written)
    return flows


def fragments_in_order(packets: list[bytes], arrived: list[bytes]) -> None:
    """A packet without ports keeps its place among all packets between its addresses."""
    for address in {flow[0] for flow in map(twin.flow_of, packets) if len(flow) == 1}:
        for flow in {twin.flow_of(packet) for packet in packets}:
            if not flow or flow[0] != address:
                continue
            both = ((address,), flow)
            assert [each for each in arrived if twin.flow_of(each) in both] == [
                each for each in packets if twin.flow_of(each) in both
            ]


# ---- how the packets of a stream may differ from a steady one

Change = Callable[[Segment], Segment]


def flagged(flags: int) -> Change:
    return lambda each: each.but(flags=flags)


CHANGES: list[Change] = [
    flagged(ACK | PSH),
    flagged(ACK | FIN),
    flagged(SYN),
    flagged(RST | ACK),
    flagged(ACK | URG),
    flagged(ACK | ECE),
    flagged(ACK | CWR),
    flagged(ACK | ECE | CWR | PSH),
    flagged(0),
    lambda each: each.but(window=each.window + 1),
    lambda each: each.but(acknowledgment=each.acknowledgment + 1),
    lambda each: each.but(urgent=1),
    lambda each: each.but(reserved=1),
    lambda each: each.but(options=b"\1\1\x08\x0a" + b"\x01" * 8),
    lambda each: each.but(tos=each.tos ^ 3),
    lambda each: each.but(tos=0x10),
    lambda each: each.but(ttl=each.ttl - 1),
    lambda each: each.but(fragment=each.fragment ^ 0x4000),
    lambda each: each.but(fragment=0x8000),
    lambda each: each.but(fragment=0x2000),
    lambda each: each.but(fragment=0x0007),
    lambda each: each.but(id=0),
    lambda each: each.but(id=each.id + 5),
    lambda each: each.but(flow_label=7),
    lambda each: each.but(ip_options=bytes([1, 1, 1, 0])),
    lambda each: each.but(extension=bytes(8)),
    lambda each: each.but(sequence=each.sequence + 1),
    lambda each: each.but(sequence=each.sequence - MTU_PAYLOAD),
    lambda each: each.but(payload=each.payload[:-1]),
    lambda each: each.but(payload=each.payload + b"!"),
    lambda each: each.but(payload=b""),
]


def damaged(packet: bytes, damage: int | None) -> bytes:
    """Bytes lost on the way: one bit of one byte, or, with -1, the end cut off."""
    if damage is None:
        return packet
    if damage < 0:
        return packet[:-1]
    at = damage % len(packet)
    return packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Up to 40 packets of up to six flows, mostly steady."""
    flows = draw(st.lists(st.sampled_from(FLOWS), min_size=1, max_size=3, unique=True))
    flows = [
        flow.but(
            id=draw(st.sampled_from([100, 0xFFFE])),
            sequence=draw(st.sampled_from([1, 0xFFFFFFC0])),
        )
        for flow in flows
    ]
    rare = st.integers(0, 9)
    packets: list[bytes] = []
    for _ in range(draw(st.integers(1, 40))):
        which = draw(st.integers(0, len(flows) - 1))
        flow = flows[which]
        segment = flow.but(payload=bytes([len(packets)]) * MTU_PAYLOAD)
        lost = False
        if draw(rare) == 0:
            segment = draw(st.sampled_from(CHANGES))(segment)
            lost = draw(rare) == 0
        damage = draw(st.integers(-1, 120)) if draw(rare) == 0 and draw(rare) < 5 else None
        flows[which] = flow.but(
            sequence=flow.sequence + len(segment.payload),
            id=flow.id + 1,
        )
        if not lost:
            packets.append(damaged(segment.build(), damage))
    return packets


@given(packets=streams(), max_segments=st.sampled_from([1, 2, 5, 64]))
@settings(max_examples=300)
@example(packets=[], max_segments=64)
def test_coalescing_and_segmenting_gives_back_every_packet(
    packets: list[bytes], max_segments: int
) -> None:
    check(packets, max_segments)


@given(packets=streams(), order=st.randoms(use_true_random=False))
def test_a_reordered_stream_stays_in_the_order_it_came(packets: list[bytes], order) -> None:  # type: ignore[no-untyped-def] # hypothesis' Random has no public name
    for at in range(0, len(packets) - 3, 3):
        part = packets[at : at + 3]
        order.shuffle(part)
        packets[at : at + 3] = part
    check(packets)


@given(data=st.lists(st.binary(max_size=80), max_size=20))
def test_rubbish_passes_as_it_is(data: list[bytes]) -> None:
    writes, _ = _pure.coalesce(data)
    assert sorted(each for _, originals in writes for each in originals) == sorted(data)


@st.composite
def sent(draw: st.DrawFn) -> list[tuple[bytes, bytes]]:
    """What a host with offloads hands to its TUN: super-packets and ordinary packets."""
    out = []
    flows = list(FLOWS[: draw(st.integers(1, len(FLOWS)))])
    for _ in range(draw(st.integers(1, 6))):
        which = draw(st.integers(0, len(flows) - 1))
        payload = draw(st.randoms(use_true_random=False)).randbytes(draw(st.integers(1, 700)))
        gso_size = draw(
            st.sampled_from([MTU_PAYLOAD, 100, 1]) if len(payload) < 60 else st.just(100)
        )
        flags = draw(st.sampled_from([ACK, ACK, ACK | PSH, ACK | PSH | FIN, ACK | ECE, ACK | CWR]))
        segment = flows[which].but(payload=payload, flags=flags)
        out.append(super_packet(segment, gso_size))
        count = -(-len(payload) // gso_size)
        flows[which] = flows[which].but(
            sequence=flows[which].sequence + len(payload), id=flows[which].id + count
        )
    return out


def on_the_wire(supers: list[tuple[bytes, bytes]], max_segments: int) -> list[bytes]:
    wire = []
    for header, packet in supers:
        groups = _pure.segment(header, packet, max_segments=max_segments)
        assert not isinstance(groups, str)
        wire += [datagram for _, group in groups for datagram in group]
    return wire


@given(supers=sent(), max_segments=st.sampled_from([1, 3, 64, 128]))
def test_segment_wire_coalesce_equals_the_plain_path(
    supers: list[tuple[bytes, bytes]], max_segments: int
) -> None:
    plain = [each for made in supers for each in twin.segment(twin.Vnet.unpack(made[0]), made[1])]
    wire = on_the_wire(supers, max_segments)
    assert wire == plain, "what travels is what a host without offloads sends"
    check(wire)


@given(supers=sent(), bit=st.integers(0, 7), data=st.data())
def test_damage_on_the_wire_is_never_hidden(
    supers: list[tuple[bytes, bytes]], bit: int, data: st.DataObject
) -> None:
    """A flipped bit reaches the receiver as it is, for its own checksum to catch."""
    wire = on_the_wire(supers, 64)
    index = data.draw(st.integers(0, len(wire) - 1))
    at = data.draw(st.integers(0, len(wire[index]) - 1))
    packet = bytearray(wire[index])
    packet[at] ^= 1 << bit
    wire[index] = bytes(packet)
    writes, _ = _pure.coalesce(wire)
    assert (twin.PLAIN + wire[index], [wire[index]]) in writes
    check(wire)
