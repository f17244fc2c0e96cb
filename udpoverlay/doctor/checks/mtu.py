"""Do the MTUs fit each other: interface, tunnel, the pods' bridge."""

from __future__ import annotations

from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, good, skipped, warning
from udpoverlay.doctor.patient import Patient
from udpoverlay.model.subnetenv import parse_subnet_env

__all__ = ["CHECK"]

_BRIDGES = ("cni0", "docker0")


async def _look(patient: Patient) -> Sequence[Finding]:
    findings = [*_underlay(patient), *_tunnels(patient)]
    return findings or [skipped("no tunnel device yet")]


def _mtu(patient: Patient, device: str) -> int | None:
    text = patient.read(f"/sys/class/net/{device}/mtu")
    return int(text) if text is not None and text.strip().isdigit() else None


def _underlay(patient: Patient) -> list[Finding]:
    choice = patient.choice
    if choice is None:
        return []
    if choice.mtu < 1500:
        return [
            warning(
                f"{choice.name} has an MTU of {choice.mtu}: a tunnel itself, or a short path",
                "peers with an MTU of 1500 send packets that are fragmented on the way here",
            )
        ]
    return [good(f"{choice.name} has an MTU of {choice.mtu}")]


def _tunnels(patient: Patient) -> list[Finding]:
    text = patient.read(patient.config.subnet_file)
    if text is None:
        return []
    wanted = parse_subnet_env(text).get("FLANNEL_MTU", "")
    if not wanted.isdigit():
        return []
    findings = []
    for device in (*_tunnel_names(patient), *_BRIDGES):
        mtu = _mtu(patient, device)
        if mtu is None:
            continue
        if mtu > int(wanted):
            findings.append(
                warning(
                    f"{device} has an MTU of {mtu}, the subnet file says {wanted}: larger packets "
                    "are dropped or fragmented",
                    f"ip link set {device} mtu {wanted}; pods made before keep the old MTU",
                )
            )
        else:
            findings.append(good(f"{device} has an MTU of {mtu}"))
    return findings


def _tunnel_names(patient: Patient) -> list[str]:
    return [name for name in patient.names("/sys/class/net") if name.startswith("flannel")]


CHECK = Check("mtu", "MTU", _look)
