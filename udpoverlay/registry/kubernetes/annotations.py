"""What a Kubernetes Node says about a lease, and what we write on our own Node.

Owns: the names of the annotations (flannel pkg/subnet/kube/annotations.go), the reading of a Node
as a lease and the annotations that acquiring wants (flannel pkg/subnet/kube/kube.go). Must not
know: how a Node travels (kubernetes/client.py).

    metadata.annotations:  <prefix>kube-subnet-manager "true"   this Node carries a lease
                           <prefix>backend-type, backend-data   as in etcd's value; udp: "" and null
                           <prefix>public-ip                    where its tunnel packets go
    spec.podCIDR(s):       the lease's subnet
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from netaddr import IPAddress, IPNetwork

from udpoverlay.errors import OperatorError
from udpoverlay.gocompat import net as goip
from udpoverlay.kubernetes.node import NodeView, NotALease, pod_networks
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet

__all__ = [
    "V4_ONLY_BACKENDS",
    "AnnotationNames",
    "StackNeeds",
    "annotations_to_write",
    "lease_of_node",
]

MANAGED = "true"
"""The value of kube-subnet-manager that makes a Node a lease; anything else does not."""

NO_DATA = "null"
"""How flannel spells absent backend data: Go's JSON text of nothing."""

V4_ONLY_BACKENDS = frozenset({"udp", "alloc"})
"""Lower-cased types that carry IPv4 alone and publish no IPv6 address."""

_PREFIX = re.compile(r"(?:[a-z0-9_-]+\.)+[a-z0-9_-]+/(?:[a-z0-9_-]+-)?")


