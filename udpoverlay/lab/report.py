"""How the lab's results are shown: tables for people, one JSON object for programs.

Owns: columns, units and the JSON schema. Must not know: how results come about.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from udpoverlay._version import VERSION
from udpoverlay.lab.node import Node
from udpoverlay.lab.proof import PairResult
from udpoverlay.lab.tables import table

__all__ = ["SCHEMA", "as_json", "progress", "show"]

SCHEMA = 1


def as_json(nodes: Iterable[Node], pairs: Iterable[PairResult]) -> dict[str, Any]:
    """The object of `--json`; within one schema number keys are only added."""
    found = list(pairs)
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "kernel": platform.release(),
        "passed": all(pair.passed for pair in found),
        "nodes": [
            {
                "name": node.name,
                "public_ip": node.public_ip,
                "subnet": node.gateway,
                "mtu": node.mtu,
            }
            for node in nodes
        ],
        "pairs": [{**asdict(pair), "passed": pair.passed} for pair in found],
    }


def _share(fast: float | None) -> str:
    return "–" if fast is None else f"{fast:.0%}"


def show(console: Console, nodes: Iterable[Node], pairs: Iterable[PairResult]) -> None:
    """Print what each node got, and what each pair did."""
    shown = table("nodes")
    for heading in ("node", "public IP", "subnet", "MTU"):
        shown.add_column(heading, no_wrap=True)
    for node in nodes:
        shown.add_row(node.name, node.public_ip, node.gateway, str(node.mtu))
    console.print(shown)
    console.print()
    results = list(pairs)
    console.print(_pairs(results))
    for pair in results:
        if not pair.passed:
            console.print(f"{_name(pair)}: {pair.failure}", style="red", highlight=False)


def _name(pair: PairResult) -> str:
    return f"{pair.source} → {pair.target}"


def _pairs(pairs: Iterable[PairResult]) -> Table:
    shown = table("pairs, through the overlay")
    shown.add_column("pair", no_wrap=True)
    for heading in (
        "RTT\nµs",
        "TCP\nGbit/s",
        "intact\nMB",
        "UDP\nechoes",
        "ping\nlost",
        "UDP\nlost",
        "fast\nsent",
        "fast\ndeliv.",
    ):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    for pair in pairs:
        shown.add_row(
            _name(pair),
            f"{pair.rtt_p50_us:.0f}",
            f"{pair.tcp_gbit:.2f}",
            f"{pair.tcp_bytes / 1e6:.0f}",
            f"{pair.udp_datagrams}",
            f"{pair.ping_loss:.1%}",
            f"{pair.udp_loss:.1%}",
            _share(pair.fast_sent),
            _share(pair.fast_delivered),
            "[green]ok[/]" if pair.passed else "[red]failed[/]",
        )
    return shown


@contextmanager
def progress(console: Console, total: int | None = None) -> Iterator[Callable[[str], None]]:
    """Yields a function to call with each step: a moving line on a terminal, lines elsewhere."""
    if not console.is_terminal:
        yield lambda step: console.print(f"… {step}", highlight=False)
        return
    with console.status("starting") as status:
        count = 0

        def report(step: str) -> None:
            nonlocal count
            count += 1
            status.update(f"{step} ({count}/{total})" if total else step)

        yield report
