"""doctor/checks/mtu.py: interface, subnet file, tunnel and bridge must fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.patient import choice, levels, look, patient
from udpoverlay.doctor.base import Finding
from udpoverlay.doctor.checks.mtu import CHECK


async def found(tmp_path: Path, said: int = 1472, mtu: int = 1500, **devices: int) -> list[Finding]:
    files: dict[str, Any] = {
        f"/sys/class/net/{name}/mtu": f"{value}\n" for name, value in devices.items()
    }
    if said:
        files["/run/flannel/subnet.env"] = f"FLANNEL_MTU={said}\n"
    return await look(CHECK, patient(tmp_path, files, choice=choice(mtu=mtu)))


async def test_chain_that_fits(tmp_path: Path) -> None:
    assert levels(await found(tmp_path, flannel0=1472, cni0=1472, docker0=1400)) == ["ok"] * 4
    jumbo = await found(tmp_path / "jumbo", mtu=9000, said=8972, flannel0=8972)
    assert levels(jumbo) == ["ok"] * 2


async def test_before_the_first_start_the_interface_alone_is_told(tmp_path: Path) -> None:
    assert levels(await found(tmp_path, said=0, docker0=1500)) == ["ok"]


@pytest.mark.parametrize("device", ["flannel0", "cni0", "docker0"])
async def test_device_that_is_too_wide_is_a_warning(tmp_path: Path, device: str) -> None:
    findings = await found(tmp_path, **{device: 1500})
    assert levels(findings) == ["ok", "warning"]
    assert findings[1].fix.startswith(f"ip link set {device} mtu 1472")


async def test_narrow_interface_is_a_warning(tmp_path: Path) -> None:
    findings = await found(tmp_path, mtu=1420, said=1392, flannel0=1392)
    assert levels(findings) == ["warning", "ok"]


async def test_interface_that_shrank_since_the_start_is_a_failure(tmp_path: Path) -> None:
    findings = await found(tmp_path, mtu=1500, said=8972, flannel0=1472)
    assert levels(findings) == ["ok", "failure", "ok"]
    assert "1472" in findings[1].fact
