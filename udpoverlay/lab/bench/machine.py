"""What must be known of the machine to judge a figure: kernel, CPU, versions, load.

Owns: where these facts are read. Must not know: what is measured.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from udpoverlay._version import VERSION
from udpoverlay.lab import congestion

__all__ = ["machine"]


def _cpu_model() -> str:
    """The first name in /proc/cpuinfo: x86 says "model name", others "Model", "cpu" or nothing."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for key in ("model name", "Model", "cpu model", "cpu", "uarch"):
        for line in text.splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


def machine() -> dict[str, Any]:
    """Facts by name, all fit for JSON; the load is the one before the bench."""
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9,
        ),
        "congestion": congestion.default(),
        "load_before": round(os.getloadavg()[0], 2),
        "udpoverlay": VERSION,
        "python": platform.python_version(),
    }
