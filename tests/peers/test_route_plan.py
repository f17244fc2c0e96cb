"""From changes of leases to the one mapping that is published."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.leases import PORT, attrs, endpoint, lease, subnet
from udpoverlay.model.events import Added, Removed, Snapshot
from udpoverlay.model.lease import Lease
from udpoverlay.peers.lease_table import LeaseTable
from udpoverlay.peers.route_plan import RoutePlan

OWN = lease("10.5.0.0/24", "192.0.2.100")


class Host:
    """A table and a plan, as control.py joins them."""

    def __init__(self) -> None:
        self.table = LeaseTable(OWN)
        self.plan = RoutePlan(OWN.subnet, PORT)

    def see(self, *events: Added | Removed | Snapshot) -> bool:
        # A list first: every event must be applied.
        return any([self.plan.apply(self.table.apply(event)) for event in events])

    def add(self, v4: str, public_ip: str, **more: object) -> bool:
        return self.see(Added(lease(v4, public_ip, **more)))  # type: ignore[arg-type]  # v6

    def remove(self, v4: str) -> bool:
        return self.see(Removed(subnet(v4)))

    def routes(self) -> dict[str, str]:
        return {str(net): str(end.address) for net, end in self.plan.routes.items()}


def test_a_peer_gets_a_route_to_its_public_ip_and_our_port() -> None:
    host = Host()
    assert host.add("10.5.1.0/24", "192.0.2.1")
    assert list(host.plan.routes.values()) == [endpoint("192.0.2.1", PORT)]
    assert host.remove("10.5.1.0/24")
    assert host.routes() == {}


def test_a_renewal_changes_nothing() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    assert not host.add("10.5.1.0/24", "192.0.2.1")


def test_a_new_public_ip_moves_the_route() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    [key] = host.plan.routes
    assert host.add("10.5.1.0/24", "192.0.2.2")
    assert host.routes() == {"10.5.1.0/24": "192.0.2.2"}
    assert [net for net in host.plan.routes if net is key], "the key stays the same object"


def test_a_narrower_claim_takes_no_traffic_from_a_working_peer() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    assert not host.add("10.5.1.128/25", "192.0.2.66")
    assert host.routes() == {"10.5.1.0/24": "192.0.2.1"}
    assert [str(waiting.subnet) for waiting in host.plan.waiting()] == ["10.5.1.128/25"]
    holder = host.plan.holder(host.plan.waiting()[0])
    assert holder is not None
    assert str(holder.attrs.public_ip) == "192.0.2.1"


def test_a_wider_claim_waits_too() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    assert not host.add("10.4.0.0/14", "192.0.2.66")
    assert host.routes() == {"10.5.1.0/24": "192.0.2.1"}


def test_a_claim_on_a_part_of_our_own_range_gets_no_route() -> None:
    host = Host()
    assert not host.add("10.5.0.128/25", "192.0.2.66")
    assert host.routes() == {}
    assert host.plan.holder(host.plan.waiting()[0]) is None


def test_who_waits_gets_the_range_when_it_is_free() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    host.add("10.5.1.0/25", "192.0.2.2")
    host.add("10.5.1.128/25", "192.0.2.3")
    assert host.remove("10.5.1.0/24")
    assert host.routes() == {"10.5.1.0/25": "192.0.2.2", "10.5.1.128/25": "192.0.2.3"}
    assert host.plan.waiting() == []


def test_who_waits_and_leaves_is_forgotten() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    host.add("10.5.1.0/25", "192.0.2.2")
    assert not host.remove("10.5.1.0/25")
    assert host.plan.waiting() == []


def test_a_host_without_an_ipv4_address_gets_no_route_and_blocks_nobody() -> None:
    host = Host()
    assert not host.add("10.5.1.0/24", "0.0.0.0")
    assert host.add("10.5.1.0/25", "192.0.2.2")


def test_a_peer_that_loses_its_address_loses_its_route() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    assert host.add("10.5.1.0/24", "0.0.0.0")
    assert host.routes() == {}


def test_a_dual_stack_lease_routes_its_ipv4_network() -> None:
    host = Host()
    assert host.add("10.5.1.0/24", "192.0.2.1", v6="fd00:1::/64")
    assert host.routes() == {"10.5.1.0/24": "192.0.2.1"}


def test_switching_to_dual_stack_hands_the_range_over() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    assert not host.add("10.5.1.0/24", "192.0.2.7", v6="fd00:1::/64")
    assert host.remove("10.5.1.0/24")
    assert host.routes() == {"10.5.1.0/24": "192.0.2.7"}


NETS = ["10.5.1.0/24", "10.5.1.0/25", "10.5.1.128/25", "10.5.0.0/16", "10.5.2.0/24", "10.5.3.0/24"]
step = st.tuples(
    st.sampled_from(["add", "remove", "snapshot"]),
    st.lists(st.sampled_from(NETS), min_size=1, max_size=4, unique=True),
    st.integers(1, 4),
)


@given(st.lists(step, max_size=25))
@settings(max_examples=300, deadline=None)
def test_routes_never_overlap_and_every_lease_has_a_route_or_a_reason(
    steps: list[tuple[str, list[str], int]],
) -> None:
    host = Host()
    for what, nets, number in steps:
        leases = tuple(Lease(subnet(net), attrs(f"192.0.2.{number}")) for net in nets)
        if what == "add":
            host.see(*(Added(one) for one in leases))
        elif what == "remove":
            host.see(*(Removed(one.subnet) for one in leases))
        else:
            host.see(Snapshot(leases))
        routed = list(host.plan.routes)
        for index, one in enumerate(routed):
            assert not any(one in other or other in one for other in routed[index + 1 :])
        held = {str(lease.subnet): lease for lease in host.table.leases()}
        waiting = {str(lease.subnet) for lease in host.plan.waiting()}
        assert set(host.routes()) | waiting == set(held)
        assert not set(host.routes()) & waiting
        for net, address in host.routes().items():
            assert address == str(held[net].attrs.public_ip)
        for lease_waiting in host.plan.waiting():
            assert any(lease_waiting.subnet.overlaps(subnet(str(net))) for net in routed) or (
                lease_waiting.subnet.overlaps(OWN.subnet)
            )
