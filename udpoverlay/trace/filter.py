"""Which packets a trace shows: a small language, near to tcpdump's.

Owns: its words and their meaning (docs/reference/trace.md). Must not know: where records come from.

    expression   term { "or" term }
    term         factor { "and" factor }
    factor       "not" factor │ "(" expression ")" │ condition
    condition    peer ADDRESS │ host, src, dst ADDRESS │ [src │ dst] port N[-M] │ proto NAME
                 │ tcp │ udp │ icmp │ reason NAME │ in │ out │ point NAME │ drops │ sample 1/N
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from udpoverlay import _fastpath as fp
from udpoverlay.errors import OperatorError
from udpoverlay.model.packet_record import POINTS, PacketRecord
from udpoverlay.trace.flow import Flow, flow_of
from udpoverlay.trace.identity import packet_id

__all__ = ["MOST_CHARACTERS", "WORDS", "Filter", "FilterError", "parse_filter"]

MOST_CHARACTERS = 2048
_MOST_DEPTH = 32
"""Of parentheses and "not"."""
_MOST_SAMPLE = 10**9

PROTOCOLS = {
    "icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "icmp6": 58, "sctp": 132,
}  # fmt: skip
_REASONS = tuple(name for name, *_ in fp.VERDICTS)
_DIRECTIONS = {"in": False, "inbound": False, "out": True, "outbound": True}
_OPERATORS = {"&&": "and", "||": "or", "!": "not"}
_TOKEN = re.compile(r"&&|\|\||[()!]|(?:(?!&&|\|\|)[^\s()!])+")


class FilterError(OperatorError):
    """Not a filter; the message has the column, from 1."""


_Test = Callable[[PacketRecord, Flow | None], bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """Says of a record whether it is wanted."""

    text: str = ""
    test: _Test | None = None
    """None: all are."""
    drops_only: bool = False
    """Nothing but drops can match: those that pass need not be looked at."""

    def wants(self, record: PacketRecord) -> bool:
        """Whether it matches."""
        return self.test is None or self.test(record, flow_of(record.data))


def parse_filter(text: str) -> Filter:
    """The filter that `text` says; "" wants everything. Raises FilterError."""
    if len(text) > MOST_CHARACTERS:
        raise FilterError(f"filter: it has {len(text):,} characters, {MOST_CHARACTERS:,} may be")
    parser = _Parser(text)
    if parser.ended():
        return Filter(text)
    node = parser.expression(0)
    if not parser.ended():
        raise parser.wrong("unexpected", 'join conditions with "and" or "or"')
    return Filter(text, node.test, node.drops_only)


class _Node(NamedTuple):
    test: _Test
    drops_only: bool = False


class _Token(NamedTuple):
    text: str
    column: int


class _Parser:
    """Reads tokens from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens = [_Token(found[0], found.start() + 1) for found in _TOKEN.finditer(text)]
        self._next = 0
        self._end = len(text) + 1

    def ended(self) -> bool:
        """Whether no token is left."""
        return self._next >= len(self._tokens)

    def wrong(self, what: str, fix: str = "") -> FilterError:
        """About the token that comes next."""
        if self.ended():
            return FilterError(f"filter: column {self._end}: it ends too early", fix=fix)
        token = self._tokens[self._next]
        return FilterError(f"filter: column {token.column}: {what} {token.text!r}", fix=fix)

    def _peek(self) -> str:
        if self.ended():
            return ""
        word = self._tokens[self._next].text.lower()
        return _OPERATORS.get(word, word)

    def take(self, word: str) -> bool:
        """Whether `word` comes next; it is consumed then."""
        if self._peek() != word:
            return False
        self._next += 1
        return True

    # --- the grammar, from the outside in

    def expression(self, depth: int) -> _Node:
        nodes = [self._term(depth)]
        while self.take("or"):
            nodes.append(self._term(depth))
        if len(nodes) == 1:
            return nodes[0]
        tests = tuple(node.test for node in nodes)
        return _Node(
            lambda record, flow: any(test(record, flow) for test in tests),
            all(node.drops_only for node in nodes),
        )

    def _term(self, depth: int) -> _Node:
        nodes = [self._factor(depth)]
        while self.take("and"):
            nodes.append(self._factor(depth))
        if len(nodes) == 1:
            return nodes[0]
        tests = tuple(node.test for node in nodes)
        return _Node(
            lambda record, flow: all(test(record, flow) for test in tests),
            any(node.drops_only for node in nodes),
        )

    def _factor(self, depth: int) -> _Node:
        if depth > _MOST_DEPTH:
            raise self.wrong(f"more than {_MOST_DEPTH} parentheses in each other at")
        if self.take("not"):
            inner = self._factor(depth + 1).test
            return _Node(lambda record, flow: not inner(record, flow))
        if self.take("("):
            node = self.expression(depth + 1)
            if not self.take(")"):
                raise self.wrong('a ")" is missing before', "close each parenthesis")
            return node
        word = self._peek()
        if word not in WORDS:
            fix = _close(word, (*WORDS, "and", "or", "not")) or f"use one of {', '.join(WORDS)}"
            raise self.wrong("unknown word", fix)
        self._next += 1
        return WORDS[word](self)

    # --- what the conditions take

    def value(self, what: str, example: str) -> str:
        """The next token, consumed by `accept`."""
        if self.ended() or self._peek() in {"(", ")", "and", "or", "not"}:
            raise self.wrong(f"{what} is missing before", f"write for example: {example}")
        return self._tokens[self._next].text

    def accept(self) -> None:
        """The value was understood."""
        self._next += 1

    def network(self, word: str) -> IPv4Network | IPv6Network:
        example = f"{word} 10.244.3.7, {word} 10.244.3.0/24"
        text = self.value("an address", example)
        try:
            found = ip_network(text, strict=False)
        except ValueError:
            raise self.wrong("no address or CIDR:", f"write for example: {example}") from None
        self.accept()
        return found

    def choice(self, word: str, names: Iterable[str], example: str) -> str:
        """One of `names`, as they are written there."""
        text = self.value(f"a {word}", example).lower()
        known = tuple(names)
        if text not in known:
            fix = _close(text, known) or f"use one of {', '.join(known)}"
            raise self.wrong(f"unknown {word}", fix)
        self.accept()
        return text


