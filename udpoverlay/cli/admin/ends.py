"""The two hosts of a flow, asked by our own commands: here, in a kept lab, or by ssh or kubectl.

    --dst-via 'ssh root@n2'  ──►  ssh root@n2 udpoverlay record dump --json …

Owns: how a host is reached, what of its answers is believed. Must not know: what is asked for.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from udpoverlay.cli.findings import shown
from udpoverlay.errors import OperatorError

__all__ = ["Asked", "here", "in_lab", "via"]

_SECONDS = 60.0
_MOST_BYTES = 64 << 20
"""Of an answer: as observe/client.py."""
_MOST_ERROR_BYTES = 1 << 16
_NUMBERS = ("packets", "length", "time_ns")
_TEXTS = ("id", "direction", "point", "verdict", "meaning", "peer")


@dataclass(frozen=True, slots=True)
class Asked:
    """A host that runs `udpoverlay`, and the words around a command for it."""

    what: str
    """For messages, such as "this host"."""
    before: tuple[str, ...]
    after: tuple[str, ...] = ()
    quoted: bool = False
    """A shell reads the words again, as behind ssh."""

    def document(self, *words: str) -> dict[str, Any]:
        """What `udpoverlay WORDS --json` says. Raises OperatorError."""
        code, out, error = self._run(words)
        try:
            found = json.loads(out)
        except (ValueError, RecursionError):
            raise self._wrong(words, code, error) from None
        if not isinstance(found, dict):
            raise self._wrong(words, code, "its answer is no JSON object")
        return found

    def packets(self, text: str, seconds: float) -> tuple[list[dict[str, Any]], int]:
        """Records of the last so long that match a filter, and how many were lost.

        Raises OperatorError.
        """
        words = ("record", "dump", f"--since={seconds:.3f}s", *text.split())
        code, out, error = self._run(words)
        try:
            *packets, counts = [json.loads(line) for line in out.splitlines()]
            for packet in packets:
                _check(packet)
            return packets, int(counts["lost"])
        except (KeyError, TypeError, ValueError, RecursionError):
            raise self._wrong(words, code, error) from None

    def _run(self, words: Sequence[str]) -> tuple[int, str, str]:
        argv = [*words, "--json", *self.after]
        argv = [*self.before, *(map(shlex.quote, argv) if self.quoted else argv)]
        try:
            code, out, error_text = _bounded(argv)
        except OSError as error:
            raise OperatorError(
                f"{self.what}: cannot run {argv[0]!r}: {error.strerror}",
                fix="name a command that runs its words on the other host, such as 'ssh root@n2'",
            ) from error
        except _TooMuchError:
            raise OperatorError(
                f"{self.what}: its answer has more than {_MOST_BYTES >> 20} MiB",
                fix="ask for less: a filter, a shorter --since",
            ) from None
        except subprocess.TimeoutExpired:
            raise OperatorError(
                f"{self.what}: no answer within {_SECONDS:g} s", fix=f"try: {shlex.join(argv)}"
            ) from None
        return code, out.decode(errors="replace"), error_text.decode(errors="replace")

    def _wrong(self, words: Sequence[str], code: int, error: str) -> OperatorError:
        said = shown(error.strip().splitlines()[-1]) if error.strip() else "no answer in JSON"
        return OperatorError(
            f"{self.what}: udpoverlay {' '.join(words[:2])} ended with {code}: {said}",
            fix=f"does this work: {shlex.join([*self.before, 'status', *self.after])}",
        )


class _TooMuchError(Exception):
    """The other host says more than we would keep."""


def _bounded(argv: Sequence[str]) -> tuple[int, bytes, bytes]:
    """Exit status and both outputs of a program, of errors the first part.

    Raises OSError, subprocess.TimeoutExpired, _TooMuchError; the program has ended then, too.
    """
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        assert process.stdout is not None
        assert process.stderr is not None
        errors = bytearray()

        def drain(pipe: IO[bytes]) -> None:
            while piece := pipe.read(1 << 12):
                errors.extend(piece[: max(0, _MOST_ERROR_BYTES - len(errors))])

        timer = threading.Timer(_SECONDS, end)
        drainer = threading.Thread(target=drain, args=(process.stderr,), daemon=True)
        timer.start()
        drainer.start()
        try:
            out = process.stdout.read(_MOST_BYTES + 1)
            if len(out) > _MOST_BYTES:
                raise _TooMuchError
            code = process.wait()
            drainer.join(_SECONDS)
        finally:
            timer.cancel()
            process.kill()
        if late.is_set():
            raise subprocess.TimeoutExpired(list(argv), _SECONDS)
        return code, out, bytes(errors)


def here(admin_socket: str) -> Asked:
    """The daemon of this host."""
    command = (sys.executable, "-m", "udpoverlay.cli")
    return Asked("this host", command, (f"--admin-socket={admin_socket}",))


def in_lab(node: str) -> Asked:
    """A node of a kept lab."""
    return Asked(node, (sys.executable, "-m", "udpoverlay.cli"), (f"--node={node}",))


def via(command: str) -> Asked:
    """A host behind a command that runs its words there. Raises OperatorError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise OperatorError(f"{command!r} is no command: {error}", fix="close the quotes") from None
    if not words:
        raise OperatorError("the command to reach a host is empty", fix="such as 'ssh root@n2'")
    ssh = os.path.basename(words[0]) == "ssh"
    return Asked(f"behind {textwrap.shorten(command, 40)!r}", (*words, "udpoverlay"), quoted=ssh)


def _check(packet: dict[str, Any]) -> None:
    """Raises KeyError, TypeError for what is no record: another host wrote it."""
    if not all(isinstance(packet[name], int) for name in _NUMBERS):
        raise TypeError
    if not all(isinstance(packet[name], str) for name in _TEXTS):
        raise TypeError
    if not isinstance(packet["dropped"], bool) or packet["packets"] < 1:
        raise TypeError
    for name in ("source", "destination", "protocol", "source_port", "destination_port"):
        if not isinstance(packet[name], str | int | None):
            raise TypeError
    bytes.fromhex(packet["data"])
