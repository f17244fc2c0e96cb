"""doctor/checks/daemon.py: a daemon's own troubles, and a port that another program has."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.patient import STATUS, choice, levels, look, patient
from udpoverlay.doctor.checks.daemon import CHECK
from udpoverlay.model.netconf import NetConf


async def test_daemon_that_is_well(tmp_path: Path) -> None:
    findings = await look(CHECK, patient(tmp_path, status=STATUS))
    assert levels(findings) == ["ok"]
    assert "10.5.1.0/24 on flannel0" in findings[0].fact


@pytest.mark.parametrize(
    ("change", "level", "word"),
    [
        ({"registry": {"troubles": {"etcd-leases": "no answer"}}}, "failure", "no answer"),
        ({"firewall": {"error": "iptables-restore failed"}}, "failure", "iptables-restore"),
        ({"control": {"leases_refused": 2}}, "warning", "2 leases"),
        (
            {"dataplane": {"impairments": [{"peer": "192.0.2.2", "what": "loss 5 %"}]}},
            "warning",
            "192.0.2.2 are made worse on purpose: loss 5 %",
        ),
    ],
)
async def test_each_trouble_is_told(
    tmp_path: Path, change: dict[str, Any], level: str, word: str
) -> None:
    findings = await look(CHECK, patient(tmp_path, status={**STATUS, **change}))
    assert levels(findings) == ["ok", level]
    assert word in findings[1].fact


async def test_other_settings_than_the_daemons_are_a_warning(tmp_path: Path) -> None:
    elsewhere = choice(address="198.51.100.1")
    findings = await look(CHECK, patient(tmp_path, status=STATUS, choice=elsewhere))
    assert levels(findings) == ["ok", "warning"]
    assert "192.0.2.1" in findings[1].fact


async def test_port_that_another_program_has_is_a_warning(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        netconf = NetConf(backend={"port": port})
        here = patient(tmp_path, netconf=netconf, choice=choice("lo", "127.0.0.1"))
        findings = await look(CHECK, here)
        assert levels(findings) == ["warning"]
        assert "flanneld" in findings[0].fix
    findings = await look(CHECK, here)
    assert levels(findings) == ["ok"]
    assert f"UDP {port} is free" in findings[0].fact


async def test_without_an_interface_the_port_is_not_tried(tmp_path: Path) -> None:
    assert levels(await look(CHECK, patient(tmp_path, choice=None))) == ["skipped"]
