"""`udpoverlay bench`: the overlay against other ways between two hosts of this machine."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from udpoverlay.cli.numbers import between
from udpoverlay.errors import LabError, OperatorError, UdpOverlayError
from udpoverlay.lab import congestion, rootless
from udpoverlay.lab.bench import iperf3 as outside
from udpoverlay.lab.bench import plot
from udpoverlay.lab.bench.machine import machine
from udpoverlay.lab.bench.output import Output
from udpoverlay.lab.bench.paths import DEFAULT, PATHS
from udpoverlay.lab.bench.report import Bench, as_json, show
from udpoverlay.lab.bench.runner import TESTS, Plan, Runner
from udpoverlay.lab.bench.targets import judge
from udpoverlay.lab.bench.testbed import Ready, Testbed

__all__ = ["configure", "run"]

_BUDGET_SECONDS = 240.0
"""What all runs of a bench take together unless --seconds or --rounds say otherwise."""
_ROUNDS = 5
_QUICK_ROUNDS, _QUICK_SECONDS = 3, 0.4
_LOG_WIDTH = 160
"""Columns of a table that does not go to a terminal."""

_DIRECT = "direct"
"""The path on whose hosts iperf3 runs."""
_NAMES = (*PATHS, outside.NAME)
_STDOUT = "-"

_EPILOG = f"""\
paths: {", ".join(_NAMES)}
tests: {", ".join(TESTS)}

examples:
  udpoverlay bench                              all paths that are installed, under five minutes
  udpoverlay bench --quick --paths vxlan,fast --tests tcp,rr
  udpoverlay bench --link plain --json bench.json --plot bench.svg

