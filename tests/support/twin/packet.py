"""Header checks and the TTL rule, field by field."""

from __future__ import annotations

__all__ = ["check", "decrease_ttl"]


def check(packet: bytes, ipv4: bool = True, ipv6: bool = False) -> tuple[str, int, int]:
    if len(packet) < 20:
        return "too_short", 0, 0
    version = packet[0] // 16
    if version == 4 and ipv4:
        return _check_ipv4(packet)
    if version == 6 and ipv6:
        return _check_ipv6(packet)
    return "wrong_version", 0, 0


def _check_ipv4(packet: bytes) -> tuple[str, int, int]:
    header = packet[0] % 16 * 4
    if not 20 <= header <= len(packet):
        return "bad_header", 0, 0
    total = int.from_bytes(packet[2:4], "big")
    if not header <= total <= len(packet):
        return "bad_length", 0, 0
    return "ok", total, header


def _check_ipv6(packet: bytes) -> tuple[str, int, int]:
    if len(packet) < 40:
        return "too_short", 0, 0
    payload = int.from_bytes(packet[4:6], "big")
    jumbogram = payload == 0 and packet[6] == 0
    if jumbogram or 40 + payload > len(packet):
        return "bad_length", 0, 0
    return "ok", 40 + payload, 40


def decrease_ttl(packet: bytes) -> bytes | None:
    if check(packet, ipv6=True)[0] != "ok":
        raise ValueError("not a packet that passes check()")
    changed = bytearray(packet)
    if packet[0] // 16 == 6:
        if packet[7] <= 1:
            return None
        changed[7] -= 1
        return bytes(changed)
    if packet[8] <= 1:
        return None
    changed[8] -= 1
    # RFC 1624, equation 3: HC' = ~(~HC + ~m + m').
    inverted = (
        (int.from_bytes(packet[10:12], "big") ^ 0xFFFF)
        + (int.from_bytes(packet[8:10], "big") ^ 0xFFFF)
        + int.from_bytes(changed[8:10], "big")
    )
    while inverted > 0xFFFF:
        inverted = inverted % 0x10000 + inverted // 0x10000
    changed[10:12] = (inverted ^ 0xFFFF).to_bytes(2, "big")
    return bytes(changed)
