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
from udpoverlay.lab.cluster import Node
from udpoverlay.lab.proof import PairResult

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
                "subnet": node.subnet,
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
    table = Table("node", "public IP", "subnet", "MTU", title="nodes", title_justify="left")
    for node in nodes:
        table.add_row(node.name, node.public_ip, node.subnet, str(node.mtu))
    console.print(table)

    table = Table(title="pairs, through the overlay", title_justify="left")
    table.add_column("pair")
    for heading in ("RTT p50", "ping loss", "TCP", "TCP intact", "UDP", "UDP loss"):
        table.add_column(heading, justify="right")
    table.add_column("fast path\nsent / delivered", justify="right")
    table.add_column("")
    for pair in pairs:
        table.add_row(
            f"{pair.source} → {pair.target}",
            f"{pair.rtt_p50_us:.0f} µs",
            f"{pair.ping_loss:.1%}",
            f"{pair.tcp_gbit:.2f} Gbit/s",
            f"{pair.tcp_bytes / 1e6:.0f} MB",
            f"{pair.udp_datagrams} echoes",
            f"{pair.udp_loss:.1%}",
            f"{_share(pair.fast_sent)} / {_share(pair.fast_delivered)}",
            "[green]ok[/]" if pair.passed else f"[red]{pair.failure}[/]",
        )
    console.print(table)


@contextmanager
def progress(console: Console, total: int | None = None) -> Iterator[Callable[[str], None]]:
    """Yields a function that is told each step: a moving line on a terminal, lines elsewhere."""
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
