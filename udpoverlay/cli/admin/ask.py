"""What the commands that ask a daemon share: their arguments, where they ask, how they print.

Owns: --admin-socket, --node and --json. Must not know: any document.

    udpoverlay status            the daemon of this host
    udpoverlay status --node n1  the same command, run in a node of a kept lab
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from rich.console import Console
from rich.text import Text

from udpoverlay.errors import OperatorError
from udpoverlay.observe.client import DEFAULT_SOCKET, AdminClient

__all__ = [
    "add_arguments",
    "address",
    "client",
    "console",
    "count",
    "duration",
    "holds",
    "in_node",
    "print_json",
    "sentence",
    "size",
]

WIDTH = 80
"""Columns of what does not go to a terminal."""


def add_arguments(parser: argparse.ArgumentParser, *, node: bool = True) -> None:
    """Add what each of these commands takes; no --node for one that asks two hosts."""
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    parser.add_argument(
        "--admin-socket",
        default=DEFAULT_SOCKET,
        metavar="PATH",
        help="the daemon's admin socket (default %(default)s)",
    )
    if node:
        parser.add_argument(
            "--node", metavar="NAME", help="ask a node of a kept lab, for example n1"
        )


def client(args: argparse.Namespace) -> AdminClient:
    """Who to ask."""
    return AdminClient(args.admin_socket)


def in_node(args: argparse.Namespace, command: str, words: Sequence[str] = ()) -> int | None:
    """Run this command in the lab's node that was named; None when none was."""
    if args.node is None:
        return None
    from udpoverlay.lab import session  # noqa: PLC0415 - a production host has no lab to pay for

    argv = [sys.executable, "-m", "udpoverlay.cli", command, *words]
    argv += ["--admin-socket", args.admin_socket]
    if args.json:
        argv.append("--json")
    return session.execute(args.node, argv)


def print_json(document: dict[str, Any]) -> None:
    """Print `document` for other programs."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def console() -> Console:
    """Standard output; 80 columns where it is no terminal."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(width=WIDTH, highlight=False)


def count(number: int, noun: str) -> str:
    """For example "1 peer", "12,000 peers"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(count: int) -> str:
    """Bytes in decimal units and three digits, for example "1.25 GB"."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 999.5 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.3g} {unit}" if amount < 999.5 else f"{amount:,.0f} {unit}"


_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float | None, *, parts: int = 2) -> str:
    """In its largest units, for example "3 h 12 min"; "for ever" for None."""
    if seconds is None:
        return "for ever"
    rest = max(0, int(seconds))
    found = []
    for length, unit in _UNITS:
        if rest >= length:
            found.append(f"{rest // length} {unit}")
            rest %= length
        elif found:
            break
    return " ".join(found[:parts]) or "0 s"


def sentence(out: Console, label: str, text: str, *, wrong: bool = False) -> None:
    """Print `text` behind `label`, wrapped below itself; in red where something is wrong."""
    indent = 11
    lines = Text(text, style="red" if wrong else "").wrap(out, max(20, out.width - indent))
    for number, line in enumerate(lines):
        line.rstrip()
        out.print(Text(f"{label if number == 0 else '':{indent}}").append_text(line))


def address(text: str) -> IPv4Address | IPv6Address:
    """The address `text`; raises OperatorError."""
    try:
        return ip_address(text)
    except ValueError as error:
        raise OperatorError(
            f"{text!r} is not an IP address", fix="write one such as 10.244.3.7"
        ) from error


def holds(network: str, wanted: IPv4Address | IPv6Address) -> bool:
    """Whether `wanted` lies in `network`, which a daemon named."""
    try:
        return wanted in ip_network(network, strict=False)
    except ValueError:
        return False
