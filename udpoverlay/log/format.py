"""A record as one line of text, in klog's format, with key=value fields.

Owns: header, quoting, escaping, how much of a value is shown. Must not know: where the line goes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping

from udpoverlay.log.detail import SETTINGS
from udpoverlay.redact import redact, redact_field

__all__ = ["KlogFormatter", "escape", "render"]

_LETTERS = {"WARNING": "W", "ERROR": "E", "CRITICAL": "F"}
_MAX_VALUE = 1000
_MAX_MESSAGE = 8000
_MARGIN = 4
"""So many times what is shown is looked at for secrets: a value may have megabytes."""
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TO_QUOTE = str.maketrans({"\\": "\\\\", '"': '\\"'})


def escape(text: str) -> str:
    """Escape everything that does not print as itself: line ends, terminal controls, surrogates."""
    return text if text.isprintable() else "".join(map(_escape_char, text))


def _quote(text: str) -> str:
    return f'"{escape(text.translate(_TO_QUOTE))}"'


def _escape_char(char: str) -> str:
    if char.isprintable():
        return char
    short = _SHORT_ESCAPES.get(char)
    if short is not None:
        return short
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _shown(name: str, text: str, most: int) -> str:
    """The beginning of a value, without secrets; the rest is only counted."""
    head = redact_field(name, text[: _MARGIN * most])
    if len(text) <= _MARGIN * most and len(head) <= most:
        return head
    return f"{head[:most]}…(+{max(len(text), len(head)) - most})"


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(map(_text, value)) if isinstance(value, (set, frozenset)) else value
        return ",".join(map(_text, items))
    return str(value)


def render(fields: Mapping[str, object]) -> str:
    """Write fields as ` key=value …`, quoted where a plain word would be ambiguous."""
    parts = []
    for name, value in fields.items():
        text = _shown(name, _text(value), _MAX_VALUE)
        plain = text and text.isprintable() and not any(char in text for char in ' "=\\')
        parts.append(f" {name}={text}" if plain else f" {name}={_quote(text)}")
    return "".join(parts)


class KlogFormatter(logging.Formatter):
    """k8s.io/klog's header, then the event and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        letter = _LETTERS.get(record.levelname, "I")
        when = time.localtime(record.created)
        micros = int(record.created % 1 * 1_000_000)
        head = (
            f"{letter}{when.tm_mon:02}{when.tm_mday:02} {when.tm_hour:02}:{when.tm_min:02}:"
            f"{when.tm_sec:02}.{micros:06} {os.getpid():7} {record.filename}:{record.lineno}] "
        )
        fields: Mapping[str, object] = getattr(record, "fields", {})
        message = _shown("", record.getMessage(), _MAX_MESSAGE)
        line = head + escape(message) + render(fields)
        if SETTINGS.backtrace_at == (record.filename, record.lineno):
            line += render({"backtrace": _backtrace(record)})
        if record.exc_info and record.exc_info[0] is not None:
            import traceback  # noqa: PLC0415 - rare

            text = "".join(traceback.format_exception(*record.exc_info))
            text = redact(text[-_MARGIN * _MAX_MESSAGE :])[-_MAX_MESSAGE:]
            line += f" traceback={_quote(text)}"
        return line


def _backtrace(record: logging.LogRecord) -> str:
    import traceback  # noqa: PLC0415 - rare

    frames = traceback.extract_stack()
    while frames and (frames[-1].filename, frames[-1].lineno) != (record.pathname, record.lineno):
        frames.pop()
    return " < ".join(
        f"{os.path.basename(frame.filename)}:{frame.lineno}:{frame.name}"
        for frame in reversed(frames)
    )
