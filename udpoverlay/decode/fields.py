"""The headers of a packet, field by field: where each stands, what it says, what that means.

    outer IP ─ UDP ─ inner IP ─ TCP, UDP or ICMP ─ payload      a Layer each, with its Fields

Owns: names, values and meanings of header fields. Must not know: who shows them. Never raises: what
is cut or no packet becomes a layer that says so. RFC 791, 8200, 768, 9293, 792, 4443.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from udpoverlay.decode.ip import Fault, Ip, read_ip
from udpoverlay.decode.problem import Word
from udpoverlay.decode.tcp_options import tcp_options
from udpoverlay.decode.transport import ICMP, ICMPV6, TCP, UDP, icmp_words

__all__ = ["Field", "Kind", "Layer", "layers"]


class Kind:
    """What a layer is; the page of `udpoverlay web` has a colour for each."""

    OUTER = "outer"
    UDP = "udp"
    INNER = "inner"
    TRANSPORT = "transport"
    PAYLOAD = "payload"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Field:
    """Some bits of a header. `start` and `end`: bytes from the begin of all that was given."""

    start: int
    end: int
    name: str
    value: str
    meaning: str = ""
    wrong: str = ""
    """What is wrong with it, in a sentence; "": nothing that can be seen here."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One header, or what stands behind the last one."""

    kind: str
    name: str
    start: int
    end: int
    fields: tuple[Field, ...] = field(default=())


_PROTOCOLS = {ICMP: "ICMP", TCP: "TCP", UDP: "UDP", ICMPV6: "ICMPv6", 2: "IGMP", 4: "IPv4 in IP",
              47: "GRE", 50: "ESP", 132: "SCTP"}  # fmt: skip
_ECN = ("not capable of ECN", "ECT(1)", "ECT(0)", "congestion experienced")
_CHECKSUMS = frozenset({Word.CHECKSUM, Word.OFFLOAD_CHECKSUM})
_TUNNEL_PORTS = {8285: "flannel's udp tunnel", 8472: "flannel's vxlan", 4789: "vxlan"}
_V4, _V6, _UDP = 20, 40, 8
_TCP_FLAGS = ("CWR", "ECE", "URG", "ACK", "PSH", "RST", "SYN", "FIN")


def layers(data: bytes, wire: int, *, tunnelled: bool) -> tuple[Layer, ...]:
    """What `data` consists of, of which `wire` bytes came.

    `tunnelled`: it begins with the outer packet; else with the inner one.
    """
    found: list[Layer] = []
    at = 0
    if tunnelled:
        at = _outer(data, wire, found)
    if not found or found[-1].kind != Kind.BROKEN:
        _inner(data, at, wire, found)
    return tuple(found)


def _outer(data: bytes, wire: int, found: list[Layer]) -> int:
    """Adds outer IP and UDP; where the inner packet begins."""
    packet = read_ip(data, max(wire, len(data)))
    header = _ip_header(data, 0)
    if not isinstance(packet, Ip) or packet.protocol != UDP or len(data) < header + _UDP:
        found.append(_broken(data, 0, "no outer UDP packet"))
        return 0
    found.append(Layer(Kind.OUTER, f"outer IPv{packet.version}", 0, header, _ip(data, 0, packet)))
    end = header + _UDP
    udp = _udp(_At(data, header), "", none_is_usual=True)
    found.append(Layer(Kind.UDP, "outer UDP", header, end, tuple(udp)))
    return end


def _inner(data: bytes, at: int, wire: int, found: list[Layer]) -> None:
    packet = read_ip(data[at:], max(wire - at, len(data) - at))
    if not isinstance(packet, Ip):
        found.append(_broken(data, at, packet[1]))
        return
    header = min(at + _ip_header(data, at), len(data))
    found.append(Layer(Kind.INNER, f"inner IPv{packet.version}", at, header, _ip(data, at, packet)))
    end = _transport(data, header, packet, found)
    if end < len(data):
        found.append(_payload(data, end, wire))


