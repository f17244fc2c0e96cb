"""The documents point at things that exist: files, and the tests that prove a line."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_leads_to_a_file(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_test_that_is_named_exists(document: Path) -> None:
    text = document.read_text()
    for name in re.findall(r"`((?:tests|bench)/[\w/]+\.(?:py|c|sh))`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(test_\w+)…?`", text):
        assert f"def {name}" in all_tests(), name


@functools.cache
def all_tests() -> str:
    return "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))


PLACES = r"(?:udpoverlay|ext|deploy|docs|tests)/[a-z_0-9/.-]+"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_or_folder_that_is_named_exists(document: Path) -> None:
    for name in re.findall(rf"`({PLACES})`", document.read_text()):
        assert (ROOT / name).exists(), name
