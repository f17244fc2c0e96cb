"""doctor/checks/rights.py: each verb that an account lacks is named, with the commands."""

from __future__ import annotations

import pytest

from tests.support.kubeapi.rbac import DAEMON, Rule
from tests.support.kubecluster import Kube
from tests.support.patient import levels
from udpoverlay.doctor.base import Finding
from udpoverlay.doctor.checks.rights import CHECK
from udpoverlay.doctor.patient import Patient
from udpoverlay.doctor.runner import examine
from udpoverlay.model.config import DaemonConfig, KubeConfigSource


async def found(source: KubeConfigSource) -> list[Finding]:
    patient = Patient(DaemonConfig(kube_subnet_mgr=True, kube=source))
    try:
        (report,) = await examine(patient, [CHECK])
    finally:
        await patient.aclose()
    return list(report.findings)


async def test_flannels_role_is_enough(kube: Kube) -> None:
    token, _ = await kube.user(DAEMON)
    findings = await found(await kube.source("n1", token))
    assert levels(findings) == ["ok"] * 4


@pytest.mark.parametrize(
    ("rules", "lacking"),
    [
        ((Rule(("get", "list"), ("nodes",)), Rule(("patch",), ("nodes/status",))), "watch nodes"),
        ((Rule(("get", "list", "watch"), ("nodes",)),), "patch nodes/status"),
        (
            (Rule(("get", "watch"), ("nodes",)), Rule(("patch",), ("nodes/status",))),
            "list nodes",
        ),
    ],
)
async def test_missing_verb_is_named_with_the_commands(
    kube: Kube, rules: tuple[Rule, ...], lacking: str
) -> None:
    token, _ = await kube.user(rules)
    *good, bad = await found(await kube.source("n1", token))
    assert levels(good) == ["ok"] * 3
    assert bad.level.value == "failure"
    assert bad.fact.endswith(f"may not: {lacking}")
    assert "kubectl create clusterrole" in bad.fix
    assert f"--verb={lacking.partition(' ')[0]} " in bad.fix


async def test_account_of_a_refusal_is_named(kube: Kube) -> None:
    token, user = await kube.user(())
    (bad,) = await found(await kube.source("n1", token))
    assert bad.fact == f"{user} may not: get nodes, list nodes, watch nodes, patch nodes/status"
    assert user in bad.fix


async def test_pods_are_asked_for_where_the_name_comes_from_a_pod(kube: Kube) -> None:
    token, _ = await kube.user(DAEMON[1:])
    source = await kube.source("", token, pod_name="p", pod_namespace="kube-flannel")
    *good, bad = await found(source)
    assert levels(good) == ["ok"] * 4
    assert bad.fact.endswith("may not: get pods")
    assert "-n kube-flannel" in bad.fix


async def test_unreachable_server_is_a_failure(kube: Kube) -> None:
    source = await kube.source("n1", url="http://127.0.0.1:1")
    findings = await found(source)
    assert levels(findings) == ["failure"]


async def test_with_etcd_there_are_none() -> None:
    (report,) = await examine(Patient(DaemonConfig()), [CHECK])
    assert levels(list(report.findings)) == ["skipped"]
