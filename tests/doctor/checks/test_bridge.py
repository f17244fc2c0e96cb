"""doctor/checks/bridge.py: br_netfilter that is missing, off, or not needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from netaddr import IPNetwork

from tests.support.patient import NETCONF, levels, look, patient
from udpoverlay.doctor.checks.bridge import CHECK
from udpoverlay.model.config import DaemonConfig, FirewallSettings

V4 = "/proc/sys/net/bridge/bridge-nf-call-iptables"
V6 = "/proc/sys/net/bridge/bridge-nf-call-ip6tables"
UNCHECKED = DaemonConfig(firewall=FirewallSettings(bridge_check=False))
DUAL = replace(NETCONF, enable_ipv6=True, ipv6_network=IPNetwork("fd00::/48"))


@pytest.mark.parametrize("value", ["1", "0"])
async def test_setting(tmp_path: Path, value: str) -> None:
    findings = await look(CHECK, patient(tmp_path, {V4: f"{value}\n"}))
    assert levels(findings) == [{"1": "ok", "0": "warning"}[value]]


async def test_missing_module_is_a_failure_unless_the_daemon_starts_without(
    tmp_path: Path,
) -> None:
    findings = await look(CHECK, patient(tmp_path))
    assert levels(findings) == ["failure"]
    assert "modprobe br_netfilter" in findings[0].fix
    assert levels(await look(CHECK, patient(tmp_path, config=UNCHECKED))) == ["warning"]


async def test_each_family_of_the_configuration_counts(tmp_path: Path) -> None:
    assert levels(await look(CHECK, patient(tmp_path, {V4: "1"}, netconf=DUAL))) == [
        "ok",
        "failure",
    ]
    assert levels(await look(CHECK, patient(tmp_path, {V6: "1"}, netconf=DUAL))) == ["ok", "ok"]


async def test_nftables_mode_needs_none(tmp_path: Path) -> None:
    netconf = replace(NETCONF, enable_nftables=True)
    assert levels(await look(CHECK, patient(tmp_path, netconf=netconf))) == ["ok"]
