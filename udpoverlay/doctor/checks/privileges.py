"""May the daemon do what it does: make a device, set routes, send ICMP."""

from __future__ import annotations

import re
from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, failure, good, skipped
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK"]

_NEEDED = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
"""linux/capability.h"""


async def _look(patient: Patient) -> Sequence[Finding]:
    status = patient.read("/proc/self/status") or ""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if match is None:
        return [skipped("/proc/self/status does not show the capabilities")]
    held = int(match[1], 16)
    missing = [name for name, bit in _NEEDED.items() if not held >> bit & 1]
    if missing:
        return [
            failure(
                f"no {' and no '.join(missing)}",
                "run as root, or give the service or container these capabilities",
            )
        ]
    return [good("CAP_NET_ADMIN and CAP_NET_RAW are there")]


CHECK = Check("privileges", "privileges", _look)
