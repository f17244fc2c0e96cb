"""decode/fields.py: each byte is explained, and what is wrong stands at its field."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.captures import tcp, tunnelled, udp
from tests.support.packets import icmp, ipv4, ipv6
from udpoverlay.decode.fields import Field, Kind, Layer, layers

TCP_SYN = ipv4(tcp(flags=0x02), protocol=6)


def kinds(found: tuple[Layer, ...]) -> list[str]:
    return [layer.kind for layer in found]


def take(data: bytes, *, inside: bool = False) -> dict[str, Field]:
    """Every field by its layer's kind and its name."""
    found = layers(data, len(data), tunnelled=inside)
    return {f"{layer.kind} {field.name}": field for layer in found for field in layer.fields}


@pytest.mark.parametrize(
    ("inner", "last"),
    [
        (TCP_SYN, [Kind.TRANSPORT]),
        (ipv4(udp(b"hello")), [Kind.TRANSPORT, Kind.PAYLOAD]),
        (ipv4(icmp(8, rest=bytes(20)), protocol=1), [Kind.TRANSPORT, Kind.PAYLOAD]),
        (ipv4(bytes(30), protocol=47), [Kind.PAYLOAD]),
        (ipv6(bytes(30), next_header=59), [Kind.PAYLOAD]),
        (ipv4(bytes(30), fragment=3), [Kind.PAYLOAD]),
        (ipv4(tcp(), protocol=6, options=bytes(8)), [Kind.TRANSPORT]),
    ],
)
def test_layers_stand_in_order_and_cover_every_byte_once(inner: bytes, last: list[str]) -> None:
    data = tunnelled(inner)
    found = layers(data, len(data), tunnelled=True)
    assert kinds(found) == [Kind.OUTER, Kind.UDP, Kind.INNER, *last]
    at = 0
    for layer in found:
        assert layer.start == at
        covered = sorted({byte for field in layer.fields for byte in range(field.start, field.end)})
        assert covered == list(range(layer.start, layer.end))
        at = layer.end
    assert at == len(data)


def test_values_are_those_of_the_headers() -> None:
    found = take(tunnelled(ipv4(tcp(b"x", flags=0x12), protocol=6, ttl=7, tos=0x2E)), inside=True)
    values = {name: field.value for name, field in found.items()}
    assert values["outer source"] == "192.0.2.1"
    assert values["udp destination port"] == "8285"
    assert values["inner TTL"] == "7"
    assert values["transport source port"] == "443"
    assert values["transport sequence"] == "1"
    assert found["inner TOS"].meaning == "DSCP 11, ECT(0)"
    assert found["transport flags"].meaning == "SYN ACK"
    assert found["udp destination port"].meaning == "flannel's udp tunnel"


def test_syn_tells_its_options_in_words() -> None:
    options = bytes.fromhex("020405980402080a00000001000000000103030705")
    header = bytearray(tcp(flags=0x02))
    header[12] = 0xA0
    packet = ipv4(bytes(header) + options[:20], protocol=6)
    found = take(packet)["transport options"]
    assert found.meaning == "MSS 1432, SACK permitted, timestamps, window scale 7"


@pytest.mark.parametrize(
    ("packet", "name", "words"),
    [
        (ipv4(udp(b"hello", value=0x1234)), "transport checksum", "UDP checksum 1234,"),
        (ipv4(header_checksum=1), "inner header checksum", "header checksum 0001,"),
        (ipv4(ttl=0), "inner TTL", "TTL of 0"),
        (ipv4(total_length=4000), "inner total length", "4,000 bytes"),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_at_no_other(
    packet: bytes, name: str, words: str
) -> None:
    found = take(packet)
    assert words in found[name].wrong
    assert [each for each, field in found.items() if field.wrong] == [name]


def test_packet_that_was_cut_by_the_recorder_says_how_much_is_there() -> None:
    packet = ipv4(udp(bytes(1000)))
    found = layers(packet[:72], len(packet), tunnelled=False)
    [payload] = [layer for layer in found if layer.kind == Kind.PAYLOAD]
    assert payload.fields[0].value == "44 of 1,000 bytes"
    assert not any(field.wrong for layer in found for field in layer.fields)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 40, ipv4()[:12]])
def test_what_is_no_packet_is_one_layer_that_says_so(data: bytes) -> None:
    for inside in (False, True):
        [layer] = layers(data, len(data), tunnelled=inside)
        assert (layer.kind, layer.start, layer.end) == (Kind.BROKEN, 0, len(data))
        assert layer.fields[0].wrong


@given(st.binary(max_size=120), st.integers(0, 70_000), st.booleans())
def test_any_bytes_give_layers_within_them(data: bytes, wire: int, inside: bool) -> None:
    at = 0
    for layer in layers(data, wire, tunnelled=inside):
        assert layer.start == at
        assert layer.start <= layer.end <= len(data)
        for field in layer.fields:
            assert layer.start <= field.start <= field.end <= layer.end
        at = layer.end


def test_damaged_packets_give_layers_within_them() -> None:
    chance = random.Random(7)
    for _ in range(2000):
        data = bytearray(tunnelled(TCP_SYN))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        cut = bytes(data[: chance.randint(0, len(data))])
        for layer in layers(cut, len(data), tunnelled=True):
            assert all(
                layer.start <= field.start <= field.end <= layer.end for field in layer.fields
            )
