"""`udpoverlay where SRC DST`: where the packets of a flow end, seen from both of its hosts.

Exit status 0 when all were delivered, 3 when some were not, 1 when it cannot be said.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from udpoverlay.cli.admin import ask
from udpoverlay.cli.admin.ends import Asked, here, in_lab, via
from udpoverlay.cli.findings import shown
from udpoverlay.cli.numbers import between, seconds
from udpoverlay.errors import OperatorError
from udpoverlay.observe.status import SCHEMA_VERSION
from udpoverlay.reach.follow import End, Stop, Way, follow
from udpoverlay.trace.filter import parse_filter

__all__ = ["WORDS_AND_OPTIONS_MIX", "configure", "run"]

WORDS_AND_OPTIONS_MIX = True
"""See main.py."""

_WRONG, _UNKNOWN = 3, 1
_RECORDED_SECONDS = 30.0
_SPARE_SECONDS = 0.5
_PROBES = 3
_PROBE_BYTES = 84

_EPILOG = """\
examples:
  udpoverlay where 10.244.1.0 10.244.3.0 --dst-via 'ssh root@192.0.2.12'
  udpoverlay where 10.244.1.7 10.244.3.9 port 80 --since 1m --dst-via …
  udpoverlay where 192.0.2.11 192.0.2.12 --src-via 'kubectl -n kube-flannel
      exec POD-A --' --dst-via 'kubectl -n kube-flannel exec POD-B --'
  udpoverlay where n1 n2 --lab         nodes of `udpoverlay lab --keep`

Between two tunnel addresses (or public IPs, which stand for them) it sends
three echo requests; with --since, or from a container's address, it looks at
what the flight recorders of both hosts hold. The command behind --src-via or
--dst-via runs its words, `udpoverlay …`, on that host; the other end is this
host. Exit status 0: delivered; 3: stopped; 1: it cannot be said."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    what = "an address in the overlay, a host's public IP, or with --lab a node"
    parser.add_argument("source", metavar="SRC", help=what)
    parser.add_argument("destination", metavar="DST", help="the same, for the other end")
    parser.add_argument(
        "filter", nargs="*", metavar="FILTER", help="which packets of the flow, as for trace"
    )
    parser.add_argument(
        "--src-via", metavar="COMMAND", help="how to reach the host of SRC, such as 'ssh root@n1'"
    )
    parser.add_argument("--dst-via", metavar="COMMAND", help="how to reach the host of DST")
    parser.add_argument("--lab", action="store_true", help="SRC and DST are nodes of a kept lab")
    parser.add_argument(
        "--since",
        type=seconds,
        metavar="TIME",
        help="send nothing: what passed in the last so long",
    )
    parser.add_argument(
        "-s",
        "--size",
        type=between(28, 65535, int),
        metavar="BYTES",
        help="of the echo requests, with their IP header (default 84)",
    )
    ask.add_arguments(parser, node=False)


@dataclass(frozen=True, slots=True)
class _Ends:
    """Who is asked, and about which inner addresses."""

    sender: Asked | None
    receiver: Asked | None
    source: str
    destination: str
    sender_name: str
    receiver_name: str
    may_probe: bool
    """SRC is its host's tunnel address: echo requests come from there."""


@dataclass(slots=True)
class _Found:
    ends: _Ends
    there: Way
    back: Way
    probing: bool
    probes: int
    """Echo requests that were sent."""
    seconds: float
    lost: int
    said: str
    """What ping said of requests that did not leave."""
    explained: str = ""
    """What `explain` says at the sender, where nothing entered the tunnel or came out of it."""


def run(args: argparse.Namespace) -> int:
    """Ask both ends, and say where it stops."""
    parse_filter(" ".join(args.filter))
    try:
        found = _look(args, _ends(args))
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # other hosts wrote them
        raise OperatorError(
            f"a document of a daemon has not what it should: {type(error).__name__} {error}",
            fix="use the command of the daemons' own version on both hosts",
        ) from error
    code, answer = _answer(found)
    if args.json:
        ask.print_json(_document(found, answer))
    else:
        _show(found, answer, code)
    return code


# --- who is asked --------------------------------------------------------------------------------


