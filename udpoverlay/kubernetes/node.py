"""What of a Kubernetes Node matters to an overlay: its identity, some annotations, its podCIDRs.

Owns: the reading of a Node object. Must not know: which annotations make a lease, how a Node
travels (client.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netaddr import IPNetwork

from udpoverlay.gocompat import net as goip

__all__ = ["NodeView", "NotALease", "parse_cidr", "pod_networks"]

MAX_POD_CIDRS = 2
"""One of each family; more is refused, as flannel does."""


class NotALease(ValueError):
    """This Node is managed but cannot be read as a lease; the text says why."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """The few facts of a Node object that matter here; a Node itself is tens of kilobytes."""

    name: str
    uid: str = ""
    resource_version: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    pod_cidr: str = ""
    pod_cidrs: tuple[str, ...] = ()
    taints: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_object(cls, node: Mapping[str, Any], keep: frozenset[str]) -> NodeView:
        """Read a Node as the API sends it, keeping only the annotations named in `keep`.

        Absent and null parts are empty, as in Go; a wrong type anywhere is a ValueError.
        """
        meta = _object(node.get("metadata"), "metadata")
        spec = _object(node.get("spec"), "spec")
        annotations = _object(meta.get("annotations"), "metadata.annotations")
        cidrs = _list(spec.get("podCIDRs"), "spec.podCIDRs")
        taints = _list(spec.get("taints"), "spec.taints")
        name = _text(meta.get("name"), "metadata.name")
        if not name:
            raise ValueError("metadata.name is empty")
        return cls(
            name=name,
            uid=_text(meta.get("uid"), "metadata.uid"),
            resource_version=_text(meta.get("resourceVersion"), "metadata.resourceVersion"),
            annotations={
                key: _text(value, f"metadata.annotations[{key}]")
                for key, value in annotations.items()
                if key in keep
            },
            pod_cidr=_text(spec.get("podCIDR"), "spec.podCIDR"),
            pod_cidrs=tuple(_text(cidr, "spec.podCIDRs") for cidr in cidrs),
            taints=tuple(_object(taint, "spec.taints") for taint in taints),
        )

    def same_facts(self, other: NodeView | None) -> bool:
        """Whether nothing that matters here differs (a kubelet's heartbeat changes none of it)."""
        return (
            other is not None
            and self.uid == other.uid
            and self.annotations == other.annotations
            and self.pod_cidr == other.pod_cidr
            and self.pod_cidrs == other.pod_cidrs
            and self.taints == other.taints
        )


def pod_networks(node: NodeView) -> tuple[IPNetwork | None, IPNetwork | None]:
    """The IPv4 and the IPv6 range of a Node: the first of each in podCIDRs, or podCIDR alone.

    NotALease when one is not a CIDR or there are more than two.
    """
    if len(node.pod_cidrs) > MAX_POD_CIDRS:
        raise NotALease(f"podCIDRs {list(node.pod_cidrs)} are more than one of each family")
    v4: IPNetwork | None = None
    v6: IPNetwork | None = None
    for text in node.pod_cidrs or ((node.pod_cidr,) if node.pod_cidr else ()):
        network = parse_cidr(text)
        if network.version == 4:
            v4 = v4 or network
        else:
            v6 = v6 or network
    return v4, v6


def parse_cidr(text: str) -> IPNetwork:
    """A CIDR as a pure network; NotALease unless it is one."""
    network = goip.parse_cidr(text)
    if network is None:
        raise NotALease(f"podCIDR {text!r} is not a CIDR")
    return network


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {type(value).__name__}, not an object")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{where} is {type(value).__name__}, not a list")
    return value


def _text(value: Any, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{where} is {type(value).__name__}, not a string")
    return value
