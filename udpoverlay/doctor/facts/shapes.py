"""The datagrams with which the doctor asks a peer, and the answers to them: bytes, no sockets.

Owns: the layout. A question is an ICMP echo request in an IPv4 packet, as on the wire of the udp
backend; `wrapped` puts VXLAN around it (RFC 7348). One of 44 bytes is a probe (ext/packet/probe.h),
which udpoverlayd answers whatever the packet filter of its host does with pings; any host answers
an echo.

    udp      IPv4 20 │ ICMP 8 │ "udpovrly" 8 │ nonce 8 │ filling
    VXLAN    flags 0x08, VNI 1: 8 │ Ethernet 14 │ the same

An answer is as long as its question. `doctor --listen` fills in what it knows, as JSON.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netaddr import IPAddress

__all__ = [
    "PROBE_BYTES",
    "VXLAN_BYTES",
    "VXLAN_PORTS",
    "Probe",
    "answer",
    "question",
    "read",
    "wrapped",
]

PROBE_BYTES = 44
VXLAN_BYTES = 22
"""VXLAN and Ethernet header."""
VXLAN_PORTS = (8472, 4789)
"""Linux's and flannel's; IANA's (RFC 7348)."""
_IPV4 = 20
_MAGIC_AT = 28
_NONCE_AT = 36
_MAGIC = b"udpovrly"
_IDENTIFIER = b"uovl"
_REQUEST, _REPLY = 8, 0
_VXLAN = struct.pack(">II", 0x08000000, 1 << 8)
# Locally administered addresses; nothing learns them.
_ETHERNET = bytes.fromhex("0e757064020e") + b"\x0eupd\x01\x0e" + b"\x08\x00"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a datagram says."""

    nonce: int
    is_answer: bool
    in_vxlan: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What `doctor --listen` wrote."""


def question(source: IPAddress, destination: IPAddress, nonce: int, length: int = 0) -> bytes:
    """An IPv4 packet of `length` bytes, PROBE_BYTES at least."""
    length = max(length, PROBE_BYTES)
    header = struct.pack(
        ">BBHHHBBH4s4s",
        *(0x45, 0, length, 0, 0, 64, 1, 0),
        int(source).to_bytes(4, "big"),
        int(destination).to_bytes(4, "big"),
    )
    body = _MAGIC + nonce.to_bytes(8, "big") + bytes(length - PROBE_BYTES)
    message = bytearray(struct.pack(">BBH4s", _REQUEST, 0, 0, _IDENTIFIER) + body)
    message[2:4] = _checksum(message)
    return _checked(bytearray(header) + message)


def wrapped(packet: bytes) -> bytes:
    """The same in VXLAN."""
    return _VXLAN + _ETHERNET + packet


def read(datagram: bytes) -> Probe | None:
    """A question or an answer; None for anything else."""
    in_vxlan = datagram[:8] == _VXLAN
    packet = datagram[VXLAN_BYTES:] if in_vxlan else datagram
    if len(packet) < PROBE_BYTES or packet[0] != 0x45 or packet[_IPV4] not in {_REQUEST, _REPLY}:
        return None
    if packet[_MAGIC_AT:_NONCE_AT] != _MAGIC:
        return None
    nonce = int.from_bytes(packet[_NONCE_AT:PROBE_BYTES], "big")
    return Probe(nonce, packet[_IPV4] == _REPLY, in_vxlan, _facts(packet[PROBE_BYTES:]))


def answer(datagram: bytes, facts: Mapping[str, Any]) -> bytes:
    """The answer to a question that `read` has read; `facts` go in where they fit."""
    outer = datagram[:VXLAN_BYTES] if datagram[:8] == _VXLAN else b""
    packet = bytearray(datagram[len(outer) :])
    packet[12:20] = packet[16:20] + packet[12:16]
    packet[_IPV4] = _REPLY
    text = json.dumps(facts, separators=(",", ":")).encode("ascii")
    if len(text) <= len(packet) - PROBE_BYTES:
        packet[PROBE_BYTES:] = text.ljust(len(packet) - PROBE_BYTES, b"\0")
    packet[_IPV4 + 2 : _IPV4 + 4] = b"\0\0"
    packet[_IPV4 + 2 : _IPV4 + 4] = _checksum(packet[_IPV4:])
    return outer + _checked(packet)


def _facts(filling: bytes) -> dict[str, Any]:
    try:
        found = json.loads(filling.rstrip(b"\0") or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _checked(packet: bytearray) -> bytes:
    packet[10:12] = b"\0\0"
    packet[10:12] = _checksum(packet[:_IPV4])
    return bytes(packet)


def _checksum(data: bytes | bytearray) -> bytes:
    """RFC 1071."""
    padded = bytes(data) + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")
