"""The program `udpoverlay` with its commands.

Owns: how a command is found, called and ended. A command (commands.py) is a module of cli/ with
`configure(parser)`, which adds arguments and an example, and `run(args) -> int`; one that takes the
daemon's flags has `run(words, environ, program)`. It is imported only when it is called, so that
`udpoverlay version` does not pay for the lab.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from typing import NoReturn

from udpoverlay.cli.commands import COMMANDS, DAEMON, GO_FLAGS
from udpoverlay.errors import UdpOverlayError
from udpoverlay.log import escape
from udpoverlay.redact import redact

__all__ = ["udpoverlay"]


class _Parser(argparse.ArgumentParser):
    """Quotes a wrong word only as far as it holds no secret and does not drive the terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(escape(redact(message)))


def udpoverlay() -> int:
    """Entry point of `udpoverlay`."""
    name, *words = sys.argv[1:] or [""]
    if name == DAEMON:  # it reports its errors in its log
        return _of_go(name, words)
    if name in {"-h", "--help", "-help", "help"}:
        sys.stdout.write(_usage())
        return 0
    if name == "--version":
        name = "version"
    if name not in COMMANDS:
        sys.stderr.write(_unknown(name))
        return 2
    return _run(name, words)


def _run(name: str, words: list[str]) -> int:
    try:
        code = _of_go(name, words) if name in GO_FLAGS else _of_argparse(name, words)
        sys.stdout.flush()
        return code
    except UdpOverlayError as error:
        sys.stderr.write(f"udpoverlay {name}: {escape(redact(str(error)))}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _of_go(name: str, words: list[str]) -> int:
    module = importlib.import_module(COMMANDS[name][0])
    code: int = module.run(words, os.environ, f"udpoverlay {name}")
    return code


def _of_argparse(name: str, words: list[str]) -> int:
    module_name, summary = COMMANDS[name]
    module = importlib.import_module(module_name)
    parser = _Parser(
        prog=f"udpoverlay {name}",
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(parser)
    # Options may stand between the words of a filter.
    mixed = getattr(module, "WORDS_AND_OPTIONS_MIX", False)
    args = parser.parse_intermixed_args(words) if mixed else parser.parse_args(words)
    code: int = module.run(args)
    return code


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: udpoverlay COMMAND [OPTION]...",
            "",
            "A userspace overlay network on flannel's udp wire.",
            "",
            *lines,
            "",
            "udpoverlay COMMAND -h explains a command and shows an example.",
            "",
        ]
    )


def _unknown(name: str) -> str:
    if not name:
        return _usage()
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(COMMANDS)}"
    return f"udpoverlay: unknown command {escape(redact(name))!r}: {hint}\n"
