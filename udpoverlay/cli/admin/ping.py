"""`udpoverlay ping PEER`: round trip, loss and the largest size through the tunnel.

Exit status 0 when all was answered and the tunnel's MTU passes, 1 when something was lost or
nothing could be sent, 3 when all was answered but longer packets do not pass.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from udpoverlay.cli.admin import ask
from udpoverlay.cli.admin.way import Way, elsewhere, look, way
from udpoverlay.cli.findings import shown
from udpoverlay.cli.numbers import between
from udpoverlay.errors import OperatorError
from udpoverlay.model.finding import Finding, warning
from udpoverlay.observe.rates import DROPS
from udpoverlay.observe.status import SCHEMA_VERSION
from udpoverlay.reach.echo import SMALLEST, Event, Kind
from udpoverlay.reach.live.exchange import Ping, Plan, pings, search
from udpoverlay.reach.live.socket import EchoSocket
from udpoverlay.reach.losses import losses
from udpoverlay.reach.sizes import Sizes
from udpoverlay.reach.summary import Summary, summarize

__all__ = ["configure", "run"]

_LOST, _NARROW = 1, 3
_PACKET_BYTES = 84
"""As ping(8): 56 bytes behind both headers."""
_UDP_OVERHEAD = 28

_EPILOG = """\
examples:
  udpoverlay ping 192.0.2.12           the host with that public IP, at its tunnel
  udpoverlay ping 10.244.3.0/24        the host with that subnet
  udpoverlay ping 10.244.3.7 -c 100 -i 0.01 --no-size-search
  udpoverlay ping 10.244.3.7 --json | jq '.loss, .size.largest'
  udpoverlay ping n2 --node n1         in a kept lab, from n1 to n2

Ordinary ICMP echo through the tunnel: any host answers, whatever daemon it
runs. Sizes are those of the whole inner packet, as an MTU is. Needs root,
CAP_NET_RAW, or a group in ping_group_range. Exit status 0: all answered; 1:
some or all lost, or none sent; 3: all answered, but packets as long as the
tunnel's MTU do not pass."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "target",
        metavar="PEER",
        help="a peer's public IP, its subnet, an address in it, or with --node a node's name",
    )
    parser.add_argument(
        "-c",
        "--count",
        type=between(1, 10**6, int),
        default=5,
        metavar="N",
        help="how many requests (default 5)",
    )
    parser.add_argument(
        "-i",
        "--interval",
        type=between(0.001, 3600, float),
        default=0.2,
        metavar="SECONDS",
        help="from one to the next, 0.001 to 3600 (default 0.2)",
    )
    parser.add_argument(
        "-s",
        "--size",
        type=between(SMALLEST, 65535, int),
        default=_PACKET_BYTES,
        metavar="BYTES",
        help=f"of the packet with its IP header, {SMALLEST} to 65535 (default 84)",
    )
    parser.add_argument(
        "-W",
        "--timeout",
        type=between(0.01, 60, float),
        default=1.0,
        metavar="SECONDS",
        help="after which a request counts as lost, 0.01 to 60 (default 1)",
    )
    parser.add_argument(
        "--size-search",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="look for the largest packet that passes (default: yes)",
    )
    ask.add_arguments(parser)


@dataclass(slots=True)
class _Found:
    """What was measured, and what explains it."""

    way: Way
    source: str
    route_mtu: int
    size: int
    """Of the packets, in bytes."""
    summary: Summary
    said: Counter[Event] = field(default_factory=Counter)
    """Errors that came in place of answers, and how often; see `_said`."""
    sizes: Sizes | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def silent(self) -> int:
        """Requests for which nothing came at all."""
        return self.summary.sent - self.summary.answered - self.said.total()

    @property
    def status(self) -> int:
        if not self.summary.answered or self.summary.answered < self.summary.sent:
            return _LOST
        return _NARROW if self.sizes is not None and not self.sizes.whole else 0


def run(args: argparse.Namespace) -> int:
    """Send, show, sum up."""
    code = elsewhere(args, "ping", _words(args))
    if code is not None:
        return code
    known = way(args)
    with EchoSocket(known.target.address, known.target.source) as sock:
        found = _measure(args, known, sock)
    found.findings += _said_findings(found)
    found.findings += _size_findings(found)
    found.findings += _lost_findings(args, found)
    if args.json:
        ask.print_json(_document(found))
    else:
        _show(found)
    return found.status


