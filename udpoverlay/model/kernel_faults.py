"""Kernels that are known to damage or lose what an offload makes: pure.

Sources of the releases:
- 7.0 to 7.1.4 damage segmented sends with some network cards, and no error says so: Linux b10b446,
  fixed by 78effd8 and 5f17ae0 in 7.1.5 (github.com/tailscale/tailscale/pull/19918);
- UDP_GRO before 5.12: wireguard-go c92064f refuses it;
- UDP super-packets written to a TUN and forwarded into VXLAN or Geneve are lost up to 6.8.4
  (github.com/tailscale/tailscale/issues/11026).

Owns: this list. Must not know: which kernel runs, who switches what off.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["FAULTS", "KernelFault", "known_faults", "version_of"]

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class KernelFault:
    """One offload that is not used on some kernels."""

    offload: str
    """As in model/dataplane.py."""
    first: Version
    fixed: Version
    """The first one that is good again."""
    what: str
    behind_tunnels: bool = False
    """Only where the host has VXLAN or Geneve devices of its own."""

    @property
    def fix(self) -> str:
        """For example "6.8.5"."""
        parts = self.fixed if self.fixed[2] else self.fixed[:2]
        return ".".join(map(str, parts))


FAULTS = (
    KernelFault(
        "udp-segment", (7, 0, 0), (7, 1, 5), "damages segmented UDP sends with some network cards"
    ),
    KernelFault("udp-gro", (5, 0, 0), (5, 12, 0), "has a UDP_GRO that is not reliable"),
    KernelFault(
        "coalesce-udp",
        (6, 2, 0),
        (6, 8, 5),
        "loses coalesced UDP packets that go on into VXLAN or Geneve",
        behind_tunnels=True,
    ),
)


def version_of(release: str) -> Version | None:
    """Of a release such as 6.1.0-18-amd64; None: it says none."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,5}))?", release, re.ASCII)
    if match is None:
        return None
    major, minor, patch = (int(part or 0) for part in match.groups())
    return major, minor, patch


def known_faults(release: str, *, tunnels: bool) -> list[KernelFault]:
    """Those of a kernel; `tunnels`: the host has VXLAN or Geneve devices."""
    version = version_of(release)
    if version is None:
        return []
    return [
        fault
        for fault in FAULTS
        if fault.first <= version < fault.fixed and (tunnels or not fault.behind_tunnels)
    ]
