"""Do bridged packets pass the rules of iptables, on which Services and masquerading rely."""

from __future__ import annotations

from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, failure, good, warning
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK"]

_KEY = "net/bridge/bridge-nf-call-"
_FIX = "modprobe br_netfilter; echo br_netfilter > /etc/modules-load.d/br_netfilter.conf"


async def _look(patient: Patient) -> Sequence[Finding]:
    netconf = await patient.known(patient.netconf)
    if netconf is not None and netconf.enable_nftables:
        return [good("not needed in nftables mode")]
    names = ["iptables"]
    if netconf is not None and netconf.enable_ipv6:
        names.append("ip6tables")
    return [_of(patient, name) for name in names]


def _of(patient: Patient, name: str) -> Finding:
    value = patient.sysctl(f"{_KEY}{name}")
    setting = f"net.bridge.bridge-nf-call-{name}"
    if value is None and patient.config.firewall.bridge_check:
        return failure("br_netfilter is not loaded: udpoverlayd, as flanneld, does not start", _FIX)
    if value is None:
        return warning("br_netfilter is not loaded: Services may not work between pods", _FIX)
    if value == "0":
        return warning(f"{setting} is 0: Services may not work between pods of this host",
                       f"sysctl -w {setting}=1, and in /etc/sysctl.d/")  # fmt: skip
    return good(f"bridged packets pass {name}")


CHECK = Check("br-netfilter", "br_netfilter", _look)
