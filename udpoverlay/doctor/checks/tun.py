"""Is there a TUN device driver, and does it make a device: tried in a namespace of our own."""

from __future__ import annotations

from collections.abc import Sequence

from udpoverlay.dataplane.tun import TUN_PATH, check_tun, open_tun
from udpoverlay.doctor.base import Check, Finding, failure, good, skipped, warning
from udpoverlay.doctor.facts.private import in_private_namespace
from udpoverlay.doctor.patient import Patient
from udpoverlay.errors import KernelError

__all__ = ["CHECK"]

_MOUNT = f"modprobe tun; in a container mount it: hostPath {TUN_PATH}, type CharDevice"


async def _look(patient: Patient) -> Sequence[Finding]:
    try:
        check_tun()
    except KernelError as error:
        fix = error.fix if patient.exists(TUN_PATH) else _MOUNT
        return [failure(error.what, fix)]
    findings = []
    if patient.exists(TUN_PATH):
        findings.append(good(f"{TUN_PATH} can be opened"))
    else:
        findings.append(warning(f"no {TUN_PATH}: a private device node has to do", _MOUNT))
    try:
        in_private_namespace(lambda: open_tun("doctor%d").close())
    except KernelError as error:
        findings.append(failure(error.what, error.fix))
    except OSError as error:
        findings.append(skipped(f"no namespace to make a device in: {error.strerror}"))
    else:
        findings.append(good("a TUN device can be made (in a namespace of its own)"))
    return findings


CHECK = Check("tun", "TUN device", _look)
