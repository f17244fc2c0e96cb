"""JSON as Go's encoding/json reads and writes it.

Owns: the rules that every document of flannel is subject to, whatever wrote it:
- a key finds its field without regard to case; of several that do, the last one counts
  (so an object is a sequence of pairs here, never a dict);
- `null` leaves a scalar field as it was; other types must fit exactly ("24", 24.0 and 2e1 are no
  unsigned integers);
- no comments, no NaN, nothing after the document;
- strings are written with <, >, & and U+2028/2029 escaped, raw values are kept but compacted.
Must not know: any key. Text is hostile: size and depth are bounded before anything recurses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

__all__ = [
    "MAX_DEPTH",
    "MAX_TEXT",
    "GoJSONError",
    "Pairs",
    "clean",
    "compact",
    "fold",
    "fold_keys",
    "loads",
    "quote",
    "read_bool",
    "read_object",
    "read_string",
    "read_uint",
    "shorten",
]

MAX_TEXT = 256 * 1024
"""Longest document in characters: the limit of all annotations of a Kubernetes object together."""

MAX_DEPTH = 100
"""Deepest nesting (Go allows 10,000; no document of flannel is deeper than 4)."""

_SPACE = re.compile(r"[ \t\n\r]*")
_STRUCTURE = re.compile(r'[\[\]{}"\\]')
_STRING_OR_SPACE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[ \t\n\r]+', re.DOTALL)
_UNSIGNED = re.compile(r"(?:0|[1-9][0-9]*)", re.ASCII)
_SURROGATES = re.compile("[\ud800-\udfff]")
_NOT_RAW = re.compile("[<>&\u2028\u2029 \t\n\r]")
_ESCAPED_BY_GO = re.compile("[<>&\u2028\u2029]")
_MAX_DIGITS = 20


class GoJSONError(ValueError):
    """The text is not a document that Go would accept; the message says what and where."""


class Pairs(list[tuple[str, Any]]):
    """A JSON object with all its keys in order, duplicates included."""


def _reject_constant(name: str) -> Any:
    raise GoJSONError(f"{name} is not JSON")


def _parse_int(text: str) -> int | float:
    # Beyond 64 bits no integer field holds it, and int() of thousands of digits is slow by design.
    return int(text) if len(text) <= _MAX_DIGITS else float(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=Pairs, parse_int=_parse_int, parse_constant=_reject_constant
)


def shorten(text: str, most: int = 80) -> str:
    """Cut `text` so that it fits into a message."""
    return text if len(text) <= most else f"{text[:most]}…"


def _check_limits(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise GoJSONError(f"{len(text)} characters are more than the limit of {MAX_TEXT}")
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    depth = 0
    in_string = False
    skip_at = -1
    for match in _STRUCTURE.finditer(text):
        char = match.group()
        if in_string:
            if match.start() == skip_at:
                continue
            if char == "\\":
                skip_at = match.start() + 1
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise GoJSONError(f"nested deeper than {MAX_DEPTH} levels")
        elif char in "]}":
            depth -= 1


def _skip(text: str, at: int) -> int:
    if text[at : at + 1] > " ":
        return at
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        value, end = _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise GoJSONError(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise GoJSONError("nested too deeply") from None
    return value, end


def _finish(text: str, at: int) -> None:
    at = _skip(text, at)
    if at != len(text):
        raise GoJSONError(f"unexpected {shorten(text[at:], 20)!r} after the end, character {at}")


def read_object(text: str) -> list[tuple[str, str]] | None:
    """Split a document into its keys, as written, and the raw text of their values.

    None for the document `null`, which changes nothing. Raises GoJSONError for anything that is not
    one whole JSON object.
    """
    _check_limits(text)
    at = _skip(text, 0)
    if not text.startswith("{", at):
        value, end = _value(text, at)
        _finish(text, end)
        if value is None:
            return None
        raise GoJSONError(f"{shorten(text.strip(), 40)} is not a JSON object")
    members: list[tuple[str, str]] = []
    at = _skip(text, at + 1)
    if text.startswith("}", at):
        _finish(text, at + 1)
        return members
    while True:
        if not text.startswith('"', at):
            raise GoJSONError(f"a key in double quotes is missing at character {at}")
        key, at = _value(text, at)
        at = _skip(text, at)
        if not text.startswith(":", at):
            raise GoJSONError(f"a colon is missing at character {at}")
        start = _skip(text, at + 1)
        _, at = _value(text, start)
        members.append((key, text[start:at]))
        at = _skip(text, at)
        if text.startswith("}", at):
            _finish(text, at + 1)
            return members
        if not text.startswith(",", at):
            raise GoJSONError(f"a comma or closing brace is missing at character {at}")
        at = _skip(text, at + 1)


def loads(text: str) -> Any:
    """Read any document; objects come as Pairs, integers of more than 20 digits as a float."""
    _check_limits(text)
    value, end = _value(text, _skip(text, 0))
    _finish(text, end)
    return value


def fold(key: str) -> str:
    """Return the form in which keys are compared (simple case folding; field names are ASCII)."""
    return key.replace("\u017f", "s").lower()


def clean(text: str) -> str:
    """Replace halves of surrogate pairs by U+FFFD, as Go does when it reads a string."""
    return _SURROGATES.sub("\ufffd", text)


def fold_keys(members: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Merge pairs as a Go struct of scalars would: folded keys, last one wins, null is skipped.

    Values come out plain: nested objects as dicts of the same kind, strings clean.
    """
    merged: dict[str, Any] = {}
    for key, value in members:
        name = fold(key)
        if value is not None or name not in merged:
            merged[name] = _plain(value)
    return merged


def _plain(value: Any) -> Any:
    if isinstance(value, Pairs):
        return fold_keys(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return clean(value) if isinstance(value, str) else value


def read_bool(raw: str, current: bool) -> bool:
    """Read a bool field; `null` keeps `current`. Raises GoJSONError."""
    if raw == "null":
        return current
    if raw in ("true", "false"):
        return raw == "true"
    raise GoJSONError(f"{shorten(raw)} is not true or false")


def read_uint(raw: str, current: int) -> int:
    """Read an unsigned 64-bit field; `null` keeps `current`. Raises GoJSONError."""
    if raw == "null":
        return current
    if _UNSIGNED.fullmatch(raw) and len(raw) <= _MAX_DIGITS and (value := int(raw)) < 1 << 64:
        return value
    raise GoJSONError(f"{shorten(raw)} is not an unsigned integer")


def read_string(raw: str, current: str) -> str:
    """Read a string field; `null` keeps `current`. Raises GoJSONError."""
    if raw == "null":
        return current
    if not raw.startswith('"'):
        raise GoJSONError(f"{shorten(raw)} is not a string")
    return clean(str(loads(raw)))


def quote(text: str) -> str:
    """Write a string as Go does, with <, >, & and the two line separators escaped."""
    return _escape(json.dumps(clean(text), ensure_ascii=False))


def _escape(text: str) -> str:
    return _ESCAPED_BY_GO.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def compact(raw: str) -> str:
    """Write a raw value (json.RawMessage) as Go does: no space outside strings, strings escaped.

    Raises GoJSONError when `raw` is not one JSON value.
    """
    loads(raw)
    if not _NOT_RAW.search(raw):
        return raw

    def token(match: re.Match[str]) -> str:
        text = match.group()
        return _escape(text) if text.startswith('"') else ""

    return _STRING_OR_SPACE.sub(token, raw)
