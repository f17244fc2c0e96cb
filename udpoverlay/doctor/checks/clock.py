"""Is the clock kept in step, and is it the registry's: certificates and leases depend on it."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, failure, good, skipped, warning
from udpoverlay.doctor.facts.server_clock import server_time
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK", "clock_status"]

STA_UNSYNC = 0x0040
"""linux/timex.h: nothing keeps the clock in step"""
_TIME_ERROR = 5
_LITTLE = 5.0
_MUCH = 60.0
"""Seconds. A certificate is refused before its first and after its last second; a Date has whole
seconds and comes with the delay of a request."""
_FIX = "start chrony or systemd-timesyncd: timedatectl set-ntp true"


class _Timex(ctypes.Structure):
    """struct timex up to `status`, and room for the rest (linux/timex.h)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def clock_status() -> int | None:
    """The kernel's clock status (adjtimex(2) with no mode set changes nothing); None if refused."""
    timex = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    return STA_UNSYNC if state == _TIME_ERROR else timex.status


async def _look(patient: Patient) -> Sequence[Finding]:
    return [_kept(), *await _skew(patient)]


def _kept() -> Finding:
    status = clock_status()
    if status is None:
        return skipped(f"the kernel does not tell ({os.strerror(ctypes.get_errno())})")
    if status & STA_UNSYNC:
        return warning("nothing keeps the clock in step", _FIX)
    return good("the clock is kept in step")


async def _skew(patient: Patient) -> list[Finding]:
    side = await patient.known(patient.side)
    if side is None:
        return [skipped("the registry's clock: see registry")]
    for url, context in side.servers():
        theirs = await server_time(url, context)
        if theirs is None:
            continue
        ahead = time.time() - theirs
        what = f"this clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {url}'s"
        if abs(ahead) >= _MUCH:
            return [failure(f"{what}: certificates may be refused", _FIX)]
        if abs(ahead) >= _LITTLE:
            return [warning(what, _FIX)]
        return [good(f"it agrees with {url}'s")]
    return [skipped("no server of the registry tells its time")]


CHECK = Check("clock", "clock", _look)
