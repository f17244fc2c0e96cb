"""The internet checksum (RFC 1071) over captured bytes, and what a wrong one looks like."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["internet_sum", "is_unfinished", "pseudo_header"]

_ALL = 0xFFFF


def internet_sum(*parts: bytes) -> int:
    """The folded sum of `parts`, each padded to whole words: 0xFFFF over data that is right."""
    # 2**16 is 1 modulo 0xFFFF: so a number of many words leaves what their sum leaves.
    total = sum(int.from_bytes(part + b"\0" * (len(part) % 2), "big") % _ALL for part in parts)
    return total % _ALL or (_ALL if any(map(any, parts)) else 0)


def pseudo_header(addresses: bytes, protocol: int, length: int) -> bytes:
    """What TCP and UDP sum in front of themselves; source and destination in `addresses`.

    RFC 768 and RFC 9293 for IPv4, RFC 8200 §8.1 for IPv6.
    """
    if len(addresses) == 8:
        return addresses + bytes((0, protocol)) + length.to_bytes(2, "big")
    return addresses + length.to_bytes(4, "big") + bytes((0, 0, 0, protocol))


def is_unfinished(found: int, addresses: bytes, protocol: int, lengths: Sequence[int]) -> bool:
    """Whether the checksum is the pseudo header's alone: left to a card that did not finish it.

    Linux leaves CHECKSUM_PARTIAL so (include/linux/skbuff.h); with segmentation offload, drivers
    sum a length of 0.
    """
    return any(
        found == internet_sum(pseudo_header(addresses, protocol, length)) for length in lengths
    )