def _transport(data: bytes, at: int, packet: Ip, found: list[Layer]) -> int:
    """Adds TCP, UDP or ICMP; where its payload begins."""
    if packet.fragment_offset:
        return at  # a later piece has no header
    sizes = {UDP: _UDP, ICMP: 8, ICMPV6: 8, TCP: 20}
    size = sizes.get(packet.protocol)
    if size is None or len(data) < at + size:
        return at
    here = _At(data, at)
    wrong = _first(packet.faults, _CHECKSUMS)
    if packet.protocol == UDP:
        fields = list(_udp(here, wrong))
    elif packet.protocol == TCP:
        size = min(max((data[at + 12] >> 4) * 4, 20), len(data) - at)
        fields = list(_tcp(here, size, wrong))
    else:
        fields = list(_icmp(here, packet.protocol, wrong))
    name = _PROTOCOLS[packet.protocol]
    found.append(Layer(Kind.TRANSPORT, name, at, at + size, tuple(fields)))
    return at + size


def _payload(data: bytes, at: int, wire: int) -> Layer:
    shown, whole = len(data) - at, max(wire - at, len(data) - at)
    meaning = "" if shown == whole else "the flight recorder keeps the first bytes of a packet"
    value = f"{shown:,} bytes" if shown == whole else f"{shown:,} of {whole:,} bytes"
    fields = (Field(at, len(data), "data", value, meaning),)
    return Layer(Kind.PAYLOAD, "payload", at, len(data), fields)


def _broken(data: bytes, at: int, why: str) -> Layer:
    fields = (Field(at, len(data), "bytes", f"{len(data) - at:,}", wrong=why),)
    return Layer(Kind.BROKEN, "no packet", at, len(data), fields)


@dataclass(frozen=True, slots=True)
class _At:
    """Bytes from an offset on."""

    data: bytes
    start: int

    def number(self, at: int, size: int) -> int:
        """Big endian."""
        return int.from_bytes(self.data[self.start + at : self.start + at + size], "big")

    def field(  # noqa: PLR0913, PLR0917 - they are the field
        self, at: int, size: int, name: str, value: str, meaning: str = "", wrong: str = ""
    ) -> Field:
        start = self.start + at
        return Field(start, min(start + size, len(self.data)), name, value, meaning, wrong)


def _ip_header(data: bytes, at: int) -> int:
    """Length of the IP header there; of IPv6 without extension headers."""
    first = data[at] if at < len(data) else 0
    return (first & 0xF) * 4 if first >> 4 == 4 else _V6


def _first(faults: Sequence[Fault], words: frozenset[Word]) -> str:
    return next((text for word, text in faults if word in words), "")


def _ip(data: bytes, at: int, packet: Ip) -> tuple[Field, ...]:
    here = _At(data, at)
    fields = _ipv4(here, packet) if packet.version == 4 else _ipv6(here, packet)
    return tuple(fields)


def _ipv4(here: _At, packet: Ip) -> Iterator[Field]:
    header = (here.number(0, 1) & 0xF) * 4
    yield here.field(0, 1, "version, header length", f"4, {header} bytes", "IPv4")
    yield here.field(1, 1, "TOS", f"0x{here.number(1, 1):02x}", _traffic_class(here.number(1, 1)))
    cut = _first(packet.faults, frozenset({Word.CUT}))
    yield here.field(
        2, 2, "total length", f"{here.number(2, 2):,}", "bytes with this header", wrong=cut
    )
    yield here.field(
        4, 2, "identification", f"0x{here.number(4, 2):04x}", "the same in all fragments of it"
    )
    flags = here.number(6, 2)
    yield here.field(6, 2, "flags, fragment offset", f"0x{flags:04x}", _fragment(flags))
    yield _ttl(here.field(8, 1, "TTL", str(packet.ttl), "routers that it may still pass"), packet)
    yield here.field(9, 1, "protocol", str(packet.protocol), _PROTOCOLS.get(packet.protocol, ""))
    wrong = _first(packet.faults, frozenset({Word.HEADER_CHECKSUM}))
    meaning = "" if wrong else "right: it covers this header"
    yield here.field(10, 2, "header checksum", f"0x{here.number(10, 2):04x}", meaning, wrong)
    yield here.field(12, 4, "source", packet.source)
    yield here.field(16, 4, "destination", packet.destination)
    if header > _V4:
        yield here.field(_V4, header - _V4, "options", f"{header - _V4} bytes")


