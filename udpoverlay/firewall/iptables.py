"""The rules through iptables: one `iptables-restore --noflush` a family and change.

Owns: the spelling of rules (as flannel's, comment included), the reading of iptables-save. Must not
know: when to look again. Rules:
- a chain of ours that a restore declares (`:FLANNEL-FWD`) is emptied and filled by the same commit,
  so no packet ever meets it empty, and what a previous subnet left in it is gone;
- of foreign chains only our own jumps are touched, and only when one is missing or there are two;
- what iptables-save shows once we applied is what must stay: a difference is repaired;
- where both kinds of iptables are installed, as in an image that serves any host, the kind in which
  the kubelet left its mark is used (kubernetes-sigs/iptables-wrappers), else the default one.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from udpoverlay.errors import KernelError
from udpoverlay.firewall.command import ToolMissing, find, run, run_checked
from udpoverlay.firewall.rules import KUBE_PROXY_MARK, Rule, RuleSet

__all__ = ["Iptables", "payload", "render"]

_COMMANDS = {4: "iptables", 6: "ip6tables"}
_KINDS = {"nft": "", "legacy": "/proc/thread-self/net/ip_tables_names"}
"""Kind → a file without which nothing of this kind is loaded, and a look would load it."""
_KUBELETS_MARKS = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")
_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
_MODERN = (1, 6, 2)
"""From here MASQUERADE knows --random-fully and iptables-restore knows --wait."""


@dataclass(frozen=True, slots=True)
class _Chain:
    """A chain of ours and the built-in chain that jumps to it."""

    table: str
    parent: str
    name: str
    comment: str

    @property
    def jump(self) -> tuple[str, ...]:
        return ("-m", "comment", "--comment", self.comment, "-j", self.name)


_MASQUERADE = _Chain("nat", "POSTROUTING", "FLANNEL-POSTRTG", "flanneld masq")
_FORWARD = _Chain("filter", "FORWARD", "FLANNEL-FWD", "flanneld forward")
_CHAINS = (_MASQUERADE, _FORWARD)

State = dict[str, tuple[tuple[str, ...], ...]]
"""By chain of ours: its rules and the jumps to it, in order, as words of iptables-save."""


def render(rule: Rule, comment: str, *, random_fully: bool) -> tuple[str, ...]:
    """The words of one rule, in the order in which flannel and iptables-save have them."""
    words: list[str] = []
    for option, net, negated in (
        ("-s", rule.source, rule.not_source),
        ("-d", rule.destination, rule.not_destination),
    ):
        if net is not None:
            words += [*(["!"] if negated else []), option, str(net)]
    if rule.kube_proxy_mark:
        words += ["-m", "mark", "--mark", f"{KUBE_PROXY_MARK:#x}/{KUBE_PROXY_MARK:#x}"]
    words += ["-m", "comment", "--comment", comment, "-j", rule.verdict.upper()]
    if rule.verdict == "masquerade" and random_fully:
        words.append("--random-fully")
    return tuple(words)


def _wanted(rules: RuleSet) -> tuple[tuple[_Chain, tuple[Rule, ...]], ...]:
    return (_MASQUERADE, rules.masquerade), (_FORWARD, rules.forward)


def payload(rules: RuleSet, state: State, *, random_fully: bool) -> str:
    """What iptables-restore --noflush must read so that `state` becomes `rules`."""
    lines: list[str] = []
    for chain, wanted in _wanted(rules):
        if not wanted:
            continue
        lines += [f"*{chain.table}", f":{chain.name} - [0:0]"]
        lines += [
            _line("-A", chain.name, render(rule, chain.comment, random_fully=random_fully))
            for rule in wanted
        ]
        lines += _jumps(chain, state)
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def _jumps(chain: _Chain, state: State) -> list[str]:
    """Exactly one jump to the chain; further ones go."""
    found = [words[2:] for words in state.get(chain.name, ()) if words[1] == chain.parent]
    if not found:
        return [_line("-A", chain.parent, chain.jump)]
    return [_line("-D", chain.parent, words) for words in found[1:]]


def _line(action: str, chain: str, words: Sequence[str]) -> str:
    return " ".join([action, chain, *(f'"{word}"' if " " in word else word for word in words)])


def _state(saved: str) -> State:
    """Our part of what iptables-save printed."""
    state: dict[str, list[tuple[str, ...]]] = {}
    for line in saved.splitlines():
        if line.startswith(":"):
            name = line[1:].split(" ", 1)[0]
            if any(name == chain.name for chain in _CHAINS):
                state.setdefault(name, [])
        elif line.startswith("-A ") and "FLANNEL-" in line:
            words = tuple(shlex.split(line))
            for chain in _CHAINS:
                jump = words[1] == chain.parent and words[-2:] == ("-j", chain.name)
                if jump or words[1] == chain.name:
                    state.setdefault(chain.name, []).append(words)
    return {name: tuple(found) for name, found in state.items()}


def _exists(path: str) -> bool:
    return os.path.exists(path)


async def _of_this_host(command: str) -> str:
    """`command`, `command`-nft or `command`-legacy: the kind that the kubelet uses, if one does."""
    if not all(find(f"{command}-{kind}-save") for kind in _KINDS):
        return command
    for kind, needed in _KINDS.items():
        if needed and not _exists(needed):
            continue
        saved = await run([f"{command}-{kind}-save", "-t", "mangle"])
        if any(mark in saved.stdout for mark in _KUBELETS_MARKS):
            return f"{command}-{kind}"
    return command


class Iptables:
    """The rules of one address family in iptables."""

    def __init__(self, version: int, *, random_fully: bool) -> None:
        """`version` is 4 or 6."""
        self.command = _COMMANDS[version]
        self._module = self.command.removesuffix("s")
        self._asked_random = random_fully
        self._modern = False
        self._applied: State | None = None

    @staticmethod
    def present(version: int) -> bool:
        """Whether the programs of this family are on PATH."""
        command = _COMMANDS[version]
        return all(find(f"{command}{suffix}") for suffix in ("", "-restore", "-save"))

    async def open(self) -> None:
        """Learn what the program can do. Raises ToolMissing when it is not there."""
        for suffix in ("", "-restore", "-save"):
            if find(f"{self.command}{suffix}") is None:
                raise ToolMissing(
                    f"{self.command}{suffix} is not on PATH",
                    fix="install iptables, or set EnableNFTables in the network configuration",
                )
        self.command = await _of_this_host(self.command)
        said = await run_checked([self.command, "--version"], fix=self._fix)
        match = _VERSION.search(said)
        self._modern = match is None or tuple(map(int, match.groups())) >= _MODERN

    async def try_out(self, rules: RuleSet) -> None:
        """See whether `rules` would be taken; nothing changes. Raises KernelError."""
        await self._put(rules, "--test")

    async def apply(self, rules: RuleSet) -> None:
        """Make the rules be `rules`, in one step. Raises KernelError."""
        await self._put(rules)

    async def _put(self, rules: RuleSet, *options: str) -> None:
        tables = [chain.table for chain, wanted in _wanted(rules) if wanted]
        state = await self._read(tables)
        text = payload(rules, state, random_fully=self._asked_random and self._modern)
        if text:
            await run_checked([*self._restore(), *options], text, fix=self._fix)

    async def remember(self) -> None:
        """Take what is in place now for what must stay. Raises KernelError."""
        self._applied = await self._read()

    async def intact(self) -> bool:
        """Whether nothing has changed since `remember`. Raises KernelError."""
        return await self._read() == self._applied

    async def remove(self) -> bool:
        """Take our chains and the jumps to them away; False when there were none."""
        state = await self._read()
        lines: list[str] = []
        for chain in _CHAINS:
            if chain.name not in state:
                continue
            lines += [f"*{chain.table}", f":{chain.name} - [0:0]"]
            lines += [
                _line("-D", chain.parent, words[2:])
                for words in state[chain.name]
                if words[1] == chain.parent
            ]
            lines += [f"-X {chain.name}", "COMMIT"]
        if lines:
            await run_checked(self._restore(), "".join(f"{line}\n" for line in lines))
        return bool(lines)

    @property
    def _fix(self) -> str:
        return (
            f"see what `{self.command} -t nat -S` says here, or set EnableNFTables in the network"
            " configuration"
        )

    def _restore(self) -> list[str]:
        return [f"{self.command}-restore", "--noflush", *(["--wait"] if self._modern else [])]

    async def _read(self, tables: Iterable[str] = ("nat", "filter")) -> State:
        # In turn: of two that fail at once, the second error would have no one to take it.
        return _state("".join([await self._save(table) for table in tables]))

    async def _save(self, table: str) -> str:
        done = await run([f"{self.command}-save", "-t", table])
        if done.status != 0:
            said = " ".join(done.stderr.split())
            raise KernelError(
                f"{self.command}-save -t {table} failed with status {done.status}: {said}",
                fix=f"load the kernel's {table} table: modprobe {self._module}_{table}",
            )
        return done.stdout
