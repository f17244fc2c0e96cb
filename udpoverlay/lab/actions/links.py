"""Links, addresses and routes of one namespace, by netlink: the lab's only user of pyroute2.

Every function works on the network namespace of the calling process and speaks names and text, so
that the agent can offer it as an action. Owns: netlink. Must not know: hosts, daemons, traffic.
"""

from __future__ import annotations

import secrets
import socket
from typing import Any

from pyroute2 import IPRoute
from pyroute2.ethtool import Ethtool

__all__ = [
    "add_address",
    "add_bridge",
    "add_fdb",
    "add_neighbour",
    "add_route",
    "add_veth",
    "add_vxlan",
    "links",
    "segmentation",
    "set_link",
    "set_segmentation",
]

_NUD_PERMANENT = 0x80
_NTF_SELF = 0x02
FLANNEL_VXLAN_PORT = 8472
SEGMENTATION = ("tx-udp-segmentation", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation")
"""The features that a plain network card lacks and a veth has."""


def _index(ip: IPRoute, name: str) -> int:
    found = ip.link_lookup(ifname=name)
    if not found:
        raise OSError(f"no link named {name}")
    return int(found[0])


def _random_address() -> str:
    """A MAC address that is locally administered and unicast (IEEE 802, the two low bits)."""
    octets = bytearray(secrets.token_bytes(6))
    octets[0] = octets[0] & 0xFC | 0x02
    return octets.hex(":")


def add_veth(name: str, peer: str, mtu: int, descriptors: list[int]) -> None:
    """Make a veth pair: `name` here, `peer` in the namespace of the descriptor; both stay down."""
    with IPRoute() as ip:
        ip.link(
            "add",
            ifname=name,
            kind="veth",
            mtu=mtu,
            peer={"ifname": peer, "net_ns_fd": descriptors[0], "mtu": mtu},
        )


def add_bridge(name: str, mtu: int = 1500) -> None:
    """Make a bridge and set it up.

    Its address is its own. A bridge that was not given one takes the lowest of its ports' (Linux
    net/bridge/br_stp_if.c, br_stp_recalculate_bridge_id), so that a port that joins may change it,
    and then the neighbours send to the old one until their entry is probed, seconds later.
    """
    with IPRoute() as ip:
        ip.link("add", ifname=name, kind="bridge", mtu=mtu, address=_random_address())
        ip.link("set", index=_index(ip, name), state="up")


def add_vxlan(name: str, vni: int, local: str, dev: str, mtu: int) -> None:
    """Make a VXLAN device as flannel does: no learning, no remote (flannel vxlan/device.go)."""
    with IPRoute() as ip:
        ip.link(
            "add",
            ifname=name,
            kind="vxlan",
            vxlan_id=vni,
            vxlan_local=local,
            vxlan_link=_index(ip, dev),
            vxlan_port=FLANNEL_VXLAN_PORT,
            vxlan_learning=0,
            mtu=mtu,
        )
        ip.link("set", index=_index(ip, name), state="up")


def set_link(name: str, *, master: str | None = None, mtu: int | None = None) -> None:
    """Set a link up; if given, make it a port of the bridge `master` and set its MTU."""
    with IPRoute() as ip:
        wanted: dict[str, Any] = {"state": "up"}
        if master is not None:
            wanted["master"] = _index(ip, master)
        if mtu is not None:
            wanted["mtu"] = mtu
        ip.link("set", index=_index(ip, name), **wanted)


def add_address(name: str, address: str, prefix_len: int) -> None:
    """Give the link an IPv4 or IPv6 address."""
    with IPRoute() as ip:
        ip.addr("add", index=_index(ip, name), address=address, prefixlen=prefix_len)


def add_route(
    destination: str, *, via: str | None = None, dev: str | None = None, onlink: bool = False
) -> None:
    """Route `destination` ("default" or CIDR) to a gateway, a link, or both."""
    with IPRoute() as ip:
        wanted: dict[str, Any] = {"dst": destination}
        if via is not None:
            wanted["gateway"] = via
        if dev is not None:
            wanted["oif"] = _index(ip, dev)
        if onlink:
            wanted["flags"] = "onlink"
        ip.route("add", **wanted)


def add_neighbour(dev: str, address: str, mac: str) -> None:
    """Pin the MAC of a neighbour."""
    with IPRoute() as ip:
        ip.neigh("replace", ifindex=_index(ip, dev), dst=address, lladdr=mac, state=_NUD_PERMANENT)


def add_fdb(dev: str, mac: str, remote: str) -> None:
    """Tell a VXLAN device behind which host a MAC lives."""
    with IPRoute() as ip:
        ip.fdb(
            "append",
            ifindex=_index(ip, dev),
            lladdr=mac,
            dst=remote,
            state=_NUD_PERMANENT,
            flags=_NTF_SELF,
        )


def set_segmentation(name: str, on: bool) -> None:
    """Let a link segment UDP super-packets itself, or not, as a card without that offload."""
    with Ethtool() as ethtool:
        known = ethtool.get_features(name)
        for feature in SEGMENTATION:
            known.features[feature].enable = on
        ethtool.set_features(name, known)


def segmentation(name: str) -> dict[str, bool]:
    """Which of the UDP segmentation offloads of a link are on."""
    with Ethtool() as ethtool:
        known = ethtool.get_features(name)
        return {feature: bool(known.features[feature].enable) for feature in SEGMENTATION}


def links() -> list[dict[str, Any]]:
    """Name, MTU, MAC, state and IPv4 addresses of every link, in kernel order."""
    with IPRoute() as ip:
        addresses: dict[int, list[str]] = {}
        for message in ip.get_addr(family=socket.AF_INET):
            text = f"{message.get_attr('IFA_LOCAL')}/{message['prefixlen']}"
            addresses.setdefault(message["index"], []).append(text)
        return [
            {
                "name": message.get_attr("IFLA_IFNAME"),
                "index": message["index"],
                "mtu": message.get_attr("IFLA_MTU"),
                "mac": message.get_attr("IFLA_ADDRESS"),
                "up": bool(message["flags"] & 1),
                "addresses": addresses.get(message["index"], []),
            }
            for message in ip.get_links()
        ]
