"""Is the clock kept in step: certificates and leases depend on it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, good, skipped, warning
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK"]

_STA_UNSYNC = 0x0040
"""linux/timex.h: nothing keeps the clock in step"""
_TIME_ERROR = 5


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


def _status() -> int | None:
    """The kernel's clock status (adjtimex(2) with no mode set changes nothing); None if refused."""
    timex = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    return _STA_UNSYNC if state == _TIME_ERROR else timex.status


async def _look(_patient: Patient) -> Sequence[Finding]:
    status = _status()
    if status is None:
        return [skipped(f"the kernel does not tell ({os.strerror(ctypes.get_errno())})")]
    if status & _STA_UNSYNC:
        return [
            warning(
                "nothing keeps the clock in step: certificates and leases may look expired",
                "start chrony or systemd-timesyncd: timedatectl set-ntp true",
            )
        ]
    return [good("the clock is kept in step")]


CHECK = Check("clock", "clock", _look)
