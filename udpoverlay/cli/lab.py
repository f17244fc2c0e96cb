"""`udpoverlay lab`: a cluster on this machine that proves every pair; `lab exec`, `lab down`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from udpoverlay.cli.numbers import between
from udpoverlay.errors import LabError, OperatorError
from udpoverlay.lab import report, rootless, session
from udpoverlay.lab.cluster import Cluster
from udpoverlay.lab.node import udpoverlayd
from udpoverlay.lab.proof import prove

__all__ = ["configure", "run"]

_MOST_NODES = 100
_LOG_WIDTH = 130
"""Columns of a table that does not go to a terminal."""

_EPILOG = """\
examples:
  udpoverlay lab                        three hosts, every pair proved, all gone afterwards
  udpoverlay lab --nodes 5 --json
  udpoverlay lab --keep                 leave it running, then:
  udpoverlay lab exec n1 ip route
  udpoverlay lab down

Runs as root, or rootless where the kernel allows user namespaces. Exit status 0 only if every
pair passed and every byte arrived intact."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--nodes",
        type=between(2, _MOST_NODES, int),
        default=3,
        metavar="N",
        help="hosts (default 3)",
    )
    parser.add_argument(
        "--backend", choices=("udp",), default="udp", help="flannel's backend (default udp)"
    )
    parser.add_argument(
        "--link",
        choices=("offload", "plain"),
        default="offload",
        help="whether the links between the hosts can segment UDP (default offload)",
    )
    parser.add_argument(
        "--seconds",
        type=between(0.1, 3600, float),
        default=1.0,
        help="length of each TCP test (default 1)",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument("--keep", action="store_true", help="leave the lab running")
    parser.add_argument(
        "--allow-impair",
        action="store_true",
        help="let `udpoverlay impair` lose and delay packets in a kept lab",
    )
    actions = parser.add_subparsers(dest="action", metavar="{exec,down}")
    execute = actions.add_parser("exec", help="run a command in a node of a kept lab")
    execute.add_argument("node")
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD")
    actions.add_parser("down", help="end a kept lab")


def run(args: argparse.Namespace) -> int:
    """Run the lab, or talk to a kept one."""
    if args.action == "exec":
        if not args.argv:
            raise OperatorError("lab exec needs a command", fix="udpoverlay lab exec n1 ip route")
        return session.execute(args.node, args.argv)
    if args.action == "down":
        session.bring_down()
        return 0
    uid = os.geteuid()
    if rootless.enter():
        Console(stderr=True).print("not root: the lab runs in a user namespace of its own")
    if not args.keep:
        return _lab(args, lambda _cluster, status: status)
    keeper = session.Keeper(uid)

    def work(done: Callable[[int], None]) -> None:
        def serve(cluster: Cluster, status: int) -> int:
            Console(stderr=True).print(
                "the lab is kept: udpoverlay lab exec n1 CMD · udpoverlay lab down"
            )
            done(status)
            keeper.serve(cluster.fabric.hosts)
            return status

        _lab(args, serve)

    return session.detached(work)


def _lab(args: argparse.Namespace, then: Callable[[Cluster, int], int]) -> int:
    """Build, prove, show; `then` gets the living cluster and the status, and its result is ours."""
    shown = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
    progress = Console(stderr=True, highlight=False)
    names = [f"n{number + 1}" for number in range(args.nodes)]
    pairs_count = len(names) * (len(names) - 1)
    flags = ["--allow-impair"] if args.allow_impair else []
    try:
        with report.progress(progress) as step:
            cluster = Cluster(*names, offload=args.link == "offload", report=step)
            with contextlib.ExitStack() as undo:
                undo.enter_context(cluster)
                overlay = cluster.overlay(udpoverlayd(*flags))
                undo.pop_all()
        with cluster:
            with report.progress(progress, pairs_count) as step:
                pairs = prove(overlay, seconds=args.seconds, report=step)
            passed = all(pair.passed for pair in pairs)
            if args.json:
                print(json.dumps(report.as_json(overlay.nodes.values(), pairs), indent=2))
            else:
                report.show(shown, overlay.nodes.values(), pairs)
            if not passed:
                for node in overlay.nodes.values():
                    progress.rule(f"{node.name}: last lines of {overlay.program.name}")
                    progress.print(escape(node.last_lines()))
            return then(cluster, 0 if passed else 1)
    except LabError as error:
        if error.details:
            progress.rule("last lines of its log")
            progress.print(escape(error.details))
        raise
