"""reach/sizes.py: the search finds the one size, and knows what stops the next."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from udpoverlay.reach.echo import Event, Kind
from udpoverlay.reach.sizes import largest

ANSWER = Event(1, Kind.ANSWER, 0.0)


def path(
    limit: int, beyond: Event | None = None
) -> tuple[Callable[[int], Event | None], list[int]]:
    """A path on which `limit` bytes pass, and the sizes that were asked for."""
    asked: list[int] = []

    def ask(size: int) -> Event | None:
        asked.append(size)
        return ANSWER if size <= limit else beyond

    return ask, asked


def test_path_that_takes_the_longest_is_asked_once() -> None:
    ask, asked = path(1472)
    found = largest(84, 1472, ask)
    assert (found.largest, found.limit, asked) == (1472, "none", [1472])


@pytest.mark.parametrize("limit", [84, 85, 575, 1372, 1470, 1471])
def test_black_hole_is_found_to_the_byte(limit: int) -> None:
    ask, asked = path(limit)
    found = largest(84, 1472, ask)
    assert (found.largest, found.limit, found.ceiling) == (limit, "silence", 1472)
    assert len(asked) == found.tried <= 12


def test_mtu_that_a_router_names_is_tried_first() -> None:
    ask, asked = path(1300, Event(1, Kind.TOO_BIG, 0.0, "10.5.73.0", mtu=1300))
    found = largest(84, 1472, ask)
    assert asked == [1472, 1300, 1301]
    assert (found.largest, found.limit) == (1300, "icmp")
    assert found.reported is not None
    assert found.reported.sender == "10.5.73.0"


@pytest.mark.parametrize("named", [0, 20, 1472, 65535])
def test_router_that_names_a_wrong_mtu_does_not_mislead(named: int) -> None:
    ask, _ = path(1300, Event(1, Kind.TOO_BIG, 0.0, "10.5.73.0", mtu=named))
    assert largest(84, 1472, ask).largest == 1300


def test_packet_that_this_host_does_not_send_is_told_apart() -> None:
    ask, _ = path(1400, Event(1, Kind.TOO_BIG_HERE, 0.0))
    found = largest(84, 1472, ask)
    assert (found.largest, found.limit) == (1400, "here")


def test_nothing_is_asked_where_floor_and_ceiling_meet() -> None:
    ask, asked = path(1472)
    assert largest(1472, 1472, ask).whole
    assert asked == []
