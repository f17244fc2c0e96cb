"""doctor/checks/overlap.py against the kernel's addresses and routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from netaddr import IPNetwork

from tests.support.patient import LINK, in_namespace, levels, look, patient
from udpoverlay.doctor.base import Finding
from udpoverlay.doctor.checks.overlap import CHECK
from udpoverlay.model.netconf import NetConf

pytestmark = pytest.mark.root

HOST = f"{LINK}ip link set eth0 up\nip route add default via 192.0.2.254"
TUNNEL = """
ip link add flannel0 type veth peer name far
ip addr add 10.5.1.0/32 dev flannel0
ip link set flannel0 up
ip route add 10.5.0.0/16 dev flannel0
ip link add cni0 type bridge 2>/dev/null || ip link add cni0 type veth peer name cnix
ip addr add 10.5.1.1/24 dev cni0
ip link set cni0 up
"""


def found(*commands: str, network: str = "10.5.0.0/16", **known: Any) -> list[Finding]:
    netconf = NetConf(network=IPNetwork(network))
    return in_namespace(
        CHECK, "\n".join([HOST, *commands]), lambda: patient(Path("/"), netconf=netconf, **known)
    )


def test_network_of_its_own_is_good_with_and_without_the_tunnel() -> None:
    assert levels(found()) == ["ok"]
    assert levels(found(TUNNEL)) == ["ok"]


@pytest.mark.parametrize("network", ["192.0.0.0/16", "192.0.2.128/25", "192.0.2.0/24"])
def test_network_over_an_address_is_a_failure(network: str) -> None:
    findings = found(network=network)
    assert levels(findings) == ["failure"]
    assert "192.0.2.1/24 of eth0" in findings[0].fact


def test_narrower_route_elsewhere_is_a_failure() -> None:
    findings = found(TUNNEL, "ip route add 10.5.7.0/24 via 192.0.2.7")
    assert levels(findings) == ["failure"]
    command = findings[0].fix.partition(" (")[0]
    fixed = found(TUNNEL, "ip route add 10.5.7.0/24 via 192.0.2.7", command)
    assert levels(fixed) == ["ok"]


def test_wider_route_is_a_warning() -> None:
    findings = found("ip route add 10.0.0.0/8 via 192.0.2.7")
    assert levels(findings) == ["warning"]


async def test_without_a_network_it_is_not_known(tmp_path: Path) -> None:
    assert levels(await look(CHECK, patient(tmp_path, netconf=None))) == ["skipped"]