Absolute figures move with the machine and the minute: quote ratios."""


def _choice(kind: str, known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        words = tuple(word.strip() for word in text.split(",") if word.strip())
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(
                    f"no {kind} {word!r}: choose from {', '.join(known)}"
                )
        if not words:
            raise argparse.ArgumentTypeError(f"no {kind} given")
        # In our order and once each, however they were given.
        return tuple(each for each in known if each in words)

    return parse


def _congestion(text: str) -> str:
    known = congestion.available()
    if known and text not in known:
        raise argparse.ArgumentTypeError(f"no {text!r} here: choose from {', '.join(known)}")
    return text


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--paths",
        type=_choice("path", _NAMES),
        help=f"default {','.join(DEFAULT)} and what else is found on PATH",
    )
    parser.add_argument(
        "--tests", type=_choice("test", TESTS), default=TESTS, help="default all of them"
    )
    parser.add_argument(
        "--streams", type=between(2, 64, int), default=4, metavar="N", help="default 4"
    )
    parser.add_argument(
        "--link",
        choices=("offload", "plain"),
        default="offload",
        help="whether the link can segment UDP itself (default offload)",
    )
    parser.add_argument(
        "--congestion",
        type=_congestion,
        metavar="NAME",
        help="TCP's congestion control, for example cubic (default the machine's own)",
    )
    parser.add_argument("--rounds", type=between(1, 100, int), help=f"default {_ROUNDS}")
    parser.add_argument("--seconds", type=between(0.1, 600, float), help="of each run")
    parser.add_argument("--quick", action="store_true", help="a minute, for a first look")
    parser.add_argument("--json", metavar="FILE", help="write a JSON object, - for stdout")
    parser.add_argument("--plot", metavar="FILE", help="write a picture: .svg, .png or .pdf")
    parser.add_argument(
        "--check", action="store_true", help="exit non-zero when a target is missed"
    )


def run(args: argparse.Namespace) -> int:
    """Run the bench and show its results."""
    if args.plot:
        plot.check(args.plot)
    log = Console(stderr=True, highlight=False)
    names, skipped = _choose(args.paths)
    facts = machine()
    with contextlib.ExitStack() as stack:
        # Four minutes later it would be too late to find that a file cannot be written.
        files = {
            flag: stack.enter_context(Output(flag, path))
            for flag, path in (("--json", args.json), ("--plot", args.plot))
            if path and path != _STDOUT
        }
        rootless.enter()
        bench = _measure(args, names, skipped, log)
        bench.facts = facts
        bench.outcomes = judge(args.link, bench.runner.ratio)
        _deliver(args, bench, files)
    missed = args.check and not all(outcome.met for outcome in bench.outcomes)
    return 1 if bench.runner.failures or missed else 0


def _choose(asked: tuple[str, ...] | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """The paths to take, and why others are left out; all that can be had unless some are asked."""
    missing = {name: each.missing() for name, each in PATHS.items()}
    missing[outside.NAME] = outside.missing()
    gone = {name: reason for name, reason in missing.items() if reason is not None}
    if asked is None:
        optional = {name for name, each in PATHS.items() if each.needs} | {outside.NAME}
        return tuple(n for n in _NAMES if n in DEFAULT or n in optional - set(gone)), gone
    for name in asked:
        if name in gone:
            raise OperatorError(
                f"--paths={name}: {gone[name]}", fix="install it, or leave that path out"
            )
    return asked, {}


def _measure(
    args: argparse.Namespace, names: tuple[str, ...], skipped: dict[str, str], log: Console
) -> Bench:
    """Build the hosts, run the plan, take the hosts down."""
    duos = [name for name in names if name in PATHS]
    if outside.NAME in names and _DIRECT not in duos:
        duos.append(_DIRECT)
    try:
        with Testbed(
            duos,
            offload=args.link == "offload",
            report=lambda step: log.print(f"… {step}"),
        ) as testbed:
            return _measure_paths(args, testbed, names, skipped, log)
    except LabError as error:
        if error.details:
            log.print(error.details, markup=False)
        raise


def _measure_paths(
    args: argparse.Namespace,
    testbed: Testbed,
    names: tuple[str, ...],
    skipped: dict[str, str],
    log: Console,
) -> Bench:
    """Set the paths up and run the plan over those that came up."""
    paths: dict[str, Ready] = {}
    for name in names:
        if name not in PATHS:
            continue
        log.print(f"… {name}: {PATHS[name].about}")
        try:
            paths[name] = PATHS[name].set_up(testbed.duos[name], testbed.etcd)
        except UdpOverlayError as error:
            if args.paths or name in DEFAULT:
                raise
            # A foreign tunnel that does not come up must not end the bench of the others.
            skipped[name] = str(error)
    others = {}
    if outside.NAME in names:
        others[outside.NAME] = outside.iperf3(testbed.duos[_DIRECT])
    runner = Runner(_plan(args, len(paths) + len(others)), paths, others)
    with _progress(log, len(runner.schedule())) as report:
        runner.run(report)
    return Bench(
        runner,
        args.link,
        {},
        about={name: PATHS[name].about for name in paths} | dict.fromkeys(others, outside.ABOUT),
        versions={name: ready.version for name, ready in paths.items()},
        skipped=skipped,
    )


def _plan(args: argparse.Namespace, paths: int) -> Plan:
    rounds = args.rounds or (_QUICK_ROUNDS if args.quick else _ROUNDS)
    seconds = args.seconds or (
        _QUICK_SECONDS
        if args.quick
        else Plan.within(_BUDGET_SECONDS, paths * len(args.tests), rounds)
    )
    return Plan(args.tests, int(rounds), seconds, int(args.streams), args.congestion or "")


@contextlib.contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[str], None]]:
    """Yields a function to call with each run: a bar on a terminal, a line a round elsewhere."""
    if not console.is_terminal:
        last = ""

        def report_line(step: str) -> None:
            nonlocal last
            number = step.partition(":")[0]
            if number != last:
                console.print(f"… {number}")
            last = number

        yield report_line
        return
    columns = (
        TextColumn("{task.description:45}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %, ready in"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        started = itertools.count()

        def report(step: str) -> None:
            # Told at the start of a run: those before it are done.
            bar.update(task, description=step, completed=next(started))

        yield report


def _deliver(args: argparse.Namespace, bench: Bench, files: Mapping[str, Output]) -> None:
    """Write the files, then show: a reader of ours that went away must not cost the results."""
    document = json.dumps(as_json(bench), indent=2) + "\n"
    refused = None
    try:
        if "--json" in files:
            files["--json"].write(document.encode())
        if "--plot" in files:
            files["--plot"].write(plot.draw(args.plot, bench.runner, _subtitle(bench)))
    except OSError as error:
        refused = OperatorError(
            f"cannot write the results: {error.strerror}", fix="they are shown here instead"
        )
    if args.json == _STDOUT:
        sys.stdout.write(document)
    else:
        show(Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH), bench)
    if refused is not None:
        raise refused


def _subtitle(bench: Bench) -> str:
    facts = bench.facts
    return (
        f"Linux {facts['kernel']}, {facts['cores']} cores, link {bench.link}, "
        f"{bench.runner.plan.congestion or facts['congestion']}: "
        f"median and range of {bench.runner.plan.rounds} rounds"
    )
