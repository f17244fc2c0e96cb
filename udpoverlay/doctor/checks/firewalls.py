"""Do firewalld or ufw let the tunnel's datagrams in."""

from __future__ import annotations

from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, failure, good
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK"]

DEFAULT_PORT = 8285


async def _look(patient: Patient) -> Sequence[Finding]:
    port = DEFAULT_PORT
    if patient.netconf is not None:
        port = patient.netconf.backend_int("Port", DEFAULT_PORT, 1, 65535)
    findings = [*await _firewalld(patient, port), *await _ufw(patient, port)]
    return findings or [good("neither firewalld nor ufw is active")]


async def _firewalld(patient: Patient, port: int) -> list[Finding]:
    state = await patient.output(["firewall-cmd", "--state"])
    if state is None or state.strip() != "running":
        return []
    asked = await patient.output(["firewall-cmd", f"--query-port={port}/udp"])
    if asked is not None and asked.strip() == "yes":
        return [good(f"firewalld lets UDP {port} in")]
    return [
        failure(
            f"firewalld does not let UDP {port} in",
            f"firewall-cmd --permanent --add-port={port}/udp && firewall-cmd --reload",
        )
    ]


async def _ufw(patient: Patient, port: int) -> list[Finding]:
    status = await patient.output(["ufw", "status"])
    if status is None or "Status: active" not in status:
        return []
    for line in status.splitlines():
        words = line.split()
        if words[:1] in ([f"{port}/udp"], [str(port)]) and "ALLOW" in words:
            return [good(f"ufw lets UDP {port} in")]
    return [failure(f"ufw does not let UDP {port} in", f"ufw allow {port}/udp")]


CHECK = Check("firewall", "firewalld, ufw", _look)
