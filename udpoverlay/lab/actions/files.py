"""Actions: files as the host sees them (its /run is its own)."""

from __future__ import annotations

from pathlib import Path

__all__ = ["exists", "read_text", "write_text"]


def exists(path: str) -> bool:
    """Whether the file is there."""
    return Path(path).exists()


def read_text(path: str) -> str:
    """The whole file."""
    return Path(path).read_text(encoding="utf-8")


def write_text(path: str, text: str) -> None:
    """Write the file; missing directories are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
