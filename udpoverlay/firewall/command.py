"""Runs the tools of the firewall: nft, iptables-restore, iptables-save.

Owns: processes, their time limit, what a failure says. Must not know: rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from udpoverlay.errors import KernelError

__all__ = ["TIMEOUT", "Output", "ToolMissing", "find", "run", "run_checked"]

TIMEOUT = 30.0
"""Seconds for one call: iptables waits for the lock that other programs hold."""

_SHOWN = 300


class ToolMissing(KernelError):
    """A program that is needed is not on PATH."""


@dataclass(frozen=True, slots=True)
class Output:
    """How a program ended and what it wrote."""

    status: int
    stdout: str
    stderr: str


def find(name: str) -> str | None:
    """The path of a program, or None."""
    return shutil.which(name)


async def run(argv: Sequence[str], stdin: str = "", seconds: float = TIMEOUT) -> Output:
    """Run a program to its end. Raises KernelError when it cannot start or takes too long.

    `stdin` must fit a pipe (64 KiB). It is a real pipe because nft opens /dev/stdin, which a
    socket, as event loops use them, does not allow.
    """
    reading, writing = os.pipe()
    try:
        os.write(writing, stdin.encode())
        os.close(writing)
        return await _run(argv, reading, seconds)
    finally:
        os.close(reading)


async def _run(argv: Sequence[str], stdin: int, seconds: float) -> Output:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise ToolMissing(f"{argv[0]} is not on PATH", fix=f"install {argv[0]}") from error
    except OSError as error:
        raise KernelError(
            f"{argv[0]} does not start: {error.strerror}", errno=error.errno or 0
        ) from error
    try:
        out, err = await asyncio.wait_for(process.communicate(), seconds)
    except asyncio.TimeoutError as error:
        raise KernelError(
            f"{' '.join(argv)} did not end within {seconds:g} s",
            fix="look for another program that holds the lock of the packet rules",
        ) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
    status = process.returncode if process.returncode is not None else -1
    return Output(status, out.decode(errors="replace"), err.decode(errors="replace"))


async def run_checked(argv: Sequence[str], stdin: str = "", *, fix: str = "") -> str:
    """Run a program that must succeed; its standard output.

    Raises KernelError with its words and `fix`.
    """
    done = await run(argv, stdin)
    if done.status != 0:
        said = " ".join((done.stderr or done.stdout).split())[:_SHOWN]
        why = f"{' '.join(argv)} failed with status {done.status}: {said}"
        raise KernelError(why, fix=fix)
    return done.stdout
