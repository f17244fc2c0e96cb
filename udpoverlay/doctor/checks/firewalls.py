"""Do firewalld or ufw let the tunnel's datagrams in. Other rules: --peer shows what they do."""

from __future__ import annotations

import re
from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, failure, good
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK"]


async def _look(patient: Patient) -> Sequence[Finding]:
    port = await patient.port()
    findings = [*await _firewalld(patient, port), *await _ufw(patient, port)]
    return findings or [good("neither firewalld nor ufw is active")]


async def _firewalld(patient: Patient, port: int) -> list[Finding]:
    """firewall-cmd(1); an interface that no zone names is in the default zone."""
    if ((await patient.output(["firewall-cmd", "--state"])) or "").strip() != "running":
        return []
    choice = await patient.known(patient.choice)
    zone = ""
    if choice is not None:
        asked = ["firewall-cmd", f"--get-zone-of-interface={choice.name}"]
        zone = ((await patient.output(asked)) or "").strip()
    if not zone:
        zone = ((await patient.output(["firewall-cmd", "--get-default-zone"])) or "").strip()
    if zone == "trusted":
        return [good("firewalld's zone trusted lets everything in")]
    asked = ["firewall-cmd", f"--zone={zone}", f"--query-port={port}/udp"]
    if ((await patient.output(asked)) or "").strip() == "yes":
        return [good(f"firewalld lets UDP {port} in (zone {zone})")]
    return [
        failure(
            f"firewalld does not let UDP {port} in (zone {zone})",
            f"firewall-cmd --permanent --zone={zone} --add-port={port}/udp && "
            "firewall-cmd --reload",
        )
    ]


async def _ufw(patient: Patient, port: int) -> list[Finding]:
    """ufw(8): the first rule that matches decides, then the default."""
    status = await patient.output(["ufw", "status", "verbose"])
    if status is None or "Status: active" not in status:
        return []
    for line in status.splitlines():
        words = line.split()
        if not words or not _covers(words[0], port) or "(v6)" in words:
            continue
        if "ALLOW" in words or "LIMIT" in words:
            return [good(f"ufw lets UDP {port} in: {' '.join(words)}")]
        if "DENY" in words or "REJECT" in words:
            return [failure(f"ufw keeps UDP {port} out: {' '.join(words)}", _ufw_fix(port))]
    if re.search(r"^Default: allow \(incoming\)", status, re.MULTILINE):
        return [good("ufw lets in what no rule names")]
    return [failure(f"ufw does not let UDP {port} in", _ufw_fix(port))]


def _covers(where: str, port: int) -> bool:
    """Whether a rule's first column, such as 8285/udp or 8000:9000/udp, is about the port."""
    if where == "Anywhere":
        return True
    ports, _, protocol = where.partition("/")
    if protocol not in {"", "udp"}:
        return False
    for part in ports.split(","):
        low, _, high = part.partition(":")
        if low.isdigit() and int(low) <= port <= int(high if high.isdigit() else low):
            return True
    return False


def _ufw_fix(port: int) -> str:
    return f"ufw insert 1 allow {port}/udp"


CHECK = Check("firewall", "firewalld, ufw", _look)
