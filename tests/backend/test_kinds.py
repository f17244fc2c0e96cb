"""backend/: which backends there are, and what each promises (backend/base.py)."""

from __future__ import annotations

import logging

import pytest
from netaddr import IPAddress, IPNetwork

from tests.support.leases import attrs, lease, subnet
from udpoverlay.backend.base import Backend, Network
from udpoverlay.backend.kinds import backend_of
from udpoverlay.errors import KernelError, OperatorError
from udpoverlay.host.interfaces import Choice, tunnel_mtu
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.lease import Lease, LeaseAttrs
from udpoverlay.model.netconf import NetConf, parse_netconf
from udpoverlay.model.refusal import Refusal

CHOICE = Choice("lo", 1, 1500, IPAddress("127.0.0.1"), None, IPAddress("192.0.2.10"), None)
OURS = lease("10.5.72.0/24", "192.0.2.10")
PEER = lease("10.5.73.0/24", "192.0.2.11")


def conf(backend: str = "", more: str = "") -> NetConf:
    return parse_netconf(
        f'{{"Network": "10.5.0.0/16", "Backend": {{"Type": "{backend or "udp"}"{more}}}}}'
    ).validated()


async def again() -> Choice:
    return CHOICE


@pytest.fixture(params=["udp", "alloc"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return backend_of(conf(request.param))


def test_lease_tells_the_address_alone(backend: Backend) -> None:
    """flannel's udp and alloc leases have no type and no data."""
    assert backend.lease_attrs(IPAddress("192.0.2.10")) == LeaseAttrs(IPAddress("192.0.2.10"))


def test_peer_without_a_type_is_one_of_ours(backend: Backend) -> None:
    assert backend.rejects(PEER) is None
    assert backend.route(PEER).address == IPAddress("192.0.2.11")


def test_network_is_the_overlays(backend: Backend) -> None:
    assert backend.network == IPNetwork("10.5.0.0/16")


@pytest.mark.root
@pytest.mark.own_namespace
async def test_network_can_be_opened_started_and_left(backend: Backend) -> None:
    backend.check(CHOICE)
    async with backend.open(OURS, CHOICE, DataplaneSettings(), choose=again) as network:
        await network.start()
        network.replace({PEER.subnet.v4: backend.route(PEER)})
        assert network.alive()
        assert network.mtu == 1500 - backend.overhead
        assert network.troubles() == {}
        assert network.repairs() == {"repairs": 0, "rebuilds": 0}
        routes: Network = network
        assert routes.device


@pytest.mark.parametrize(
    ("name", "overhead", "port"), [("udp", 28, 8285), ("UDP", 28, 8285), ("alloc", 0, 0)]
)
def test_overhead_and_port(name: str, overhead: int, port: int) -> None:
    backend = backend_of(conf(name))
    assert (backend.overhead, backend.port) == (overhead, port)
    assert tunnel_mtu(CHOICE, backend.overhead) == 1500 - overhead


def test_port_of_the_configuration_is_the_peers() -> None:
    assert backend_of(conf("udp", ', "Port": 9999')).route(PEER).port == 9999


@pytest.mark.parametrize("other", ["vxlan", "host-gw", "wireguard"])
def test_peer_with_another_backend_is_rejected(other: str) -> None:
    peer = Lease(subnet("10.5.73.0/24"), attrs("192.0.2.11", backend_type=other))
    assert backend_of(conf()).rejects(peer) is Refusal.OTHER_BACKEND


@pytest.mark.parametrize("name", ["vxlan", "wireguard", "no-such"])
def test_backend_that_is_not_there_is_named_with_those_that_are(name: str) -> None:
    with pytest.raises(OperatorError, match=f"'{name}' is not supported.*udp, alloc"):
        backend_of(conf(name))


@pytest.mark.parametrize("name", ["udp", "alloc"])
def test_ipv6_alone_is_refused(name: str) -> None:
    text = (
        '{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00::/48",'
        f' "Backend": {{"Type": "{name}"}}}}'
    )
    with pytest.raises(OperatorError):
        backend_of(parse_netconf(text))


def test_interface_that_is_too_small_is_told_before_there_is_a_lease() -> None:
    choice = Choice("small0", 2, 95, IPAddress("127.0.0.1"), None, IPAddress("127.0.0.1"), None)
    with pytest.raises(OperatorError, match=r"MTU of 95: .* at least 96"):
        backend_of(conf()).check(choice)


def test_address_that_udp_cannot_bind_is_told_before_there_is_a_lease(
    caplog: pytest.LogCaptureFixture,
) -> None:
    choice = Choice("eth0", 2, 1500, IPAddress("10.5.0.7"), None, IPAddress("10.5.0.7"), None)
    with caplog.at_level(logging.WARNING), pytest.raises(KernelError):
        backend_of(conf()).check(choice)
    assert "lies in the overlay's network" in caplog.text
