"""model/histogram.py."""

from __future__ import annotations

from udpoverlay.model.histogram import Histogram


def test_bounds_grow_and_end_with_infinity() -> None:
    assert Histogram((3, 0, 2, 1), 99).bounds() == [("1", 3), ("2", 3), ("4", 5), ("+Inf", 6)]


def test_bounds_of_seconds_are_written_without_noise() -> None:
    timed = Histogram((0,) * 16, 0.0, 1e-6).bounds()
    assert [bound for bound, _ in timed][:4] == ["1e-06", "2e-06", "4e-06", "8e-06"]
    assert timed[-2:] == [("0.016384", 0), ("+Inf", 0)]


def test_histograms_add_up() -> None:
    added = Histogram((1, 2), 3.0, 1e-6) + Histogram((10, 20), 30.0, 1e-6)
    assert added == Histogram((11, 22), 33.0, 1e-6)
