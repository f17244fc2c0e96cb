"""protobuf's wire format, as far as etcd's messages use it: fields out, fields in.

Owns: varints, tags, lengths, and every bound of them. Must not know: which field means what
(messages.py). Reference: https://protobuf.dev/programming-guides/encoding

    message = field …       field = tag, content       tag = varint(number << 3 | wire type)
    wire type 0: a varint   1: 8 bytes   2: a varint n, then n bytes   5: 4 bytes

What is read is hostile: whatever the bytes are, reading them raises BadMessage or nothing, and
takes no more memory than they have. Groups (wire types 3 and 4) are in no message of etcd.
"""

from __future__ import annotations

from collections.abc import Iterator

from udpoverlay.errors import RegistryUnavailable

__all__ = ["BadMessage", "bytes_field", "fields", "int_field", "signed"]

_FIXED64, _BYTES, _FIXED32 = 1, 2, 5
_MASK = (1 << 64) - 1
_SIGN = 1 << 63
_LONGEST_VARINT = 64
_MOST_FIELDS = 1 << 17
"""In one message. etcd's largest has an event or a key a field, and is cut at 2 MB."""


class BadMessage(RegistryUnavailable):
    """The peer sent bytes that are no message of etcd."""


def int_field(number: int, value: int) -> bytes:
    """Encode an integer, a bool or an enum; proto3 leaves a zero out."""
    return _varint(number << 3) + _varint(value & _MASK) if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """Encode bytes, a string or a message, also an empty one: its presence may be the meaning."""
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(data: bytes, start: int = 0, end: int = -1) -> Iterator[tuple[int, int, int]]:
    """Yield (tag, value, end) of every field between two positions of `data`.

    A varint has its value, unsigned, and an `end` of -1; bytes have their first and past-the-last
    position. Fields of fixed width are skipped: no message that we read has one that we need.
    """
    at = start
    if end < 0:
        end = len(data)
    try:
        for _ in range(_MOST_FIELDS):
            if at >= end:
                break
            tag = data[at]
            at += 1
            if tag >= 0x80:
                tag, at = _long_varint(data, at - 1)
            kind = tag & 7
            if kind not in (0, _BYTES):
                at += _width(kind)
                continue
            value = data[at]
            at += 1
            if value >= 0x80:
                value, at = _long_varint(data, at - 1)
            if not kind:
                yield tag, value, -1
                continue
            first, at = at, at + value
            if at > end:
                break
            yield tag, first, at
        else:
            raise BadMessage("etcd sent a message of more fields than it ever does")
    except IndexError:
        at = end + 1
    if at > end:
        raise BadMessage("etcd sent a message that is cut off")


def _width(kind: int) -> int:
    """Bytes of a field of fixed width."""
    if kind == _FIXED64:
        return 8
    if kind == _FIXED32:
        return 4
    raise BadMessage(f"etcd sent a message with wire type {kind}")


def _long_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at
        shift += 7
        if shift >= _LONGEST_VARINT:
            raise BadMessage("etcd sent a number of more than 64 bits")


def signed(value: int) -> int:
    """Read a varint as int64."""
    return value - (1 << 64) if value & _SIGN else value
