"""registry/kubernetes/node_leases.py: a Node that cannot be read, and a recreated one."""

from __future__ import annotations

from udpoverlay.kubernetes.node import NodeView
from udpoverlay.model.events import Added, Removed
from udpoverlay.registry.kubernetes.annotations import AnnotationNames, StackNeeds
from udpoverlay.registry.kubernetes.node_leases import NodeLeases

NAMES = AnnotationNames.from_prefix("flannel.alpha.coreos.com")


def node(uid: str, public_ip: str, cidr: str = "10.244.1.0/24") -> NodeView:
    said = {NAMES.kube_subnet_manager: "true", NAMES.public_ip: public_ip, NAMES.backend_type: ""}
    return NodeView("n1", uid, "1", said, cidr, (cidr,))


def leases() -> NodeLeases:
    made = NodeLeases(NAMES, StackNeeds.of(True, False, "udp"))
    [lease] = made.reset({"n1": node("a", "192.0.2.1")}, 1).leases
    assert str(lease.attrs.public_ip) == "192.0.2.1"
    return made


def test_typo_on_a_living_node_changes_nothing() -> None:
    made = leases()
    assert made.change({"n1": node("a", "192.0.2")}, ["n1"]) == []
    assert [name for name, _ in made.take_odd()] == ["n1"]


def test_typo_on_a_node_made_anew_is_no_lease() -> None:
    made = leases()
    [change] = made.change({"n1": node("b", "192.0.2")}, ["n1"])
    assert isinstance(change, Removed)
    [change] = made.change({"n1": node("b", "192.0.2.9")}, ["n1"])
    assert isinstance(change, Added)
    assert str(change.lease.attrs.public_ip) == "192.0.2.9"


def test_typo_that_a_new_list_shows_changes_nothing() -> None:
    made = leases()
    assert len(made.reset({"n1": node("a", "192.0.2")}, 2).leases) == 1
    assert made.reset({"n1": node("b", "192.0.2")}, 3).leases == ()
