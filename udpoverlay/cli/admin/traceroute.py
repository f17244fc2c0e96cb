"""`udpoverlay traceroute ADDRESS`: every hop through the overlay, with its name.

Exit status 0 when the target answered, 1 when it did not.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

from udpoverlay.cli.admin import ask
from udpoverlay.cli.admin.way import Way, elsewhere, way
from udpoverlay.cli.findings import WIDTH, shown
from udpoverlay.cli.numbers import between
from udpoverlay.observe.status import SCHEMA_VERSION
from udpoverlay.reach.hops import Hop, name, silence
from udpoverlay.reach.live.exchange import hops
from udpoverlay.reach.live.socket import EchoSocket

__all__ = ["configure", "run"]

_PACKET_BYTES = 60

_EPILOG = """\
examples:
  udpoverlay traceroute 10.244.3.7
  udpoverlay traceroute 192.0.2.12     to the tunnel of the host with that IP
  udpoverlay traceroute 10.244.3.7 --json | jq '.hops[].address'
  udpoverlay traceroute n2 --node n1   in a kept lab, from n1 to n2

ICMP echo with a TTL of 1, 2, …: each end of the tunnel takes a hop, as
flannel's does. Needs root, CAP_NET_RAW, or a group in ping_group_range. Exit
status 0: the target answered; 1: it did not."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "target",
        metavar="ADDRESS",
        help="an address in the overlay, a peer's public IP or subnet, or with --node a node",
    )
    parser.add_argument(
        "-m",
        "--max-hops",
        type=between(1, 64, int),
        default=12,
        metavar="N",
        help="the last TTL that is tried, 1 to 64 (default 12)",
    )
    parser.add_argument(
        "-q",
        "--probes",
        type=between(1, 10, int),
        default=3,
        metavar="N",
        help="requests with each TTL, 1 to 10 (default 3)",
    )
    parser.add_argument(
        "-W",
        "--timeout",
        type=between(0.01, 60, float),
        default=1.0,
        metavar="SECONDS",
        help="to wait for each, 0.01 to 60 (default 1)",
    )
    ask.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Send and show."""
    words = [
        f"--max-hops={args.max_hops}",
        f"--probes={args.probes}",
        f"--timeout={args.timeout:g}",
    ]
    code = elsewhere(args, "traceroute", words)
    if code is not None:
        return code
    known = way(args)
    found: list[Hop] = []
    with EchoSocket(known.target.address, known.target.source) as sock:
        if not args.json:
            _begin(known, sock.source)
        with contextlib.suppress(KeyboardInterrupt):
            for hop in hops(sock, args.max_hops, args.probes, args.timeout, _PACKET_BYTES):
                found.append(hop)
                if not args.json:
                    _line(hop, known)
        source = sock.source
    reached = any(hop.reached for hop in found)
    if args.json:
        ask.print_json(_document(found, known, source, reached=reached))
    elif not reached:
        _write(f"no answer from {known.target.address}: udpoverlay explain {known.target.address}")
    return 0 if reached else 1


def _begin(known: Way, source: str) -> None:
    target = known.target
    by = f" by {target.device}" if target.device else ""
    _write(f"traceroute {target.address} from {source}{by}")
    for note in known.notes:
        _write(f"note: {note}")


def _line(hop: Hop, known: Way) -> None:
    trips = " ".join(f"{'*' if trip is None else f'{trip * 1000:.2f}':>6}" for trip in hop.trips)
    senders = hop.senders or ["*"]
    for number, sender in enumerate(senders):
        what = name(sender, hop, known.target, known.leases) if sender != "*" else silence(hop)
        first = f"{hop.ttl:3}" if number == 0 else "   "
        times = f"{trips} ms" if number == 0 else ""
        line = f"{first}  {sender or 'this host':15}  {times:12}"
        if len(line) + 2 + len(what) <= WIDTH:
            _write(f"{line}  {what}".rstrip())
        else:
            _write(line)
            _write(f"{'':24}{what}")


def _write(text: str) -> None:
    sys.stdout.write(f"{shown(text)}\n")
    sys.stdout.flush()


def _document(found: list[Hop], known: Way, source: str, *, reached: bool) -> dict[str, Any]:
    target = known.target
    return {
        "schema": SCHEMA_VERSION,
        "address": target.address,
        "peer": target.peer,
        "source": source,
        "device": target.device,
        "notes": list(known.notes),
        "reached": reached,
        "hops": [
            {
                "ttl": hop.ttl,
                "address": hop.senders[0] if hop.senders else "",
                "name": _called(hop, known),
                "answers": [event.kind.value for event in hop.events],
                "rtt_ms": [None if trip is None else round(trip * 1000, 4) for trip in hop.trips],
            }
            for hop in found
        ],
    }


def _called(hop: Hop, known: Way) -> str:
    """By its first answer."""
    if not hop.senders:
        return silence(hop)
    return name(hop.senders[0], hop, known.target, known.leases)
