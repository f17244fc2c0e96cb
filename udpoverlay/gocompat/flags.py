"""Command lines by the rules of Go's `flag` package, which flanneld's users and units rely on.

Owns: the syntax. Must not know: any flag of ours. The rules (go/src/flag/flag.go):
- one or two dashes mean the same; `-f=v` or `-f v`; a bool only as `-f` or `-f=v`;
- parsing stops at the first word that is no flag, or after `--`;
- a repeated flag replaces its value, unless it collects a list;
- integers may be written 0x1F, 0o17, 0b11, 017 and 1_000.

One thing is not Go's: a wrong word is quoted only up to where its value may begin, because that may
be a password ("-etcd-pasword:hunter2").
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Flag",
    "FlagError",
    "HelpRequested",
    "Parsed",
    "format_flags",
    "from_environment",
    "parse",
    "parse_bool",
    "parse_int",
    "parse_int32",
    "parse_text",
]

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_INTEGER = re.compile(
    r"(?P<sign>[+-]?)(?:"
    r"0[xX](?P<x>(?:_?[0-9a-fA-F])+)|0[bB](?P<b>(?:_?[01])+)|0[oO](?P<o>(?:_?[0-7])+)"
    r"|0(?P<zero>(?:_?[0-7])+)|(?P<d>0|[1-9](?:_?[0-9])*))",
    re.ASCII,
)
_BASES = {"x": 16, "b": 2, "o": 8, "zero": 8, "d": 10}
_MAX_DIGITS = 100
_NAME = re.compile(r"[A-Za-z0-9_.-]*")
"""The dashes and the name at the beginning of a word."""
_WRAP = textwrap.TextWrapper(96, " " * 8, " " * 8, break_long_words=False, break_on_hyphens=False)


class FlagError(Exception):
    """The command line is wrong; the text says how, in Go's words. `flag` is the name at fault.

    Neither holds the value of a secret flag, also where the flag is misspelt.
    """

    def __init__(self, text: str, flag: str = "") -> None:
        self.flag = flag
        super().__init__(text)


class HelpRequested(Exception):
    """-h or -help was met."""


def parse_text(text: str) -> str:
    """Take any text."""
    return text


def parse_bool(text: str) -> bool:
    """Read a bool as strconv.ParseBool does. Raises ValueError."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("parse error")


def _integer(text: str, bits: int) -> int:
    match = _INTEGER.fullmatch(text)
    if match is None or len(text) > _MAX_DIGITS:
        raise ValueError("parse error")
    kind = next(name for name in _BASES if match[name] is not None)
    value = int(match["sign"] + match[kind].replace("_", ""), _BASES[kind])
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise ValueError("value out of range")
    return value


def parse_int(text: str) -> int:
    """Read a 64-bit integer in any base that its prefix names. Raises ValueError."""
    return _integer(text, 64)


