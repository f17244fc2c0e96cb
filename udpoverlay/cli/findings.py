"""How a finding is printed: its level, what it is about, the fact, and the fix below.

Owns: the look that `doctor` and `explain` share. Must not know: what was looked at.
"""

from __future__ import annotations

import textwrap

from udpoverlay.log import escape
from udpoverlay.redact import redact

__all__ = ["WIDTH", "lines", "shown"]

WIDTH = 80
"""Columns."""


def lines(level: str, name: str, fact: str, fix: str) -> str:
    """A finding in at most 80 columns, save for words that are longer."""
    text = _wrapped(shown(fact), f"{level:<9}{name:<14}", " " * 23)
    return text + (_wrapped(shown(fix), " " * 9 + "fix: ", " " * 14) if fix else "")


def _wrapped(text: str, first: str, then: str) -> str:
    made = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=then,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(made) + "\n"


def shown(text: str) -> str:
    """Text of others as a terminal may show it: no secret, no control character."""
    return escape(redact(text))
