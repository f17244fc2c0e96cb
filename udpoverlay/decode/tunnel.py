"""Takes a frame apart: the outer packet, the tunnel, the inner packets, and what is wrong.

    frame ► link ► outer IP ► UDP on a port of a tunnel ► header of the tunnel ► inner IP …

Owns: flannel's two encapsulations, and which faults concern which part. Must not know: files,
leases (leases.py), how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from udpoverlay.decode.frame import Frame
from udpoverlay.decode.ip import Fault, Ip, read_ip
from udpoverlay.decode.link import ether_type, ip_offset
from udpoverlay.decode.problem import Problem, Where, Word

__all__ = ["PORTS", "Dissected", "dissect"]

PORTS = {8285: "udp", 8472: "vxlan", 4789: "vxlan"}
"""flannel's port of the udp backend, its port of vxlan, and IANA's."""
_VXLAN_HEADER = 8
_VNI_IS_VALID = 0x08
"""RFC 7348 §5."""
_NOT_CAPTURED = "not one byte of it captured"


@dataclass(slots=True)
class Dissected:
    """One frame and all that was found in it."""

    frame: Frame
    tunnel: str = ""
    """"udp" or "vxlan"; "" for a packet in none."""
    vni: int | None = None
    outer: Ip | None = None
    inner: list[Ip] = field(default_factory=list)
    """More than one: captured before the kernel segmented a send, or after it merged some."""
    other: str = ""
    """What the frame, or the tunnel, holds instead of an IP packet."""
    problems: list[Problem] = field(default_factory=list)

    def add(self, where: Where, faults: list[Fault]) -> None:
        """Take what is wrong with one part."""
        self.problems += [Problem(where, word, text) for word, text in faults]


def dissect(frame: Frame, ports: Mapping[int, str] = PORTS, *, mtu: int | None = None) -> Dissected:
    """All that is in `frame`; `mtu` of the underlay in bytes, where it is known."""
    found = Dissected(frame)
    start = ip_offset(frame)
    if isinstance(start, str):
        found.other = start
        return found
    if len(frame.data) <= start < frame.length:
        found.other = _NOT_CAPTURED
        return found
    outer = read_ip(frame.data[start:], frame.length - start)
    if not isinstance(outer, Ip):
        found.add(Where.OUTER, [outer])
        return found
    found.outer = outer
    found.add(Where.OUTER, outer.faults)
    found.tunnel = _tunnel(outer, ports)
    if not found.tunnel:
        return found
    found.add(Where.OUTER, list(_outer_faults(outer, mtu)))
    transport = outer.transport
    if transport is None or outer.fragment_offset is not None:
        return found
    payload, wire = transport.payload, transport.payload_wire
    if found.tunnel == "vxlan":
        skipped = _vxlan(found, payload)
        payload, wire = payload[skipped:], wire - skipped
    if not found.other and not payload and wire > 0:
        found.other = f"inner packet: {_NOT_CAPTURED}"
    if not found.other:
        _inner(found, payload, wire, ports)
    return found


def _tunnel(packet: Ip, ports: Mapping[int, str]) -> str:
    transport = packet.transport
    if transport is None or transport.name != "UDP":
        return ""
    return ports.get(transport.destination_port or 0, "")


def _outer_faults(outer: Ip, mtu: int | None) -> Iterator[Fault]:
    if outer.fragment_offset is not None:
        yield Word.FRAGMENTED, "in pieces: the tunnel's MTU is too large for the underlay"
    if mtu is not None and outer.length > mtu:
        yield Word.TOO_LONG, f"{outer.length:,} bytes do not pass an MTU of {mtu:,}"


def _vxlan(found: Dissected, payload: bytes) -> int:
    """Look at the VXLAN and Ethernet headers: how many bytes they have."""
    if len(payload) < _VXLAN_HEADER:
        found.add(
            Where.TUNNEL,
            [(Word.VXLAN_HEADER, f"a VXLAN header needs 8 bytes, {len(payload)} are here")],
        )
        found.other = "no VXLAN header"
        return 0
    found.vni = int.from_bytes(payload[4:7], "big")
    if not payload[0] & _VNI_IS_VALID:
        found.add(
            Where.TUNNEL,
            [(Word.VXLAN_HEADER, f"flags {payload[0]:#04x} do not say that the VNI is valid")],
        )
    start = ether_type(payload[_VXLAN_HEADER:])
    if isinstance(start, str):
        found.other = start
        return _VXLAN_HEADER
    return _VXLAN_HEADER + start


def _inner(found: Dissected, payload: bytes, wire: int, ports: Mapping[int, str]) -> None:
    """The packets in the tunnel, one behind the other."""
    while True:
        packet = read_ip(payload, wire)
        if not isinstance(packet, Ip):
            found.add(Where.INNER, [packet])
            return
        found.inner.append(packet)
        found.add(Where.INNER, packet.faults)
        if found.tunnel == "udp" and packet.ttl == 1:
            found.add(Where.INNER, [(Word.TTL, "a TTL of 1: the receiving host drops it")])
        if _tunnel(packet, ports):
            found.add(
                Where.INNER,
                [
                    (
                        Word.DOUBLE_ENCAPSULATION,
                        "a datagram of the tunnel inside the tunnel: a host routes "
                        f"{packet.destination} into it",
                    )
                ],
            )
        rest = wire - packet.length
        if rest <= 0 or found.tunnel == "vxlan":  # Ethernet pads a short frame
            return
        payload = payload[packet.length :]
        if not payload or payload[0] >> 4 != packet.version:
            found.add(
                Where.INNER,
                [(Word.TRAILING_BYTES, f"{rest:,} bytes behind its end")],
            )
            return
        wire = rest