def _ends(args: argparse.Namespace) -> _Ends:
    if args.lab:
        if args.src_via or args.dst_via:
            raise OperatorError("--lab finds both ends", fix="leave --src-via and --dst-via out")
        one, other = in_lab(args.source), in_lab(args.destination)
        source, destination = (_tunnel(end.document("status")) for end in (one, other))
        return _Ends(one, other, source, destination, args.source, args.destination, may_probe=True)
    mine = here(args.admin_socket)
    sender = via(args.src_via) if args.src_via else mine
    receiver = via(args.dst_via) if args.dst_via else mine
    statuses = {end: end.document("status") for end in {sender, receiver}}
    leases = _leases(statuses, (sender, receiver))
    source, source_host, source_lease = _place(args.source, leases)
    destination, destination_host, _ = _place(args.destination, leases)
    asked: list[Asked | None] = []
    for end, word, public_ip in (
        (sender, "SRC", source_host),
        (receiver, "DST", destination_host),
    ):
        found = str(statuses[end]["node"]["public_ip"])
        if found == public_ip or (not public_ip and end is not mine):
            asked.append(end)  # an address without a lease is whose the person says
        elif end is mine:
            asked.append(None)
        else:
            raise OperatorError(
                f"{end.what} is {found}, and {word} belongs to {public_ip or 'no host'}",
                fix=f"let --{word.lower()}-via lead to {public_ip or 'the host that has it'}",
            )
    if asked == [None, None]:
        raise OperatorError(
            f"neither {args.source} nor {args.destination} belongs to a host that was asked",
            fix="run it on one of the two hosts, or add --src-via and --dst-via",
        )
    tunnel = _tunnel(statuses[sender]) if asked[0] else ""
    return _Ends(
        asked[0],
        asked[1],
        source,
        destination,
        source_host or args.source,
        destination_host or args.destination,
        may_probe=source_lease and source == tunnel,
    )


def _tunnel(status: Mapping[str, Any]) -> str:
    return str(status["node"]["tun_address"])


def _leases(
    statuses: Mapping[Asked, Mapping[str, Any]], ends: tuple[Asked, Asked]
) -> list[tuple[str, str]]:
    """Subnet and public IP of each host that one of the ends knows, their own first."""
    found = [
        (status["lease"]["subnet"], status["node"]["public_ip"]) for status in statuses.values()
    ]
    for end in dict.fromkeys(ends):
        peers = end.document("peers")["peers"]
        found += [(peer["subnet"], peer["public_ip"]) for peer in peers if not peer["refused"]]
    return found


def _place(word: str, leases: list[tuple[str, str]]) -> tuple[str, str, bool]:
    """The inner address that is meant, its host's public IP or "", whether one has it."""
    for subnet, public_ip in leases:
        if word == public_ip:
            return subnet.partition("/")[0], public_ip, True
    wanted = ask.address(word)
    for subnet, public_ip in leases:
        if ask.holds(subnet, wanted):
            return str(ip_address(word)), public_ip, True
    return str(ip_address(word)), "", False


# --- what they say -------------------------------------------------------------------------------


def _look(args: argparse.Namespace, ends: _Ends) -> _Found:
    began = time.monotonic()
    probe = ends.may_probe and args.since is None and not args.filter
    if args.size and not probe:
        raise OperatorError(
            "--size is for echo requests, and none are sent here",
            fix="they go from a tunnel address, without --since and FILTER",
        )
    probes, said = _probe(ends, args.size or _PROBE_BYTES) if probe else (0, "")
    only = "icmp" if probe else f"( {' '.join(args.filter)} )" if args.filter else ""
    text = _both_ways(ends.source, ends.destination, only)

    def packets(end: Asked | None) -> tuple[list[dict[str, Any]] | None, int]:
        if end is None:
            return None, 0
        span = 0.0 if probe else args.since or _RECORDED_SECONDS
        return end.packets(text, span + time.monotonic() - began + _SPARE_SECONDS)

    sent, lost = packets(ends.sender)
    came, lost_there = packets(ends.receiver)
    sender, receiver = End(ends.sender_name, sent), End(ends.receiver_name, came)
    found = _Found(
        ends,
        follow(ends.source, ends.destination, sender, receiver),
        follow(ends.destination, ends.source, receiver, sender),
        probe,
        probes,
        args.since or _RECORDED_SECONDS,
        lost + lost_there,
        said,
    )
    astray = not found.there.seen or any(not stop.host for stop in found.there.stops)
    if ends.sender is not None and astray:
        answer = ends.sender.document("explain", ends.destination)["answer"]
        found.explained = "" if answer.startswith("nothing is wrong") else answer
        if not found.explained and found.there.seen and probes and args.size:
            found.explained = _by_size(ends, args.size)
    return found


def _by_size(ends: _Ends, size: int) -> str:
    """What keeps packets of that size from arriving, where shorter ones do; "": something else."""
    assert ends.sender is not None
    words = (f"--count={_PROBES}", "--interval=0.05")
    document = ends.sender.document("ping", ends.destination, *words)
    sizes = document["size"]
    if not document["answered"] or sizes is None or sizes["largest"] >= size:
        return ""
    fact = next((finding["fact"] for finding in document["findings"]), "")
    return f"an MTU on the way: {sizes['largest']:,} bytes pass; {fact}"


