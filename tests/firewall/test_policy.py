"""firewall/policy.py against the kernel: what would not let packets pass is told."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from netaddr import IPNetwork

from tests.support.namespace import run_in_new_namespace
from udpoverlay.errors import KernelError
from udpoverlay.firewall.policy import _dropping, dropping_chains

pytestmark = pytest.mark.root

NETWORK = IPNetwork("10.5.0.0/16")
needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on PATH")
NFT_DROPS = (
    "nft add table inet t; "
    "nft add chain inet t c '{type filter hook forward priority 0; policy drop; }'"
)
DROPS = {
    "nft": (NFT_DROPS, "inet t c"),
    "iptables-nft": ("iptables-nft -P FORWARD DROP", "ip filter FORWARD"),
    "iptables-legacy": ("iptables-legacy -P FORWARD DROP", "iptables-legacy FORWARD"),
}


def chains(*commands: str) -> list[str]:
    """What is told in a namespace after `commands`."""

    async def dropping() -> list[str]:
        for command in commands:
            subprocess.run(["sh", "-c", command], check=True, capture_output=True)  # noqa: ASYNC221
        return await dropping_chains(NETWORK, "flannel0")

    return run_in_new_namespace(dropping)


@pytest.fixture(params=DROPS)
def drops(request: pytest.FixtureRequest) -> tuple[str, str]:
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} on PATH")
    return DROPS[request.param]


def test_dropping_policy_is_told(drops: tuple[str, str]) -> None:
    command, chain = drops
    assert chains(command) == [chain]


@needs_nft
def test_accepting_policy_is_not_told() -> None:
    assert chains("true") == []
    assert chains(NFT_DROPS.replace("policy drop", "policy accept")) == []
    assert chains(NFT_DROPS.replace("hook forward", "hook input")) == []


@needs_nft
@pytest.mark.parametrize("rule", ["ip saddr 10.5.0.0/16 accept", "iifname flannel0 accept"])
def test_chain_that_accepts_the_overlay_is_not_told(rule: str) -> None:
    assert chains(NFT_DROPS, f"nft add rule inet t c {rule}") == []


@pytest.mark.own_namespace
async def test_without_a_tool_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert await dropping_chains(NETWORK, "flannel0") == []


@pytest.mark.parametrize(
    "listed", ["", "[]", "{}", '{"nftables": [{"chain": 1}]}', '{"nftables": 7}']
)
def test_odd_list_of_chains_is_an_error(listed: str) -> None:
    with pytest.raises(KernelError, match="do not know"):
        _dropping(listed)
