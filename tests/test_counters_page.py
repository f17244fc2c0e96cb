"""docs/reference/counters.md is what the lists say."""

from __future__ import annotations

from pathlib import Path

from tests.support.counters_page import page

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "counters.md"


def test_page_of_the_counters_is_up_to_date() -> None:
    """If not: python -m tests.support.counters_page > docs/reference/counters.md"""
    assert PAGE.read_text() == page()
