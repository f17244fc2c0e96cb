"""observe/accounts.py: whether every packet has its verdict."""

from __future__ import annotations

import pytest

from udpoverlay.observe.accounts import unaccounted


@pytest.mark.parametrize(
    ("counters", "held_back", "expected"),
    [
        ({}, 0, (0, 0)),
        ({"outbound_taken": 5, "outbound_sent": 3, "outbound_no_route": 2}, 0, (0, 0)),
        ({"outbound_taken": 5, "outbound_sent": 3}, 0, (2, 0)),
        ({"inbound_taken": 5, "inbound_delivered": 3, "inbound_probe": 1}, 0, (0, 1)),
        # A batch that is at hand has verdicts already.
        ({"outbound_taken": 5, "outbound_sent": 9}, 0, (0, 0)),
        ({"outbound_taken": 5, "outbound_sent": 4, "outbound_duplicates": 2}, 3, (0, 0)),
        ({"outbound_taken": 5, "outbound_sent": 4, "outbound_duplicates": 2}, 2, (1, 0)),
        # Counters of other things begin like that, too.
        ({"outbound_taken": 1, "outbound_sent": 1, "outbound_batches": 7}, 0, (0, 0)),
    ],
)
def test_what_is_taken_and_has_no_verdict_is_unaccounted(
    counters: dict[str, int], held_back: int, expected: tuple[int, int]
) -> None:
    assert tuple(unaccounted(counters, held_back).values()) == expected
