"""Settings of the kernel that the packets of containers depend on: looked at, never changed.

Owns: their places below /proc/sys, what each means to us. Must not know: who asks.
"""

from __future__ import annotations

from pathlib import Path

from udpoverlay.errors import KernelError
from udpoverlay.log import get_logger

__all__ = ["check_bridge_netfilter", "forwarding_off"]

_log = get_logger(__name__)
_PROC_SYS = Path("/proc/sys")
_BRIDGE = "net/bridge/bridge-nf-call-"
_FIX = "modprobe br_netfilter; echo br_netfilter > /etc/modules-load.d/br_netfilter.conf"


def check_bridge_netfilter(*, ipv4: bool, ipv6: bool, fatal: bool, root: Path = _PROC_SYS) -> None:
    """Raise KernelError, or warn, where br_netfilter has not made its files.

    Without it iptables does not see bridged packets. flanneld demands the files (main.go), though
    not that they say 1.
    """
    for wanted, name in ((ipv4, "iptables"), (ipv6, "ip6tables")):
        path = root / f"{_BRIDGE}{name}"
        if not wanted or path.exists():
            continue
        what = f"br_netfilter is not loaded: {path} does not exist"
        if fatal:
            raise KernelError(
                what, fix=f"{_FIX}; in a container that cannot see it: --no-br-netfilter-check"
            )
        _log.warning(what, fix=_FIX)


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
