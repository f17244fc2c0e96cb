"""reach/summary.py: the figures that ping closes with."""

from __future__ import annotations

import pytest

from udpoverlay.reach.summary import summarize


def test_figures_of_four_trips_with_one_lost() -> None:
    found = summarize(5, [0.001, 0.002, 0.003, 0.006])
    assert (found.least, found.median, found.most) == (0.001, 0.0025, 0.006)
    assert found.average == pytest.approx(0.003)
    assert found.deviation == pytest.approx(0.0018708, rel=1e-4)
    assert found.loss == pytest.approx(0.2)


def test_nothing_answered_is_a_loss_of_all() -> None:
    assert summarize(3, []).loss == 1.0


def test_nothing_sent_is_no_loss() -> None:
    assert summarize(0, []).loss == 0.0
