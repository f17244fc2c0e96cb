"""Has the kernel VXLAN: what flannel's default backend needs, and ours does not."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, good
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK"]


async def _look(patient: Patient) -> Sequence[Finding]:
    if patient.exists("/sys/module/vxlan"):
        return [good("the kernel has VXLAN")]
    folder = f"/lib/modules/{platform.release()}"
    for index in ("modules.builtin", "modules.dep"):
        if "/vxlan.ko" in (patient.read(f"{folder}/{index}") or ""):
            return [good("the kernel has VXLAN as a module")]
    return [good("the kernel has no VXLAN: the udp backend does not need it")]


CHECK = Check("vxlan", "kernel VXLAN", _look)
