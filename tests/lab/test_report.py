"""lab/report.py: what the lab prints, on results that are made up."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from udpoverlay.lab import report
from udpoverlay.lab.proof import PairResult

FAILURE = "no answer to ping; the daemon of n100 ended with status -9"


def nodes(*numbers: int) -> list[Any]:
    return [
        SimpleNamespace(
            name=f"n{number}",
            public_ip=f"198.18.0.{100 + number}",
            gateway=f"10.244.{number}.1/24",
            mtu=1472,
        )
        for number in numbers
    ]


def shown(width: int) -> str:
    pairs = [
        PairResult("n99", "n100", 12345.6, 0.0, 76_300_000_000, 123.45, 2000, 0.0, 50.0, 1.0, 1.0),
        PairResult("n100", "n99", failure=FAILURE),
    ]
    out = io.StringIO()
    report.show(Console(file=out, width=width), nodes(99, 100), pairs)
    return out.getvalue()


def test_at_80_columns_no_name_and_no_figure_is_cut() -> None:
    text = shown(80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    rows = [line.split() for line in text.splitlines() if line.startswith("n99 → n100 ")]
    assert rows == [
        [
            "n99",
            "→",
            "n100",
            "12346",
            "123.45",
            "76300",
            "2000",
            "0.0%",
            "0.0%",
            "100%",
            "100%",
            "ok",
        ]
    ]
    for word in ("198.18.0.200", "10.244.100.1/24", "1472"):
        assert word in text


def test_failed_pair_says_why_below_the_table() -> None:
    for width in (80, 130):
        lines = shown(width).splitlines()
        assert lines[-1] == f"n100 → n99: {FAILURE}"
        assert [line.split()[-1] for line in lines if line.startswith("n100 → n99 ")] == ["failed"]
