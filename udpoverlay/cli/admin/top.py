"""`udpoverlay top`: what flows right now, by peer, and what is dropped, by reason.

On a terminal one screen that is drawn again; elsewhere one block of lines after the other, or with
--json one object in each line. A daemon that is started again is waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from udpoverlay.cli.admin import ask
from udpoverlay.cli.numbers import between
from udpoverlay.errors import OperatorError
from udpoverlay.lab.tables import table
from udpoverlay.observe.client import AdminClient
from udpoverlay.observe.rates import DROPS, Look, rates
from udpoverlay.observe.status import SCHEMA_VERSION

__all__ = ["configure", "run"]

_EPILOG = """\
examples:
  udpoverlay top
  udpoverlay top --interval 5 --samples 12 > minute.txt
  udpoverlay top --json | jq -c '.drops[] | select(.per_second > 0)'
  udpoverlay top --node n1             of a node of `udpoverlay lab --keep`

Bytes and packets are the inner ones, without the tunnel's header. Ctrl-C ends it."""

_MOST_PEERS = 20
"""Rows where no screen says how many fit."""
_OTHER_LINES = 14
"""Of the screen, beside peers and drops."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--interval",
        type=between(0.1, 3600, float),
        default=1.0,
        metavar="SECONDS",
        help="how long one look takes, 0.1 to 3600 (default 1)",
    )
    parser.add_argument(
        "--samples",
        type=between(1, 10**9, int),
        metavar="N",
        help="end after so many looks (default: go on until Ctrl-C)",
    )
    ask.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask and show until the end."""
    words = [f"--interval={args.interval:g}"]
    if args.samples is not None:
        words.append(f"--samples={args.samples}")
    code = ask.in_node(args, "top", words)
    if code is not None:
        return code
    found = _samples_of(ask.client(args), args.interval, args.samples)
    with contextlib.suppress(KeyboardInterrupt):
        if args.json:
            for sample in found:
                sys.stdout.write(json.dumps(sample.document) + "\n")
                sys.stdout.flush()
        else:
            _show(ask.console(), found, args.interval)
    return 0


@dataclass(frozen=True, slots=True)
class _Sample:
    """What one interval brought."""

    document: dict[str, Any]
    """As --json prints it; with nothing but `error` when the daemon could not be asked."""
    status: dict[str, Any] = field(default_factory=dict)
    """`/v1/status` at its end."""


def _samples_of(client: AdminClient, interval: float, samples: int | None) -> Iterator[_Sample]:
    """One for each interval.

    Raises OperatorError when the daemon cannot be asked at all.
    """
    before, _ = _look(client)
    taken = 0
    while samples is None or taken < samples:
        time.sleep(interval)
        taken += 1
        try:
            after, status = _look(client)
        except OperatorError as error:
            yield _Sample({"schema": SCHEMA_VERSION, "error": str(error)})
            continue
        yield _Sample(rates(before, after), status)
        before = after


def _look(client: AdminClient) -> tuple[Look, dict[str, Any]]:
    status = client.get("/v1/status")
    return Look.at(status, client.get("/v1/peers")), status


def _show(out: Console, found: Iterator[_Sample], interval: float) -> None:
    if not out.is_terminal:
        for sample in found:
            out.print(_screen(sample, _MOST_PEERS))
            out.print()
        return
    waiting = Text(f"the first figures come in {interval:g} s")
    with Live(waiting, console=out, screen=True, auto_refresh=False) as live:
        for sample in found:
            drops = len(sample.document.get("drops", ()))
            live.update(_screen(sample, out.height - _OTHER_LINES - drops), refresh=True)


def _screen(sample: _Sample, most_peers: int) -> RenderableType:
    document = sample.document
    if "error" in document:
        return Text(f"no answer, waiting: {document['error']}", style="red")
    parts: list[RenderableType] = [_head(sample.status), Text(), _totals(document), Text()]
    parts += [_peers(document["peers"], max(1, most_peers)), Text()]
    parts.append(_drops(document["drops"]))
    return Group(*parts)


def _head(status: dict[str, Any]) -> Text:
    node, plane = status["node"], status["dataplane"]
    return Text(
        f"{node['public_ip']}, {status['lease']['subnet']} on {node['tun']}, "
        f"{ask.count(status['peers'], 'peer')}, {ask.count(plane['routes'], 'route')}, "
        f"up {ask.duration(status['uptime_seconds'])}"
    )


def _table(*headings: str) -> Table:
    shown = table("")
    shown.title = None
    for number, heading in enumerate(headings):
        shown.add_column(heading, no_wrap=True, justify="left" if number == 0 else "right")
    return shown


def _totals(document: dict[str, Any]) -> Table:
    shown = _table("", "bits/s", "packets/s", "dropped/s")
    for direction in ("outbound", "inbound"):
        now = document[direction]
        shown.add_row(
            direction,
            _bits(now["bits_per_second"]),
            _number(now["packets_per_second"]),
            _number(now["drops_per_second"]),
            style="yellow" if now["drops_per_second"] else "",
        )
    return shown


def _peers(peers: list[dict[str, Any]], most: int) -> RenderableType:
    if not peers:
        return Text("no peer: no other host has a lease")
    shown = _table("peer", "to, bits/s", "packets/s", "from, bits/s", "packets/s", "dropped/s")
    for peer in peers[:most]:
        shown.add_row(
            peer["public_ip"],
            _bits(peer["sent_bits_per_second"]),
            _number(peer["sent_packets_per_second"]),
            _bits(peer["delivered_bits_per_second"]),
            _number(peer["delivered_packets_per_second"]),
            _number(peer["drops_per_second"]),
            style="yellow" if peer["drops_per_second"] else "",
        )
    rest = len(peers) - most
    return Group(shown, Text(f"and {ask.count(rest, 'peer')} with less")) if rest > 0 else shown


def _drops(drops: list[dict[str, Any]]) -> RenderableType:
    if not drops:
        return Text("nothing was dropped since the daemon's start")
    shown = _table("dropped", "a second", "since start")
    shown.add_column("because")
    for drop in drops:
        reason = drop["reason"]
        shown.add_row(
            reason.replace("_", " "),
            _number(drop["per_second"]),
            f"{drop['since_start']:,}",
            DROPS[reason],
            style="yellow" if drop["per_second"] else "",
        )
    return shown


def _bits(rate: float) -> str:
    """For example "1.25 G"."""
    return ask.size(round(rate)).removesuffix("B").rstrip()


def _number(rate: float) -> str:
    """Whole from ten on; below, a packet every few seconds shows."""
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"
