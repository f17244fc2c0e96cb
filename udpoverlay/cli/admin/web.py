"""`udpoverlay web`: a page in the browser, live, until Ctrl-C.

Exit status 0 after Ctrl-C or SIGTERM; 1 when no daemon answers at the start, or the port is taken.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from udpoverlay.cli.admin import ask
from udpoverlay.cli.numbers import between
from udpoverlay.errors import OperatorError
from udpoverlay.loop import run_until_signal
from udpoverlay.observe.client import AdminClient
from udpoverlay.observe.status import SCHEMA_VERSION
from udpoverlay.web.hosts import Daemon
from udpoverlay.web.server import serving

__all__ = ["configure", "run"]

_EPILOG = """\
examples:
  udpoverlay web                       open the URL that it prints
  udpoverlay web --lab                 all nodes of `udpoverlay lab --keep`
  udpoverlay web --port 8000           then from elsewhere, behind
                                       ssh -L 8000:127.0.0.1:8000 root@n1
  ssh -fNL /run/n2.sock:/run/udpoverlay/admin.sock root@n2
  udpoverlay web --also /run/n2.sock   this host and n2 on one page

The page is on 127.0.0.1 alone and its URL holds a secret: who has it sees
the packets of these hosts, and can change nothing. Ctrl-C ends it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--port",
        type=between(0, 65535, int),
        default=0,
        metavar="N",
        help="TCP port on 127.0.0.1 (default: a free one)",
    )
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="PATH",
        help="the admin socket of another host, forwarded by ssh; more than once",
    )
    parser.add_argument("--lab", action="store_true", help="all nodes of a kept lab")
    ask.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal."""
    daemons = _daemons(args)

    async def program(unwinding: asyncio.Event) -> int:
        async with serving(daemons, args.port) as url:
            _tell(url, as_json=args.json)
            try:
                await asyncio.Event().wait()
            finally:
                unwinding.set()
        return 0

    return run_until_signal(program, lambda _: None)


def _daemons(args: argparse.Namespace) -> list[Daemon]:
    if args.lab or args.node:
        if args.also or (args.lab and args.node):
            raise OperatorError("--lab and --node find their daemons", fix="leave the others out")
        return _of_lab(args)
    found = [Daemon(path) for path in dict.fromkeys([args.admin_socket, *args.also])]
    for daemon in found:
        AdminClient(daemon.path).get("/v1/status")
    return found


def _of_lab(args: argparse.Namespace) -> list[Daemon]:
    from udpoverlay.lab import session  # noqa: PLC0415 - a production host has no lab to pay for

    folder, name = os.path.split(args.admin_socket)
    nodes = session.folders(folder)
    wanted = [args.node] if args.node else list(nodes)
    if missing := [node for node in wanted if node not in nodes]:
        raise OperatorError(f"no node {missing[0]!r} in this lab", fix=f"one of {', '.join(nodes)}")
    # The descriptors stay open until the end: the paths lead through them.
    return [Daemon(f"/proc/self/fd/{nodes[node]}/{name}", node) for node in wanted]


def _tell(url: str, *, as_json: bool) -> None:
    if as_json:
        ask.print_json({"schema": SCHEMA_VERSION, "url": url})
    else:
        sys.stdout.write(f"{url}\n")
        if sys.stdout.isatty():
            sys.stdout.write("open it in a browser of this host; Ctrl-C ends it\n")
    sys.stdout.flush()
