"""One captured packet, before anybody has looked into it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Frame", "Link"]


class Link:
    """What a frame begins with: LINKTYPE_ numbers of tcpdump.org/linktypes.html."""

    NULL = 0
    ETHERNET = 1
    RAW_BSD = 12
    RAW_OPENBSD = 14
    RAW = 101
    LOOP = 108
    SLL = 113
    IPV4 = 228
    IPV6 = 229
    SLL2 = 276


@dataclass(frozen=True, slots=True)
class Frame:
    """A packet as a capture holds it."""

    number: int
    """From 1, as Wireshark counts."""
    data: bytes
    length: int
    """Bytes on the wire; more than `data` has when the capture was cut (tcpdump -s)."""
    link: int = Link.RAW
    seconds: float | None = None
    """Since 1970; None: the capture does not tell."""
    comment: str = ""
