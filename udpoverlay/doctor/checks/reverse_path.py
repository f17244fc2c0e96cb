"""Does reverse path filtering drop what comes out of the tunnel."""

from __future__ import annotations

from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, good, warning
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK"]

_STRICT = "1"
"""RFC 3704; Documentation/networking/ip-sysctl.rst, rp_filter"""


async def _look(patient: Patient) -> Sequence[Finding]:
    """The kernel takes the larger of `all` and the interface's own value."""
    every = patient.sysctl("net/ipv4/conf/all/rp_filter") or "0"
    findings = []
    for name in patient.names("/proc/sys/net/ipv4/conf"):
        if not name.startswith("flannel"):
            continue
        own = patient.sysctl(f"net/ipv4/conf/{name}/rp_filter") or "0"
        if max(every, own) == _STRICT:
            findings.append(
                warning(
                    f"strict reverse path filtering on {name} drops packets whose way back "
                    "is another interface",
                    f"sysctl -w net.ipv4.conf.{name}.rp_filter=2",
                )
            )
    return findings or [good("reverse path filtering lets tunnel packets in")]


CHECK = Check("reverse-path", "reverse path filter", _look)
