"""Does the daemon run here, what troubles it; if it does not, is its port free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from udpoverlay.dataplane.udp import open_udp
from udpoverlay.doctor.base import Check, Finding, failure, good, skipped, warning
from udpoverlay.doctor.patient import Patient
from udpoverlay.errors import KernelError

__all__ = ["CHECK"]

_LOG = "look at its log: journalctl -u udpoverlayd, or kubectl logs"


async def _look(patient: Patient) -> Sequence[Finding]:
    status = await patient.status()
    if status is None:
        return [await _port(patient)]
    node, lease = status["node"], status["lease"]
    what = f"udpoverlayd runs: {lease['subnet']} on {node['tun']}, peers: {status['peers']}"
    return [good(what), *await _other_settings(patient, node), *_troubles(patient, status)]


async def _port(patient: Patient) -> Finding:
    choice = await patient.known(patient.choice)
    if choice is None or choice.address is None:
        return skipped("no daemon answers; the port cannot be tried, see interface")
    port = await patient.port()
    try:
        open_udp(str(choice.address), port).close()
    except KernelError as error:
        return warning(f"no daemon answers, but {error.what}", error.fix)
    return good(f"no daemon runs here; UDP {port} is free")


async def _other_settings(patient: Patient, node: Mapping[str, Any]) -> list[Finding]:
    choice = await patient.known(patient.choice)
    runs_on = node["interface_address"]
    if choice is None or choice.address is None or str(choice.address) == runs_on:
        return []
    return [
        warning(
            f"the daemon is bound to {runs_on}, these settings choose {choice.address}",
            "give doctor the daemon's own flags, or restart the daemon",
        )
    ]


def _troubles(patient: Patient, status: Mapping[str, Any]) -> list[Finding]:
    findings = [
        failure(f"{part}: {text}", "udpoverlay doctor --only registry")
        for part, text in status["registry"]["troubles"].items()
    ]
    error = status.get("firewall", {}).get("error", "")
    if error:
        findings.append(failure(f"packet rules: {error}", _LOG))
    refused = status["control"].get("leases_refused", 0)
    if refused:
        findings.append(
            warning(
                f"{refused} leases of other hosts get no route",
                "why: curl --unix-socket "
                f"{patient.config.admin_socket} http://admin/v1/peers (`refused`)",
            )
        )
    findings += [
        warning(
            f"packets to {each['peer']} are made worse on purpose: {each['what']}",
            f"udpoverlay impair {each['peer']} off",
        )
        for each in status.get("dataplane", {}).get("impairments", ())
    ]
    return findings


CHECK = Check("daemon", "the daemon on this host", _look)
