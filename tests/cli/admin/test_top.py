"""cli/admin/top.py: rates by peer and by reason, while the daemon comes and goes."""

from __future__ import annotations

import copy
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin import Command, Documents, daemon, documents
from udpoverlay.observe.rates import Look, rates


def look(found: dict[str, Any]) -> Look:
    return Look.at(found["/v1/status"], found["/v1/peers"])


def later(found: Any, seconds: float = 2.0, **counters: int) -> Any:
    """The documents `seconds` later, with `counters` more."""
    after = copy.deepcopy(found)
    after["/v1/status"]["uptime_seconds"] += seconds
    for name, more in counters.items():
        known = after["/v1/status"]["dataplane"]["counters"]
        known[name] = known.get(name, 0) + more
    return after


@pytest.fixture
def before() -> Any:
    return documents()


def test_directions_are_rates_of_what_arrived_and_what_was_dropped(before: Any) -> None:
    after = later(
        before, outbound_sent=200, outbound_bytes=2000, outbound_no_route=4, inbound_ttl_expired=1
    )
    found = rates(look(before), look(after))
    assert found["seconds"] == 2.0
    assert found["outbound"] == {
        "packets_per_second": 100.0,
        "bits_per_second": 8000.0,
        "drops_per_second": 2.0,
    }
    assert found["inbound"]["drops_per_second"] == 0.5
    assert found["inbound"]["packets_per_second"] == 0.0


def test_drops_name_each_reason_that_ever_was_with_the_busiest_first(before: Any) -> None:
    after = later(before, inbound_kernel_dropped=10, outbound_too_big=2)
    assert rates(look(before), look(after))["drops"] == [
        {"reason": "inbound_kernel_dropped", "per_second": 5.0, "since_start": 10},
        {"reason": "outbound_too_big", "per_second": 1.0, "since_start": 2},
        {"reason": "outbound_no_route", "per_second": 0.0, "since_start": 8},
    ]


def test_packet_that_arrived_is_no_drop(before: Any) -> None:
    after = later(before, outbound_sent=10, inbound_delivered=10, inbound_probe=10)
    assert {drop["reason"] for drop in rates(look(before), look(after))["drops"]} == {
        "outbound_no_route"
    }


def test_peers_have_their_own_rates_with_the_busiest_first(before: Any) -> None:
    before["/v1/peers"]["peers"][1]["traffic"].update(
        sent_packets=7, sent_bytes=700, drops={"outbound_too_big": 1_000}
    )
    after = later(before)
    traffic = after["/v1/peers"]["peers"][1]["traffic"]
    traffic["sent_packets"] += 20
    traffic["sent_bytes"] += 2000
    traffic["delivered_bytes"] += 500
    traffic["drops"]["outbound_too_big"] += 6
    first, *others = rates(look(before), look(after))["peers"]
    assert first["public_ip"] == "192.0.2.3"
    assert first["sent_packets_per_second"] == 10.0
    assert first["sent_bits_per_second"] == 8000.0
    assert first["delivered_bits_per_second"] == 2000.0
    assert first["drops_per_second"] == 3.0
    assert len(others) == 2


def test_host_with_two_leases_is_one_peer(before: Any) -> None:
    peers = before["/v1/peers"]["peers"]
    peers[2]["public_ip"] = peers[1]["public_ip"]
    found = rates(look(before), look(later(before)))["peers"]
    assert [peer["subnets"] for peer in found if len(peer["subnets"]) > 1] == [
        ["10.5.74.0/24", "10.0.0.0/8"]
    ]
    assert len(found) == 2


def test_daemon_that_was_started_again_counts_from_zero(before: Any) -> None:
    after = later(before)
    after["/v1/status"]["uptime_seconds"] = 4.0
    after["/v1/status"]["dataplane"]["counters"] = {"outbound_sent": 2_000_000}
    found = rates(look(before), look(after))
    assert found["seconds"] == 4.0
    assert found["outbound"]["packets_per_second"] == 500_000.0


def test_peer_that_went_and_came_back_has_no_negative_rate(before: Any) -> None:
    before["/v1/peers"]["peers"][0]["traffic"]["sent_packets"] = 1000
    after = later(before)
    after["/v1/peers"]["peers"][0]["traffic"]["sent_packets"] = 10
    found = {peer["public_ip"]: peer for peer in rates(look(before), look(after))["peers"]}
    assert found["192.0.2.2"]["sent_packets_per_second"] == 5.0


