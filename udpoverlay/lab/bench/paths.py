"""The paths that a bench compares, and how each is set up between two hosts.

Owns: their names, what must be installed for them, their settings. The tunnels of others are in
tunnels.py. Must not know: tests, results.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from udpoverlay._version import VERSION
from udpoverlay.errors import LabError
from udpoverlay.lab.actions import links
from udpoverlay.lab.actions.links import FLANNEL_VXLAN_PORT
from udpoverlay.lab.bench import tunnels
from udpoverlay.lab.bench.testbed import LINK, Duo, Ready
from udpoverlay.lab.cluster import POD_BRIDGE, Overlay
from udpoverlay.lab.etcd import Etcd
from udpoverlay.lab.hosts import Host, Process
from udpoverlay.lab.node import Program, flanneld, udpoverlayd
from udpoverlay.lab.traffic import End, Pair

__all__ = ["DEFAULT", "PATHS", "BenchPath", "Ready"]

VXLAN_VNI = 1
VXLAN_OVERHEAD = 50
"""Outer IPv4 and UDP, VXLAN header, inner Ethernet (RFC 7348)."""
LINK_MTU = 1500


@dataclass(frozen=True, slots=True)
class BenchPath:
    """A path: one line about it, what is needed on PATH, and how to set it up."""

    about: str
    set_up: Callable[[Duo, Etcd], Ready]
    needs: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """Why it cannot take part, None when it can."""
        gone = [program for program in self.needs if shutil.which(program) is None]
        return f"no {', '.join(gone)} on PATH" if gone else None


def _direct(duo: Duo, _etcd: Etcd) -> Ready:
    return Ready(Pair(End(duo.a, duo.a_address), End(duo.b, duo.b_address)))


def _mac(host: Host, name: str) -> str:
    return str(next(link["mac"] for link in host.call(links.links) if link["name"] == name))


def _vxlan(duo: Duo, _etcd: Etcd) -> Ready:
    """Two hosts as flannel's vxlan backend leaves them (flannel pkg/backend/vxlan)."""
    device = f"flannel.{VXLAN_VNI}"
    mtu = LINK_MTU - VXLAN_OVERHEAD
    for host, address in duo.both():
        host.call(links.add_vxlan, name=device, vni=VXLAN_VNI, local=address, dev=duo.link, mtu=mtu)
    macs = [_mac(host, device) for host, _ in duo.both()]
    for own, (host, _) in enumerate(duo.both()):
        other = 1 - own
        remote = duo.both()[other][1]
        net = f"10.244.{other + 1}.0"
        host.call(links.add_address, name=device, address=f"10.244.{own + 1}.0", prefix_len=32)
        host.call(links.add_neighbour, dev=device, address=net, mac=macs[other])
        host.call(links.add_fdb, dev=device, mac=macs[other], remote=remote)
        host.call(links.add_route, destination=f"{net}/24", via=net, dev=device, onlink=True)
        host.call(links.add_bridge, name=POD_BRIDGE, mtu=mtu)
        host.call(links.add_address, name=POD_BRIDGE, address=f"10.244.{own + 1}.1", prefix_len=24)
    pair = Pair(End(duo.a, "10.244.1.1"), End(duo.b, "10.244.2.1"))
    return Ready(pair, version=f"VNI {VXLAN_VNI}, port {FLANNEL_VXLAN_PORT}")


def _daemons(program: Program, version: str) -> Callable[[Duo, Etcd], Ready]:
    def set_up(duo: Duo, etcd: Etcd) -> Ready:
        overlay = Overlay(
            dict(zip("ab", duo.both(), strict=True)),
            etcd,
            program,
            prefix=f"/bench/{duo.name}",
        )
        nodes = overlay.nodes
        daemons: tuple[Process, ...] = tuple(node.process for node in nodes.values())
        return Ready(Pair(nodes["a"].pod_end, nodes["b"].pod_end), daemons, version)

    return set_up


def _ours(*flags: str) -> Callable[[Duo, Etcd], Ready]:
    return _daemons(udpoverlayd(f"--iface={LINK}", *flags), f"udpoverlayd {VERSION}")


def _flanneld(duo: Duo, etcd: Etcd) -> Ready:
    program = flanneld(f"--iface={duo.link}")
    if program is None:
        raise LabError("flanneld is gone from PATH")
    _, said = duo.a.run([program.argv[0], "--version"])
    return _daemons(program, f"flanneld {said.strip()}")(duo, etcd)


PATHS: dict[str, BenchPath] = {
    "direct": BenchPath("no tunnel", _direct),
    "vxlan": BenchPath("kernel VXLAN, set up as flannel does", _vxlan),
    "per-packet": BenchPath("one packet a system call, no offload", _ours("--per-packet")),
    "fast": BenchPath("udpoverlayd as it comes", _ours()),
    "fast-nopoll": BenchPath("udpoverlayd --busy-poll-us=0", _ours("--busy-poll-us=0")),
    "fast-norecord": BenchPath("udpoverlayd --flight-recorder=0", _ours("--flight-recorder=0")),
    "flanneld": BenchPath("flannel's own udp backend", _flanneld, ("flanneld",)),
    "tinc": BenchPath("tinc, no cipher and no digest", tunnels.tinc, ("tincd",)),
    "nebula": BenchPath("nebula, AES-GCM", tunnels.nebula, ("nebula", "nebula-cert")),
    "wireguard-go": BenchPath("WireGuard in userspace", tunnels.wireguard, ("wireguard-go",)),
}
"""Name → path, in the order of the table."""

DEFAULT = ("direct", "vxlan", "per-packet", "fast", "fast-nopoll")
"""Always taken; the tunnels of others are added where they are found, the rest when asked for."""
