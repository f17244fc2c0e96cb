"""`udpoverlay peers`: the other hosts, and who was refused."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from udpoverlay.cli.admin import ask
from udpoverlay.errors import OperatorError, UdpOverlayError
from udpoverlay.lab.tables import table
from udpoverlay.observe.client import AdminClient
from udpoverlay.reach.live.round_trips import MOST, round_trips

__all__ = ["configure", "run"]

_EPILOG = """\
examples:
  udpoverlay peers
  udpoverlay peers 10.244.3.7          the peer that has this address, or sends from it
  udpoverlay peers --json | jq '.peers[] | select(.refused != "")'
  udpoverlay peers --node n1           as a node of `udpoverlay lab --keep` sees them

RTT is measured now, by an echo request from this host's tunnel address to each
peer's, through the tunnel; - stands for no answer within a second. --no-rtt
sends nothing."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "address", nargs="*", help="only peers with this public IP, or this address in their subnet"
    )
    parser.add_argument(
        "--rtt",
        action=argparse.BooleanOptionalAction,
        help=f"measure round trips (default: up to {MOST:,} peers)",
    )
    ask.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask and show."""
    wanted = [ask.address(text) for text in args.address]
    words = [] if args.rtt is None else ["--rtt" if args.rtt else "--no-rtt"]
    code = ask.in_node(args, "peers", [*args.address, *words])
    if code is not None:
        return code
    client = ask.client(args)
    document = client.get("/v1/peers")
    if wanted:
        document["peers"] = [
            peer
            for peer in document["peers"]
            if any(
                str(each) == peer["public_ip"]
                or str(each) in peer["also_sends_from"]
                or ask.holds(peer["subnet"], each)
                for each in wanted
            )
        ]
        names = {str(each) for each in wanted}
        document["refused_senders"] = [
            sender for sender in document["refused_senders"] if sender["address"] in names
        ]
    _measure(args, client, document["peers"])
    if args.json:
        ask.print_json(document)
    else:
        _show(ask.console(), document)
    return 0 if not wanted or document["peers"] or document["refused_senders"] else 1


def _measure(args: argparse.Namespace, client: AdminClient, peers: list[dict[str, Any]]) -> None:
    """Add the round trip to each peer that has a route; None: no answer, or not measured."""
    for peer in peers:
        peer["rtt_ms"] = None
    asked = {peer["subnet"].partition("/")[0]: peer for peer in peers if not peer["refused"]}
    if args.rtt is False or not asked or (args.rtt is None and len(asked) > MOST):
        return
    addresses = list(asked)
    try:
        source = str(client.get("/v1/status")["node"]["tun_address"])
        for start in range(0, len(addresses), MOST):
            for address, seconds in round_trips(source, addresses[start : start + MOST]).items():
                asked[address]["rtt_ms"] = round(seconds * 1000, 3)
    except (KeyError, UdpOverlayError) as error:
        # The daemon may be another host's, behind a forwarded socket; all else can be shown.
        if args.rtt:
            raise OperatorError(f"round trips cannot be measured: {error}") from error


def _show(out: Console, document: dict[str, Any]) -> None:
    peers, senders = document["peers"], document["refused_senders"]
    if not peers:
        out.print("no peer: no other host has a lease that was asked for")
    else:
        shown = table("")
        shown.title = None
        for heading in ("subnet", "public IP"):
            shown.add_column(heading, no_wrap=True)
        for heading in ("sent", "received", "heard", "RTT"):
            shown.add_column(heading, justify="right", no_wrap=True)
        shown.add_column("state")
        for peer in peers:
            traffic = peer["traffic"]
            heard = traffic["heard_seconds_ago"]
            shown.add_row(
                peer["subnet"],
                peer["public_ip"],
                ask.size(traffic["sent_bytes"]),
                ask.size(traffic["delivered_bytes"]),
                "never" if heard is None else f"{ask.duration(heard, parts=1)} ago",
                "-" if peer["rtt_ms"] is None else f"{peer['rtt_ms']:.3g} ms",
                _state(peer),
                style=_style(peer),
            )
        out.print(shown)
    if senders:
        out.print()
        shown = table("refused senders")
        shown.add_column("address", no_wrap=True)
        shown.add_column("datagrams", justify="right", no_wrap=True)
        shown.add_column("latest", no_wrap=True)
        shown.add_column("why")
        for sender in senders:
            shown.add_row(
                sender["address"],
                f"{sender['datagrams']:,}",
                f"{ask.duration(sender['seconds_ago'])} ago",
                f"{_words(sender['reason'])}: {sender['inner_source']} → "
                f"{sender['inner_destination']}",
            )
        out.print(shown)


def _state(peer: dict[str, Any]) -> str:
    if peer["refused"]:
        return f"no route: {_words(peer['refused'])}"
    facts = [f"impaired on purpose: {peer['impaired']}"] if peer["impaired"] else []
    for report in peer["reports"]:
        facts.append(
            f"ICMP {_words(report['kind'])} from {report['reporter']}, {report['count']:,} times, "
            f"{ask.duration(report['seconds_ago'])} ago"
        )
    for fallback in peer["fallbacks"]:
        again = fallback["retry_seconds"]
        now = "in use again" if again is None else f"off for {ask.duration(again)}"
        facts.append(f"{fallback['offload']} {now}: {fallback['cause']}")
    for verdict, count in sorted(peer["traffic"]["drops"].items(), key=lambda each: -each[1]):
        facts.append(f"{count:,} dropped: {_words(verdict)}")
    if peer["also_sends_from"]:
        facts.append(f"also sends from {', '.join(peer['also_sends_from'])}")
    return "; ".join(facts) or "ok"


def _style(peer: dict[str, Any]) -> str:
    if peer["refused"]:
        return "red"
    recent = any(report["seconds_ago"] < _RECENT_SECONDS for report in peer["reports"])
    return "yellow" if recent or peer["impaired"] else ""


_RECENT_SECONDS = 60


def _words(name: str) -> str:
    return name.replace("_", " ")
