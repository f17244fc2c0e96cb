"""Settings of the kernel that the packets of containers depend on: looked at, never changed.

Owns: their places below /proc/sys, what each means to us. Must not know: who is told.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["bridge_netfilter_missing", "forwarding_off"]

_PROC_SYS = Path("/proc/sys")
_BRIDGE = {4: "net/bridge/bridge-nf-call-iptables", 6: "net/bridge/bridge-nf-call-ip6tables"}


def bridge_netfilter_missing(version: int, root: Path = _PROC_SYS) -> str:
    """The file that br_netfilter would make for IP `version`, "" where it is there.

    flanneld demands it (main.go), though not that it says 1.
    """
    path = root / _BRIDGE[version]
    return "" if path.exists() else str(path)


def forwarding_off(device: str, root: Path = _PROC_SYS) -> str:
    """The setting that keeps IPv4 packets from `device` from being forwarded, "" where none does.

    The kernel asks the device that a packet came in by; ip_forward sets all of them, and those that
    are made later (Documentation/networking/ip-sysctl.rst). What cannot be read counts as on.
    """
    for name in ("net/ipv4/ip_forward", f"net/ipv4/conf/{device}/forwarding"):
        try:
            value = (root / name).read_text(encoding="ascii")
        except OSError:
            continue
        if value.strip() == "0":
            return name.replace("/", ".")
    return ""
