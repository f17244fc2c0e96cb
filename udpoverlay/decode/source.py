"""A stream that knows where it is, so that an error can name the place.

Owns: reading in exact pieces, and the sentence about a file that ends or lies. Must not know: any
format. Lengths in a capture are hostile: none is believed beyond MOST_BYTES.
"""

from __future__ import annotations

from typing import BinaryIO

from udpoverlay.errors import OperatorError

__all__ = ["MOST_BYTES", "Source"]

MOST_BYTES = 1 << 20
"""Of one packet or block; tcpdump's own limit for a packet is 262,144."""


class Source:
    """`stream`, called `name` in errors."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.offset = 0
        """Of the next byte."""
        self._stream = stream
        self._name = name

    def maybe(self, size: int) -> bytes:
        """The next `size` bytes, fewer where the file ends."""
        parts = []
        while size:
            try:
                part = self._stream.read(size)
            except OSError as error:
                raise self.wrong(self.offset, f"cannot be read: {error.strerror}") from error
            if not part:
                break
            parts.append(part)
            size -= len(part)
            self.offset += len(part)
        return b"".join(parts)

    def exactly(self, size: int, what: str) -> bytes:
        """The next `size` bytes, which are `what`; OperatorError where the file ends before."""
        start = self.offset
        if size > MOST_BYTES:
            raise self.wrong(start, f"{what} would have {size:,} bytes: the file is damaged")
        data = self.maybe(size)
        if len(data) < size:
            raise self.wrong(
                start, f"{what} needs {size:,} bytes, the file has {len(data):,} more: it is cut"
            )
        return data

    def wrong(self, offset: int, what: str, fix: str = "") -> OperatorError:
        """The error that says `what` is wrong at `offset`."""
        return OperatorError(f"{self._name}, byte {offset:,}: {what}", fix=fix)
