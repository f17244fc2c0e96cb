"""What keeps packets from passing between containers and the tunnel: looked at, never changed.

Owns: how nft and iptables tell the policy of the forward hook, and that it is said. Must not know:
our own rules. Docker sets the policy of FORWARD to DROP; packets between containers and the tunnel
then need a rule that accepts them.
"""

from __future__ import annotations

import json
from pathlib import Path

from netaddr import IPNetwork

from udpoverlay.errors import KernelError
from udpoverlay.firewall.command import find, run_checked
from udpoverlay.host.sysctl import forwarding_off
from udpoverlay.log import get_logger

__all__ = ["dropping_chains", "look_at_forwarding"]

_log = get_logger(__name__)

_LEGACY_TABLES = Path("/proc/thread-self/net/ip_tables_names")
_FAMILIES = {"ip", "inet"}


async def look_at_forwarding(network: IPNetwork, device: str) -> None:
    """Warn of a setting or a chain that will not let packets pass."""
    setting = forwarding_off(device)
    if setting:
        _log.warning(
            "forwarding is off: no packet passes between the tunnel and containers",
            setting=setting,
            fix=f"sysctl -w {setting}=1",
        )
    try:
        chains = await dropping_chains(network, device)
    except KernelError as error:
        _log.v(1).info("the policy of FORWARD is not known", reason=str(error))
        return
    for chain in chains:
        _log.warning(
            "forwarded packets are dropped unless a rule accepts them, and no rule names us",
            chain=chain,
            fix=f"accept {network} there, as source and as destination",
        )


async def dropping_chains(network: IPNetwork, device: str) -> list[str]:
    """Chains of the forward hook with policy drop, none of whose rules names us.

    A rule that names the overlay's network, its device or flannel's chain was made for us. Raises
    KernelError when a tool that is there cannot tell.
    """
    ours = (str(network), device, "FLANNEL-FWD")
    found = [*await _of_nft(), *await _of_legacy_iptables()]
    return [name for name, rules in found if not any(word in rules for word in ours)]


async def _of_nft() -> list[tuple[str, str]]:
    """(family table chain, its rules) of each chain that drops; iptables-nft's are among them."""
    nft = find("nft")
    if nft is None:
        return await _of_iptables("iptables")
    names = _dropping(await run_checked([nft, "-j", "list", "chains"]))
    return [(name, await run_checked([nft, "list", "chain", *name.split(" ")])) for name in names]


def _dropping(listed: str) -> list[str]:
    """Of `nft -j list chains` (libnftables-json(5)), those that drop what is forwarded."""
    try:
        chains = [each["chain"] for each in json.loads(listed)["nftables"] if "chain" in each]
        return [
            f"{chain['family']} {chain['table']} {chain['name']}"
            for chain in chains
            if chain["family"] in _FAMILIES
            and chain.get("hook") == "forward"
            and chain.get("policy") == "drop"
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise KernelError(f"nft lists chains in a way that we do not know: {error!r}") from error


async def _of_legacy_iptables() -> list[tuple[str, str]]:
    """The same of the older kind, which has tables only where they were made."""
    return await _of_iptables("iptables-legacy") if "filter" in _legacy_tables() else []


def _legacy_tables() -> list[str]:
    try:
        return _LEGACY_TABLES.read_text(encoding="ascii").split()
    except OSError:
        return []


async def _of_iptables(name: str) -> list[tuple[str, str]]:
    iptables = find(name)
    if iptables is None:
        return []
    rules = await run_checked([iptables, "-w", "-S", "FORWARD"])
    return [(f"{name} FORWARD", rules)] if rules.startswith("-P FORWARD DROP") else []
