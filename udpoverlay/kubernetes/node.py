"""What of a Kubernetes Node matters to an overlay: its identity, some annotations, its podCIDRs.

Owns: those facts, and the reading of podCIDRs. Must not know: which annotations make a lease, how a
Node is spelled in JSON (codec.py), how it travels (client.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    taints: tuple[Mapping[str, str], ...] = ()

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
