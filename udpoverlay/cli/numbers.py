"""Numbers on a command line, with the range that they must be from.

Owns: how a wrong one is refused. Must not know: what a number is for.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

__all__ = ["between"]

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