def _ipv6(here: _At, packet: Ip) -> Iterator[Field]:
    first = here.number(0, 4)
    yield here.field(0, 1, "version", "6", "IPv6")
    yield here.field(
        0, 2, "traffic class", f"0x{first >> 20 & 0xFF:02x}", _traffic_class(first >> 20 & 0xFF)
    )
    yield here.field(1, 3, "flow label", f"0x{first & 0xFFFFF:05x}")
    cut = _first(packet.faults, frozenset({Word.CUT}))
    length = here.number(4, 2)
    yield here.field(4, 2, "payload length", f"{length:,}", "bytes behind this header", wrong=cut)
    following = here.number(6, 1)
    yield here.field(6, 1, "next header", str(following), _PROTOCOLS.get(following, ""))
    hops = here.field(7, 1, "hop limit", str(packet.ttl), "routers that it may still pass")
    yield _ttl(hops, packet)
    yield here.field(8, 16, "source", packet.source)
    yield here.field(24, 16, "destination", packet.destination)


def _ttl(found: Field, packet: Ip) -> Field:
    wrong = _first(packet.faults, frozenset({Word.TTL}))
    return Field(found.start, found.end, found.name, found.value, found.meaning, wrong)


def _traffic_class(value: int) -> str:
    return f"DSCP {value >> 2}, {_ECN[value & 3]}"


def _fragment(flags: int) -> str:
    offset = (flags & 0x1FFF) * 8
    words = ["do not fragment"] if flags & 0x4000 else []
    if flags & 0x2000 or offset:
        words.append(f"a fragment, from byte {offset:,} on")
    return ", ".join(words) or "may be fragmented"


def _udp(here: _At, wrong: str, *, none_is_usual: bool = False) -> Iterator[Field]:
    yield from _ports(here)
    yield here.field(4, 2, "length", f"{here.number(4, 2):,}", "bytes with this header")
    checksum = here.number(6, 2)
    meaning = "none was made" if checksum == 0 else ""
    if none_is_usual and checksum == 0:
        meaning = "none: the inner packet has its own"
    yield here.field(6, 2, "checksum", f"0x{checksum:04x}", meaning, wrong)


def _ports(here: _At) -> Iterator[Field]:
    for at, name in ((0, "source port"), (2, "destination port")):
        number = here.number(at, 2)
        yield here.field(at, 2, name, str(number), _TUNNEL_PORTS.get(number, ""))


def _tcp(here: _At, size: int, wrong: str) -> Iterator[Field]:
    yield from _ports(here)
    yield here.field(4, 4, "sequence", f"{here.number(4, 4)}", "number of its first byte")
    flags = here.number(13, 1)
    names = [name for bit, name in enumerate(reversed(_TCP_FLAGS)) if flags & 1 << bit]
    acknowledged = "the next byte that is expected" if "ACK" in names else "not in use"
    yield here.field(8, 4, "acknowledgment", f"{here.number(8, 4)}", acknowledged)
    stated = (here.number(12, 1) >> 4) * 4
    short = "" if stated >= 20 else "a TCP header has 20 bytes at least"
    yield here.field(12, 1, "header length", f"{stated} bytes", wrong=short)
    yield here.field(13, 1, "flags", f"0x{flags:02x}", " ".join(names) or "none")
    yield here.field(14, 2, "window", f"{here.number(14, 2):,}", "before it is scaled")
    yield here.field(16, 2, "checksum", f"0x{here.number(16, 2):04x}", "", wrong)
    yield here.field(18, 2, "urgent pointer", str(here.number(18, 2)))
    if size > 20:
        options = here.data[here.start + 20 : here.start + size]
        yield here.field(20, size - 20, "options", f"{size - 20} bytes", tcp_options(options))


def _icmp(here: _At, protocol: int, wrong: str) -> Iterator[Field]:
    kind, code = here.number(0, 1), here.number(1, 1)
    words = icmp_words(protocol, here.data[here.start :])
    yield here.field(0, 1, "type", str(kind), words)
    yield here.field(1, 1, "code", str(code))
    yield here.field(2, 2, "checksum", f"0x{here.number(2, 2):04x}", "", wrong)
    if "echo" in words:
        yield here.field(4, 2, "identifier", str(here.number(4, 2)), "of the program that asks")
        yield here.field(6, 2, "sequence", str(here.number(6, 2)))
    else:
        yield here.field(4, 4, "rest", f"0x{here.number(4, 4):08x}")
