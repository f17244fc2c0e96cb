"""Which of several claims has the route, and who comes next."""

from __future__ import annotations

from tests.support.leases import PORT, endpoint, lease, route
from udpoverlay.peers.route_plan import RoutePlan

OWN = lease("10.5.0.0/24", "192.0.2.100")


class Host:
    """A plan, with claims written as text."""

    def __init__(self) -> None:
        self.plan = RoutePlan(OWN.subnet, route)

    def add(self, v4: str, public_ip: str, v6: str | None = None) -> bool:
        claim = lease(v4, public_ip, v6=v6)
        return bool(self.plan.place(claim.subnet.key, claim))

    def remove(self, v4: str, v6: str | None = None) -> bool:
        return bool(self.plan.drop(lease(v4, "192.0.2.1", v6=v6).subnet.key))

    def holder(self, v4: str) -> str | None:
        held = self.plan.holder(lease(v4, "192.0.2.1").subnet.key)
        return None if held is None else str(held.attrs.public_ip)

    def routes(self) -> dict[str, str]:
        return {str(net): str(end.address) for net, end in self.plan.routes.items()}


def test_peer_gets_a_route_to_its_public_ip_and_our_port() -> None:
    host = Host()
    assert host.add("10.5.1.0/24", "192.0.2.1")
    assert list(host.plan.routes.values()) == [endpoint("192.0.2.1", PORT)]
    assert host.remove("10.5.1.0/24")
    assert host.routes() == {}


def test_same_claim_again_changes_nothing() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    assert not host.add("10.5.1.0/24", "192.0.2.1")


def test_new_public_ip_moves_the_route() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    [key] = host.plan.routes
    assert host.add("10.5.1.0/24", "192.0.2.2")
    assert host.routes() == {"10.5.1.0/24": "192.0.2.2"}
    assert [net for net in host.plan.routes if net is key], "the key stays the same object"


def test_narrower_claim_takes_no_traffic_from_a_working_peer() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    assert not host.add("10.5.1.128/25", "192.0.2.66")
    assert host.routes() == {"10.5.1.0/24": "192.0.2.1"}
    assert host.plan.waiting == 1
    assert host.holder("10.5.1.128/25") == "192.0.2.1"


def test_wider_claim_waits_too() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    assert not host.add("10.4.0.0/14", "192.0.2.66")
    assert host.routes() == {"10.5.1.0/24": "192.0.2.1"}


def test_claim_on_a_part_of_our_own_range_gets_no_route() -> None:
    host = Host()
    assert not host.add("10.5.0.128/25", "192.0.2.66")
    assert host.routes() == {}
    assert host.holder("10.5.0.128/25") is None


def test_those_who_wait_get_the_range_when_it_is_free() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    host.add("10.5.1.0/25", "192.0.2.2")
    host.add("10.5.1.128/25", "192.0.2.3")
    assert host.remove("10.5.1.0/24")
    assert host.routes() == {"10.5.1.0/25": "192.0.2.2", "10.5.1.128/25": "192.0.2.3"}
    assert host.plan.waiting == 0


def test_freed_range_goes_to_those_who_wait_in_their_turn() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    host.add("10.5.1.0/25", "192.0.2.2")
    host.add("10.5.0.0/22", "192.0.2.3")  # also overlaps ours: never
    host.add("10.5.1.0/26", "192.0.2.4")
    host.add("10.5.1.0/25", "192.0.2.5", v6="fd00:1::/64")
    host.remove("10.5.1.0/24")
    assert host.routes() == {"10.5.1.0/25": "192.0.2.2"}
    host.remove("10.5.1.0/25")
    assert host.routes() == {"10.5.1.0/26": "192.0.2.4"}
    host.remove("10.5.1.0/26")
    assert host.routes() == {"10.5.1.0/25": "192.0.2.5"}
    assert host.plan.waiting == 1


def test_place_in_the_line_survives_a_change_of_address() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    host.add("10.5.1.0/25", "192.0.2.2")
    host.add("10.5.1.0/26", "192.0.2.3")
    host.add("10.5.1.0/25", "192.0.2.22")
    host.remove("10.5.1.0/24")
    assert host.routes() == {"10.5.1.0/25": "192.0.2.22"}


def test_claim_that_waits_and_leaves_is_forgotten() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    host.add("10.5.1.0/25", "192.0.2.2")
    assert not host.remove("10.5.1.0/25")
    assert host.plan.waiting == 0
    host.remove("10.5.1.0/24")
    assert host.routes() == {}


def test_dual_stack_lease_routes_its_ipv4_network() -> None:
    host = Host()
    assert host.add("10.5.1.0/24", "192.0.2.1", v6="fd00:1::/64")
    assert host.routes() == {"10.5.1.0/24": "192.0.2.1"}


def test_switching_to_dual_stack_hands_the_range_over() -> None:
    host = Host()
    host.add("10.5.1.0/24", "192.0.2.1")
    assert not host.add("10.5.1.0/24", "192.0.2.7", v6="fd00:1::/64")
    assert host.remove("10.5.1.0/24")
    assert host.routes() == {"10.5.1.0/24": "192.0.2.7"}