def _close(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, tuple(known), n=1)
    return f"did you mean {close[0]}?" if close else ""


# --- the conditions -----------------------------------------------------------------------------


def _peer(parser: _Parser) -> _Node:
    network = parser.network("peer")
    if network.num_addresses == 1:
        address = str(network.network_address)
        return _Node(lambda record, _: record.remote == address)
    return _Node(lambda record, _: record.remote != "" and ip_address(record.remote) in network)


def _address(word: str, source: bool, destination: bool) -> Callable[[_Parser], _Node]:
    """A condition about an inner address: the source's, the destination's, or either."""

    def parse(parser: _Parser) -> _Node:
        if source != destination:
            if parser.take("port"):
                return _ports(parser, source=source, destination=destination)
            if not parser.take("host"):
                parser.take("net")
        network = parser.network(word)
        version, mask = network.version, int(network.netmask)
        wanted = int(network.network_address)

        def test(_: PacketRecord, flow: Flow | None) -> bool:
            return (
                flow is not None
                and flow.version == version
                and bool(
                    (source and flow.source & mask == wanted)
                    or (destination and flow.destination & mask == wanted)
                )
            )

        return _Node(test)

    return parse


def _port(parser: _Parser) -> _Node:
    return _ports(parser, source=True, destination=True)


def _ports(parser: _Parser, *, source: bool, destination: bool) -> _Node:
    example = "port 80, port 8000-8099"
    text = parser.value("a port", example)
    found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text, re.ASCII)
    least = int(found[1]) if found else -1
    most = int(found[2] or found[1]) if found else -1
    if not 0 <= least <= most <= 0xFFFF:
        raise parser.wrong("no port from 0 to 65535:", f"write for example: {example}")
    parser.accept()

    def test(_: PacketRecord, flow: Flow | None) -> bool:
        return flow is not None and (
            (source and least <= flow.source_port <= most)
            or (destination and least <= flow.destination_port <= most)
        )

    return _Node(test)


def _protocol(number: int) -> _Node:
    return _Node(lambda _, flow: flow is not None and flow.protocol == number)


def _proto(parser: _Parser) -> _Node:
    example = "proto tcp, proto 89"
    text = parser.value("a protocol", example)
    if text.isascii() and text.isdecimal() and int(text[:4]) <= 0xFF and len(text) <= 3:
        parser.accept()
        return _protocol(int(text))
    return _protocol(PROTOCOLS[parser.choice("protocol", PROTOCOLS, example)])


def _named(name: str) -> Callable[[_Parser], _Node]:
    return lambda _: _protocol(PROTOCOLS[name])


def _going(name: str) -> Callable[[_Parser], _Node]:
    return lambda _: _way(_DIRECTIONS[name])


def _reason(parser: _Parser) -> _Node:
    """A verdict by its name in counters.md, with or without its direction."""
    names: dict[str, set[str]] = {}
    for full in _REASONS:
        for name in (full, full.partition("_")[2]):
            names.setdefault(name, set()).add(full)
    wanted = names[parser.choice("reason", names, "reason no_route")]
    dropped = {name for name, _, kind, _ in fp.VERDICTS if kind == "drop"}
    return _Node(lambda record, _: record.verdict in wanted, wanted <= dropped)


def _direction(parser: _Parser) -> _Node:
    return _way(_DIRECTIONS[parser.choice("direction", _DIRECTIONS, "direction in")])


def _way(outbound: bool) -> _Node:
    return _Node(lambda record, _: record.outbound is outbound)


def _point(parser: _Parser) -> _Node:
    wanted = parser.choice("point", POINTS, "point udp-in")
    return _Node(lambda record, _: record.point == wanted)


def _drops(_: _Parser) -> _Node:
    return _Node(lambda record, _: record.dropped, drops_only=True)


def _sample(parser: _Parser) -> _Node:
    """By the packet's id: so two hosts choose the same packets."""
    text = parser.value("a share", "sample 1/100")
    found = re.fullmatch(r"1/(\d{1,10})", text, re.ASCII)
    share = int(found[1]) if found else 0
    if not 1 <= share <= _MOST_SAMPLE:
        raise parser.wrong("no share:", "write for example: sample 1/100")
    parser.accept()
    return _Node(lambda record, _: packet_id(record.data) % share == 0)


WORDS: dict[str, Callable[[_Parser], _Node]] = {
    "peer": _peer,
    "host": _address("host", source=True, destination=True),
    "net": _address("net", source=True, destination=True),
    "src": _address("src", source=True, destination=False),
    "dst": _address("dst", source=False, destination=True),
    "port": _port,
    "proto": _proto,
    **{name: _named(name) for name in ("tcp", "udp", "icmp")},
    "reason": _reason,
    "direction": _direction,
    **{name: _going(name) for name in _DIRECTIONS},
    "point": _point,
    "drops": _drops,
    "sample": _sample,
}
"""Each condition by its first word."""
