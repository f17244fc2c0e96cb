"""Nodes as leases: names of annotations, what is read from a Node, what is written to our own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from netaddr import IPAddress, IPNetwork

from udpoverlay.errors import OperatorError
from udpoverlay.kubernetes.node import NodeView, NotALease
from udpoverlay.model.lease import LeaseAttrs
from udpoverlay.registry.kubernetes.annotations import (
    AnnotationNames,
    StackNeeds,
    annotations_to_write,
    lease_of_node,
)

NAMES = AnnotationNames.from_prefix("flannel.alpha.coreos.com")
V4 = StackNeeds.of(True, False, "udp")
UDP_DUAL = StackNeeds(v4=True, v6=False, v6_range=True)
DUAL = StackNeeds(v4=True, v6=True, v6_range=True)
ATTRS = LeaseAttrs(IPAddress("192.0.2.1"))
UDP = {
    NAMES.backend_data: "null",
    NAMES.backend_type: "",
    NAMES.public_ip: "192.0.2.1",
    NAMES.kube_subnet_manager: "true",
}


def node(annotations: dict[str, str], *cidrs: str, **more: Any) -> NodeView:
    return NodeView("n1", annotations=annotations, pod_cidrs=cidrs, **more)


@pytest.mark.parametrize(
    ("prefix", "backend_type"),
    [
        ("flannel.alpha.coreos.com", "flannel.alpha.coreos.com/backend-type"),
        ("flannel.alpha.coreos.com/", "flannel.alpha.coreos.com/backend-type"),
        ("flannel.alpha.coreos.com/prefix", "flannel.alpha.coreos.com/prefix-backend-type"),
        ("flannel.alpha.coreos.com/prefix-", "flannel.alpha.coreos.com/prefix-backend-type"),
        ("org.com", "org.com/backend-type"),
        ("org9.com", "org9.com/backend-type"),
        ("org.com/9", "org.com/9-backend-type"),
    ],
)
def test_the_prefix_becomes_names_as_in_flannels_own_tests(prefix: str, backend_type: str) -> None:
    assert AnnotationNames.from_prefix(prefix).backend_type == backend_type


@pytest.mark.parametrize(
    "prefix",
    ["org", "org/", "org/prefix", "org.COM", "org.com/PREFIX", "a.b/c/d", "", "/", "FOO org.com/x"],
)
def test_a_prefix_that_kubernetes_would_refuse_is_an_operators_error(prefix: str) -> None:
    with pytest.raises(OperatorError, match="--kube-annotation-prefix"):
        AnnotationNames.from_prefix(prefix)


def test_names_are_the_ten_of_flannel() -> None:
    assert {name.rpartition("/")[2] for name in NAMES.all()} == {
        "kube-subnet-manager", "backend-data", "backend-v6-data", "backend-type", "public-ip",
        "public-ipv6", "public-ip-overwrite", "public-ipv6-overwrite", "node-public-ip",
        "node-public-ipv6",
    }  # fmt: skip


def test_a_udp_node_is_a_lease_with_its_public_ip_and_no_data() -> None:
    lease = lease_of_node(node(UDP, "10.1.2.0/24"), NAMES, V4)
    assert lease is not None
    assert str(lease.subnet) == "10.1.2.0/24"
    assert lease.attrs == ATTRS


@pytest.mark.parametrize("value", ["false", "", "True", "yes"])
def test_only_the_word_true_makes_a_node_a_lease(value: str) -> None:
    said = {**UDP, NAMES.kube_subnet_manager: value}
    assert lease_of_node(node(said, "10.1.2.0/24"), NAMES, V4) is None


def test_backend_data_is_kept_byte_for_byte() -> None:
    data = '{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}'
    said = {**UDP, NAMES.backend_type: "vxlan", NAMES.backend_data: data}
    lease = lease_of_node(node(said, "10.1.2.0/24"), NAMES, V4)
    assert lease is not None
    assert (lease.attrs.backend_type, lease.attrs.backend_data) == ("vxlan", data)


def test_the_first_range_of_each_family_counts() -> None:
    said = {**UDP, NAMES.public_ipv6: "2001:db8::1"}
    lease = lease_of_node(node(said, "fd00:1::/64", "10.1.2.0/24"), NAMES, DUAL)
    assert lease is not None
    assert str(lease.subnet) == "10.1.2.0/24&fd00:1::/64"
    assert lease.attrs.public_ipv6 == IPAddress("2001:db8::1")


def test_pod_cidr_stands_in_for_an_empty_list() -> None:
    lease = lease_of_node(node(UDP, pod_cidr="10.1.2.7/24"), NAMES, V4)
    assert lease is not None
    assert lease.subnet.v4 == IPNetwork("10.1.2.0/24")


@pytest.mark.parametrize(
    ("said", "cidrs", "why"),
    [
        ({**UDP, NAMES.public_ip: ""}, ["10.1.2.0/24"], "public-ip"),
        ({**UDP, NAMES.public_ip: "010.0.0.1"}, ["10.1.2.0/24"], "public-ip"),
        ({**UDP, NAMES.public_ip: "2001:db8::1"}, ["10.1.2.0/24"], "not an IPv4"),
        (UDP, [], "no IPv4 podCIDR"),
        (UDP, ["fd00::/64"], "no IPv4 podCIDR"),
        (UDP, ["10.1.2.0"], "not a CIDR"),
        (UDP, ["10.1.2.0/33"], "not a CIDR"),
        (UDP, ["10.1.0.0/24", "10.2.0.0/24", "fd00::/64"], "more than one of each"),
    ],
)
def test_an_unusable_node_says_why(said: dict[str, str], cidrs: list[str], why: str) -> None:
    with pytest.raises(NotALease, match=why):
        lease_of_node(node(said, *cidrs), NAMES, V4)


def test_udp_peers_need_no_ipv6_even_when_it_is_enabled() -> None:
    needs = StackNeeds.of(True, True, "UDP")
    assert needs == UDP_DUAL
    assert lease_of_node(node(UDP, "10.1.2.0/24", "fd00::/64"), NAMES, needs) is not None


def test_vxlan_peers_still_need_both_families() -> None:
    assert StackNeeds.of(True, True, "vxlan") == DUAL
    with pytest.raises(NotALease, match="public-ipv6"):
        lease_of_node(node(UDP, "10.1.2.0/24", "fd00::/64"), NAMES, DUAL)


def test_a_fresh_node_gets_exactly_flannels_udp_annotations() -> None:
    assert annotations_to_write(node({}), NAMES, ATTRS) == UDP


def test_nothing_is_written_when_nothing_differs() -> None:
    assert annotations_to_write(node(UDP), NAMES, ATTRS) == {}
    without_type = {name: value for name, value in UDP.items() if name != NAMES.backend_type}
    assert annotations_to_write(node(without_type), NAMES, ATTRS) == {}


def test_only_what_differs_is_written() -> None:
    said = {**UDP, NAMES.public_ip: "192.0.2.9"}
    assert annotations_to_write(node(said), NAMES, ATTRS) == {NAMES.public_ip: "192.0.2.1"}


def test_the_overwrite_annotation_replaces_the_published_address() -> None:
    said = {NAMES.public_ip_overwrite: "198.51.100.7"}
    written = annotations_to_write(node(said), NAMES, ATTRS)
    assert written == {**UDP, NAMES.public_ip: "198.51.100.7"}
    assert annotations_to_write(node({**said, **written}), NAMES, ATTRS) == {}


def test_a_wrong_overwrite_annotation_names_itself_and_the_fix() -> None:
    with pytest.raises(OperatorError, match=r"public-ip-overwrite is 'gateway'.*kubectl annotate"):
        annotations_to_write(node({NAMES.public_ip_overwrite: "gateway"}), NAMES, ATTRS)


def test_vxlan_writes_its_data_and_both_families() -> None:
    attrs = replace(
        ATTRS,
        public_ipv6=IPAddress("2001:db8::1"),
        backend_type="vxlan",
        backend_data='{"VNI":1}',
        backend_v6_data='{"VNI":1,"VtepMAC":"x"}',
    )
    assert annotations_to_write(node({}), NAMES, attrs) == {
        NAMES.backend_type: "vxlan",
        NAMES.backend_data: '{"VNI":1}',
        NAMES.public_ip: "192.0.2.1",
        NAMES.backend_v6_data: '{"VNI":1,"VtepMAC":"x"}',
        NAMES.public_ipv6: "2001:db8::1",
        NAMES.kube_subnet_manager: "true",
    }


def test_vxlan_without_data_writes_no_address() -> None:
    written = annotations_to_write(node({}), NAMES, replace(ATTRS, backend_type="vxlan"))
    assert written == {NAMES.backend_type: "vxlan", NAMES.kube_subnet_manager: "true"}
