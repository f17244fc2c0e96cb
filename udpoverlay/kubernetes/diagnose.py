"""Why a host cannot have its lease from Kubernetes yet, and the command that fixes it.

Owns: the usual causes of a missing podCIDR and of a refused request, as sentences. Must not know:
when to ask again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from udpoverlay.errors import OperatorError, OutOfSubnets, RegistryError
from udpoverlay.kubernetes.cidr_set import CidrAllocator, Pool, pools_of
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.errors import KubeDenied
from udpoverlay.kubernetes.node import NodeView, NotALease, pod_networks
from udpoverlay.model.netconf import NetConf

__all__ = ["DAEMON_RIGHTS", "Right", "Why", "grant_command", "missing_rights", "why_no_pod_cidr"]


@dataclass(frozen=True, slots=True)
class Why:
    """A cause and its cure."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}: {self.fix}" if self.fix else self.what


@dataclass(frozen=True, slots=True)
class Right:
    """A verb on a resource (`nodes/status` with its subresource)."""

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""


DAEMON_RIGHTS = (
    Right("get", "nodes"),
    Right("list", "nodes"),
    Right("watch", "nodes"),
    Right("patch", "nodes/status"),
)
"""What --kube-subnet-mgr needs (flannel Documentation/kube-flannel.yml); `get pods` only where
the Node's name comes from POD_NAME."""


async def missing_rights(client: KubeClient, rights: tuple[Right, ...]) -> list[Right]:
    """Those of `rights` that the server says we lack; [] when it does not answer that question."""
    try:
        return [
            right
            for right in rights
            if not await client.may_i(
                right.verb, right.resource, namespace=right.namespace, group=right.group
            )
        ]
    except RegistryError:
        return []


def why_denied(error: KubeDenied, missing: list[Right]) -> Why:
    """Name what is missing, all of it, and the commands that grant it."""
    if not missing and error.verb:
        missing = [Right(error.verb, error.resource, error.group, error.namespace)]
    if not missing:
        return Why(error.what, error.fix)
    lacking = ", ".join(f"{right.verb} {right.resource}" for right in missing)
    who = error.user or "this service account"
    return Why(f"{who} may not: {lacking}", grant_command(error.user, missing))


def grant_command(user: str, missing: list[Right]) -> str:
    """The kubectl commands that give `user` the rights, one role a resource."""
    by_resource: dict[tuple[str, str, str], list[str]] = {}
    for right in missing:
        by_resource.setdefault((right.resource, right.group, right.namespace), []).append(
            right.verb
        )
    commands = []
    for (resource, group, namespace), verbs in by_resource.items():
        name = "udpoverlay-" + resource.replace("/", "-")
        kind = "role" if namespace else "clusterrole"
        where = f" -n {namespace}" if namespace else ""
        plain, slash, sub = resource.partition("/")
        full = f"{plain}.{group}{slash}{sub}" if group else resource
        commands.append(
            f"kubectl create {kind} {name}{where} --verb={','.join(verbs)} --resource={full}"
        )
        commands.append(
            f"kubectl create {kind}binding {name}{where} --{kind}={name} {_subject(user)}"
        )
    return " && ".join(commands)


def _subject(user: str) -> str:
    prefix = "system:serviceaccount:"
    if user.startswith(prefix):
        return f"--serviceaccount={user.removeprefix(prefix)}"
    return f"--user={user or 'USER'}"


def why_no_pod_cidr(name: str, nodes: Mapping[str, NodeView], conf: NetConf) -> Why:
    """Which of the usual causes it is that Node `name` has no podCIDR."""
    if name not in nodes:
        return Why(
            f"Node {name} is not in the cluster",
            "its kubelet must register it; if it has another name there (kubectl get nodes), "
            "set NODE_NAME to that",
        )
    ranges = ",".join(str(net) for net in (conf.network, conf.ipv6_network) if net is not None)
    have = [view for view in nodes.values() if view.pod_cidr or view.pod_cidrs]
    if not have:
        return Why(
            f"Node {name} has no podCIDR, nor has any other: nothing hands them out",
            f"start kube-controller-manager with --allocate-node-cidrs=true --cluster-cidr={ranges}"
            f" (kubeadm init --pod-network-cidr={ranges}), or let us do it: kubectl apply -f "
            "deploy/kubernetes/podcidr-controller.yaml",
        )
    allocator = _allocator(have, conf)
    if allocator is not None and min(allocator.free()) == 0:
        return Why(
            f"Node {name} has no podCIDR and all ranges of {ranges} are held",
            "delete Nodes that are gone (kubectl get nodes; kubectl delete node NAME) or enlarge "
            "--cluster-cidr of what hands them out, and Network here",
        )
    return Why(
        f"Node {name} has no podCIDR though {len(have)} of {len(nodes)} Nodes have one",
        f"what hands them out has stopped or is late: kubectl describe node {name} (events), "
        f"kubectl -n kube-system get lease; by hand: {_by_hand(name, allocator)}",
    )


def _allocator(have: list[NodeView], conf: NetConf) -> CidrAllocator | None:
    """What a controller would have allocated, by the sizes that other Nodes have."""
    sizes: dict[int, int] = {}
    for view in have:
        try:
            for network in pod_networks(view):
                if network is not None:
                    sizes.setdefault(int(network.version), int(network.prefixlen))
        except NotALease:
            continue
    pools: list[Pool] = []
    for network in (conf.network, conf.ipv6_network):
        if network is None or int(network.version) not in sizes:
            continue
        try:
            pools += pools_of([str(network)], sizes[int(network.version)])
        except OperatorError:
            return None
    if not pools:
        return None
    allocator = CidrAllocator(pools)
    for view in have:
        allocator.adopt(view)
    return allocator


def _by_hand(name: str, allocator: CidrAllocator | None) -> str:
    try:
        given = [str(net) for net in allocator.allocate(name)] if allocator is not None else []
    except OutOfSubnets:
        given = []
    given = given or ["A.B.C.0/24"]
    patch = json.dumps({"spec": {"podCIDR": given[0], "podCIDRs": given}}, separators=(",", ":"))
    return f"kubectl patch node {name} -p '{patch}'"
