"""The rules through nftables: one atomic `nft -j -f -` transaction a family and change.

Owns: the spelling of rules as nft's JSON (libnftables-json(5)), the tables `ip flannel-ipv4` and
`ip6 flannel-ipv6` with flannel's chains `postrtg` and `forward`. Must not know: when to look again.
A transaction creates what is missing, flushes the chain and fills it again: no packet ever meets it
empty. The tables are ours alone; no other table is touched.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from netaddr import IPNetwork

from udpoverlay.errors import KernelError
from udpoverlay.firewall.command import ToolMissing, find, run
from udpoverlay.firewall.rules import KUBE_PROXY_MARK, Rule, RuleSet

__all__ = ["Nftables", "transaction"]

_NAT_PRIORITY = 100
"""`srcnat`: NF_IP_PRI_NAT_SRC, linux/netfilter_ipv4.h"""
_FILTER_PRIORITY = 0
"""`filter`: NF_IP_PRI_FILTER"""
_FAMILY = {4: "ip", 6: "ip6"}
_TABLE = {4: "flannel-ipv4", 6: "flannel-ipv6"}


def _match(left: dict[str, Any], right: Any, *, negated: bool = False) -> dict[str, Any]:
    return {"match": {"op": "!=" if negated else "==", "left": left, "right": right}}


def _prefix(net: IPNetwork) -> dict[str, Any]:
    return {"prefix": {"addr": str(net.network), "len": net.prefixlen}}


def _expressions(rule: Rule, family: str, *, random_fully: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if rule.kube_proxy_mark:
        # Equality, not a mask, as flannel's nftables rules have it.
        found.append(_match({"meta": {"key": "mark"}}, KUBE_PROXY_MARK))
    for field, net, negated in (
        ("saddr", rule.source, rule.not_source),
        ("daddr", rule.destination, rule.not_destination),
    ):
        if net is not None:
            left = {"payload": {"protocol": family, "field": field}}
            found.append(_match(left, _prefix(net), negated=negated))
    if rule.verdict == "masquerade" and random_fully:
        found.append({"masquerade": {"flags": "fully-random"}})
    else:
        found.append({rule.verdict: None})
    return found


def _chain_commands(
    version: int, chain: dict[str, Any], rules: tuple[Rule, ...], *, random_fully: bool
) -> list[dict[str, Any]]:
    family, table = _FAMILY[version], _TABLE[version]
    where = {"family": family, "table": table}
    return [
        {"add": {"chain": {**where, **chain, "policy": "accept"}}},
        {"flush": {"chain": {**where, "name": chain["name"]}}},
        *(
            {
                "add": {
                    "rule": {
                        **where,
                        "chain": chain["name"],
                        "expr": _expressions(rule, family, random_fully=random_fully),
                    }
                }
            }
            for rule in rules
        ),
    ]


def transaction(rules: RuleSet, *, random_fully: bool) -> list[dict[str, Any]]:
    """The commands that make the family's table what `rules` says."""
    version = rules.version
    commands: list[dict[str, Any]] = [_table(version)]
    if rules.masquerade:
        chain = {
            "name": "postrtg",
            "type": "nat",
            "hook": "postrouting",
            "prio": _NAT_PRIORITY,
            "comment": "chain to manage traffic masquerading by flannel",
        }
        commands += _chain_commands(version, chain, rules.masquerade, random_fully=random_fully)
    if rules.forward:
        chain = {
            "name": "forward",
            "type": "filter",
            "hook": "forward",
            "prio": _FILTER_PRIORITY,
            "comment": "chain to accept flannel traffic",
        }
        commands += _chain_commands(version, chain, rules.forward, random_fully=random_fully)
    return commands


def _table(version: int) -> dict[str, Any]:
    table = _TABLE[version]
    return {
        "add": {
            "table": {"family": _FAMILY[version], "name": table, "comment": f"rules for {table}"}
        }
    }


class Nftables:
    """The rules of one address family in nftables."""

    def __init__(self, version: int, *, random_fully: bool) -> None:
        """`version` is 4 or 6."""
        self._version = version
        self._random_fully = random_fully
        self._applied: Any = None

    @staticmethod
    def present() -> bool:
        """Whether nft is on PATH."""
        return find("nft") is not None

    async def open(self) -> None:
        """Learn what the kernel can do. Raises ToolMissing when nft is not there."""
        if not self.present():
            raise ToolMissing(
                "nft is not on PATH",
                fix="install nftables, or set EnableNFTables to false in the network configuration",
            )
        self._random_fully = self._random_fully and await self._takes_random_fully()

    async def try_out(self, rules: RuleSet) -> None:
        """See whether `rules` would be taken; nothing changes. Raises KernelError."""
        await self._run(transaction(rules, random_fully=self._random_fully), "-c")

    async def apply(self, rules: RuleSet) -> None:
        """Make the table be `rules`, in one step. Raises KernelError."""
        await self._run(transaction(rules, random_fully=self._random_fully))

    async def remember(self) -> None:
        """Take what is in place now for what must stay. Raises KernelError."""
        self._applied = await self._read()

    async def intact(self) -> bool:
        """Whether nothing has changed since `remember`. Raises KernelError."""
        return bool(await self._read() == self._applied)

    async def remove(self) -> bool:
        """Take our table away; False when there was none."""
        if await self._read() is None:
            return False
        where = {"family": _FAMILY[self._version], "name": _TABLE[self._version]}
        await self._run([{"delete": {"table": where}}])
        return True

    async def _takes_random_fully(self) -> bool:
        """Whether the kernel knows `masquerade fully-random`, by a dry run as flannel makes it."""
        chain = {"name": "probe", "type": "nat", "hook": "postrouting", "prio": _NAT_PRIORITY}
        rule = Rule("masquerade", IPNetwork("::1" if self._version == 6 else "127.0.0.1"))
        commands = _chain_commands(self._version, chain, (rule,), random_fully=True)
        done = await _nft(("-c",), [_table(self._version), *commands])
        return done is None

    async def _run(self, commands: list[dict[str, Any]], *options: str) -> None:
        why = await _nft(options, commands)
        if why is not None:
            raise KernelError(
                f"nft refuses the rules of table {_FAMILY[self._version]} "
                f"{_TABLE[self._version]}: {why}",
                fix="look at `nft list ruleset`; the kernel needs nf_tables and nft_masq",
            )

    async def _read(self) -> Any:
        """The table as nft lists it without handles; None when there is none."""
        done = await run(
            ["nft", "-j", "list", "table", _FAMILY[self._version], _TABLE[self._version]]
        )
        if done.status != 0:
            return None
        try:
            return _without_handles(json.loads(done.stdout).get("nftables", []))
        except (ValueError, AttributeError, RecursionError) as error:
            raise KernelError("nft -j list table printed what is no JSON") from error


async def _nft(options: Sequence[str], commands: list[dict[str, Any]]) -> str | None:
    """Run a transaction; None, or the words of the refusal."""
    done = await run(["nft", *options, "-j", "-f", "-"], json.dumps({"nftables": commands}))
    if done.status == 0:
        return None
    return " ".join((done.stderr or done.stdout).split())[:300] or f"status {done.status}"


def _without_handles(value: Any) -> Any:
    """Handles count up with every change; what is left says what the rules are."""
    if isinstance(value, dict):
        return {
            key: _without_handles(item)
            for key, item in value.items()
            if key not in {"handle", "metainfo"}
        }
    if isinstance(value, list):
        return [_without_handles(item) for item in value]
    return value
