"""model/impairment.py: what cannot be asked for, and how an impairment reads."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest

from udpoverlay import _fastpath as fp
from udpoverlay.errors import OperatorError
from udpoverlay.model.impairment import (
    LEAST_RATE,
    MOST_DELAY_MS,
    MOST_SECONDS,
    MOST_TOGETHER,
    Impairment,
    ImpairmentState,
)

BASE: dict[str, Any] = {"peer": "192.0.2.2", "seconds": 60, "seed": 7, "loss_percent": 5}


def test_limits_are_those_of_the_worker() -> None:
    assert MOST_SECONDS == fp.IMPAIR_SECONDS
    assert MOST_DELAY_MS * 1000 == fp.IMPAIR_DELAY_US
    assert LEAST_RATE == fp.IMPAIR_RATE
    assert MOST_TOGETHER == fp.IMPAIR_PLACES_MAX


def test_json_there_and_back_is_the_same() -> None:
    made = Impairment(
        "192.0.2.2", 1.5, 2**64 - 1, 0.1, 1, 2, 3, 4, 50, 10, 10_000_000
    )  # fmt: skip
    assert Impairment.from_json(json.loads(json.dumps(asdict(made)))) == made


def test_it_reads_as_a_person_would_say_it() -> None:
    made = Impairment.from_json(
        {
            **BASE,
            "loss_percent": 0.1,
            "duplicate_percent": 2,
            "corrupt_percent": 1,
            "reorder_percent": 5,
            "reorder_ms": 10,
            "delay_ms": 50,
            "jitter_ms": 10,
            "rate_bits_per_second": 10_000_000,
        }
    )
    assert made.what() == (
        "loss 0.1 %, duplicate 2 %, corrupt 1 %, reorder 5 % by 10 ms, delay 50 ms ± 10 ms, "
        "rate 10 Mbit/s"
    )
    shown = ImpairmentState(made, 41.5, packets=100, lost=3).as_json()
    assert shown["what"] == made.what()
    assert (shown["peer"], shown["left_seconds"], shown["lost"]) == ("192.0.2.2", 41.5, 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"loss_percent": 100.1}, "loss is 100.1 %: use 0 to 100 %"),
        ({"duplicate_percent": -1}, "duplicate is -1 %"),
        ({"corrupt_percent": math.nan}, "corrupt is nan %"),
        ({"reorder_percent": math.inf, "reorder_ms": 1}, "reorder is inf %"),
        ({"seconds": 3601}, "the time is 3601 s: use 0.1 to 3,600 s"),
        ({"seconds": 0}, "the time is 0 s"),
        ({"seconds": 10**400}, "the time is 1000"),
        ({"delay_ms": 5001}, "delay is 5001 ms: use 0 to 5,000.0 ms"),
        ({"jitter_ms": 5}, "more than the delay"),
        ({"rate_bits_per_second": 7999}, "rate is 7999 bit/s: use 8000"),
        ({"rate_bits_per_second": 8000.5}, "rate is 8000.5"),
        ({"rate_bits_per_second": -1}, "rate is -1"),
        ({"reorder_percent": 5}, "how long each waits"),
        ({"reorder_ms": 5}, "how long each waits"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"loss_percent": 0}, "nothing is to happen"),
        ({"peer": "n2"}, "'n2' is no public IP"),
        ({"peer": "x" * 10_000}, "is no public IP"),
        ({"peer": 7}, "peer is no text"),
        ({"loss_percent": "5"}, "loss_percent is no number"),
        ({"loss_percent": True}, "loss_percent is no number"),
        ({"seconds": None}, "seconds is no number"),
        ({"speed": 7}, "unknown key 'speed'"),
        ({"x" * 10_000: 7}, "unknown key 'xxx"),
    ],
)
def test_what_cannot_be_is_refused_with_its_value(change: dict[str, Any], says: str) -> None:
    with pytest.raises(OperatorError) as caught:
        Impairment.from_json({**BASE, **change})
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["peer", "seconds", "seed"])
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(OperatorError, match=f"{name} is missing"):
        Impairment.from_json({key: value for key, value in BASE.items() if key != name})


@pytest.mark.parametrize("document", [None, [], 7, "loss"])
def test_what_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(OperatorError, match="a JSON object"):
        Impairment.from_json(document)
