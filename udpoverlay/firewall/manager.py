"""Puts the rules in place and keeps them there.

Owns: which tool is used, the order of its steps, the watch over the rules. Must not know: how a
rule is spelled.

    prepare ── choose tool ── try our rules out, nothing stays: before a lease tells of this host
    install ── apply ours, each family in one step
                  ▲
    run ── remove the other tool's, and again when something is missing, every resync_seconds

Ours are applied before the other tool's are removed, so that a change of EnableNFTables leaves no
moment without rules. Nothing is removed at the end: connections outlive a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from udpoverlay.errors import KernelError
from udpoverlay.firewall.command import ToolMissing
from udpoverlay.firewall.iptables import Iptables
from udpoverlay.firewall.nftables import Nftables
from udpoverlay.firewall.rules import RuleSet, wanted_rules
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model.config import FirewallSettings
from udpoverlay.model.lease import Subnet
from udpoverlay.model.netconf import NetConf

__all__ = ["Firewall", "Tools", "install", "prepare"]

_log = get_logger(__name__)


class _Tool(Protocol):
    """One address family through one tool."""

    async def open(self) -> None: ...
    async def try_out(self, rules: RuleSet) -> None: ...
    async def apply(self, rules: RuleSet) -> None: ...
    async def remember(self) -> None: ...
    async def intact(self) -> bool: ...
    async def remove(self) -> bool: ...


@dataclass(slots=True)
class _Family:
    tool: _Tool
    rules: RuleSet
    opened: bool = False
    applied: bool = False
    remembered: bool = False
    """Whether what was applied is known as the kernel shows it."""


@dataclass(slots=True)
class Firewall:
    """The rules that this host has, as long as `run` runs."""

    mode: str
    """"iptables" or "nftables"."""
    resync_seconds: float
    versions: tuple[int, ...] = (4,)
    """Address families of the configuration."""
    families: list[_Family] = field(default_factory=list)
    repairs: int = 0
    """How often rules were missing and were applied again."""
    error: str = ""
    """Why the rules are not what they should be; empty when they are."""

    def facts(self) -> dict[str, object]:
        """What status shows."""
        return {"mode": self.mode, "repairs": self.repairs, "error": self.error}

    async def apply(self) -> None:
        """Make every family's rules be what is wanted. Raises the first KernelError at the end."""
        first: KernelError | None = None
        for family in self.families:
            try:
                if not family.opened:
                    await family.tool.open()
                    family.opened = True
                await family.tool.apply(family.rules)
                family.applied, family.remembered = True, False
            except KernelError as error:
                family.applied = False
                first = first or error
        self.error = "" if first is None else str(first)
        if first is not None:
            raise first

    async def settle(self) -> None:
        """Remember what is in place, and remove what the tool that is not used has."""
        for family in self.families:
            if family.applied and not family.remembered:
                await family.tool.remember()
                family.remembered = True
        await _remove_others(self.versions, nftables=self.mode == "nftables")

    async def run(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Look at the rules again and again; repair what is missing. Never returns."""
        report = RateLimited(_log, asyncio.get_running_loop().time)
        try:
            await self.settle()
        except KernelError as error:
            report.warning("settle", "the packet rules cannot be read", reason=str(error))
        while True:
            await sleep(self.resync_seconds)
            try:
                if await self._intact():
                    continue
                await self.apply()
                await self.settle()
            except KernelError as error:
                self.error = str(error)
                report.warning(
                    "set", "packet rules are missing and cannot be set", reason=str(error)
                )
            else:
                self.repairs += 1
                report.warning(
                    "repair", "packet rules were missing and are set again", tool=self.mode
                )

    async def _intact(self) -> bool:
        for family in self.families:
            if not family.remembered or not await family.tool.intact():
                return False
        return True


@dataclass(frozen=True, slots=True)
class Tools:
    """What the rules of this host go through."""

    nftables: bool
    opened: dict[int, _Tool] = field(default_factory=dict)
    """By address family: those that were tried out."""


async def prepare(conf: NetConf, settings: FirewallSettings) -> Tools:
    """Choose the tool; see that it takes our masquerade rules, where they are asked for.

    Nothing is changed. Raises KernelError: with it the daemon ends before it has a lease.
    """
    tools = Tools(_choose(conf, settings))
    if settings.masquerade:
        anywhere = Subnet(conf.network, conf.ipv6_network)  # ours is not known yet
        for rules in wanted_rules(conf, anywhere, settings, nftables=tools.nftables):
            tool = _tool(tools.nftables, rules.version, settings)
            await tool.open()
            await tool.try_out(rules)
            tools.opened[rules.version] = tool
    return tools


async def install(
    conf: NetConf, subnet: Subnet, settings: FirewallSettings, tools: Tools
) -> Firewall:
    """Put the rules in place and return what keeps them.

    Raises KernelError when masquerading was asked for and cannot be had; forward rules that cannot
    be set are a warning, as in flannel, and are tried again.
    """
    firewall = Firewall(
        "nftables" if tools.nftables else "iptables",
        float(max(1, settings.resync_seconds)),
        _versions(conf),
    )
    for rules in wanted_rules(conf, subnet, settings, nftables=tools.nftables):
        if not rules.empty:
            opened = tools.opened.get(rules.version)
            tool = opened or _tool(tools.nftables, rules.version, settings)
            firewall.families.append(_Family(tool, rules, opened=opened is not None))
    try:
        await firewall.apply()
    except KernelError as error:
        if settings.masquerade:
            raise
        _log.warning("forward rules are not set", reason=str(error))
    else:
        if firewall.families:
            _log.info(
                "packet rules are in place",
                tool=firewall.mode,
                masquerade=settings.masquerade,
                forward=settings.forward,
            )
    return firewall


def _versions(conf: NetConf) -> tuple[int, ...]:
    return (4,) if conf.ipv6_network is None else (4, 6)


def _tool(nftables: bool, version: int, settings: FirewallSettings) -> _Tool:
    kind = Nftables if nftables else Iptables
    return kind(version, random_fully=settings.random_fully)


def _choose(conf: NetConf, settings: FirewallSettings) -> bool:
    """Whether to use nftables: as configured, or because iptables is not installed."""
    if conf.enable_nftables or not (settings.masquerade or settings.forward):
        return conf.enable_nftables
    if all(Iptables.present(version) for version in _versions(conf)):
        return False
    if Nftables.present():
        _log.warning(
            "iptables is not installed: using nftables",
            fix="set EnableNFTables to true in the network configuration to make this explicit",
        )
        return True
    return False


async def _remove_others(versions: Sequence[int], *, nftables: bool) -> None:
    """Remove the rules that the tool not in use has from an earlier start."""
    for version in versions:
        tool = _tool(not nftables, version, FirewallSettings())
        try:
            await tool.open()
            if await tool.remove():
                _log.info(
                    "removed the rules of the mode that is not used any more",
                    tool="iptables" if nftables else "nftables",
                    family=f"IPv{version}",
                )
        except ToolMissing:
            continue  # nothing of a tool that is not installed can be in force
        except KernelError as error:
            _log.warning("cannot remove the rules of the other mode", reason=str(error))
