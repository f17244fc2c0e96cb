"""Numbers on a command line, with the range that they must be from.

Owns: how a wrong one is refused. Must not know: what a number is for.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TypeVar

__all__ = ["between", "seconds"]

_N = TypeVar("_N", int, float)


def between(least: float, most: float, number: Callable[[str], _N]) -> Callable[[str], _N]:
    """A parser for argparse's `type`: `number` (int or float) of the text, in this range."""

    def parse(text: str) -> _N:
        try:
            value = number(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not from {least:,g} to {most:,g}")
        return value

    return parse


_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """A parser for argparse's `type`: a time such as 30, 30s, 500ms, 5m or 1h; more than none."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|)", text, re.ASCII)
    value = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write for example 30s, 5m or 1h")
    return value
