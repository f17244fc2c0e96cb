"""Each error of a send: what is counted, what is tried again, and that nothing else is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.preload import run_preloaded
from udpoverlay import _fastpath as fp


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    printed, _ = run_preloaded(
        "tests.support.send_errors", "fail_send.c", "FAIL_SEND", tmp_path_factory.mktemp("preload")
    )
    found: dict[str, Any] = json.loads(printed)
    return found


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        ("EHOSTUNREACH", "outbound_unreachable"),
        ("ENETUNREACH", "outbound_unreachable"),
        ("ECONNREFUSED", "outbound_unreachable"),
        ("ENETDOWN", "outbound_unreachable"),
        ("EPERM", "outbound_forbidden"),
        ("EACCES", "outbound_forbidden"),
        ("EMSGSIZE", "outbound_underlay_too_big"),
        ("EINVAL", "outbound_send_failed"),
    ],
)
def test_a_refused_datagram_is_counted_by_its_error_and_the_rest_goes(
    results: dict[str, Any], error: str, verdict: str
) -> None:
    assert results[error]["verdicts"] == {verdict: 1, "outbound_sent": 2}
    assert results[error]["came"] == 2
    assert results[error]["states"] == [0]


@pytest.mark.parametrize(
    ("case", "state", "times"),
    [
        ("EAGAIN", fp.BLOCKED, 2),
        ("ENOBUFS-passes", fp.RETRY, 3),
        ("ENOMEM-passes", fp.RETRY, 1),
    ],
)
def test_want_of_room_loses_nothing(
    results: dict[str, Any], case: str, state: int, times: int
) -> None:
    found = results[case]
    assert found["states"][:times] == [state] * times
    assert found["verdicts"] == {"outbound_sent": 3}
    assert found["came"] == 3
    assert found["counts"]["udp_send_blocked"] == times


def test_want_of_memory_that_stays_costs_one_datagram_in_the_end(results: dict[str, Any]) -> None:
    found = results["ENOBUFS-stays"]
    assert found["states"][:8] == [fp.RETRY] * 8
    assert found["verdicts"] == {"outbound_queue_full": 1, "outbound_sent": 2}


def test_an_interrupted_send_is_repeated(results: dict[str, Any]) -> None:
    assert results["EINTR"]["verdicts"] == {"outbound_sent": 3}


@pytest.mark.parametrize("error", ["EIO", "EINVAL", "EMSGSIZE", "EOPNOTSUPP"])
def test_a_segmented_send_that_is_refused_goes_out_one_by_one(
    results: dict[str, Any], error: str
) -> None:
    found = results[f"{error}-run"]
    assert found["verdicts"] == {"outbound_sent": 3}
    assert found["came"] == 3
    assert found["counts"]["udp_segment_refused"] == 1
    assert found["counts"]["outbound_plain_packets"] == 3


def test_a_run_that_a_firewall_forbids_is_counted_packet_by_packet(results: dict[str, Any]) -> None:
    assert results["EPERM-run"]["verdicts"] == {"outbound_forbidden": 3}
