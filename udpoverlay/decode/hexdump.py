"""Bytes from text: a hex stream, or what tcpdump -x, xxd, hexdump -C and Wireshark print.

Owns: which characters are bytes. Must not know: what the bytes mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from udpoverlay.decode.frame import Frame, Link
from udpoverlay.decode.ip import Ip, read_ip
from udpoverlay.decode.link import ether_type
from udpoverlay.errors import OperatorError

__all__ = ["frames_of_hex", "looks_like_hex"]

_DUMP = re.compile(r"^\s*(?:0x)?([0-9a-fA-F]{4,8})(:(?=\s)| {2,})\s*(.*)$")
"""A line with an offset in front: hexdump alone writes none behind it."""
_HEX = re.compile(r"^[0-9a-fA-F]+$")
_SEPARATORS = str.maketrans("", "", " :-\t\n\r")


def looks_like_hex(text: str) -> bool:
    """Whether an argument can be nothing but bytes."""
    return bool(_HEX.match(_digits(text)))


def frames_of_hex(text: str) -> Iterator[Frame]:
    """The packets that `text` spells; OperatorError where it spells none.

    In a dump with offsets, 0 begins a packet, and a line without an offset says something else.
    """
    dump = [found for line in text.splitlines() if (found := _DUMP.match(line))]
    spelt: list[str] = []
    for line in dump:
        offset, mark, rest = line.groups()
        if int(offset, 16) == 0 or not spelt:
            spelt.append("")
        # The characters stand behind a bar (hexdump), or two spaces (tcpdump, xxd).
        spelt[-1] += rest.partition("|")[0] if mark != ":" else rest.partition("  ")[0]
    for number, each in enumerate(spelt or [text], 1):
        yield _frame(number, _digits(each))


def _frame(number: int, digits: str) -> Frame:
    if not digits:
        raise OperatorError("no hex digit is here", fix="give the bytes of one packet")
    if not _HEX.match(digits):
        wrong = next(index for index, digit in enumerate(digits) if not _HEX.match(digit))
        raise OperatorError(
            f"{digits[wrong : wrong + 40]!r} is no hex", fix="give a capture file, or hex digits"
        )
    if len(digits) % 2:
        raise OperatorError(
            f"{len(digits)} hex digits are no whole number of bytes", fix="look for a digit too few"
        )
    data = bytes.fromhex(digits)
    link = Link.RAW
    if not isinstance(read_ip(data, len(data)), Ip) and isinstance(ether_type(data), int):
        link = Link.ETHERNET
    return Frame(number, data, len(data), link)


def _digits(text: str) -> str:
    return text.translate(_SEPARATORS).removeprefix("0x")
