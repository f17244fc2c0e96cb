"""What of the fast path this kernel has, and what of it the daemon leaves alone.

Kernels that are known to be bad: model/kernel_faults.py.
"""

from __future__ import annotations

import platform
import socket
from collections.abc import Collection, Sequence

from udpoverlay import _fastpath as fp
from udpoverlay.dataplane.tun import open_tun
from udpoverlay.doctor.base import Check, Finding, good, skipped, warning
from udpoverlay.doctor.facts.private import in_private_namespace
from udpoverlay.doctor.patient import Patient
from udpoverlay.errors import KernelError
from udpoverlay.model.kernel_faults import known_faults, version_of

__all__ = ["CHECK", "judge"]

_OPTIONS = (
    ("UDP_SEGMENT", fp.UDP_SEGMENT, "4.18"),
    ("UDP_GRO", fp.UDP_GRO, "5.0"),
)
_TUNNELS = ("vxlan", "geneve")


def judge(release: str, off: Collection[str] = (), tunnels: Collection[str] = ()) -> list[Finding]:
    """What is known of a kernel by its release, such as 6.1.0-18-amd64.

    `off` are offloads that are switched off, `tunnels` the host's VXLAN and Geneve devices.
    """
    if version_of(release) is None:
        return [skipped(f"the kernel release {release!r} says no version")]
    findings = [
        warning(
            f"Linux {release} {fault.what}: {fault.offload} is not used, which costs speed",
            f"update to Linux {fault.fix}",
        )
        for fault in known_faults(release, tunnels=bool(tunnels))
        if fault.offload not in off
    ]
    return findings or [good(f"Linux {release}")]


async def _look(patient: Patient) -> Sequence[Finding]:
    tunnels = [name for kind in _TUNNELS for name in patient.devices(kind)]
    return [
        *judge(platform.release(), patient.config.dataplane.offloads_off, tunnels),
        *_of_udp(),
        *_of_tun(),
        *await _in_use(patient),
    ]


def _of_udp() -> list[Finding]:
    findings = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name, option, since in _OPTIONS:
            try:
                probe.getsockopt(fp.SOL_UDP, option)
                findings.append(good(f"{name} is there"))
            except OSError:
                findings.append(_slower(name, since))
    return findings


def _of_tun() -> list[Finding]:
    def refused() -> dict[str, str]:
        tun = open_tun("doctor%d", vnet_header=True, uso=True)
        tun.close()
        return tun.refused

    try:
        lacking = in_private_namespace(refused)
    except (KernelError, OSError):
        return [skipped("offloads of the TUN: no device can be made, see tun")]
    findings = []
    for name, key, since in (
        ("the TUN's virtio header", "vnet-hdr", "2.6.27"),
        ("UDP segmentation offload of the TUN", "uso", "6.2"),
    ):
        is_there = not lacking.keys() & {key, "vnet-hdr"}
        findings.append(good(f"{name} is there") if is_there else _slower(name, since))
    return findings


def _slower(name: str, since: str) -> Finding:
    return warning(f"no {name}: packets move more slowly", f"Linux {since} or newer has it")


async def _in_use(patient: Patient) -> list[Finding]:
    """What the daemon that runs has switched off by itself."""
    status = await patient.status() or {}
    features: dict[str, str] = status.get("dataplane", {}).get("features", {})
    return [
        warning(f"the daemon's {name} is {state}", "nothing to do: it only costs speed")
        for name, state in features.items()
        if state.startswith("on, fallen back")
    ]


CHECK = Check("kernel", "kernel", _look)