def _both_ways(source: str, destination: str, only: str) -> str:
    rest = "and not reason probe" + (f" and {only}" if only else "")
    ways = ((source, destination), (destination, source))
    return " or ".join(f"src {one} and dst {other} {rest}" for one, other in ways)


def _probe(ends: _Ends, size: int) -> tuple[int, str]:
    """Echo requests: how many, and what ping found first. What became of them the records say."""
    assert ends.sender is not None
    words = (f"--count={_PROBES}", "--interval=0.05", "--no-size-search", f"--size={size}")
    try:
        found = ends.sender.document("ping", ends.destination, *words)
    except OperatorError as error:
        return 0, error.what
    return int(found["sent"]), next((finding["fact"] for finding in found.get("findings", ())), "")


# --- the answer ----------------------------------------------------------------------------------


def _answer(found: _Found) -> tuple[int, str]:
    """The exit status and one line."""
    there, back, ends = found.there, found.back, found.ends
    if there.stops:
        return _WRONG, _stopped(there, there.stops[0], found.explained)
    if not there.seen:
        return _nothing(found)
    answers = f", and answers at {back.receiver}" if back.delivered else ""
    if ends.receiver is None and not (found.probing and answers):
        left = f"sent by {there.sender} from udp-out; {there.receiver} was not asked"
        return _UNKNOWN, f"{left}: add --dst-via"
    answer = f"delivered at {there.receiver}: tun-out"
    if back.stops:
        return _WRONG, f"{answer}; the way back: {_stopped(back, back.stops[0])}"
    if found.probing and not back.seen and ends.receiver is not None:
        return _WRONG, f"{answer}; its host answers nothing: do its firewall or routes drop ICMP?"
    return 0, answer + answers


def _nothing(found: _Found) -> tuple[int, str]:
    """No record of the flow: it did not come to the first point where one was looked for."""
    there = found.there
    if found.explained:
        return _WRONG, f"stopped at {there.sender}: before tun-in, {found.explained}"
    if found.probing:
        said = found.said or "no echo request came there; udpoverlay doctor says more"
        return _WRONG, f"stopped at {there.sender}: before tun-in, {said}"
    where, point = (there.sender, "tun-in") if found.ends.sender else (there.receiver, "udp-in")
    span = ask.duration(found.seconds)
    return _UNKNOWN, f"no packet of it at {where}, {point}, in the last {span}: send one, repeat it"


def _stopped(way: Way, stop: Stop, explained: str = "") -> str:
    some = f"{stop.packets:,} of {ask.count(way.seen, 'packet')} " if way.delivered else ""
    if not stop.host:
        why = explained or "a firewall, a wrong public IP, or the underlay"
        return f"{some}stopped between {way.sender} and {way.receiver}: {stop.meaning}: {why}"
    if not stop.verdict:
        return f"{some}stopped at {stop.host}: {stop.point}, {stop.meaning}"
    reason = stop.verdict.partition("_")[2].replace("_", " ")
    return f"{some}stopped at {stop.host}: {stop.point}, {reason}: {stop.meaning}"


def _show(found: _Found, answer: str, code: int) -> None:
    out = ask.console()
    ends = found.ends
    what = (
        f"{_PROBES} echo requests" if found.probing else f"the last {ask.duration(found.seconds)}"
    )
    ask.sentence(out, "flow", f"{ends.source} > {ends.destination}, {what}")
    for label, way in (("there", found.there), ("back", found.back)):
        ask.sentence(out, label, shown(_counts(way)), wrong=bool(way.stops))
        for stop in way.stops[1:] if label == "there" else way.stops:
            ask.sentence(out, "", shown(_stopped(way, stop)), wrong=True)
    if found.lost:
        ask.sentence(out, "note", f"{ask.count(found.lost, 'record')} lost: counts are too low")
    ask.sentence(out, "answer", shown(answer), wrong=code == _WRONG)


def _counts(way: Way) -> str:
    counts = f"{way.seen:,} seen, {way.sent:,} sent, {way.delivered:,} delivered"
    return f"{way.sender} > {way.receiver}: {counts}, {way.stopped:,} stopped"


def _document(found: _Found, answer: str) -> dict[str, Any]:
    ends = found.ends
    return {
        "schema": SCHEMA_VERSION,
        "source": ends.source,
        "destination": ends.destination,
        "answer": answer,
        "probes": found.probes,
        "records_lost": found.lost,
        "there": _way_document(found.there),
        "back": _way_document(found.back),
    }


def _way_document(way: Way) -> dict[str, Any]:
    return {
        "sender": way.sender,
        "receiver": way.receiver,
        "seen": way.seen,
        "sent": way.sent,
        "delivered": way.delivered,
        "stops": [
            {
                "host": stop.host,
                "point": stop.point,
                "verdict": stop.verdict,
                "meaning": stop.meaning,
                "packets": stop.packets,
            }
            for stop in way.stops
        ],
    }
