"""Has our Node a podCIDR, and does it lie in Network: it is our lease in Kubernetes."""

from __future__ import annotations

from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, failure, good, skipped
from udpoverlay.doctor.facts.kube import KubeSide
from udpoverlay.doctor.patient import Patient
from udpoverlay.kubernetes.diagnose import why_no_pod_cidr
from udpoverlay.kubernetes.node import NotALease, pod_networks

__all__ = ["CHECK"]


async def _look(patient: Patient) -> Sequence[Finding]:
    if not patient.config.kube_subnet_mgr:
        return [skipped("leases come from etcd")]
    side = await patient.side()
    assert isinstance(side, KubeSide)
    name, conf = await side.node_name(), await patient.netconf()
    nodes = await side.nodes()
    view = nodes.get(name)
    if view is None or not (view.pod_cidr or view.pod_cidrs):
        why = why_no_pod_cidr(name, nodes, conf)
        return [failure(why.what, why.fix)]
    try:
        ours = pod_networks(view)
    except NotALease as error:
        return [failure(f"Node {name}: {error}", f"kubectl get node {name} -o yaml shows it")]
    findings = []
    for cidr, network, key in zip(
        ours, (conf.network, conf.ipv6_network), ("Network", "IPv6Network"), strict=True
    ):
        if cidr is None or (key == "IPv6Network" and not conf.enable_ipv6):
            continue
        if network is None or cidr not in network:
            where = side.source.net_config_path
            findings.append(
                failure(
                    f"podCIDR {cidr} of Node {name} is not part of {key} {network or '(not set)'}",
                    f"set {key} in {where} to the --cluster-cidr of what hands out podCIDRs",
                )
            )
        else:
            findings.append(good(f"Node {name} has {cidr}"))
    return findings or [
        failure(f"Node {name} has no IPv4 podCIDR", "give the cluster an IPv4 --cluster-cidr")
    ]


CHECK = Check("pod-cidr", "podCIDR of this Node", _look)
