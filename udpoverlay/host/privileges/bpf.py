"""A seccomp filter as a classic BPF program; pure.

Owns: architectures, the shape of the program, what a refused call is told. Must not know: who
installs it, or which calls are needed (calls.py).

The kernel runs a filter before every system call. It is a binary search over ranges of numbers:
some seven comparisons; since Linux 5.11 the kernel finds out beforehand which numbers pass
whatever their arguments, and does not run it for these at all.

    another architecture's call (32-bit, x32)   EPERM
    a number in the list                        allowed
    socket, clone, ioctl                        by an argument, below
    any other, older than Linux 5.1             EPERM
    any other, since then                       ENOSYS: programs fall back as on an older kernel
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from udpoverlay.host.privileges.calls import NEW_CALLS, Group

__all__ = ["IO_URING", "MACHINES", "Machine", "numbers", "refuse", "system_call_filter"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What the kernel calls an architecture, and its numbers (all are little endian, 64 bit)."""

    audit: int
    """AUDIT_ARCH_* (linux/audit.h)."""
    table: Literal["x86_64", "generic"]
    socket: int
    clone: int
    ioctl: int


MACHINES = {
    "x86_64": Machine(0xC000003E, "x86_64", socket=41, clone=56, ioctl=16),
    "aarch64": Machine(0xC00000B7, "generic", socket=198, clone=220, ioctl=29),
    "riscv64": Machine(0xC00000F3, "generic", socket=198, clone=220, ioctl=29),
    "loongarch64": Machine(0xC0000102, "generic", socket=198, clone=220, ioctl=29),
}
"""By the name that uname(2) has for it."""

IO_URING = (425, 426, 427)
"""io_uring_setup, _enter and _register, everywhere: a ring does calls that no filter sees."""

# linux/seccomp.h
_ALLOW = 0x7FFF0000
_LOG = 0x7FFC0000
_ERRNO = 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
"""Offsets in struct seccomp_data; of an argument its low half."""

# linux/bpf_common.h
_LOAD = 0x20
_JUMP, _EQUAL, _AT_LEAST, _ANY_BIT = 0x05, 0x15, 0x35, 0x45
_RETURN = 0x06
_MOST_JUMP = 255

_FAMILIES = (1, 2, 10, 16)
"""Unix, IPv4, IPv6, netlink: what is spoken to is nothing else."""
_NAMESPACES = 0x7E020000
"""CLONE_NEW* (linux/sched.h): a user namespace would give all capabilities back."""
_TIOCSTI = 0x5412
"""Typing on the terminal that the daemon was started from."""

Instruction = tuple[int, int, int, int]
"""Code, jump when true, jump when false, operand."""
Code = list[Instruction]


def numbers(groups: Iterable[Group], machine: Machine) -> frozenset[int]:
    """The calls of `groups` that the architecture has."""
    found = (getattr(call, machine.table) for group in groups for call in group.calls())
    return frozenset(number for number in found if number is not None)


def system_call_filter(
    machine: Machine, groups: Iterable[Group], *, refusing: bool = True
) -> bytes:
    """Allow the calls of `groups`; `refusing` off: allow all, and log what would be refused."""
    no = _ERRNO | errno.EPERM if refusing else _LOG
    new = _ERRNO | errno.ENOSYS if refusing else _LOG
    family = _ERRNO | errno.EAFNOSUPPORT if refusing else _LOG
    yes = [_answer(_ALLOW)]
    known: dict[int, Code] = dict.fromkeys(numbers(groups, machine), yes)
    known[machine.socket] = [
        (_LOAD, 0, 0, _FIRST),
        *((_EQUAL, len(_FAMILIES) - place, 0, each) for place, each in enumerate(_FAMILIES)),
        _answer(family),
        _answer(_ALLOW),
    ]
    known[machine.clone] = [
        (_LOAD, 0, 0, _FIRST),
        (_ANY_BIT, 0, 1, _NAMESPACES),
        _answer(no),
        _answer(_ALLOW),
    ]
    known[machine.ioctl] = [
        (_LOAD, 0, 0, _SECOND),
        (_EQUAL, 0, 1, _TIOCSTI),
        _answer(no),
        _answer(_ALLOW),
    ]
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, machine.audit),
        _answer(no),
        (_LOAD, 0, 0, _NUMBER),
        *_search(_ranges(known, [_answer(no)], [_answer(new)])),
    ]
    return _bytes(code)


def refuse(calls: Sequence[int]) -> bytes:
    """Answer ENOSYS to calls with one number everywhere, allow the others; on any architecture."""
    code = [
        (_LOAD, 0, 0, _NUMBER),
        *((_EQUAL, len(calls) - place, 0, each) for place, each in enumerate(calls)),
        _answer(_ALLOW),
        _answer(_ERRNO | errno.ENOSYS),
    ]
    return _bytes(code)


def _answer(what: int) -> Instruction:
    return (_RETURN, 0, 0, what)


def _ranges(known: dict[int, Code], no: Code, new: Code) -> list[tuple[int, Code]]:
    """Where each range begins, from 0 on, and the code for its numbers."""
    edges = {0, NEW_CALLS, *known, *(number + 1 for number in known)}
    found: list[tuple[int, Code]] = []
    for edge in sorted(edges):
        code = known.get(edge, new if edge >= NEW_CALLS else no)
        if not found or found[-1][1] != code:
            found.append((edge, code))
    return found


def _search(ranges: Sequence[tuple[int, Code]]) -> Code:
    if len(ranges) == 1:
        return list(ranges[0][1])
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    edge = ranges[middle][0]
    if len(below) <= _MOST_JUMP:
        return [(_AT_LEAST, len(below), 0, edge), *below, *above]
    return [(_AT_LEAST, 0, 1, edge), (_JUMP, 0, 0, len(below)), *below, *above]


def _bytes(code: Code) -> bytes:
    """As struct sock_filter (linux/filter.h)."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
