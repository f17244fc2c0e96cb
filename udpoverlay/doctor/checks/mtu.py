"""Do the MTUs fit each other: interface, subnet file, tunnel, the containers' bridge."""

from __future__ import annotations

from collections.abc import Sequence

from udpoverlay.backend.udp import OVERHEAD
from udpoverlay.doctor.base import Check, Finding, failure, good, warning
from udpoverlay.doctor.patient import Patient
from udpoverlay.host.interfaces import Choice, tunnel_mtu

__all__ = ["CHECK"]

_BRIDGES = ("cni0", "docker0")
_ETHERNET = 1500


async def _look(patient: Patient) -> Sequence[Finding]:
    choice = await patient.choice()  # its error is the finding
    wanted = tunnel_mtu(choice, OVERHEAD)
    findings = [_underlay(choice, wanted)]
    text = patient.subnet_file().get("FLANNEL_MTU", "")
    if not text.isdigit():
        return findings
    said = int(text)
    if said > wanted:
        findings.append(
            failure(
                f"{patient.config.subnet_file} says {said}, but {choice.name} carries {wanted}",
                "restart udpoverlayd, then the containers that were made before",
            )
        )
    return [*findings, *await _devices(patient, min(said, wanted))]


def _underlay(choice: Choice, wanted: int) -> Finding:
    what = f"{choice.name} has an MTU of {choice.mtu}, the tunnel {wanted}"
    if choice.mtu >= _ETHERNET:
        return good(what)
    return warning(
        f"{what}: less than Ethernet's {_ETHERNET}; is {choice.name} a tunnel itself?",
        "peers with a larger MTU send packets that are fragmented on the way here: "
        "use one MTU on all hosts",
    )


async def _devices(patient: Patient, wanted: int) -> list[Finding]:
    findings = []
    for device in (await patient.tunnel(), *_BRIDGES):
        mtu = patient.mtu(device)
        if mtu is None:
            continue
        if mtu <= wanted:
            findings.append(good(f"{device} has an MTU of {mtu}"))
            continue
        findings.append(
            warning(
                f"{device} has an MTU of {mtu}, packets of more than {wanted} do not pass",
                f"ip link set {device} mtu {wanted}; containers made before keep the old one",
            )
        )
    return findings


CHECK = Check("mtu", "MTU", _look)
