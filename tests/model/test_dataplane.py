"""model/dataplane.py: what the operator may choose for the data plane."""

from __future__ import annotations

import pytest

from udpoverlay.errors import OperatorError
from udpoverlay.model.dataplane import DataplaneSettings


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"workers": "many"}, "many"),
        ({"workers": "-1"}, "-1"),
        ({"workers": "0"}, "'0'"),
        ({"workers": "65"}, "from 1 to 64"),
        ({"offloads_off": frozenset({"warp"})}, "warp"),
        ({"source_check": "maybe"}, "maybe"),
        ({"busy_poll_us": 5000}, "5000"),
        ({"busy_poll_us": -2}, "-2"),
    ],
)
def test_wrong_setting_is_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(OperatorError, match=named):
        DataplaneSettings(**wrong)  # type: ignore[arg-type]


def test_ends_of_the_ranges_are_allowed() -> None:
    for workers in ("auto", "1", "64"):
        assert DataplaneSettings(workers=workers).workers == workers
    for microseconds in (-1, 0, 1000):
        assert DataplaneSettings(busy_poll_us=microseconds).busy_poll_us == microseconds
