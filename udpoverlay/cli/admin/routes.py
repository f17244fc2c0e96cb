"""`udpoverlay routes`: where packets into the overlay go, and which route one address takes."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from udpoverlay.cli.admin import ask
from udpoverlay.lab.tables import table

__all__ = ["configure", "run"]

_EPILOG = """\
examples:
  udpoverlay routes
  udpoverlay routes 10.244.3.7         the one that this address takes; exit status 1: none
  udpoverlay routes --json
  udpoverlay routes --node n1          of a node of `udpoverlay lab --keep`"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("address", nargs="?", help="an address in the overlay")
    ask.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask and show."""
    wanted = None if args.address is None else ask.address(args.address)
    code = ask.in_node(args, "routes", [] if args.address is None else [args.address])
    if code is not None:
        return code
    asked = ask.client(args)
    document = asked.get("/v1/routes")
    routes = document["routes"]
    if wanted is not None:
        holding = [each for each in routes if ask.holds(each["destination"], wanted)]
        routes = sorted(holding, key=_length)[-1:]
    if args.json:
        ask.print_json({**document, "routes": routes})
    else:
        _show(ask.console(), document, routes, args.address)
    return 0 if routes or wanted is None else 1


def _length(route: dict[str, Any]) -> int:
    return int(route["destination"].partition("/")[2])


def _show(
    out: Console, document: dict[str, Any], routes: list[dict[str, Any]], address: str | None
) -> None:
    if not routes:
        out.print(
            "no routes: no other host has a lease"
            if address is None
            else f"no route holds {address}: packets to it are answered with net unreachable"
        )
        return
    shown = table("")
    shown.title = None
    shown.add_column("destination", no_wrap=True)
    shown.add_column("to", no_wrap=True)
    shown.add_column("by", no_wrap=True)
    for route in routes:
        by = route["device"] or "this host"
        shown.add_row(route["destination"], route["endpoint"] or "-", by)
    out.print(shown)
    if address is None:
        known = ask.count(len(routes), "route")
        out.print(f"\n{known}; anything else in {document['network']}: unreachable")
