"""ICMP errors put together from their fields, and a token bucket that counts tokens."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

from tests.support.twin.checksum import checksum
from tests.support.twin.packet import check

__all__ = ["IcmpLimiter", "icmp_error"]

NOT_ONE_HOST = [
    IPv4Network(net) for net in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4")
]
TYPES = {"net_unreachable": 3, "time_exceeded": 11}
ERRORS = {3, 4, 5, 11, 12}


def icmp_error(
    error: Literal["net_unreachable", "time_exceeded"], source: bytes, offender: bytes
) -> bytes | None:
    if check(offender, ipv6=True)[0] != "ok":
        raise ValueError("not a packet that passes check()")
    if offender[0] // 16 == 6:
        return None
    _, length, header = check(offender)
    offender = offender[:length]
    if _unanswered(error, offender, header):
        return None
    quote = offender[: header + 8].ljust(header + 8, b"\0")
    body = bytes([TYPES[error], 0, 0, 0, 0, 0, 0, 0]) + quote
    body = body[:2] + checksum(body).to_bytes(2, "big") + body[4:]
    outer = bytes([0x45, 0]) + (20 + len(body)).to_bytes(2, "big") + bytes([0, 0, 0, 0, 8, 1, 0, 0])
    outer += source + offender[12:16]
    return outer[:10] + checksum(outer).to_bytes(2, "big") + outer[12:] + body


def _unanswered(error: str, offender: bytes, header: int) -> bool:
    for address in (IPv4Address(offender[12:16]), IPv4Address(offender[16:20])):
        if any(address in net for net in NOT_ONE_HOST):
            return True
    if int.from_bytes(offender[6:8], "big") % 0x2000 != 0:
        return True
    is_icmp = offender[9] == 1
    if error == "net_unreachable":
        return is_icmp or header == 60
    return is_icmp and (len(offender) == header or offender[header] in ERRORS)


class IcmpLimiter:
    """Tokens as exact fractions; time in the C code's ticks, its rate rounded as there."""

    TICK = 2**14

    def __init__(self, rate: int = 1000, burst: int = 50) -> None:
        if not (1 <= rate <= 10000 and 1 <= burst <= 1000):
            raise ValueError(
                f"rate {rate} must be within 1..10000 a second, burst {burst} within 1..1000"
            )
        ticks_per_second = -(-(10**9) // self.TICK)
        self.ticks_per_token = -(-ticks_per_second // rate)
        self.burst = burst
        self.tokens = Fraction(burst)
        self.last = 0

    def take(self, now_ns: int) -> bool:
        now = now_ns // self.TICK
        earned = Fraction(now - self.last, self.ticks_per_token)
        self.tokens = min(Fraction(self.burst), self.tokens + earned)
        self.last = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True
