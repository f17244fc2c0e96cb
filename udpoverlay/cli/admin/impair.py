"""`udpoverlay impair`: makes the packets to one peer worse, for a test and for a limited time."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from udpoverlay.cli.admin import ask
from udpoverlay.errors import OperatorError
from udpoverlay.lab.tables import table
from udpoverlay.model.impairment import Impairment

__all__ = ["configure", "impairment", "run"]

_EPILOG = """\
examples:
  udpoverlay impair 192.0.2.12 loss 5% --for 60s
  udpoverlay impair 10.244.3.7 delay 50ms jitter 10ms     the peer that has it
  udpoverlay impair 192.0.2.12 rate 10mbit loss 0.1%      several at a time
  udpoverlay impair 192.0.2.12 reorder 5% by 10ms --seed 7
  udpoverlay impair list
  udpoverlay impair 192.0.2.12 off
  udpoverlay impair 10.244.3.7 corrupt 1% --node n1       of a kept lab

kinds, of the packets from this host to that peer:
  loss P%               are dropped            duplicate P%  are sent twice
  corrupt P%            have one bit changed   rate R        kbit, mbit or gbit
  delay T [jitter T]    leave later: us, ms, s
  reorder P% [by T]     leave later than those behind them (by 10ms)

The daemon allows it only with --allow-impair. The same seed makes the same
pattern. It ends by itself, after an hour at most, also when the daemon hangs."""

_DEFAULT_FOR = "60s"
_DEFAULT_BY_MS = 10.0
_SHOWN = 5
"""Peers that an error names."""
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.usage = (
        "udpoverlay impair PEER KIND VALUE ... [--for TIME] [--seed N]\n"
        "       udpoverlay impair PEER off\n"
        "       udpoverlay impair list"
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="PEER KIND VALUE",
        help="a peer by its public IP, or an address in its subnet; then what happens, or off",
    )
    parser.add_argument(
        "--for", dest="time", default=_DEFAULT_FOR, metavar="TIME", help="(default %(default)s)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the pattern (default: a new one)")
    ask.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for it, and show what is so then."""
    peer, *words = args.words
    listing, ending = args.words == ["list"], words == ["off"]
    seed = secrets.randbelow(1 << 32) if args.seed is None else args.seed
    if not listing and not ending:
        impairment("192.0.2.1", words, args.time, seed)  # a wrong word is wrong without a daemon
    if not listing:
        ask.address(peer)
    code = ask.in_node(args, "impair", [*args.words, f"--for={args.time}", f"--seed={seed}"])
    if code is not None:
        return code
    client = ask.client(args)
    if listing:
        document = client.get("/v1/impair")
    elif ending:
        document = client.post("/v1/impair/off", {"peer": _public_ip(client, peer)})
    else:
        wanted = impairment(_public_ip(client, peer), words, args.time, seed)
        document = client.post("/v1/impair", asdict(wanted))
    if args.json:
        ask.print_json(document)
    else:
        _show(ask.console(), document)
    return 0


def impairment(peer: str, words: Sequence[str], time: str, seed: int) -> Impairment:
    """What `words` ask for. Raises OperatorError."""
    found: dict[str, float] = {}
    rest = iter(words)
    for word in rest:
        if word not in _KINDS:
            raise OperatorError(
                f"{word!r} is nothing that can be done to packets", fix=f"use {', '.join(_KINDS)}"
            )
        after, name, read = _KINDS[word]
        if after and after not in found:
            before = after.partition("_")[0]
            raise OperatorError(f"{word} stands alone", fix=f"write it behind {before}")
        if name in found:
            raise OperatorError(f"{word} stands there twice")
        found[name] = read(word, next(rest, ""))
    if "reorder_percent" in found:
        found.setdefault("reorder_ms", _DEFAULT_BY_MS)
    rate = int(found.pop("rate_bits_per_second", 0))
    seconds = _milliseconds("--for", time) / 1000
    return Impairment(peer, seconds, seed, **found, rate_bits_per_second=rate)