def parse_int32(text: str) -> int:
    """Read a decimal 32-bit integer, as klog's -v does. Raises ValueError."""
    if not re.fullmatch(r"[+-]?[0-9]{1,40}", text, re.ASCII):
        raise ValueError("parse error")
    value = int(text)
    if not -(1 << 31) <= value < 1 << 31:
        raise ValueError("value out of range")
    return value


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: how it is spelled, read and explained."""

    name: str
    help: str
    default: Any = ""
    parse: Callable[[str], Any] = parse_text
    repeatable: bool = False
    """Collects a tuple in the order given; `parse` reads one element."""
    secret: bool = False
    """The value is never quoted."""

    @property
    def is_bool(self) -> bool:
        """Whether it takes no following word as its value."""
        return self.parse is parse_bool

    @property
    def kind(self) -> str:
        """What stands for the value in the usage text."""
        if self.repeatable:
            return "value"
        if self.is_bool:
            return ""
        return "int" if self.parse in (parse_int, parse_int32) else "string"


@dataclass(frozen=True, slots=True)
class Parsed:
    """The outcome: values of all flags, which of them were given, and the words left over."""

    values: dict[str, Any]
    given: frozenset[str]
    rest: tuple[str, ...]


def _quotable(word: str, known: Mapping[str, Flag]) -> str:
    """`word` without what may be a value: it ends at the first character that no name has."""
    match = _NAME.match(word)
    shown = match[0] if match else ""
    for name, flag in known.items():
        at = shown.find(name) if flag.secret else -1
        if at >= 0:
            shown = shown[: at + len(name)]
    return shown if shown == word else f"{shown}…"


def _stored(flag: Flag, text: str, given: Mapping[str, Any]) -> Any:
    value = flag.parse(text)
    return (*given.get(flag.name, ()), value) if flag.repeatable else value


def parse(flags: Iterable[Flag], words: Sequence[str]) -> Parsed:
    """Read a command line without its program name. Raises FlagError and HelpRequested."""
    known = {flag.name: flag for flag in flags}
    given: dict[str, Any] = {}
    at = 0
    while at < len(words):
        word = words[at]
        if len(word) < 2 or word[0] != "-":
            break
        at += 1
        if word == "--":
            break
        body = word[2:] if word[1] == "-" else word[1:]
        if not body or body[0] in "-=":
            raise FlagError(f"bad flag syntax: {_quotable(word, known)}")
        name, equals, value = body.partition("=")
        flag = known.get(name)
        if flag is None:
            if name in {"h", "help"}:
                raise HelpRequested
            shown = _quotable(name, known)
            raise FlagError(f"flag provided but not defined: -{shown}", shown.rstrip("…"))
        if flag.is_bool:
            value = value if equals else "true"
        elif not equals:
            if at == len(words):
                raise FlagError(f"flag needs an argument: -{name}", name)
            value = words[at]
            at += 1
        try:
            given[name] = _stored(flag, value, given)
        except ValueError as error:
            what = "boolean value" if flag.is_bool else "value"
            of = "for" if flag.is_bool else "for flag"
            # A flag that was swallowed as the value of the one before it: "-v --etcd-pasword=x".
            shown = _quotable(value, known) if flag.secret or value.startswith("--") else value
            raise FlagError(f'invalid {what} "{shown}" {of} -{name}: {error}', name) from None
    values = {name: given.get(name, flag.default) for name, flag in known.items()}
    return Parsed(values, frozenset(given), tuple(words[at:]))


def from_environment(
    flags: Iterable[Flag], parsed: Parsed, environ: Mapping[str, str], prefix: str
) -> tuple[dict[str, Any], list[str]]:
    """Fill flags that were not given from PREFIX_NAME variables (coreos/pkg flagutil).

    An empty variable counts as unset, a list flag takes its variable as one element. Returns the
    values that were found, and a message for each variable that cannot be read: its flag keeps the
    default.
    """
    values: dict[str, Any] = {}
    complaints: list[str] = []
    for flag in flags:
        variable = f"{prefix}_{flag.name.replace('-', '_').upper()}"
        text = environ.get(variable, "")
        if flag.name in parsed.given or not text:
            continue
        try:
            values[flag.name] = _stored(flag, text, {})
        except ValueError as error:
            complaints.append(f'invalid value "{text}" for {variable}: {error}')
    return values, complaints


def format_flags(flags: Iterable[Flag]) -> str:
    """Return the flags with their meaning and default, sorted by name, as Go prints them."""
    lines: list[str] = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        lines.append(f"  -{flag.name} {flag.kind}".rstrip())
        text = flag.help
        if flag.default not in ("", False, 0, ()):
            shown = f'"{flag.default}"' if isinstance(flag.default, str) else flag.default
            text += f" (default {str(shown).lower() if flag.is_bool else shown})"
        lines += _WRAP.wrap(text)
    return "\n".join(lines) + "\n"