def _words(args: argparse.Namespace) -> list[str]:
    return [
        f"--count={args.count}",
        f"--interval={args.interval:g}",
        f"--size={args.size}",
        f"--timeout={args.timeout:g}",
        "--size-search" if args.size_search else "--no-size-search",
    ]


def _measure(args: argparse.Namespace, known: Way, sock: EchoSocket) -> _Found:
    if not args.json:
        _begin(args, known, sock)
    plan = Plan(args.count, args.interval, args.timeout, args.size)
    sent, trips = 0, []
    said: Counter[Event] = Counter()
    interrupted = True
    with contextlib.suppress(KeyboardInterrupt):
        for ping in pings(sock, plan):
            sent += 1
            if ping.seconds is not None:
                trips.append(ping.seconds)
            elif ping.event is not None:
                said[replace(ping.event, sequence=0, at=0.0)] += 1
            if not args.json:
                _line(ping, plan)
        interrupted = False
    found = _Found(known, sock.source, sock.mtu, args.size, summarize(sent, trips), said)
    ceiling = known.target.mtu or found.route_mtu
    if args.size_search and trips and not interrupted and args.size < ceiling:
        with contextlib.suppress(KeyboardInterrupt):
            found.sizes = search(sock, args.count + 1, args.size, ceiling, max(trips))
    return found


def _said_findings(found: _Found) -> list[Finding]:
    """What came in place of answers."""
    explain = f"udpoverlay explain {found.way.target.address}"
    findings = []
    for event, count in found.said.most_common():
        times = ask.count(count, "request")
        if event.kind is Kind.TOO_BIG_HERE:
            fact = f"{times} not sent: {found.size:,} bytes are too big here"
            fix = f"-s {found.route_mtu} is the most that the device takes"
        elif event.kind is Kind.REFUSED_HERE:
            fact, fix = f"{times} not sent: {event.words}", explain
        else:
            most = f", at most {event.mtu:,} bytes" if event.mtu else ""
            fact, fix = f"{event.sender} says {event.words}{most}, to {times}", explain
        findings.append(warning(fact, fix))
    return findings


def _size_findings(found: _Found) -> list[Finding]:
    sizes = found.sizes
    if sizes is None or sizes.whole:
        return []
    address = found.way.target.address
    longer = f"packets of {sizes.largest + 1:,} bytes and more"
    if sizes.limit == "here":
        return [
            warning(
                f"{longer} are too big here: this host's kernel does not send them to {address}",
                f"ip route get {address}; ip link show: an MTU is lower than the tunnel's",
            )
        ]
    if sizes.limit == "icmp":
        event = sizes.reported or sizes.stopped_by
        assert event is not None
        says = f"{event.sender or 'this host'} says {event.words}"
        mtu = f", at most {event.mtu:,}" if event.mtu else ""
        return [
            warning(
                f"{longer} do not pass: {says}{mtu}",
                f"its device towards {address} has that MTU: make all MTUs in the overlay the same",
            )
        ]
    return [
        warning(
            f"{longer} are lost in silence: a black hole. Something on the way carries less than "
            "the interface's MTU, and no ICMP tells of it",
            _black_hole_fix(found, sizes),
        )
    ]


def _black_hole_fix(found: _Found, sizes: Sizes) -> str:
    if found.way.before is None:
        return "lower the MTU of the underlay's interface on both hosts, restart the daemons"
    node = found.way.before.status["node"]
    return (
        f"on both hosts: ip link set {node['interface']} mtu {sizes.largest + _UDP_OVERHEAD}, "
        "and restart the daemons; or let ICMP fragmentation needed through"
    )


