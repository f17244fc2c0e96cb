"""Which interface the tunnel would use, and which address is published to peers."""

from __future__ import annotations

from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, good, warning
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK"]


async def _look(patient: Patient) -> Sequence[Finding]:
    choice = await patient.choice()  # its error is the finding
    view = await patient.view()
    findings = [good(f"{choice.name} with {choice.address or choice.address_v6}")]
    link = view.by_name(choice.name)
    if link is not None and not link.up:
        findings.append(warning(f"{choice.name} is down", f"ip link set {choice.name} up"))
    here = [address.ip for each in view.links for address in each.addresses]
    for public in (choice.public_ip, choice.public_ipv6):
        if public is not None and public not in here:
            findings.append(
                warning(
                    f"the public address is {public}, which no interface of this host has",
                    "right only behind a NAT that forwards the tunnel's UDP port here; "
                    "otherwise correct --public-ip",
                )
            )
    return findings


CHECK = Check("interface", "interface of the tunnel", _look)
