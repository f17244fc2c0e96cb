"""`udpoverlay record dump`: the packets that the flight recorder still holds.

Exit status 0, also when there are none; 1 when the daemon cannot be asked or the file not written.
"""

from __future__ import annotations

import argparse
import sys

from udpoverlay.cli.admin import ask
from udpoverlay.cli.admin.packets import (
    STDOUT,
    Counts,
    JsonLines,
    Shown,
    Stream,
    Table,
    add_filter,
    filter_text,
)
from udpoverlay.cli.numbers import seconds
from udpoverlay.errors import OperatorError
from udpoverlay.host.capturefile import write_whole
from udpoverlay.model.packet_record import PacketRecord
from udpoverlay.trace.origin import Origin
from udpoverlay.trace.pcapng import capture

__all__ = ["WORDS_AND_OPTIONS_MIX", "configure", "run"]

WORDS_AND_OPTIONS_MIX = True
"""See main.py."""

_EPILOG = """\
examples:
  udpoverlay record dump
  udpoverlay record dump drops --since 5m
  udpoverlay record dump --since 30s -w f.pcapng; tshark -r f.pcapng
  udpoverlay record dump drops --json | jq -r .verdict | sort | uniq -c
  udpoverlay record dump --node n1     of a node of `udpoverlay lab --keep`

SIGUSR1 makes a daemon write a dump by itself, as does a defect that ends it:
into dumps/ beside its admin socket."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("action", choices=["dump"], help="the one thing to do with it")
    add_filter(parser)
    parser.add_argument(
        "--since",
        type=seconds,
        metavar="TIME",
        help="of the last so long, such as 30s (default: all)",
    )
    ask.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask and show."""
    text = filter_text(args)
    words = [args.action, *args.filter, *([f"-w{args.file}"] if args.file else ())]
    words += [f"--since={args.since:.9f}s"] if args.since else []
    code = ask.in_node(args, "record", words)
    if code is not None:
        return code
    if args.file == STDOUT and sys.stdout.isatty():
        raise OperatorError("a capture file is nothing for a terminal", fix="name a file")
    query = {"filter": text, "since": f"{args.since:.9f}" if args.since else ""}
    stream = Stream(ask.client(args), "/v1/records", query)
    found = _Sorted()
    stream.show(found)
    if not stream.whole:
        raise OperatorError("the daemon ended the dump too early", fix="see its log, and repeat it")
    found.show(args.file, JsonLines() if args.json else Table())
    return 0


class _Sorted:
    """All packets by their time: the daemon sends those of each worker in a row."""

    def __init__(self) -> None:
        self._origin: Origin | None = None
        self._records: list[PacketRecord] = []
        self._counts = Counts()

    def begin(self, origin: Origin) -> None:
        self._origin = origin

    def packet(self, record: PacketRecord) -> None:
        self._records.append(record)

    def lost(self, count: int) -> None:
        """The counts have it."""

    def end(self, counts: Counts) -> None:
        self._counts = counts

    def show(self, file: str | None, shown: Shown) -> None:
        """Write the file, or print."""
        assert self._origin is not None
        self._records.sort(key=lambda record: record.time_ns)
        if not file:
            for record in self._records:
                shown.packet(record)
            shown.end(self._counts)
            return
        data = capture(self._origin, self._records, self._counts.lost)
        if file == STDOUT:
            sys.stdout.buffer.write(data)
        else:
            write_whole(file, [data])
        sys.stderr.write(self._counts.text() + "\n")
