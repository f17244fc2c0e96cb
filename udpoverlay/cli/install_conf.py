"""`udpoverlay install-conf SRC DST`: flannel's install-conf, which its init container calls.

The new file appears under its name at once and whole: a container runtime that watches the folder
never reads a part of it.
"""

from __future__ import annotations

import argparse

from udpoverlay.errors import OperatorError
from udpoverlay.host import subnetfile

__all__ = ["configure", "run"]

_MOST_BYTES = 1 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("source", metavar="SRC", help="the file to copy")
    parser.add_argument("destination", metavar="DST", help="where it goes; replaced if it exists")
    parser.epilog = (
        "example:\n  udpoverlay install-conf /etc/kube-flannel/cni-conf.json "
        "/etc/cni/net.d/10-flannel.conflist"
    )


def run(args: argparse.Namespace) -> int:
    """Copy the file."""
    try:
        with open(args.source, encoding="utf-8") as file:
            text = file.read(_MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        what = f"cannot read {args.source!r}: {why}"
        raise OperatorError(what, fix="name a text file") from error
    subnetfile.write_text(args.destination, text)
    return 0
