"""What can be wrong with a packet: one word for programs, a sentence for people.

The words are part of `udpoverlay decode --json` and of its page (docs/reference/decode.md).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Problem", "Where", "Word"]


class Where(enum.Enum):
    """The part of a packet that a problem is in."""

    OUTER = "outer"
    TUNNEL = "tunnel"
    INNER = "inner"


class Word(enum.Enum):
    """Each kind of problem."""

    BAD_HEADER = "bad_header"
    CUT = "cut"
    NOT_IP = "not_ip"
    HEADER_CHECKSUM = "header_checksum"
    CHECKSUM = "checksum"
    OFFLOAD_CHECKSUM = "offload_checksum"
    TTL = "ttl"
    FRAGMENTED = "fragmented"
    TOO_LONG = "too_long"
    TRAILING_BYTES = "trailing_bytes"
    DOUBLE_ENCAPSULATION = "double_encapsulation"
    VXLAN_HEADER = "vxlan_header"
    UNKNOWN_SUBNET = "unknown_subnet"
    FOREIGN_SENDER = "foreign_sender"
    WRONG_HOST = "wrong_host"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    where: Where
    word: Word
    text: str