def _lost_findings(args: argparse.Namespace, found: _Found) -> list[Finding]:
    """What our daemon's counters say."""
    lost = found.summary.answered < found.summary.sent
    narrow = found.sizes is not None and not found.sizes.whole
    target, before = found.way.target, found.way.before
    if not lost and not narrow:
        return []
    if before is None:
        if not found.silent:
            return []
        return [
            warning(
                "no daemon of ours can be asked where they were lost",
                "is the tunnel's daemon running here and there, is its UDP port open?",
            )
        ]
    try:
        after = look(ask.client(args))
    except OperatorError as error:
        return [warning(f"the daemon cannot be asked any more: {error.what}", error.fix)]
    return losses(target, before, after, DROPS, size_only=not found.silent)


# --- what people see ---------------------------------------------------------------------------


def _begin(args: argparse.Namespace, known: Way, sock: EchoSocket) -> None:
    target = known.target
    where = f"{target.address}"
    if target.peer:
        what = "tunnel" if target.is_tunnel else f"in {target.subnet}"
        where += f" ({what} of {target.peer})"
    by = f" by {target.device}" if target.device else ""
    _write(f"ping {where} from {sock.source}{by}, {args.size} bytes")
    for note in known.notes:
        _write(f"note: {note}")


def _line(ping: Ping, plan: Plan) -> None:
    event = ping.event
    if event is None:
        text = f"no answer within {plan.timeout:g} s"
    elif ping.seconds is not None:
        text = f"{ping.seconds * 1000:8.3f} ms   TTL {event.ttl}"
    else:
        text = f"{event.sender or 'this host'}: {event.words}"
        if event.mtu:
            text += f", at most {event.mtu:,} bytes"
    _write(f"{ping.number:6}  {text}")


def _write(text: str) -> None:
    sys.stdout.write(f"{shown(text)}\n")
    sys.stdout.flush()


def _show(found: _Found) -> None:
    out, summary = ask.console(), found.summary
    lost = summary.answered < summary.sent or not summary.sent
    _write("")
    ask.sentence(
        out,
        "answered",
        f"{summary.answered:,} of {summary.sent:,}, loss {summary.loss * 100:.3g} %",
        wrong=lost,
    )
    if summary.answered:
        text = "   ".join(f"{name} {value:.3f}" for name, value in _times(summary).items())
        ask.sentence(out, "RTT, ms", text)
    if found.sizes is not None:
        sizes = found.sizes
        text = f"{sizes.largest:,} bytes pass, {_of_mtu(found, sizes)}"
        ask.sentence(out, "size", text, wrong=not sizes.whole)
    for finding in found.findings:
        ask.sentence(out, "found", shown(finding.fact), wrong=True)
        if finding.fix:
            ask.sentence(out, "fix", shown(finding.fix))


def _of_mtu(found: _Found, sizes: Sizes) -> str:
    whose = "the tunnel's MTU" if found.way.target.mtu else "the route's MTU"
    return whose if sizes.whole else f"of {sizes.ceiling:,}, {whose}"


# --- what programs see ---------------------------------------------------------------------------


def _document(found: _Found) -> dict[str, Any]:
    target, summary = found.way.target, found.summary
    return {
        "schema": SCHEMA_VERSION,
        "address": target.address,
        "peer": target.peer,
        "subnet": target.subnet,
        "source": found.source,
        "device": target.device,
        "notes": list(found.way.notes),
        "sent": summary.sent,
        "answered": summary.answered,
        "loss": round(summary.loss, 6),
        "rtt_ms": _times(summary) if summary.answered else None,
        "size": _size_document(found.sizes),
        "findings": _findings(found.findings),
    }


def _times(summary: Summary) -> dict[str, float]:
    values = {
        "min": summary.least,
        "p50": summary.median,
        "avg": summary.average,
        "max": summary.most,
        "mdev": summary.deviation,
    }
    return {name: round(value * 1000, 4) for name, value in values.items()}


def _size_document(sizes: Sizes | None) -> dict[str, Any] | None:
    if sizes is None:
        return None
    event = sizes.reported or sizes.stopped_by
    return {
        "largest": sizes.largest,
        "asked": sizes.ceiling,
        "limit": sizes.limit,
        "reporter": "" if event is None else event.sender,
        "reported_mtu": 0 if event is None else event.mtu,
    }


def _findings(findings: Sequence[Finding]) -> list[dict[str, str]]:
    return [{"fact": finding.fact, "fix": finding.fix} for finding in findings]