@dataclass(frozen=True, slots=True)
class AnnotationNames:
    """The full names of all annotations under one prefix."""

    kube_subnet_manager: str
    backend_data: str
    backend_v6_data: str
    backend_type: str
    public_ip: str
    public_ipv6: str
    public_ip_overwrite: str
    public_ipv6_overwrite: str
    node_public_ip: str
    node_public_ipv6: str

    @classmethod
    def from_prefix(cls, prefix: str) -> AnnotationNames:
        """The names for `--kube-annotation-prefix`; OperatorError when the prefix cannot be one.

        `example.com` gives `example.com/backend-type`, `example.com/net` gives
        `example.com/net-backend-type`.
        """
        full = prefix if "/" in prefix else prefix + "/"
        if not full.endswith(("/", "-")):
            full += "-"
        if prefix.count("/") > 1 or _PREFIX.fullmatch(full) is None:
            raise OperatorError(
                f"--kube-annotation-prefix {prefix!r} cannot start an annotation's name",
                fix="use a lower-case domain with a dot, optionally followed by one / and a word, "
                "like flannel.alpha.coreos.com or example.com/net",
            )
        return cls(
            **{
                name: full + name.replace("_", "-")
                for name in cls.__dataclass_fields__  # the field names are the annotations' names
            }
        )

    def all(self) -> frozenset[str]:
        """Every name: what is worth keeping of a Node's annotations."""
        return frozenset(getattr(self, name) for name in self.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class StackNeeds:
    """Which address families a peer must offer to be one, and which of its ranges are its lease.

    flannel demands a `public-ipv6` of every peer as soon as EnableIPv6 is on; its udp and alloc
    backends never write one, so all their peers were ignored. Here those backends, which carry
    IPv4 alone, ask for IPv4 alone (docs/deviations.md). An IPv6 range is still a part of the lease
    where there is one: CNI gives pods addresses of both families.
    """

    v4: bool
    v6: bool
    v6_range: bool

    @classmethod
    def of(cls, enable_ipv4: bool, enable_ipv6: bool, backend_type: str) -> StackNeeds:
        """The needs of a network configuration; `backend_type` in any case."""
        v4_only = backend_type.lower() in V4_ONLY_BACKENDS
        return cls(
            v4=enable_ipv4 or (enable_ipv6 and v4_only),
            v6=enable_ipv6 and not v4_only,
            v6_range=enable_ipv6,
        )

    def subnet(self, v4: IPNetwork | None, v6: IPNetwork | None) -> Subnet:
        """The lease's part of a Node's ranges; NotALease when a needed one is missing."""
        if self.v4 and v4 is None:
            raise NotALease("it has no IPv4 podCIDR")
        if self.v6 and v6 is None:
            raise NotALease("it has no IPv6 podCIDR")
        return Subnet(v4 if self.v4 else None, v6 if self.v6_range else None)

    def claim(self, subnet: Subnet) -> Subnet:
        """What of a lease's subnet no two leases may have: the ranges that carry packets."""
        return Subnet(subnet.v4 if self.v4 else None, subnet.v6 if self.v6 else None)


def lease_of_node(node: NodeView, names: AnnotationNames, needs: StackNeeds) -> Lease | None:
    """The lease that a Node stands for; None when it is not managed, NotALease when unusable."""
    said = node.annotations
    if said.get(names.kube_subnet_manager) != MANAGED:
        return None
    v4, v6 = pod_networks(node)
    public_ip = IPAddress("0.0.0.0")  # noqa: S104 - flannel's spelling of "no IPv4 address"
    public_ipv6: IPAddress | None = None
    if needs.v4:
        public_ip = _address(said.get(names.public_ip, ""), 4, names.public_ip)
    if needs.v6:
        public_ipv6 = _address(said.get(names.public_ipv6, ""), 6, names.public_ipv6)
    return Lease(
        subnet=needs.subnet(v4, v6),
        attrs=LeaseAttrs(
            public_ip=public_ip,
            public_ipv6=public_ipv6,
            backend_type=said.get(names.backend_type, ""),
            backend_data=_data(said.get(names.backend_data, "")) if needs.v4 else "",
            backend_v6_data=_data(said.get(names.backend_v6_data, "")) if needs.v6 else "",
        ),
    )


def annotations_to_write(
    node: NodeView, names: AnnotationNames, attrs: LeaseAttrs
) -> dict[str, str]:
    """What must be changed on our own Node so that peers see `attrs`; empty when nothing must.

    The overwrite annotations, set by an operator, replace the published addresses; OperatorError
    when one of them is not an address.
    """
    wanted = {names.backend_type: attrs.backend_type, names.kube_subnet_manager: MANAGED}
    data = attrs.backend_data or NO_DATA
    v6_data = attrs.backend_v6_data or NO_DATA
    if attrs.backend_type != "vxlan" or data != NO_DATA:
        wanted[names.backend_data] = data
        wanted[names.public_ip] = str(published(node, names.public_ip_overwrite, attrs.public_ip))
    carries_v6 = (
        v6_data != NO_DATA
        if attrs.backend_type in {"vxlan", "wireguard"}
        else attrs.backend_type in {"host-gw", "extension"}
    )
    if carries_v6 and attrs.public_ipv6 is not None:
        wanted[names.backend_v6_data] = v6_data
        wanted[names.public_ipv6] = str(
            published(node, names.public_ipv6_overwrite, attrs.public_ipv6)
        )
    if all(node.annotations.get(name, "") == value for name, value in wanted.items()):
        return {}
    return {name: value for name, value in wanted.items() if node.annotations.get(name) != value}


def published(node: NodeView, overwrite: str, address: IPAddress) -> IPAddress:
    """`address`, or what the Node's annotation named `overwrite` puts in its place."""
    text = node.annotations.get(overwrite, "")
    if not text:
        return address
    try:
        return _address(text, address.version, overwrite)
    except NotALease as error:
        raise OperatorError(
            f"Node {node.name}: {error}",
            fix=f"kubectl annotate node {node.name} --overwrite {overwrite}={address}  "
            f"(or remove it: kubectl annotate node {node.name} {overwrite}-)",
        ) from None


def _address(text: str, version: int, name: str) -> IPAddress:
    address = goip.parse_ip(text)
    if address is None or address.version != version:
        raise NotALease(f"annotation {name} is {text!r}, not an IPv{version} address")
    return address


def _data(text: str) -> str:
    """`null` and nothing are the same absence; the rest is kept byte for byte."""
    return "" if text == NO_DATA else text
