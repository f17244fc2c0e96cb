"""doctor/checks/reverse_path.py with the kernel's routes: strict filtering where it hurts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.patient import (
    LINK,
    STATUS,
    in_namespace,
    lease,
    levels,
    look,
    patient,
)
from udpoverlay.doctor.base import Finding
from udpoverlay.doctor.checks.reverse_path import CHECK
from udpoverlay.doctor.patient import Patient

HOST = f"""
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
{LINK}
ip link set eth0 up
ip link add flannel0 type veth peer name far
ip link set flannel0 up
ip link set far up
ip link add eth1 type veth peer name wire1
ip addr add 198.51.100.1/24 dev eth1
ip link set eth1 up
ip link set wire1 up
"""
ROUTE = "ip route add 10.5.0.0/16 dev flannel0"
ELSEWHERE = "ip route add 10.5.0.0/16 dev eth1"
PEERS = (lease("10.5.2.0/24", "192.0.2.2"),)
BY_ANOTHER_LINK = (*PEERS, lease("10.5.3.0/24", "198.51.100.3"))

pytestmark = pytest.mark.root


def strict(device: str) -> str:
    return f"sysctl -qw net.ipv4.conf.{device}.rp_filter=1"


def found(*commands: str, **known: Any) -> list[Finding]:
    def here() -> Patient:
        made = patient(Path("/"), **{"status": STATUS, "leases": PEERS, **known})
        del made.learned["choice"]
        made.config = type(made.config)(iface=("eth0",))
        return made

    return in_namespace(CHECK, "\n".join([HOST, *commands]), here)


def test_loose_filtering_is_good() -> None:
    assert levels(found(ROUTE)) == ["ok", "ok"]


def test_strict_tunnel_is_good_where_the_way_back_leads_into_it() -> None:
    findings = found(ROUTE, strict("flannel0"))
    assert levels(findings) == ["ok", "ok"]
    assert "strict" in findings[0].fact


def test_strict_tunnel_is_a_failure_where_the_way_back_is_elsewhere() -> None:
    findings = found(ELSEWHERE, strict("flannel0"))
    assert levels(findings) == ["failure", "ok"]
    assert levels(found(ELSEWHERE, strict("flannel0"), findings[0].fix.partition(",")[0])) == [
        "ok",
        "ok",
    ]


def test_strictness_of_all_counts_for_each() -> None:
    assert levels(found(ELSEWHERE, strict("all"))) == ["failure", "ok"]


def test_strict_interface_is_a_failure_for_a_peer_behind_another() -> None:
    assert levels(found(ROUTE, strict("eth0"), leases=BY_ANOTHER_LINK)) == ["ok", "failure"]
    assert levels(found(ROUTE, leases=BY_ANOTHER_LINK)) == ["ok", "ok"]


def test_strict_interface_is_a_failure_for_a_named_peer_behind_another() -> None:
    findings = found(ROUTE, strict("eth0"), peers=("198.51.100.9",))
    assert levels(findings) == ["ok", "failure"]
    assert "198.51.100.9" in findings[1].fact


async def test_without_a_device_and_an_interface_it_is_not_known(tmp_path: Path) -> None:
    findings = await look(CHECK, patient(tmp_path, choice=None))
    assert levels(findings) == ["skipped"]
