"""doctor/checks/pod_cidr.py: a Node that is not there, or whose podCIDR is none of ours."""

from __future__ import annotations

from tests.support.kubecluster import Kube
from tests.support.patient import CHOICE, levels
from udpoverlay.doctor.base import Check, Finding
from udpoverlay.doctor.checks import pod_cidr, public_ip
from udpoverlay.doctor.patient import Patient
from udpoverlay.doctor.runner import examine
from udpoverlay.model.config import DaemonConfig, KubeConfigSource


async def found(source: KubeConfigSource, check: Check = pod_cidr.CHECK) -> list[Finding]:
    config = DaemonConfig(kube_subnet_mgr=True, kube=source)
    patient = Patient(config, learned={"choice": CHOICE})
    try:
        (report,) = await examine(patient, [check])
    finally:
        await patient.aclose()
    return list(report.findings)


async def test_node_with_a_pod_cidr_of_the_network(kube: Kube) -> None:
    await kube.node("n1", "10.244.3.0/24")
    findings = await found(await kube.source("n1"))
    assert levels(findings) == ["ok"]
    assert findings[0].fact == "Node n1 has 10.244.3.0/24"


async def test_node_without_one_is_a_failure_with_the_cause(kube: Kube) -> None:
    await kube.node("n1")
    (alone,) = await found(await kube.source("n1"))
    assert alone.level.value == "failure"
    assert "--allocate-node-cidrs=true" in alone.fix
    (absent,) = await found(await kube.source("n9"))
    assert absent.fact == "Node n9 is not in the cluster"


async def test_pod_cidr_of_another_network_is_a_failure(kube: Kube) -> None:
    await kube.node("n1", "10.99.3.0/24")
    findings = await found(await kube.source("n1"))
    assert levels(findings) == ["failure"]
    assert "10.99.3.0/24" in findings[0].fact
    assert "--cluster-cidr" in findings[0].fix


async def test_without_a_name_it_is_a_failure(kube: Kube) -> None:
    findings = await found(await kube.source(""))
    assert levels(findings) == ["failure"]
    assert "NODE_NAME" in findings[0].fix


async def test_two_nodes_with_one_address_are_told(kube: Kube) -> None:
    """The check public-ip with leases from Kubernetes."""
    await kube.udp_node("n1", "10.244.3.0/24", "192.0.2.1")
    await kube.udp_node("n2", "10.244.4.0/24", "192.0.2.2")
    source = await kube.source("n1")
    assert levels(await found(source, public_ip.CHECK)) == ["ok"]
    await kube.udp_node("n3", "10.244.5.0/24", "192.0.2.1")
    findings = await found(source, public_ip.CHECK)
    assert levels(findings) == ["failure"]
    assert "10.244.3.0/24, 10.244.5.0/24" in findings[0].fact
