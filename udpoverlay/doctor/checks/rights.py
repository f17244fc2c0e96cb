"""May our account do in Kubernetes what --kube-subnet-mgr needs (SelfSubjectAccessReview)."""

from __future__ import annotations

from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, failure, good, skipped
from udpoverlay.doctor.facts.kube import KubeSide
from udpoverlay.doctor.patient import Patient
from udpoverlay.kubernetes.diagnose import grant_command

__all__ = ["CHECK"]


async def _look(patient: Patient) -> Sequence[Finding]:
    if not patient.config.kube_subnet_mgr:
        return [skipped("leases come from etcd")]
    side = await patient.side()
    assert isinstance(side, KubeSide)
    have, lack = await side.rights()
    findings = [good(f"may {right.verb} {right.resource}") for right in have]
    if lack:
        user = await side.who()
        lacking = ", ".join(f"{right.verb} {right.resource}" for right in lack)
        findings.append(
            failure(f"{user or 'our account'} may not: {lacking}", grant_command(user, lack))
        )
    return findings


CHECK = Check("rights", "rights in Kubernetes", _look)
