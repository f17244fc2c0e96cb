"""May the daemon do what it does: make a device, set routes, send and read ICMP errors."""

from __future__ import annotations

import re
from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, failure, good, skipped, warning
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK"]

# linux/capability.h
_NET_ADMIN = 12
_NET_RAW = 13
_FIX = "run as root, or give the service or container this capability"


async def _look(patient: Patient) -> Sequence[Finding]:
    status = patient.read("/proc/self/status") or ""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if match is None:
        return [skipped("/proc/self/status does not show the capabilities")]
    held = int(match[1], 16)
    findings = []
    if not held >> _NET_ADMIN & 1:
        findings.append(failure("no CAP_NET_ADMIN: no tunnel device, no routes, no rules", _FIX))
    if not held >> _NET_RAW & 1:
        findings.append(
            warning("no CAP_NET_RAW: ICMP errors are neither sent to pods nor read", _FIX)
        )
    return findings or [good("CAP_NET_ADMIN and CAP_NET_RAW are in effect")]


CHECK = Check("privileges", "capabilities of this process", _look)
