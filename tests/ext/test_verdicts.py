"""The one list of verdicts and the one of counters, as Python sees them."""

from __future__ import annotations

import re

from udpoverlay._fastpath import COUNTERS, VERDICTS


def test_every_verdict_says_its_direction_in_its_name() -> None:
    for name, direction, kind, _ in VERDICTS:
        assert re.fullmatch(r"[a-z][a-z0-9_]+", name)
        assert name.startswith(direction + "_")
        assert direction in {"outbound", "inbound"}
        assert kind in {"ok", "drop"}


def test_few_ends_are_good() -> None:
    good = [(direction, name) for name, direction, kind, _ in VERDICTS if kind == "ok"]
    assert good == [
        ("outbound", "outbound_sent"),
        ("inbound", "inbound_delivered"),
        ("inbound", "inbound_probe"),
    ]


def test_counters_belong_to_a_direction_or_to_none() -> None:
    assert {direction for _, direction, _, _ in COUNTERS} <= {"outbound", "inbound", ""}


def test_no_name_is_used_twice_and_none_is_without_help() -> None:
    names = [name for name, *_ in VERDICTS + COUNTERS]
    assert len(names) == len(set(names))
    assert all(text and not text.endswith(".") for *_, text in VERDICTS + COUNTERS)
