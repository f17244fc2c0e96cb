"""RFC 1071 as it is written: the one's complement of the one's complement sum of 16-bit words."""

from __future__ import annotations

__all__ = ["checksum", "transport_checksum"]


def ones_complement_sum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes) -> int:
    return ones_complement_sum(data) ^ 0xFFFF


def transport_checksum(addresses: bytes, protocol: int, data: bytes) -> int:
    if len(addresses) == 8:
        pseudo = addresses + bytes([0, protocol]) + len(data).to_bytes(2, "big")
    elif len(addresses) == 32:
        pseudo = addresses + len(data).to_bytes(4, "big") + bytes([0, 0, 0, protocol])
    else:
        raise ValueError(f"source and destination take 8 or 32 bytes, not {len(addresses)}")
    return checksum(pseudo + data)
