"""Are the files there that a container runtime needs to add a pod."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from udpoverlay.doctor.base import Check, Finding, failure, good, skipped, warning
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK"]

CONF_DIR = "/etc/cni/net.d"
BIN_DIRS = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
_ENDINGS = (".conflist", ".conf", ".json")


async def _look(patient: Patient) -> Sequence[Finding]:
    names = [name for name in patient.names(CONF_DIR) if name.endswith(_ENDINGS)]
    if not names and not any(patient.exists(folder) for folder in BIN_DIRS):
        return [skipped("no CNI on this host")]
    if not names:
        missing = failure if patient.config.kube_subnet_mgr else warning
        return [
            missing(
                f"no configuration in {CONF_DIR}: a container runtime that uses CNI adds no pod",
                f"udpoverlay install-conf cni-conf.json {CONF_DIR}/10-flannel.conflist",
            )
        ]
    first = names[0]
    plugins = _plugins(patient.read(f"{CONF_DIR}/{first}"))
    if plugins is None:
        return [
            failure(f"{CONF_DIR}/{first} is no CNI configuration", "look at it: it must be JSON")
        ]
    findings = [*_order(first, names, plugins)]
    if not any(patient.exists(folder) for folder in BIN_DIRS):
        # A container that has the one folder mounted and not the other.
        return [*findings, skipped("the plugins: their folder cannot be seen from here")]
    for kind in sorted(_programs(plugins)):
        if not any(patient.exists(f"{folder}/{kind}") for folder in BIN_DIRS):
            findings.append(
                failure(
                    f"the plugin {kind!r} is in none of {', '.join(BIN_DIRS)}",
                    "install containernetworking-plugins, and 'flannel' (flannel's plugin or ours)",
                )
            )
    return findings or [good(f"{first} and the plugins that it names are there")]


def _order(first: str, names: Sequence[str], plugins: Sequence[dict[str, Any]]) -> list[Finding]:
    """Runtimes take the file that sorts first."""
    if any(plugin.get("type") == "flannel" for plugin in plugins):
        return []
    others = ", ".join(names[1:]) or "no other"
    return [
        warning(
            f"runtimes use {first}, which is not flannel's ({others} behind it)",
            f"remove or rename {CONF_DIR}/{first}",
        )
    ]


def _plugins(text: str | None) -> list[dict[str, Any]] | None:
    try:
        conf = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(conf, dict):
        return None
    plugins = conf.get("plugins", [conf])
    if not isinstance(plugins, list) or not all(isinstance(each, dict) for each in plugins):
        return None
    return plugins


def _programs(plugins: Sequence[dict[str, Any]]) -> set[str]:
    found = set()
    for plugin in plugins:
        kind = str(plugin.get("type", ""))
        found.add(kind)
        if kind == "flannel":
            delegate = plugin.get("delegate")
            given = delegate if isinstance(delegate, dict) else {}
            found |= {str(given.get("type", "bridge")), "host-local"}
    return {kind for kind in found if kind}


CHECK = Check("cni", "CNI files", _look)
