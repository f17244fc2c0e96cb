"""`udpoverlay version`."""

from __future__ import annotations

import argparse
import json
import platform

from udpoverlay._version import VERSION

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.epilog = "example:\n  udpoverlay version --json"


def run(args: argparse.Namespace) -> int:
    """Print the version."""
    if args.json:
        facts = {"version": VERSION, "python": platform.python_version()}
        print(json.dumps(facts))
    else:
        print(f"udpoverlay {VERSION}")
    return 0
