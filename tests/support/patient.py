"""A host as a test shows it to a check: files below a folder, and what is known without asking."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from netaddr import IPAddress, IPNetwork

from tests.support.namespace import run_in_new_namespace
from udpoverlay.doctor.base import Check, Finding
from udpoverlay.doctor.patient import Patient
from udpoverlay.errors import RegistryUnavailable
from udpoverlay.host.interfaces import Choice
from udpoverlay.model.config import DaemonConfig
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.netconf import NetConf

__all__ = [
    "CHOICE",
    "LINK",
    "NETCONF",
    "STATUS",
    "UNKNOWN",
    "choice",
    "in_namespace",
    "lease",
    "levels",
    "look",
    "patient",
    "write",
]

NETCONF = NetConf(network=IPNetwork("10.5.0.0/16")).validated()
UNKNOWN = RegistryUnavailable("the registry is not there")

LINK = """
ip link add eth0 type veth peer name wire
ip addr add 192.0.2.1/24 dev eth0
ip link set wire up
"""
"""A link of a namespace, still down."""
STATUS: dict[str, Any] = {
    "schema": 1,
    "node": {
        "network": "10.5.0.0/16",
        "port": 8285,
        "tun": "flannel0",
        "tun_address": "10.5.1.0",
        "interface_address": "192.0.2.1",
        "mtu": 1472,
    },
    "lease": {"subnet": "10.5.1.0/24", "expires_in_seconds": 80000.0},
    "registry": {"kind": "etcd", "troubles": {}},
    "control": {"foreign_renewals": 0, "leases_refused": 0},
    "dataplane": {"features": {"udp-gro": "on"}},
    "firewall": {"error": ""},
    "peers": 2,
}
"""What a daemon that is well says of itself, as far as checks look at it."""


def choice(name: str = "eth0", address: str = "192.0.2.1", **more: Any) -> Choice:
    ip = IPAddress(address)
    return Choice(
        **{
            "name": name,
            "index": 2,
            "mtu": 1500,
            "address": ip,
            "address_v6": None,
            "public_ip": ip,
            "public_ipv6": None,
            **more,
        }
    )


CHOICE = choice()


def lease(subnet: str, public_ip: str) -> Lease:
    return Lease(Subnet(IPNetwork(subnet)), LeaseAttrs(IPAddress(public_ip)))


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def patient(root: Path, files: Mapping[str, str] = {}, **known: Any) -> Patient:
    """A host with these files; `known`: config, peers, and what was learned. No daemon, registry.

    `netconf=None` and the like: it cannot be learned.
    """
    write(root, files)
    config = known.pop("config", DaemonConfig())
    peers = known.pop("peers", ())
    learned: dict[str, Any] = {
        "side": None,
        "netconf": NETCONF,
        "leases": (),
        "choice": CHOICE,
        "status": None,
        "daemon_peers": (),
        **known,
    }
    learned["peers"] = learned.pop("daemon_peers")
    for name in ("side", "netconf", "leases", "choice"):
        if learned[name] is None:
            learned[name] = UNKNOWN
    return Patient(config, root, peers, learned)


async def look(check: Check, patient: Patient) -> list[Finding]:
    """What a check finds; each bad finding must say how to fix it, each good one need not."""
    findings = list(await check.run(patient))
    assert findings, "a check says at least one thing"
    for finding in findings:
        assert bool(finding.fix) == (finding.level.value in {"warning", "failure"}), finding
    return findings


def in_namespace(check: Check, commands: str, known: Callable[[], Patient]) -> list[Finding]:
    """What a check finds in a network namespace of its own, after shell commands in it."""

    async def scenario() -> list[Finding]:
        subprocess.run(["sh", "-ec", commands], check=True)  # noqa: ASYNC221
        return await look(check, known())

    return run_in_new_namespace(scenario)


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level.value for finding in findings]
