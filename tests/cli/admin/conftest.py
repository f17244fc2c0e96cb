"""A daemon to ask, and a command that asks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.admin import Command, Documents, daemon, documents


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "admin.sock"


@pytest.fixture
def found(path: Path) -> Iterator[Documents]:
    """What the daemon knows; a test may change it before it asks."""
    known = documents()
    with daemon(path, known):
        yield known


@pytest.fixture
def command(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(path, monkeypatch, capsys)
