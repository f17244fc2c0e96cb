"""What of the fast path this kernel has, and whether it is one that is known to be bad.

Sources: Linux torvalds b10b446 broke UDP segmentation in 7.0, 7.1.5 fixed it (78effd8, 5f17ae0);
wireguard-go c92064f on UDP_GRO before 5.12.
"""

from __future__ import annotations

import platform
import re
import socket
from collections.abc import Sequence

from udpoverlay import _fastpath as fp
from udpoverlay.doctor.base import Check, Finding, good, warning
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK", "judge"]

_OPTIONS = (
    ("UDP_SEGMENT", fp.UDP_SEGMENT, "4.18"),
    ("UDP_GRO", fp.UDP_GRO, "5.0"),
)


def judge(release: str) -> list[Finding]:
    """What is known of a kernel by its release, such as 6.1.0-18-amd64."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    if match is None:
        return [warning(f"the kernel release {release!r} cannot be read", "look at uname -r")]
    version = tuple(int(part or 0) for part in match.groups())
    if (7, 0, 0) <= version <= (7, 1, 4):
        return [
            warning(
                f"Linux {release} may corrupt segmented UDP sends",
                "update to 7.1.5 or newer, or start with --offload-off=udp-segment",
            )
        ]
    if version < (5, 12, 0):
        return [
            warning(
                f"Linux {release}: UDP_GRO is unreliable before 5.12",
                "if peers see lost packets start with --offload-off=udp-gro",
            )
        ]
    return [good(f"Linux {release}")]


async def _look(_patient: Patient) -> Sequence[Finding]:
    findings = judge(platform.release())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name, option, since in _OPTIONS:
            try:
                probe.getsockopt(fp.SOL_UDP, option)
                findings.append(good(f"{name} is there"))
            except OSError:
                fact = f"no {name}: packets move more slowly"
                findings.append(warning(fact, f"Linux {since} has it"))
    return findings


CHECK = Check("kernel", "kernel", _look)
