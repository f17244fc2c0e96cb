"""Capture files: pcap and pcapng, either byte order, microseconds or nanoseconds.

Owns: which of the two a file is, and pcap. Must not know: what is in a packet. Why no library reads
them: docs/adr/0024. Format: draft-ietf-opsawg-pcap.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from udpoverlay.decode import pcapng
from udpoverlay.decode.frame import Frame
from udpoverlay.decode.source import Source

__all__ = ["read_capture"]

_MAGIC = {
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\x3c\x4d": (">", 10**9),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
}
"""First four bytes of a pcap file → byte order, ticks of a second."""
_LINK = 0xFFFF
"""Bits of the header's last word; those above tell of a frame check sequence."""


def read_capture(stream: BinaryIO, name: str) -> Iterator[Frame]:
    """The frames of a capture, one by one.

    OperatorError, with the offset, where the file is no capture or cannot be read any further; the
    frames in front of that place come first.
    """
    source = Source(stream, name)
    magic = source.maybe(4)
    if magic == pcapng.MAGIC:
        yield from pcapng.frames(source)
    elif magic in _MAGIC:
        yield from _frames(source, *_MAGIC[magic])
    else:
        found = f"begins with {magic.hex(' ')}" if magic else "is empty"
        raise source.wrong(
            0,
            f"the file {found}: neither pcap nor pcapng",
            fix="write it with tcpdump -w, dumpcap or Wireshark",
        )


def _frames(source: Source, order: str, ticks: int) -> Iterator[Frame]:
    (link,) = struct.unpack(f"{order}16xI", source.exactly(20, "the header"))
    header = struct.Struct(f"{order}IIII")
    number = 0
    while first := source.maybe(1):
        number += 1
        rest = source.exactly(header.size - 1, f"the header of packet {number}")
        seconds, fraction, captured, length = header.unpack(first + rest)
        data = source.exactly(captured, f"packet {number}")
        yield Frame(number, data, length, link & _LINK, seconds + fraction / ticks)
