"""Packets for tests: made from their fields, correct unless a field is forced."""

from __future__ import annotations

from tests.support.twin.checksum import checksum

__all__ = ["icmp", "ipv4", "ipv6", "reply_to"]


def ipv4(
    payload: bytes = b"",
    *,
    source: str = "10.1.0.2",
    destination: str = "10.2.0.2",
    ttl: int = 64,
    protocol: int = 17,
    identification: int = 0,
    fragment: int = 0,
    options: bytes = b"",
    tos: int = 0,
    total_length: int | None = None,
    header_checksum: int | None = None,
) -> bytes:
    """An IPv4 packet; `fragment` is the 16-bit field of flags and offset."""
    assert len(options) % 4 == 0
    header_length = 20 + len(options)
    length = header_length + len(payload) if total_length is None else total_length
    header = bytes([0x40 | header_length // 4, tos]) + length.to_bytes(2, "big")
    header += identification.to_bytes(2, "big") + fragment.to_bytes(2, "big")
    header += bytes([ttl, protocol, 0, 0])
    header += bytes(map(int, source.split("."))) + bytes(map(int, destination.split(".")))
    header += options
    value = checksum(header) if header_checksum is None else header_checksum
    return header[:10] + value.to_bytes(2, "big") + header[12:] + payload


def ipv6(payload: bytes = b"", *, hop_limit: int = 64, next_header: int = 17) -> bytes:
    """An IPv6 packet between two documentation addresses."""
    header = bytes([0x60, 0, 0, 0]) + len(payload).to_bytes(2, "big")
    header += bytes([next_header, hop_limit])
    net = bytes.fromhex("20010db8") + bytes(11)
    return header + net + b"\x01" + net + b"\x02" + payload


def icmp(kind: int, code: int = 0, rest: bytes = bytes(4)) -> bytes:
    """An ICMP message: its type, code and what follows the checksum."""
    message = bytes([kind, code, 0, 0]) + rest
    return message[:2] + checksum(message).to_bytes(2, "big") + message[4:]


def reply_to(request: bytes) -> bytes:
    """What a kernel makes of an echo request without IP options."""
    return ipv4(
        icmp(0, 0, request[24:]),
        source=_text(request[16:20]),
        destination=_text(request[12:16]),
        protocol=1,
        identification=77,
        fragment=0x4000,
        ttl=62,
    )


def _text(address: bytes) -> str:
    return ".".join(map(str, address))
