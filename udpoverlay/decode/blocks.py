"""The numbers of pcapng: of its blocks and their options, for who reads (pcapng.py) and writes it.

Owns: these numbers. Must not know: who uses them. Format: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

__all__ = [
    "BYTE_ORDER",
    "MAGIC",
    "Block",
    "InterfaceOption",
    "PacketOption",
    "SectionOption",
    "Verdict",
]

MAGIC = b"\x0a\x0d\x0d\x0a"
"""The type of a section's header: the same in either byte order."""
BYTE_ORDER = 0x1A2B3C4D
"""In a section's header, in the order of all its numbers."""


class Block:
    """Types of blocks."""

    SECTION = 0x0A0D0D0A
    INTERFACE = 1
    PACKET = 2
    """Obsolete, and read."""
    SIMPLE = 3
    ENHANCED = 6


class SectionOption:
    """Options of a section's header."""

    PROGRAM = 4


class InterfaceOption:
    """Options of an interface."""

    NAME = 2
    DESCRIPTION = 3
    RESOLUTION = 9
    """Of time: a power of ten, or with the highest bit of two."""
    OFFSET = 14


class PacketOption:
    """Options of an enhanced packet block (epb_…)."""

    COMMENT = 1
    FLAGS = 2
    DROPS = 4
    """Packets lost between this one and the one before."""
    ID = 5
    """The same packet on another interface has the same."""
    VERDICT = 7


class Verdict:
    """epb_verdict: a byte says whose, eight what (linux/pkt_cls.h, TC_ACT_…)."""

    TC = 1
    OK = 0
    SHOT = 2
    """Dropped."""