def _percent(kind: str, text: str) -> float:
    number = text.removesuffix("%")
    if number == text:
        raise OperatorError(f"{kind} is {text!r}", fix="write a percentage, for example 5%")
    return _number(kind, text, number, "a percentage, for example 5%")


def _milliseconds(kind: str, text: str) -> float:
    for unit in sorted(_SECONDS, key=len, reverse=True):
        if text.endswith(unit):
            number = text.removesuffix(unit)
            # Through microseconds, so that 50ms is 50.0.
            return round(_number(kind, text, number, _TIME) * _SECONDS[unit] * 1e6) / 1000
    raise OperatorError(f"{kind} is {text!r}", fix=f"write {_TIME}")


_TIME = "a time with its unit, for example 50ms or 60s"


def _bits(kind: str, text: str) -> float:
    lowered = text.lower().removesuffix("/s")
    for unit in sorted(_BITS, key=len, reverse=True):
        if lowered.endswith(unit):
            number = lowered.removesuffix(unit)
            return round(_number(kind, text, number, "a rate, for example 10mbit") * _BITS[unit])
    raise OperatorError(f"{kind} is {text!r}", fix="write a rate, for example 10mbit")


def _number(kind: str, text: str, number: str, wanted: str) -> float:
    digits = number.replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit()) or len(number) > 12:
        raise OperatorError(f"{kind} is {text!r}", fix=f"write {wanted}")
    return float(number)


_KINDS: dict[str, tuple[str, str, Callable[[str, str], float]]] = {
    "loss": ("", "loss_percent", _percent),
    "duplicate": ("", "duplicate_percent", _percent),
    "corrupt": ("", "corrupt_percent", _percent),
    "reorder": ("", "reorder_percent", _percent),
    "by": ("reorder_percent", "reorder_ms", _milliseconds),
    "delay": ("", "delay_ms", _milliseconds),
    "jitter": ("delay_ms", "jitter_ms", _milliseconds),
    "rate": ("", "rate_bits_per_second", _bits),
}
"""Word → what has to stand before it, the field that it sets, how its value is read."""


def _public_ip(client: Any, text: str) -> str:
    """Of the peer that has the address, or sends from it."""
    wanted = ask.address(text)
    peers = [peer for peer in client.get("/v1/peers")["peers"] if not peer["refused"]]
    for peer in peers:
        if (
            str(wanted) == peer["public_ip"]
            or str(wanted) in peer["also_sends_from"]
            or ask.holds(peer["subnet"], wanted)
        ):
            return str(peer["public_ip"])
    raise OperatorError(f"no peer has {text}", fix="; ".join(_known(peers)))


def _known(peers: list[dict[str, Any]]) -> Iterator[str]:
    if not peers:
        yield "no route leads to any"
        return
    named = [f"{peer['public_ip']} ({peer['subnet']})" for peer in peers[:_SHOWN]]
    yield f"the peers are {', '.join(named)}"
    if len(peers) > _SHOWN:
        yield f"udpoverlay peers has {len(peers) - _SHOWN} more"


def _show(out: Console, document: dict[str, Any]) -> None:
    impairments = document["impairments"]
    if not impairments:
        out.print("nothing is done to packets on purpose")
        return
    shown = table("")
    shown.title = None
    shown.add_column("packets to", no_wrap=True)
    shown.add_column("what is done to them")
    shown.add_column("seed", justify="right", no_wrap=True)
    shown.add_column("left", justify="right", no_wrap=True)
    shown.add_column("so far")
    for each in impairments:
        shown.add_row(
            each["peer"],
            each["what"],
            str(each["seed"]),
            ask.duration(each["left_seconds"]),
            _done(each),
        )
    out.print(shown)


def _done(each: dict[str, Any]) -> str:
    kinds = ("lost", "corrupted", "duplicated", "reordered", "overflowed", "waiting")
    facts = [ask.count(each["packets"], "packet")]
    facts += [f"{each[kind]:,} {kind}" for kind in kinds if each[kind]]
    return ", ".join(facts)
