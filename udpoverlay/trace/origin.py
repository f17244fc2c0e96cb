"""Whose records they are: what a capture file and an outer header need to know of the host.

Owns: these facts and their form in the stream of a daemon. Must not know: where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Origin"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The daemon that recorded."""

    host: str
    """The machine's name."""
    address: str
    """IPv4 address from which its datagrams go out."""
    port: int
    """UDP port, its own and every peer's."""
    device: str
    """The TUN device."""

    def document(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Origin:
        """From `document`; raises KeyError or ValueError."""
        return cls(
            str(document["host"]),
            str(document["address"]),
            int(document["port"]),
            str(document["device"]),
        )
