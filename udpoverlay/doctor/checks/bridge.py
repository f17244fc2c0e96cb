"""Do bridged packets pass the rules of iptables, on which kube-proxy relies."""

from __future__ import annotations

from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, failure, good, warning
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK"]

_KEY = "net/bridge/bridge-nf-call-iptables"
_FIX = "modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1"


async def _look(patient: Patient) -> Sequence[Finding]:
    if patient.netconf is not None and patient.netconf.enable_nftables:
        return [good("nftables mode does not need br_netfilter")]
    value = patient.sysctl(_KEY)
    if value is None:
        return [failure("br_netfilter is not loaded: flanneld and udpoverlayd end at start", _FIX)]
    if value == "0":
        return [warning("bridge-nf-call-iptables is 0: Services do not work between pods", _FIX)]
    return [good("bridged packets pass iptables")]


CHECK = Check("br-netfilter", "br_netfilter", _look)
