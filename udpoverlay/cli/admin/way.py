"""What `ping` and `traceroute` share: from a word on the command line to a target and its facts.

Owns: how names of a kept lab are found, what happens with no daemon to ask. Must not know: what is
sent to the target.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netaddr import IPAddress

from udpoverlay.cli.admin import ask
from udpoverlay.errors import KernelError, OperatorError
from udpoverlay.host.netlink import Netlink
from udpoverlay.observe.client import AdminClient
from udpoverlay.reach.losses import Look
from udpoverlay.reach.target import Target, alone, find

__all__ = ["Way", "elsewhere", "look", "way"]

_SUBNET_FILE = "/run/flannel/subnet.env"
_LAB_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Way:
    """A target, and what is known before anything is sent."""

    target: Target
    before: Look | None
    """None: no daemon could be asked."""
    notes: tuple[str, ...] = ()
    """What the reader should know first."""

    @property
    def leases(self) -> Sequence[dict[str, Any]]:
        """Of other hosts, as in `/v1/peers`."""
        return self.before.peers["peers"] if self.before else ()


def elsewhere(args: argparse.Namespace, command: str, words: Sequence[str]) -> int | None:
    """Run `command` in the lab's node that was named, if one was; its target may be a node too."""
    if args.node is None:
        return None
    return ask.in_node(args, command, [_inner(args.target), *words])


def _inner(word: str) -> str:
    """A node of the kept lab by its subnet; every other word as it is."""
    if word[:1].isdigit() or ":" in word:
        return word
    done = subprocess.run(
        [sys.executable, "-m", "udpoverlay.cli", "lab", "exec", word, "cat", _SUBNET_FILE],
        capture_output=True,
        text=True,
        timeout=_LAB_SECONDS,
        check=False,
    )
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if done.returncode != 0 or "FLANNEL_SUBNET" not in found:
        raise OperatorError(
            f"the lab's node {word!r} has no subnet: {done.stderr.strip() or 'no subnet file'}",
            fix="name a node of the kept lab, or an address",
        )
    address, _, length = found["FLANNEL_SUBNET"].partition("/")
    return f"{IPAddress(int(IPAddress(address)) & ~0 << 32 - int(length))}/{length}"


def look(client: AdminClient) -> Look:
    """The daemon's documents now. Raises OperatorError."""
    return Look(client.get("/v1/status"), client.get("/v1/peers"))


def way(args: argparse.Namespace) -> Way:
    """The way to `args.target`. Raises OperatorError for what no packet can be sent to."""
    try:
        before = look(ask.client(args))
    except OperatorError as error:
        return Way(alone(args.target), None, (f"no lease is known: {error.what}",))
    target = find(args.target, before.status, before.peers)
    device = asyncio.run(_device(target.address))
    notes: tuple[str, ...] = ()
    if device and device != target.device:
        notes = (
            f"the kernel sends {target.address} to {device}, not to {target.device}: "
            f"udpoverlay explain {target.address}",
        )
    return Way(target, before, notes)


async def _device(address: str) -> str:
    """By which the kernel sends; "" when it does not say."""
    try:
        async with Netlink() as netlink:
            names = {link.index: link.name for link in await netlink.links()}
            return names.get((await netlink.route_to(IPAddress(address))).index, "")
    except KernelError:
        return ""