# --- the command ----------------------------------------------------------------------------


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What happens while the command waits, one call for each interval."""
    steps: list[Any] = []
    monkeypatch.setattr("time.sleep", lambda _: steps.pop(0)() if steps else None)
    return steps


def busy(found: Any) -> None:
    """Two seconds of much traffic and some drops."""
    found.update(
        later(
            found,
            outbound_sent=2_469_134,
            outbound_bytes=1 << 31,
            outbound_bad_header=9,
            inbound_foreign_destination=123_456,
        )
    )
    traffic: Any = found["/v1/peers"]["peers"][0]["traffic"]
    traffic["sent_bytes"] += 1 << 31
    traffic["delivered_packets"] += 2_000_000


def test_top_fits_80_columns_and_names_peers_and_reasons(
    found: Documents, command: Command, passes: list[Any]
) -> None:
    passes.append(lambda: busy(found))
    assert command("top", "--samples=1") == 0
    for words in (
        "192.0.2.1, 10.5.72.0/24 on flannel0, 3 peers, 2 routes, up 3 h 12 min",
        "1,234,567",
        "8.59 G",
        "1,000,000",
        "outbound bad header",
        "61,728",
        "no peer has a subnet with",
    ):
        assert words in command.out
    assert max(map(len, command.out.splitlines())) <= 80


def test_json_is_one_object_for_each_interval(
    found: Documents, command: Command, passes: list[Any]
) -> None:
    passes += [lambda: busy(found), lambda: found.update(later(found))]
    assert command("top", "--json", "--samples=2") == 0
    first, second = map(json.loads, command.out.splitlines())
    assert first["outbound"]["packets_per_second"] == 1_234_567.0
    assert second["outbound"]["packets_per_second"] == 0.0
    assert set(first) == {"schema", "seconds", "outbound", "inbound", "drops", "peers"}


def test_daemon_that_goes_away_is_named_and_waited_for(
    path: Path, command: Command, passes: list[Any]
) -> None:
    served = daemon(path, documents())
    again = daemon(path, documents())
    served.__enter__()
    passes += [lambda: served.__exit__(None, None, None), again.__enter__]
    try:
        assert command("top", "--json", "--samples=2") == 0
    finally:
        again.__exit__(None, None, None)
    gone, back = map(json.loads, command.out.splitlines())
    assert "start udpoverlayd" in gone["error"]
    assert back["outbound"]["packets_per_second"] >= 0


def test_no_daemon_at_all_ends_it_with_1(command: Command) -> None:
    assert command("top") == 1
    assert "start udpoverlayd" in command.err


def test_interrupt_ends_it_with_0(found: Documents, command: Command, passes: list[Any]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    passes.append(interrupt)
    assert command("top") == 0


@pytest.mark.parametrize("words", ["--interval=0", "--interval=soon", "--samples=0"])
def test_number_out_of_range_is_named(
    command: Command, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        command("top", words)
    assert ended.value.code == 2
    assert "is not from" in capsys.readouterr().err


def test_more_peers_than_fit_are_counted(
    found: Documents, command: Command, passes: list[Any]
) -> None:
    [peer, *_] = found["/v1/peers"]["peers"]  # type: ignore[misc]
    found["/v1/peers"]["peers"] = [{**peer, "public_ip": f"192.0.2.{n}"} for n in range(25)]  # type: ignore[has-type]
    command("top", "--samples=1")
    assert "and 5 peers with less" in command.out


def test_terminal_gets_one_screen_that_is_drawn_again(found: Documents, path: Path) -> None:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "udpoverlay.cli", "top", f"--admin-socket={path}"]
    with subprocess.Popen(
        [*argv, "--interval=0.1", "--samples=2"],
        stdout=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # EIO: the other end is closed
            pass
        finally:
            os.close(ours)
    assert process.returncode == 0
    assert shown.count(b"10.5.72.0/24 on flannel0") == 2
    assert b"\x1b[?1049h" in shown  # a screen of its own ...
    assert b"\x1b[?1049l" in shown  # ... that is given back
