"""The bench: its rules on figures made up here, and one short run on real paths."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.support.leftovers import eventually, with_mark
from udpoverlay.cli import bench as bench_command
from udpoverlay.errors import LabError, OperatorError
from udpoverlay.lab import congestion
from udpoverlay.lab.actions import links
from udpoverlay.lab.bench import plot, stats, targets, tunnels
from udpoverlay.lab.bench import runner as runner_module
from udpoverlay.lab.bench import testbed as beds
from udpoverlay.lab.bench.machine import machine
from udpoverlay.lab.bench.output import Output
from udpoverlay.lab.bench.paths import DEFAULT, PATHS
from udpoverlay.lab.bench.report import Bench, as_json, show
from udpoverlay.lab.bench.runner import METRICS, TESTS, Plan, Runner
from udpoverlay.lab.bench.testbed import Ready
from udpoverlay.lab.cpus import sides
from udpoverlay.lab.traffic import End, Pair, icmp_trips

ROOT = Path(__file__).parents[3]
BENCH = [sys.executable, "-m", "udpoverlay.cli", "bench"]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BENCH, *words], cwd=ROOT, capture_output=True, text=True, timeout=250, check=False
    )


# ---- figures ------------------------------------------------------------------------------------


def test_the_spread_is_half_the_range_over_the_median() -> None:
    assert stats.spread([8.0, 10.0, 14.0]) == pytest.approx(0.3)
    assert stats.spread([0.0, 0.0]) == 0


def test_a_ratio_is_taken_within_a_round_so_that_a_slow_minute_hits_both() -> None:
    # The machine was half as fast in the second round: no path got any better or worse.
    ours, theirs = {0: 20.0, 1: 10.0, 2: 20.0}, {0: 10.0, 1: 5.0, 2: 10.0}
    assert stats.ratio(ours, theirs) == 2


def test_a_round_that_one_path_missed_does_not_count() -> None:
    assert stats.ratio({0: 1.0, 1: 9.0}, {1: 3.0, 2: 1.0}) == 3
    assert stats.ratio({0: 1.0}, {1: 1.0}) is None
    assert stats.ratio({0: 1.0}, {0: 0.0}) is None


@pytest.mark.parametrize(("paths", "tests"), [(1, 1), (7, 5), (11, 5)])
def test_the_default_bench_stays_under_five_minutes(paths: int, tests: int) -> None:
    runs, rounds = paths * tests, 5
    seconds = Plan.within(240, runs, rounds)
    assert 0.3 <= seconds <= 2
    assert (seconds + runner_module.OVERHEAD_SECONDS) * runs * rounds < 300


# ---- the order of runs, with paths that are only pretended ---------------------------------


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runner]:
    """Makes a runner whose runs return what a function of (path, round) says."""
    made: dict[int, str] = {}

    def make(
        figures: Callable[[str, int], Mapping[str, float]], paths: tuple[str, ...], rounds: int = 3
    ) -> Runner:
        calls: Counter[str] = Counter()
        ready = {name: Ready(pair=None) for name in paths}  # type: ignore[arg-type]  # no traffic
        made.update({id(each): name for name, each in ready.items()})

        def run(each: Ready, _: Plan) -> dict[str, float]:
            name = made[id(each)]
            calls[name] += 1
            return dict(figures(name, calls[name] - 1))

        monkeypatch.setattr(runner_module, "_RUNS", {"tcp": run})
        return Runner(Plan(("tcp",), rounds=rounds), ready)

    return make


def test_runs_alternate_between_the_paths(pretended: Callable[..., Runner]) -> None:
    runner = pretended(lambda *_: {}, ("a", "b"), 2)
    assert [(number, path) for number, _, path in runner.schedule()] == [
        (0, "a"),
        (0, "b"),
        (1, "a"),
        (1, "b"),
    ]


def test_a_run_that_fails_is_noted_and_the_others_go_on(pretended: Callable[..., Runner]) -> None:
    def figures(path: str, number: int) -> dict[str, float]:
        if path == "a" and number == 1:
            raise LabError("the host is gone")
        return {"tcp_gbit": 1.0 + number}

    runner = pretended(figures, ("a", "b"))
    runner.run()
    assert runner.failures == {("a", "tcp"): "the host is gone"}
    assert runner.rows["a", "tcp_gbit"].samples == {0: 1.0, 2: 3.0}
    assert runner.rows["b", "tcp_gbit"].median == 2
    assert runner.ratio("a", "b", "tcp_gbit") == 1


def finished(pretended: Callable[..., Runner]) -> Bench:
    speed = {"vxlan": 10.0, "per-packet": 1.0, "fast": 9.0}
    cpu = {"per-packet": 8.0, "fast": 2.0}

    def figures(path: str, number: int) -> dict[str, float]:
        made = {"tcp_gbit": speed[path] * (1 + number)}
        if path in cpu:
            made["tcp_cpu"] = cpu[path]
        return made

    runner = pretended(figures, tuple(speed))
    runner.run()
    outcomes = targets.judge("offload", runner.ratio)
    return Bench(runner, "offload", machine(), {}, {}, {"tinc": "no tincd on PATH"}, outcomes)


def test_targets_are_judged_by_ratio_and_only_where_they_were_measured(
    pretended: Callable[..., Runner],
) -> None:
    outcomes = {
        (each.target.metric, each.target.reference): each for each in finished(pretended).outcomes
    }
    assert set(outcomes) == {
        ("tcp_gbit", "vxlan"),
        ("tcp_gbit", "per-packet"),
        ("tcp_cpu", "per-packet"),
    }
    assert outcomes["tcp_gbit", "vxlan"].measured == pytest.approx(0.9)
    assert outcomes["tcp_gbit", "vxlan"].target.must == 0.70
    assert [each.met for each in outcomes.values()] == [True, True, False]
    assert [each.aim_met for each in outcomes.values()] == [False, False, False]


def test_the_target_on_a_plain_link_is_another_one(pretended: Callable[..., Runner]) -> None:
    outcomes = targets.judge("plain", finished(pretended).runner.ratio)
    assert outcomes[0].target.must == 0.75


def test_json_holds_every_row_with_its_ratios(pretended: Callable[..., Runner]) -> None:
    document = json.loads(json.dumps(as_json(finished(pretended))))
    assert document["schema"] == 1
    fast = next(row for row in document["results"] if row["path"] == "fast")
    assert fast["samples"] == [9, 18, 27]
    assert fast["median"] == 18
    assert fast["spread"] == 0.5
    assert fast["ratios"] == {"vxlan": pytest.approx(0.9), "per-packet": 9}
    assert (fast["unit"], fast["higher_is_better"]) == ("Gbit/s", True)
    assert document["skipped"] == {"tinc": "no tincd on PATH"}
    assert {"kernel", "cpu", "cores", "load_before", "udpoverlay"} <= set(document["machine"])
    assert [target["met"] for target in document["targets"]] == [True, True, False]


def test_the_tables_show_figures_ratios_and_targets(pretended: Callable[..., Runner]) -> None:
    out = io.StringIO()
    show(Console(file=out, width=200), finished(pretended))
    text = out.getvalue()
    for wanted in ("18.0 ±50%", "against vxlan", "0.90", "against per-packet", "missed", "tincd"):
        assert wanted in text


def test_at_80_columns_no_name_that_one_must_type_is_cut(
    pretended: Callable[..., Runner],
) -> None:
    names = tuple(PATHS)
    runner = pretended(lambda *_: {key: 12345.6 for key in METRICS}, names)
    runner.run()
    bench = Bench(runner, "offload", machine(), {}, {}, {}, targets.judge("", runner.ratio))
    out = io.StringIO()
    show(Console(file=out, width=80), bench)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    words = Counter(re.split(r"[^\w+-]+", out.getvalue()))
    # Once in the figures, once in each ratio table, but for the path that it compares with.
    for name in names:
        assert words[name] >= (3 if name in ("vxlan", "per-packet") else 2), name


def test_file_that_cannot_be_written_is_refused_before_the_first_round(tmp_path: Path) -> None:
    for words in (["--json=/nope/x"], ["--plot=/nope/x.svg"], [f"--json={tmp_path}"]):
        done = bench(*words)
        assert done.returncode == 1
        assert "hosts and links" not in done.stderr
        assert re.fullmatch(
            rf"udpoverlay bench: {words[0]}: cannot write: .*: name a file in a .*\n", done.stderr
        )


def test_results_replace_a_file_only_when_there_are_some(tmp_path: Path) -> None:
    old, new, pipe = tmp_path / "old", tmp_path / "new", tmp_path / "pipe"
    old.write_text("results of yesterday")
    with Output("--json", str(old)), Output("--json", str(new)):
        assert new.exists()
    assert old.read_text() == "results of yesterday"
    assert not new.exists()
    with Output("--json", str(old)) as first, Output("--json", str(new)) as second:
        first.write(b"of today")
        second.write(b"first ones")
    assert (old.read_bytes(), new.read_bytes()) == (b"of today", b"first ones")
    os.mkfifo(pipe)
    with pytest.raises(OperatorError, match="cannot write: No such device"):
        Output("--json", str(pipe))
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with Output("--json", str(pipe)) as third:
        third.write(b"through")
    assert os.read(reader, 99) == b"through"
    os.close(reader)


def test_results_are_written_though_their_table_has_no_reader(
    pretended: Callable[..., Runner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bench.json"
    args = argparse.Namespace(json=str(target), plot=None)
    monkeypatch.setattr(bench_command, "show", broken_pipe)
    with Output("--json", str(target)) as file, pytest.raises(BrokenPipeError):
        bench_command._deliver(args, finished(pretended), {"--json": file})
    assert json.loads(target.read_text())["schema"] == 1


def test_results_that_find_no_room_are_shown(
    pretended: Callable[..., Runner], capsys: pytest.CaptureFixture[str]
) -> None:
    args = argparse.Namespace(json="/dev/full", plot=None)
    with Output("--json", "/dev/full") as file, pytest.raises(OperatorError, match="No space left"):
        bench_command._deliver(args, finished(pretended), {"--json": file})
    assert "against vxlan" in capsys.readouterr().out


def broken_pipe(*_: object) -> None:
    raise BrokenPipeError


@pytest.mark.parametrize("ending", [".svg", ".png"])
def test_a_picture_is_drawn(pretended: Callable[..., Runner], tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / f"bench{ending}"
    plot.check(str(target))
    head = plot.draw(str(target), finished(pretended).runner, "made up")[:200]
    assert (b"<?xml" if ending == ".svg" else b"\x89PNG") in head


def test_a_picture_of_an_unknown_kind_is_refused_before_the_bench() -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(OperatorError, match=r"bench\.gif.*\.svg"):
        plot.check("bench.gif")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--paths=warp"], "no path 'warp': choose from direct"),
        (["--tests="], "no test given"),
        (["--rounds=0"], "'0' is not from 1 to 100"),
        (["--seconds=never"], "'never' is not from 0.1"),
        (["--streams=1"], "'1' is not from 2"),
        (["--link=string"], "string"),
        (["--congestion=vegas-2"], "no 'vegas-2' here: choose from"),
    ],
)
def test_a_wrong_argument_is_named(words: list[str], text: str) -> None:
    done = bench(*words)
    assert done.returncode == 2
    assert text in done.stderr


def test_a_path_that_is_not_installed_is_refused_when_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert PATHS["tinc"].missing() == "no tincd on PATH"
    done = bench("--paths=direct,tinc")
    assert done.returncode == 1
    assert "--paths=tinc: no tincd on PATH" in done.stderr


def test_every_metric_has_a_test_and_every_default_path_exists() -> None:
    assert {metric.test for metric in METRICS.values()} == set(TESTS)
    assert set(DEFAULT) <= set(PATHS)
    for target in targets.TARGETS:
        assert target.metric in METRICS
        assert METRICS[target.metric].higher_is_better == target.higher_is_better
        assert {target.path, target.reference} <= set(DEFAULT)


def test_the_ends_of_a_ping_pong_do_not_share_a_cpu_where_there_are_two() -> None:
    client, server = sides()
    assert client
    assert server
    assert client == server or not client & server


class PretendedDaemon:
    """Remembers where it was put."""

    def __init__(self, host: object) -> None:
        self.host = host
        self.places: list[frozenset[int]] = []

    def run_on(self, cpus: frozenset[int]) -> None:
        self.places.append(cpus)


def test_daemons_of_a_ping_pong_share_their_hosts_cpu_and_are_free_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner_module, "stream_trips", lambda *_, **__: {"p50": 1, "p99": 2})
    ends = [End(object(), "") for _ in "ab"]  # type: ignore[arg-type]  # no traffic
    daemons = [PretendedDaemon(end.host) for end in ends]
    ready = Ready(Pair(*ends), daemons)  # type: ignore[arg-type]
    assert runner_module._rr(ready, Plan()) == {"rr_p50": 0.001, "rr_p99": 0.002}
    everywhere = frozenset(os.sched_getaffinity(0))
    assert [each.places for each in daemons] == [[side, everywhere] for side in sides()]


def test_a_connection_gets_the_congestion_control_asked_for_and_no_other() -> None:
    with socket.socket() as connection:
        congestion.apply(connection, "")
        congestion.apply(connection, "reno")
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        assert told.rstrip(b"\0") == b"reno"
        with pytest.raises(OperatorError, match=r"'nonesuch'.*No such file"):
            congestion.apply(connection, "nonesuch")
    assert congestion.default() in congestion.available()


def test_a_wireguard_key_is_the_one_of_the_rfc() -> None:
    # RFC 7748 §6.1.
    secret = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
    public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert tunnels._x25519_public(bytes.fromhex(secret)).hex() == public


# ---- real paths ---------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.etcd
@pytest.mark.timeout(300)
def test_a_bench_measures_every_path_with_every_test(tmp_path: Path) -> None:
    paths = "direct,vxlan,per-packet,fast"
    target = tmp_path / "bench.json"
    done = bench(f"--paths={paths}", "--rounds=2", "--seconds=0.1", f"--json={target}")
    assert done.returncode == 0, done.stderr
    assert "against vxlan" in done.stdout
    document: dict[str, Any] = json.loads(target.read_text())
    assert document["failures"] == []
    measured = {(row["path"], row["metric"]) for row in document["results"]}
    for path in paths.split(","):
        for metric in METRICS:
            # Only the daemons' own CPU time is measured; these two paths have none.
            if metric != "tcp_cpu" or path not in {"direct", "vxlan"}:
                assert (path, metric) in measured
    for row in document["results"]:
        assert len(row["samples"]) == 2
        assert row["metric"].endswith("_loss") or row["median"] > 0


@pytest.mark.root
@pytest.mark.etcd
@pytest.mark.skipif(shutil.which("iperf3") is None, reason="no iperf3 on PATH")
def test_iperf3_is_a_path_like_the_others(tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    words = ("--tests=tcp,rr", "--rounds=1", "--seconds=0.1", f"--json={target}")
    done = bench("--paths=vxlan,iperf3", *words)
    assert done.returncode == 0, done.stderr
    document = json.loads(target.read_text())
    assert [path["name"] for path in document["paths"]] == ["vxlan", "iperf3"]
    assert {(row["path"], row["metric"]) for row in document["results"]} == {
        *(("vxlan", metric) for metric in ("tcp_gbit", "rr_p50", "rr_p99")),
        ("iperf3", "tcp_gbit"),
    }


def test_every_documented_path_and_test_can_be_asked_for() -> None:
    page = (ROOT / "docs/reference/bench.md").read_text()
    _, _, paths = page.partition("## Paths")
    paths, _, tests = paths.partition("## Tests")
    tests, _, _ = tests.partition("## JSON")

    def names(section: str) -> list[str]:
        rows = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", section, re.MULTILINE)
        return [name for row in rows for name in re.findall("`([^`]+)`", row)]

    assert sorted(names(paths)) == sorted([*PATHS, "iperf3"])
    assert sorted(names(tests)) == sorted(TESTS)
    parser = argparse.ArgumentParser()
    bench_command.configure(parser)
    args = parser.parse_args(["--paths", ",".join(names(paths)), "--tests", ",".join(names(tests))])
    assert set(args.paths) == set(names(paths))


@pytest.mark.root
@pytest.mark.etcd
def test_the_congestion_control_asked_for_is_used_and_told(tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    words = ("--paths=direct", "--tests=tcp", "--rounds=1", "--seconds=0.1", f"--json={target}")
    done = bench(*words, "--congestion=reno")
    assert done.returncode == 0, done.stderr
    assert "reno" in done.stdout.splitlines()[0]
    document = json.loads(target.read_text())
    assert document["settings"]["congestion"] == "reno"
    assert document["machine"]["congestion"] == congestion.default()


@pytest.mark.root
@pytest.mark.etcd
@pytest.mark.parametrize("link", ["offload", "plain"])
def test_a_plain_link_cannot_segment_udp(link: str) -> None:
    with beds.Testbed(["x"], offload=link == "offload") as testbed:
        for host, _ in testbed.duos["x"].both():
            assert set(host.call(links.segmentation, name="eth0").values()) == {link == "offload"}


@pytest.mark.root
@pytest.mark.etcd
@pytest.mark.parametrize("name", [name for name, each in PATHS.items() if each.needs])
def test_a_tunnel_of_others_comes_up_where_it_is_installed(name: str) -> None:
    for program in PATHS[name].needs:
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on PATH")
    with beds.Testbed([name], offload=True) as testbed:
        ready = PATHS[name].set_up(testbed.duos[name], testbed.etcd)
        trips = icmp_trips(ready.pair, size=56, count=5, pause=0)
        assert trips["answered"] == 5
        assert len(ready.daemons) == 2
        assert ready.version


@pytest.mark.root
@pytest.mark.etcd
def test_an_interrupted_bench_leaves_no_process() -> None:
    mark = f"{uuid.uuid4()}"
    running = subprocess.Popen(
        [*BENCH, "--paths=direct,fast", "--tests=tcp", "--seconds=20"],
        cwd=ROOT,
        env={**os.environ, "BENCH_TEST_MARK": mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    with running.stderr:
        while "round 1" not in running.stderr.readline():
            assert running.poll() is None
        assert len(with_mark(mark)) > 3
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    eventually(lambda: with_mark(mark) == [])
