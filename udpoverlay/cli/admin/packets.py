"""What `udpoverlay trace` and `udpoverlay record dump` share: reading a stream, showing packets.

Owns: the line and the object of a packet, and the last line. Must not know: which packets.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

from rich.text import Text

from udpoverlay.cli.admin import ask
from udpoverlay.decode.ip import Ip, read_ip
from udpoverlay.decode.line import ends
from udpoverlay.errors import OperatorError
from udpoverlay.model.packet_record import PacketRecord
from udpoverlay.observe.client import AdminClient
from udpoverlay.observe.status import SCHEMA_VERSION
from udpoverlay.trace.document import document
from udpoverlay.trace.filter import parse_filter
from udpoverlay.trace.message import record_of
from udpoverlay.trace.origin import Origin
from udpoverlay.trace.pcapng import MEANINGS

__all__ = [
    "STDOUT",
    "Counts",
    "JsonLines",
    "Shown",
    "Stream",
    "Table",
    "add_filter",
    "filter_text",
    "line",
    "words",
]

STDOUT = "-"
_INDENT = " " * 13


def add_filter(parser: argparse.ArgumentParser) -> None:
    """The words that say which packets."""
    parser.add_argument(
        "filter",
        nargs="*",
        metavar="FILTER",
        help="which packets, for example: peer 192.0.2.2 and port 80 and drops",
    )
    parser.add_argument(
        "-w",
        metavar="FILE",
        dest="file",
        help="write a capture file (pcapng); - is standard output",
    )


def filter_text(args: argparse.Namespace) -> str:
    """The filter, which is one. Raises FilterError."""
    text = " ".join(args.filter)
    parse_filter(text)
    return text


@dataclass(slots=True)
class Counts:
    """Of records."""

    seen: int = 0
    """By the daemon, since it was asked."""
    shown: int = 0
    lost: int = 0
    """Written over before they were read."""

    def text(self) -> str:
        """The last line."""
        text = f"{ask.count(self.seen, 'record')} seen, {self.shown:,} shown, {self.lost:,} lost"
        return text + (" (they came faster than they were read)" if self.lost else "")


class Shown(Protocol):
    """What becomes of packets."""

    def begin(self, origin: Origin) -> None:
        """Before all others."""

    def packet(self, record: PacketRecord) -> None:
        """One that is wanted."""

    def lost(self, count: int) -> None:
        """So many are missing here."""

    def end(self, counts: Counts) -> None:
        """After all others."""


@dataclass(slots=True)
class Stream:
    """A stream of records of a daemon."""

    client: AdminClient
    url: str
    query: dict[str, str]
    until: float | None = None
    counts: Counts = field(default_factory=Counts)
    begun: bool = False
    whole: bool = False
    """The daemon said that this was all."""

    def show(self, shown: Shown, most: int | None = None) -> None:
        """Until it ends, `most` packets were shown, or Ctrl-C. Raises OperatorError."""
        query = urlencode({name: value for name, value in self.query.items() if value})
        lines = self.client.lines(f"{self.url}?{query}" if query else self.url, self.until)
        try:
            self._read(lines, shown, most)
        except KeyboardInterrupt:
            pass
        finally:
            if self.begun:
                shown.end(self.counts)
            lines.close()  # type: ignore[attr-defined]

    def _read(self, lines: Iterator[dict[str, Any]], shown: Shown, most: int | None) -> None:
        counts = self.counts
        try:
            for number, found in enumerate(lines):
                if number == 0:
                    shown.begin(Origin.of(found["origin"]))
                    self.begun = True
                elif "lost" in found:
                    shown.lost(found["lost"] - counts.lost)
                    counts.seen, counts.lost = found["seen"], found["lost"]
                    self.whole = bool(found.get("end"))
                else:
                    shown.packet(record_of(found))
                    counts.shown += 1
                    if counts.shown == most:
                        return
        except (KeyError, TypeError, ValueError) as error:
            raise OperatorError(
                f"a line of the daemon is no record: {error}",
                fix="use the command of the daemon's own version",
            ) from error


class Table:
    """A line for each packet; on a terminal one that is too long goes on below."""

    def __init__(self) -> None:
        self._out = ask.console()

    def begin(self, origin: Origin) -> None:
        """Nothing."""

    def packet(self, record: PacketRecord) -> None:
        """Print it."""
        text = line(record)
        if self._out.is_terminal:
            text = textwrap.fill(
                text, self._out.width, subsequent_indent=_INDENT, break_long_words=False
            )
        self._out.print(Text(text, style="yellow" if record.dropped else ""), soft_wrap=True)

    def lost(self, count: int) -> None:
        """Where they are missing."""
        if count:
            self._out.print(Text(f"{_INDENT}{count:,} records lost here", style="red"))

    def end(self, counts: Counts) -> None:
        """The last line."""
        self._out.print(Text(counts.text()))


class JsonLines:
    """An object for each packet, and one for the counts."""

    def begin(self, origin: Origin) -> None:
        """Nothing."""

    def packet(self, record: PacketRecord) -> None:
        """Print it."""
        self._print(document(record))

    def lost(self, count: int) -> None:
        """The last line has the sum."""

    def end(self, counts: Counts) -> None:
        """The last line."""
        self._print({"seen": counts.seen, "shown": counts.shown, "lost": counts.lost})

    def _print(self, found: dict[str, object]) -> None:
        sys.stdout.write(json.dumps({"schema": SCHEMA_VERSION, **found}) + "\n")
        sys.stdout.flush()


def line(record: PacketRecord) -> str:
    """A packet in a line: when, which way, how far, what, how long, whose, what became of it."""
    seconds, rest = divmod(record.time_ns, 10**9)
    clock = time.strftime("%H:%M:%S", time.localtime(seconds))
    way = "out" if record.outbound else "in"
    found = read_ip(record.data, max(record.length, len(record.data)))
    if isinstance(found, Ip):
        what = ends(found)
    else:
        what = "no IP packet" if record.data else "its bytes were gone"
    parts = [f"{clock}.{rest // 10**6:03}", f"{way:3}", f"{record.point:7}", what]
    parts.append(f"{record.length:,}")
    if record.packets > 1:
        parts.append(f"(first of {record.packets})")
    if record.remote:
        parts.append(record.remote)
    parts.append(words(record))
    return " ".join(parts)


def words(record: PacketRecord) -> str:
    """For example "sent", or "dropped, no route: no peer has a subnet with the destination"."""
    name = record.verdict.partition("_")[2].replace("_", " ")
    if not record.dropped:
        return name
    return f"dropped, {name}: {MEANINGS.get(record.verdict, 'a reason of another version')}"
