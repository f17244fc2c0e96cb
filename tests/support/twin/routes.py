"""Longest prefix by looking at every route."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["RouteTable"]


class RouteTable:
    def __init__(self) -> None:
        self.routes: list[tuple[bytes, int, bytes, int, int]] = []
        self.generation = 0

    def publish(self, routes: Sequence[tuple[bytes, int, bytes, int, int]]) -> None:
        for address, length, peer, _, _ in routes:
            if len(address) not in (4, 16) or length > 8 * len(address):
                raise ValueError("not an IPv4 or IPv6 prefix")
            if len(peer) not in (4, 16):
                raise ValueError("the peer's address takes 4 or 16 bytes")
        self.routes = list(routes)
        self.generation += 1

    def lookup(self, address: bytes) -> tuple[bytes, int, int] | None:
        if len(address) not in (4, 16):
            raise ValueError(f"an address takes 4 or 16 bytes, not {len(address)}")
        best: tuple[bytes, int, int] | None = None
        longest = -1
        for prefix, length, peer, port, mtu in self.routes:
            if (
                len(prefix) == len(address)
                and length >= longest
                and _holds(prefix, length, address)
            ):
                best, longest = (peer, port, mtu), length
        return best

    def __len__(self) -> int:
        return len(self.routes)


def _holds(prefix: bytes, length: int, address: bytes) -> bool:
    host_bits = 8 * len(address) - length
    return int.from_bytes(prefix, "big") >> host_bits == int.from_bytes(address, "big") >> host_bits
