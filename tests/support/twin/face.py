"""What the compiled code and its twin have in common, as types; mypy checks both against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from tests.support import twin
from udpoverlay import _fastpath, _pure

__all__ = ["CODES", "ROUTES", "Code", "Limiter", "Routes"]

Route = tuple[bytes, int, bytes, int, int]


class Routes(Protocol):
    def publish(self, routes: Sequence[Route], /) -> None: ...
    def lookup(self, address: bytes, /) -> tuple[bytes, int, int] | None: ...
    def __len__(self) -> int: ...
    @property
    def generation(self) -> int: ...


class Limiter(Protocol):
    def take(self, now_ns: int, /) -> bool: ...


class Code(Protocol):
    def IcmpLimiter(self, rate: int = ..., burst: int = ...) -> Limiter: ...
    def check(self, packet: bytes, ipv4: bool = ..., ipv6: bool = ...) -> tuple[str, int, int]: ...
    def decrease_ttl(self, packet: bytes) -> bytes | None: ...
    def checksum(self, data: bytes) -> int: ...
    def transport_checksum(self, addresses: bytes, protocol: int, data: bytes) -> int: ...
    def icmp_error(
        self,
        error: Literal["net_unreachable", "time_exceeded"],
        source: bytes,
        offender: bytes,
    ) -> bytes | None: ...


CODES: dict[str, Code] = {"c": _pure, "twin": twin}
ROUTES: dict[str, type[Routes]] = {"c": _fastpath.RouteTable, "twin": twin.RouteTable}
