"""Is there a TUN device driver, and can it be opened."""

from __future__ import annotations

from collections.abc import Sequence

from udpoverlay.dataplane.tun import TUN_PATH, check_tun
from udpoverlay.doctor.base import Check, Finding, failure, good
from udpoverlay.doctor.patient import Patient
from udpoverlay.errors import KernelError

__all__ = ["CHECK"]


async def _look(patient: Patient) -> Sequence[Finding]:
    if not patient.exists(TUN_PATH):
        return [
            failure(
                f"{TUN_PATH} does not exist",
                f"modprobe tun; in a container mount it: hostPath {TUN_PATH}, type CharDevice",
            )
        ]
    try:
        check_tun()
    except KernelError as error:
        return [failure(error.what, error.fix)]
    return [good(f"{TUN_PATH} can be opened")]


CHECK = Check("tun", "TUN device", _look)
