"""What of the fast path this kernel has, and whether it is one that is known to be bad.

Sources of the releases:
- 7.0 to 7.1.4 damage segmented sends: Linux b10b446, fixed by 78effd8 and 5f17ae0 in 7.1.5
  (github.com/tailscale/tailscale/pull/19918);
- UDP_GRO before 5.12: wireguard-go c92064f refuses it;
- UDP super-packets written to a TUN and forwarded into VXLAN or Geneve are lost up to 6.8.4
  (github.com/tailscale/tailscale/issues/11026).
"""

from __future__ import annotations

import platform
import re
import socket
from collections.abc import Collection, Sequence

from udpoverlay import _fastpath as fp
from udpoverlay.dataplane.tun import open_tun
from udpoverlay.doctor.base import Check, Finding, good, skipped, warning
from udpoverlay.doctor.facts.private import in_private_namespace
from udpoverlay.doctor.patient import Patient
from udpoverlay.errors import KernelError

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
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    if match is None:
        return [skipped(f"the kernel release {release!r} says no version")]
    version = tuple(int(part or 0) for part in match.groups())
    findings, names = [], ", ".join(tunnels)
    if (7, 0, 0) <= version <= (7, 1, 4) and "udp-segment" not in off:
        findings.append(
            warning(
                f"Linux {release} damages segmented UDP sends with some network cards",
                "update to Linux 7.1.5, or start udpoverlayd with --offload-off=udp-segment",
            )
        )
    if (5, 0, 0) <= version < (5, 12, 0) and "udp-gro" not in off:
        findings.append(
            warning(
                f"Linux {release}: UDP_GRO is not reliable before 5.12",
                "if packets are lost, start udpoverlayd with --offload-off=udp-gro",
            )
        )
    if (6, 2, 0) <= version <= (6, 8, 4) and tunnels and "coalesce-udp" not in off:
        findings.append(
            warning(
                f"Linux {release} loses coalesced UDP packets that go on into {names}",
                "update to Linux 6.8.5, or start udpoverlayd with --offload-off=coalesce-udp",
            )
        )
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
