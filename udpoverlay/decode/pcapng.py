"""pcapng: sections, interfaces, packets and their comments.

Owns: the blocks that hold packets; all others are passed over. Must not know: what is in a packet.
Format: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from udpoverlay.decode.blocks import BYTE_ORDER, MAGIC, Block, InterfaceOption, PacketOption
from udpoverlay.decode.frame import Frame
from udpoverlay.decode.source import Source

__all__ = ["MAGIC", "frames"]

_ORDER = {struct.pack(f"{order}I", BYTE_ORDER): order for order in "<>"}
_LEAST_BLOCK = 12


@dataclass(frozen=True, slots=True)
class _Interface:
    link: int
    snap: int
    ticks: int = 10**6
    """A second."""
    offset: int = 0


class _Section:
    """What the blocks of one section are read with."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.interfaces: list[_Interface] = []

    def unpack(self, form: str, data: bytes, at: int = 0) -> tuple[int, ...]:
        return struct.unpack_from(self.order + form, data, at)

    def options(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Number and value of each; what is cut ends them."""
        at = 0
        while at + 4 <= len(data):
            number, size = self.unpack("HH", data, at)
            value = data[at + 4 : at + 4 + size]
            if number == 0 or len(value) < size:
                return
            yield number, value
            at += 4 + size + -size % 4

    def add_interface(self, body: bytes) -> None:
        link, _, snap = self.unpack("HHI", body)
        ticks, offset = 10**6, 0
        for number, value in self.options(body[8:]):
            if number == InterfaceOption.RESOLUTION and value:
                base, exponent = (2, value[0] & 0x7F) if value[0] & 0x80 else (10, value[0])
                ticks = base**exponent
            elif number == InterfaceOption.OFFSET and len(value) == 8:
                (offset,) = self.unpack("q", value)
        self.interfaces.append(_Interface(link, snap, ticks, offset))


def frames(source: Source) -> Iterator[Frame]:
    """The frames behind MAGIC, which was read. Raises as `read_capture`."""
    section = _Section("<")
    number, kind_bytes = 0, MAGIC
    while kind_bytes:
        start = source.offset - len(kind_bytes)
        kind_bytes += source.exactly(4 - len(kind_bytes), "the type of a block")
        size_bytes = source.exactly(4, "the length of a block")
        first = b""
        if kind_bytes == MAGIC:
            first = source.exactly(4, "the byte order of a section")
            if first not in _ORDER:
                raise source.wrong(start + 8, f"{first.hex(' ')} is no byte order of pcapng")
            section = _Section(_ORDER[first])
        (kind,), (size,) = section.unpack("I", kind_bytes), section.unpack("I", size_bytes)
        if size < _LEAST_BLOCK + len(first) or size % 4:
            raise source.wrong(start + 4, f"a block cannot have {size:,} bytes")
        body = first + source.exactly(size - 8 - len(first), f"a block of type {kind}")
        if body[-4:] != size_bytes:
            raise source.wrong(
                start + size - 4, "the two lengths of a block differ: the file is damaged"
            )
        try:
            frame = _frame(section, kind, body[:-4], number + 1)
        except (struct.error, _DamagedError) as error:
            raise source.wrong(start, f"a block of type {kind} is damaged: {error}") from error
        if frame is not None:
            number += 1
            yield frame
        kind_bytes = source.maybe(1)


class _DamagedError(Exception):
    """A packet that cannot be as its block says."""


def _frame(section: _Section, kind: int, body: bytes, number: int) -> Frame | None:
    """The packet in a block; None when it holds none."""
    if kind == Block.INTERFACE:
        section.add_interface(body)
    if kind == Block.SIMPLE:
        (length,) = section.unpack("I", body)
        interface = _interface(section, 0)
        captured = min(length, interface.snap or length, len(body) - 4)
        return Frame(number, body[4 : 4 + captured], length, interface.link)
    if kind == Block.ENHANCED:
        index, high, low, captured, length = section.unpack("IIIII", body)
    elif kind == Block.PACKET:
        index, _, high, low, captured, length = section.unpack("HHIIII", body)
    else:
        return None
    interface = _interface(section, index)
    data = body[20 : 20 + captured]
    if len(data) < captured:
        raise _DamagedError(f"its packet would have {captured:,} bytes")
    comments = [
        value.decode(errors="replace")
        for option, value in section.options(body[20 + captured + -captured % 4 :])
        if option == PacketOption.COMMENT
    ]
    seconds = (high << 32 | low) / interface.ticks + interface.offset
    return Frame(number, data, length, interface.link, seconds, "; ".join(comments))


def _interface(section: _Section, index: int) -> _Interface:
    if index >= len(section.interfaces):
        raise _DamagedError(f"no block describes its interface {index}")
    return section.interfaces[index]
