"""What an agent and its parent say to each other: limits, and results with descriptors.

Apart from agent.py because that one runs as `__main__`, where its classes would exist twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["HELLO", "MAX_DESCRIPTORS", "MAX_MESSAGE", "WithDescriptors"]

MAX_MESSAGE = 1 << 18
"""Bytes of one request or reply."""
MAX_DESCRIPTORS = 8
HELLO = 0
"""Id of the unasked first message: the agent is set up; it carries its network namespace."""


@dataclass(frozen=True, slots=True)
class WithDescriptors:
    """A result whose descriptors go to the parent and are closed here."""

    value: Any
    descriptors: list[int] = field(default_factory=list)
