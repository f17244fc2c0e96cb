"""`udpoverlay trace [FILTER]`: packets as they pass, with their verdicts.

Exit status 0, also after Ctrl-C; 1 when the daemon cannot be asked or the file not be written.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time

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
from udpoverlay.cli.numbers import between, seconds
from udpoverlay.errors import OperatorError
from udpoverlay.host.capturefile import CaptureFile
from udpoverlay.model.packet_record import PacketRecord
from udpoverlay.trace.origin import Origin
from udpoverlay.trace.pcapng import CaptureWriter

__all__ = ["WORDS_AND_OPTIONS_MIX", "configure", "run"]

WORDS_AND_OPTIONS_MIX = True
"""See main.py."""

_EPILOG = """\
examples:
  udpoverlay trace
  udpoverlay trace drops
  udpoverlay trace peer 192.0.2.2 and tcp and port 80 --for 30s
  udpoverlay trace 'not (icmp or port 22)' -c 100 --json | jq -c .verdict
  udpoverlay trace -w - | wireshark -k -i -
  udpoverlay trace drops --node n1     of a node of `udpoverlay lab --keep`

Of packets that the kernel took at once (segments of one flow) the first is
shown, with their number; --each shows all of them. Ctrl-C ends it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    add_filter(parser)
    parser.add_argument(
        "-c", type=between(1, 10**9, int), dest="count", metavar="N", help="end after N packets"
    )
    parser.add_argument(
        "--for", type=seconds, dest="time", metavar="TIME", help="end after so long, such as 30s"
    )
    parser.add_argument(
        "--each",
        action="store_true",
        help="every packet of a run, too; it costs bulk traffic a sixth more CPU meanwhile",
    )
    ask.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask and show until the end."""
    text = filter_text(args)
    words = [*args.filter, *([f"-w{args.file}"] if args.file else ())]
    words += [f"-c{args.count}"] if args.count else []
    words += [f"--for={args.time:.9f}s"] if args.time else []
    words += ["--each"] if args.each else []
    code = ask.in_node(args, "trace", words)
    if code is not None:
        return code
    with contextlib.ExitStack() as stack:
        shown = _shown(args, stack)
        until = time.monotonic() + args.time if args.time else None
        query = {"filter": text, "each": "1" if args.each else ""}
        stream = Stream(ask.client(args), "/v1/trace", query, until)
        stream.show(shown, args.count)
    return 0


def _shown(args: argparse.Namespace, stack: contextlib.ExitStack) -> Shown:
    if not args.file:
        return JsonLines() if args.json else Table()
    if args.file != STDOUT:
        file = CaptureFile(args.file)
        stack.callback(file.close)
        return _Capture(file)
    if sys.stdout.isatty():
        raise OperatorError(
            "a capture file is nothing for a terminal",
            fix="udpoverlay trace -w - | wireshark -k -i -, or name a file",
        )
    return _Capture(_Stdout())


class _Stdout:
    """Standard output, of which each piece is to be read at once."""

    def write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


class _Capture:
    """A capture file that grows."""

    def __init__(self, file: CaptureFile | _Stdout) -> None:
        self._file = file
        self._writer: CaptureWriter | None = None

    def begin(self, origin: Origin) -> None:
        self._writer = CaptureWriter(origin)
        self._file.write(self._writer.head())

    def packet(self, record: PacketRecord) -> None:
        assert self._writer is not None
        self._file.write(self._writer.blocks(record))

    def lost(self, count: int) -> None:
        assert self._writer is not None
        self._writer.lost(count)

    def end(self, counts: Counts) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(counts.text() + os.linesep)
