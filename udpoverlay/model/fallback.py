"""An offload that the kernel refused: the value between engine and admin.

Owns: the value type. Must not know: when something falls back, and for how long.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Fallback"]


@dataclass(frozen=True, slots=True)
class Fallback:
    """One offload that was refused at some time since its peer came."""

    offload: str
    """Its name in config.OFFLOADS."""
    peer: str
    """Address of the peer; "" when it is about our own TUN device."""
    cause: str
    """Of the last refusal."""
    count: int
    """How often it fell back."""
    retry_seconds: float | None
    """Until it is tried again, 0 when the next packet will try it; None: it is in use again."""
    past_mtu_seconds: float | None = None
    """So long what the kernel believes about the path's MTU is ignored; None: it is not."""
