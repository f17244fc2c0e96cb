"""doctor/checks/forwarding.py: the setting, and chains of the kernel that drop."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from netaddr import IPNetwork

from tests.support.patient import STATUS, in_namespace, levels, look, patient
from udpoverlay.doctor.base import Finding
from udpoverlay.doctor.checks.forwarding import CHECK
from udpoverlay.model.config import DaemonConfig, FirewallSettings
from udpoverlay.model.netconf import NetConf

ON = "sysctl -qw net.ipv4.ip_forward=1"
NFT_DROPS = (
    "nft add table inet t; "
    "nft add chain inet t c '{type filter hook forward priority 0; policy drop; }'"
)
IPTABLES_DROPS = "iptables -P FORWARD DROP"
NFTABLES = NetConf(network=IPNetwork("10.5.0.0/16"), enable_nftables=True)
needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on PATH")
needs_iptables = pytest.mark.skipif(shutil.which("iptables") is None, reason="no iptables on PATH")


def found(*commands: str, **known: Any) -> list[Finding]:
    return in_namespace(CHECK, "\n".join(commands), lambda: patient(Path("/"), **known))


@pytest.mark.parametrize(("value", "expected"), [("1", "ok"), ("0", "failure")])
async def test_setting_that_keeps_packets_is_a_failure(
    tmp_path: Path, value: str, expected: str
) -> None:
    here = patient(tmp_path, {"/proc/sys/net/ipv4/ip_forward": f"{value}\n"}, netconf=None)
    finding, policy = await look(CHECK, here)
    assert finding.level.value == expected
    assert policy.level.value == "skipped"  # no network is known


@pytest.mark.root
def test_setting_of_the_kernel_is_read() -> None:
    assert levels(found("true"))[0] == "failure"
    assert levels(found(ON))[0] == "ok"


@pytest.mark.root
@needs_nft
def test_chain_that_drops_is_a_failure_until_a_rule_names_the_network() -> None:
    findings = found(ON, NFT_DROPS)
    assert levels(findings) == ["ok", "failure"]
    fixed = found(ON, NFT_DROPS, findings[1].fix)
    assert levels(fixed) == ["ok", "ok"]


@pytest.mark.root
@needs_iptables
def test_policy_of_iptables_is_the_daemons_to_deal_with() -> None:
    findings = found(ON, IPTABLES_DROPS)
    assert levels(findings) == ["ok", "ok"]
    assert "when it starts" in findings[1].fact


@pytest.mark.root
@needs_iptables
@pytest.mark.parametrize(
    "known",
    [
        {"config": DaemonConfig(firewall=FirewallSettings(forward=False))},
        {"netconf": NFTABLES},
        {"status": STATUS},
    ],
    ids=["switched off", "nftables mode", "the daemon runs and has set no rule"],
)
def test_policy_of_iptables_is_a_failure_where_the_daemon_sets_no_rule(
    known: dict[str, Any],
) -> None:
    findings = found(ON, IPTABLES_DROPS, **known)
    assert levels(findings) == ["ok", "failure"]
