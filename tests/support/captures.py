"""Capture files and tunnelled packets for tests, made from their fields."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tests.support.packets import ipv4
from tests.support.twin.checksum import checksum

__all__ = [
    "block",
    "ethernet",
    "option",
    "pcap",
    "pcapng",
    "pseudo_sum",
    "tcp",
    "tunnelled",
    "udp",
    "vxlan",
]

_ADDRESSES = ("10.1.0.2", "10.2.0.2")


def _pseudo(source: str, destination: str, protocol: int, length: int) -> bytes:
    addresses = bytes(map(int, f"{source}.{destination}".split(".")))
    return addresses + bytes([0, protocol]) + length.to_bytes(2, "big")


def udp(
    payload: bytes,
    port: int = 9,
    addresses: tuple[str, str] = _ADDRESSES,
    *,
    source_port: int = 4000,
    value: int | None = None,
    length: int | None = None,
) -> bytes:
    """A UDP header and `payload`; `value` forces the checksum, `length` the length."""
    size = 8 + len(payload) if length is None else length
    header = struct.pack(">3H", source_port, port, size)
    data = header + bytes(2) + payload
    if value is None:
        value = checksum(_pseudo(*addresses, 17, len(data)) + data) or 0xFFFF
    return header + value.to_bytes(2, "big") + payload


def tcp(
    payload: bytes = b"",
    addresses: tuple[str, str] = _ADDRESSES,
    *,
    flags: int = 0x12,
    value: int | None = None,
) -> bytes:
    """A TCP segment with SYN and ACK unless `flags` says otherwise."""
    header = struct.pack(">HHIIBBH", 443, 51515, 1, 2, 0x50, flags, 64240)
    data = header + bytes(4) + payload
    if value is None:
        value = checksum(_pseudo(*addresses, 6, len(data)) + data)
    return header + value.to_bytes(2, "big") + bytes(2) + payload


def pseudo_sum(protocol: int, length: int, addresses: tuple[str, str] = _ADDRESSES) -> int:
    """What Linux leaves in a checksum that a card is to finish."""
    return checksum(_pseudo(*addresses, protocol, length)) ^ 0xFFFF


def tunnelled(
    *inner: bytes,
    source: str = "192.0.2.1",
    destination: str = "192.0.2.2",
    port: int = 8285,
    fragment: int = 0x4000,
) -> bytes:
    """The outer packet that carries `inner` on flannel's udp wire."""
    ends = (source, destination)
    return ipv4(
        udp(b"".join(inner), port, ends, source_port=port),
        source=source,
        destination=destination,
        fragment=fragment,
    )


def ethernet(packet: bytes, kind: int = 0x0800, vlan: int | None = None) -> bytes:
    """`packet` behind an Ethernet header."""
    tag = b"" if vlan is None else b"\x81\x00" + vlan.to_bytes(2, "big")
    return bytes(range(12)) + tag + kind.to_bytes(2, "big") + packet


def vxlan(frame: bytes, vni: int = 1, flags: int = 8, port: int = 8472) -> bytes:
    """The outer packet that carries an Ethernet frame."""
    header = bytes([flags, 0, 0, 0]) + vni.to_bytes(3, "big") + b"\0"
    return tunnelled(header + frame, port=port)


def pcap(
    *packets: bytes,
    order: str = "<",
    nanoseconds: bool = False,
    link: int = 101,
    snap: int = 65535,
    first: float = 1000.25,
) -> bytes:
    """A pcap file; one packet a second."""
    unit = 10**9 if nanoseconds else 10**6
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    file = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, snap, link)
    for number, packet in enumerate(packets):
        seconds, fraction = divmod(round((first + number) * unit), unit)
        kept = packet[:snap]
        file += struct.pack(f"{order}4I", seconds, fraction, len(kept), len(packet)) + kept
    return file


def block(order: str, kind: int, body: bytes) -> bytes:
    """A block of pcapng."""
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", 12 + len(body))
    return struct.pack(f"{order}I", kind) + size + body + size


def option(order: str, number: int, value: bytes) -> bytes:
    """An option of a block."""
    return struct.pack(f"{order}HH", number, len(value)) + value + bytes(-len(value) % 4)


def pcapng(
    *packets: bytes,
    order: str = "<",
    link: int = 101,
    comments: Sequence[str] = (),
    resolution: int = 6,
    first: float = 1000.25,
) -> bytes:
    """A pcapng file of one section and one interface, with a block that readers pass over."""
    file = block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    options = option(order, 9, bytes([resolution])) + option(order, 0, b"")
    file += block(order, 1, struct.pack(f"{order}HHI", link, 0, 0) + options)
    file += block(order, 0x0BAD, b"not for us")
    for number, packet in enumerate(packets):
        time = round((first + number) * 10**resolution)
        body = struct.pack(f"{order}5I", 0, time >> 32, time & 0xFFFFFFFF, len(packet), len(packet))
        body += packet + bytes(-len(packet) % 4)
        if number < len(comments):
            body += option(order, 1, comments[number].encode()) + option(order, 0, b"")
        file += block(order, 6, body)
    return file
