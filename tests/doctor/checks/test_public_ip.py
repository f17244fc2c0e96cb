"""doctor/checks/public_ip.py: two hosts with one address, and a subnet that another host has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.patient import STATUS, choice, lease, levels, look, patient
from udpoverlay.doctor.base import Finding
from udpoverlay.doctor.checks.public_ip import CHECK

OTHER = lease("10.5.2.0/24", "192.0.2.2")
OURS = lease("10.5.1.0/24", "192.0.2.1")
REMEMBERED = {"/run/flannel/subnet.env": "FLANNEL_SUBNET=10.5.1.1/24\n"}


async def found(tmp_path: Path, **known: Any) -> list[Finding]:
    return await look(CHECK, patient(tmp_path, known.pop("files", {}), **known))


@pytest.mark.parametrize("leases", [(), (OTHER,), (OURS, OTHER)])
async def test_address_of_one_lease_is_good(tmp_path: Path, leases: tuple[Any, ...]) -> None:
    findings = await found(tmp_path, leases=leases, files=REMEMBERED, status=STATUS)
    assert levels(findings) == ["ok"]


async def test_two_leases_with_our_address_are_a_failure(tmp_path: Path) -> None:
    findings = await found(tmp_path, leases=(OURS, lease("10.5.9.0/24", "192.0.2.1"), OTHER))
    assert levels(findings) == ["failure"]
    assert "192.0.2.1: 10.5.1.0/24, 10.5.9.0/24" in findings[0].fact


async def test_two_leases_with_one_address_of_others_are_a_warning(tmp_path: Path) -> None:
    findings = await found(tmp_path, leases=(OURS, OTHER, lease("10.5.9.0/24", "192.0.2.2")))
    assert levels(findings) == ["warning"]


async def test_address_of_every_virtual_machine_is_a_failure(tmp_path: Path) -> None:
    findings = await found(tmp_path, choice=choice(address="10.0.2.15"), leases=(OTHER,))
    assert levels(findings) == ["failure"]
    assert "--iface" in findings[0].fix


async def test_renewals_by_another_daemon_are_a_failure(tmp_path: Path) -> None:
    status = {**STATUS, "control": {"foreign_renewals": 3}}
    findings = await found(tmp_path, leases=(OURS,), status=status)
    assert levels(findings) == ["failure"]
    assert "3 times" in findings[0].fact


async def test_our_subnet_leased_by_another_host_is_a_failure(tmp_path: Path) -> None:
    findings = await found(tmp_path, leases=(lease("10.5.1.0/24", "192.0.2.9"),), files=REMEMBERED)
    assert levels(findings) == ["failure"]
    assert "192.0.2.9" in findings[0].fact


async def test_another_subnet_than_we_had_is_a_warning_while_no_daemon_runs(
    tmp_path: Path,
) -> None:
    moved = (lease("10.5.7.0/24", "192.0.2.1"),)
    assert levels(await found(tmp_path, leases=moved, files=REMEMBERED)) == ["warning"]
    assert levels(await found(tmp_path, leases=moved, files=REMEMBERED, status=STATUS)) == ["ok"]


async def test_without_leases_or_address_it_is_not_known(tmp_path: Path) -> None:
    assert levels(await found(tmp_path, leases=None)) == ["skipped"]
    assert levels(await found(tmp_path, choice=None)) == ["skipped"]
