"""What kube-apiserver checks and changes in a write (pkg/apis/*/validation, pkg/registry/*)."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from tests.support.kubeapi import status

Json = dict[str, Any]

KINDS = {
    "nodes": ("v1", "Node"),
    "pods": ("v1", "Pod"),
    "namespaces": ("v1", "Namespace"),
    "leases": ("coordination.k8s.io/v1", "Lease"),
}
NAMESPACED = {"pods", "leases"}
NEEDS_VERSION_TO_UPDATE = {"leases"}
NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_ANNOTATION = re.compile(
    r"(?:[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)


def prepare_create(resource: str, obj: Json) -> Json:
    """Defaults and admission of a new object."""
    api_version, kind = KINDS[resource]
    obj = {**obj, "apiVersion": api_version, "kind": kind}
    if resource == "nodes":
        obj = _synced(obj)
        spec = obj.setdefault("spec", {})
        taints = spec.setdefault("taints", [])
        if not any(t["key"] == NOT_READY["key"] for t in taints):
            taints.append(dict(NOT_READY))
        obj.setdefault("status", {})
    validate(resource, obj, None)
    return obj


def prepare_update(resource: str, subresource: str, new: Json, old: Json) -> Json:
    """`new` as it would be stored over `old`: only spec, or only status, may change."""
    api_version, kind = KINDS[resource]
    new = {**new, "apiVersion": api_version, "kind": kind}
    meta = dict(new.get("metadata", {}))
    for name in ("name", "namespace", "uid", "creationTimestamp", "resourceVersion"):
        if name in old["metadata"]:
            meta[name] = old["metadata"][name]
    if not meta.get("annotations", True):
        del meta["annotations"]
    new["metadata"] = meta
    if resource == "nodes":
        keep = "spec" if subresource == "status" else "status"
        new[keep] = old.get(keep, {})
        new = _synced(new)
    validate(resource, new, old)
    return new


def _synced(node: Json) -> Json:
    """podCIDR is podCIDRs[0]; where both are given and differ, podCIDR wins (core/v1)."""
    spec = dict(node.get("spec") or {})
    single, several = spec.get("podCIDR", ""), list(spec.get("podCIDRs") or [])
    if single and (not several or several[0] != single):
        several = [single]
    spec.pop("podCIDR", None)
    spec.pop("podCIDRs", None)
    if several:
        spec["podCIDR"], spec["podCIDRs"] = several[0], several
    if not spec.get("taints", True):
        del spec["taints"]
    return {**node, "spec": spec}


def validate(resource: str, new: Json, old: Json | None) -> None:
    """Raise 422 as the server would."""
    name, kind = new["metadata"].get("name", ""), KINDS[resource][1]
    causes: list[str] = []
    if old is None and not _NAME.fullmatch(name):
        causes.append(f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain')
    for key, value in (new["metadata"].get("annotations") or {}).items():
        if not _ANNOTATION.fullmatch(key):
            causes.append(f'metadata.annotations: Invalid value: "{key}": no name')
        if not isinstance(value, str):
            raise status.ApiError(400, f"{kind} in version cannot be handled: expected string")
    if resource == "nodes":
        causes += _node_causes(new, old)
    if resource == "leases":
        causes += _lease_causes(new)
    if causes:
        raise status.invalid(kind, name, *causes)


def _node_causes(new: Json, old: Json | None) -> list[str]:
    cidrs = new["spec"].get("podCIDRs", [])
    before = (old or {}).get("spec", {}).get("podCIDRs", [])
    causes: list[str] = []
    if before and cidrs != before:
        return [
            'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'
        ]
    if old is not None:
        return causes  # as in ValidateNodeUpdate, the text of a first podCIDR is not looked at
    for index, text in enumerate(cidrs):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            causes.append(
                f'spec.podCIDRs[{index}]: Invalid value: "{text}": must be a valid CIDR value'
            )
    if len(cidrs) > 2:
        causes.append("spec.podCIDRs: Invalid value: may specify no more than one CIDR per family")
    return causes


def _lease_causes(new: Json) -> list[str]:
    spec = new.get("spec") or {}
    causes = []
    duration = spec.get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        causes.append(f"spec.leaseDurationSeconds: Invalid value: {duration}: must be > 0")
    transitions = spec.get("leaseTransitions")
    if transitions is not None and transitions < 0:
        causes.append(f"spec.leaseTransitions: Invalid value: {transitions}: must be >= 0")
    return causes
