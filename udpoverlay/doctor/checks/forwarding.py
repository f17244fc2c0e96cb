"""Does the kernel forward between the pods' bridge and the tunnel, and do the rules let it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, failure, good, skipped, warning
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK"]


async def _look(patient: Patient) -> Sequence[Finding]:
    return [_kernel(patient), *await _policy(patient)]


def _kernel(patient: Patient) -> Finding:
    value = patient.sysctl("net/ipv4/ip_forward")
    if value is None:
        return skipped("net.ipv4.ip_forward cannot be read")
    if value == "0":
        return failure(
            "net.ipv4.ip_forward is 0: packets stop between pods and tunnel",
            "sysctl -w net.ipv4.ip_forward=1, and in /etc/sysctl.d/ for the next boot",
        )
    return good("net.ipv4.ip_forward is 1")


async def _policy(patient: Patient) -> list[Finding]:
    saved = await patient.output(["iptables-save", "-t", "filter"])
    findings: list[Finding] = []
    if saved is not None and ":FORWARD DROP" in saved:
        if "-j FLANNEL-FWD" in saved:
            findings.append(good("the FORWARD policy is DROP, and FLANNEL-FWD accepts the overlay"))
        else:
            findings.append(
                failure(
                    "the FORWARD policy is DROP (Docker's work) and nothing accepts the overlay",
                    "start the daemon with --iptables-forward-rules=true (the default)",
                )
            )
    findings += await _dropping_chains(patient)
    return findings or [good("no FORWARD policy drops")]


async def _dropping_chains(patient: Patient) -> list[Finding]:
    """nftables' base chains with policy drop, other than those that iptables-nft shows."""
    listed = await patient.output(["nft", "-j", "list", "chains"])
    try:
        objects = json.loads(listed or "{}").get("nftables", [])
    except ValueError:
        return []
    findings = []
    for each in objects:
        chain = each.get("chain", {})
        place = f"{chain.get('family')} {chain.get('table')} {chain.get('name')}"
        if (
            chain.get("hook") == "forward"
            and chain.get("policy") == "drop"
            and place not in {"ip filter FORWARD", "ip6 filter FORWARD"}
            and chain.get("family") in {"ip", "inet"}
        ):
            findings.append(
                warning(
                    f"the nftables chain {place} drops what it does not accept",
                    f"accept the overlay there: nft insert rule {place} ip daddr NETWORK accept",
                )
            )
    return findings


CHECK = Check("forwarding", "forwarding", _look)
