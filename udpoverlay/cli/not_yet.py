"""Flags of flanneld that this release cannot carry out and that it would be wrong to ignore.

Owns: which they are, why, and what to do instead. The same is told in docs/reference/flags.md,
which a test compares with this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from udpoverlay.errors import OperatorError

__all__ = ["MASQUERADE_RULES", "NOT_YET", "refuse"]

MASQUERADE_RULES = (
    "iptables -t nat -I POSTROUTING -s NETWORK -d NETWORK -m mark ! --mark 0x4000/0x4000 -j ACCEPT",
    "iptables -t nat -A POSTROUTING -s NETWORK ! -d 224.0.0.0/4 -j MASQUERADE",
)
"""What --ip-masq is for, by hand. The first comes before the rules of CNI plugins and Docker, which
masquerade between pods of different hosts; 0x4000 is kube-proxy's mark on what it masquerades."""


@dataclass(frozen=True, slots=True)
class _Refused:
    flag: str
    is_set: Callable[[Any], bool]
    why: str
    instead: str


NOT_YET = (
    _Refused(
        "ip-masq",
        bool,
        "this release installs no masquerade rules, and without them the CNI plugin or Docker"
        " masquerades between pods too, so that a server sees the node and not the pod",
        "leave it out and add two rules on every host, with Network of the configuration for"
        f" NETWORK: {' ; '.join(MASQUERADE_RULES)}",
    ),
    _Refused(
        "ip-blackhole-route",
        bool,
        "this release installs no blackhole route",
        "leave it out",
    ),
    _Refused(
        "healthz-port",
        lambda port: bool(port > 0),
        "this release has no health server, so probes of that port would fail",
        "leave it out and watch for READY=1 (systemd Type=notify) or the subnet file instead",
    ),
)


def refuse(values: Mapping[str, Any]) -> None:
    """Raise OperatorError for the first flag that is set and cannot be carried out."""
    for each in NOT_YET:
        value = values[each.flag]
        if each.is_set(value):
            shown = "" if value is True else f" {value}"
            raise OperatorError(f"--{each.flag}{shown}: not yet: {each.why}", fix=each.instead)
