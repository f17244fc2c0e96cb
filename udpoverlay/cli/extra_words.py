"""Words left over behind the daemon's flags: what is meant by them, and why they are refused.

Go's parser stops at the first word that is no flag, so `-ip-masq false -v=2` never sees -v, and
`udpoverlayd status` would start a daemon. flanneld says nothing; we name the word and the way out.
A word is shown only where it cannot be a secret: it may be the rest of a password with a space.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from udpoverlay.cli.commands import COMMANDS
from udpoverlay.cli.daemon_flags import ALL_FLAGS
from udpoverlay.gocompat.flags import Parsed, parse_bool

__all__ = ["problem"]

_FLAGS = {flag.name: flag for flag in ALL_FLAGS}


def problem(words: Sequence[str], parsed: Parsed) -> str:
    """What is wrong with a command line and how to write it, "" when no word is left over."""
    # An empty variable in quotes, as in `udpoverlayd "$OPTIONS"`, leaves an empty word.
    if not any(parsed.rest):
        return ""
    at = len(words) - len(parsed.rest)
    what, how = _explain(words[at], words[at - 1] if at else "")
    ignored = len([word for word in parsed.rest[1:] if word.startswith("-")])
    lost = f", so the {_count(ignored)} behind it would be ignored" if ignored else ""
    return f"{what} (word {at + 1} of the command line) is no flag{lost}: {how}"


def _count(flags: int) -> str:
    return "flag" if flags == 1 else f"{flags} flags"


def _explain(word: str, before: str) -> tuple[str, str]:
    flag = _FLAGS.get(before.lstrip("-"))
    if flag is not None and flag.is_bool and _is_bool(word):
        return repr(word), f"write -{flag.name}={word}"
    name, separator, _ = word.partition("=")
    if name in _FLAGS:
        return repr(name + separator), f"write it with a dash: -{name}{separator and '=VALUE'}"
    if word in COMMANDS:
        return repr(word), f"udpoverlayd is the daemon alone, the command is: udpoverlay {word}"
    close = difflib.get_close_matches(word, COMMANDS, n=1)
    if close:
        return "a word", f"if a command is meant, run: udpoverlay {close[0]}"
    if not word:
        return "an empty word", "leave it out"
    return (
        "a word",
        "commands are given to udpoverlay (udpoverlay -h), a value with spaces in quotes",
    )


def _is_bool(word: str) -> bool:
    try:
        parse_bool(word)
    except ValueError:
        return False
    return True
