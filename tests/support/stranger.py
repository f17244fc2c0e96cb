"""Containers behind a node, and datagrams to the tunnel's port from a host that is no node."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.cluster import Node
from tests.support.packets import ipv4
from udpoverlay.lab.actions import files, links
from udpoverlay.lab.hosts import Host

PORT = 8285
DISCARD = 9


class Pod:
    """A container of a node: a namespace of its own, routed by the node's kernel.

    pod eth0 <subnet>.7 ── veth-pod <subnet>.1 node flannel0 <subnet>.0
    """

    def __init__(self, node: Node, last: int = 7) -> None:
        net = node.address.rpartition(".")[0]
        self.node = node
        self.address = f"{net}.{last}"
        self.gateway = f"{net}.1"
        self.host = Host(f"pod-{node.name}")
        node.host.add_veth("veth-pod", self.host, "eth0")
        length = int(node.subnet.partition("/")[2])
        node.host.call(links.add_address, name="veth-pod", address=self.gateway, prefix_len=length)
        self.host.call(links.add_address, name="eth0", address=self.address, prefix_len=length)
        self.host.call(links.add_route, destination="default", via=self.gateway)
        sysctl(node.host, "net/ipv4/ip_forward", 1)

    @property
    def end(self) -> tuple[Host, str]:
        """Where a connection begins or ends."""
        return self.host, self.address

    def close(self) -> None:
        self.host.close()


@contextmanager
def pod_of(node: Node) -> Iterator[Pod]:
    pod = Pod(node)
    try:
        yield pod
    finally:
        pod.close()


def sysctl(host: Host, name: str, value: int) -> None:
    """Set a kernel parameter in the host, for example net/ipv4/ip_forward."""
    host.call(files.write_text, path=f"/proc/sys/{name}", text=str(value))


def udp(payload: bytes, port: int = DISCARD) -> bytes:
    """A UDP header without a checksum, and the payload."""
    return (
        b"".join(number.to_bytes(2, "big") for number in (40000, port, 8 + len(payload), 0))
        + payload
    )


def inner(
    source: str, destination: str, payload: bytes, port: int = DISCARD, ttl: int = 64
) -> bytes:
    """What a datagram carries: an IPv4 packet with UDP in it."""
    return ipv4(udp(payload, port), source=source, destination=destination, ttl=ttl)


def send(host: Host, to: str, packet: bytes) -> None:
    """Send `packet` to the tunnel port of `to` from a port of the kernel's choice."""
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(packet, (to, PORT))


def send_as(host: Host, source: str, to: str, packet: bytes) -> None:
    """The same with a forged outer source address, from the tunnel's own port."""
    header = b"".join(number.to_bytes(2, "big") for number in (PORT, PORT, 8 + len(packet), 0))
    datagram = ipv4(header + packet, source=source, destination=to)
    with host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(datagram, (to, 0))


@contextmanager
def listening(host: Host, address: str, port: int = 0) -> Iterator[socket.socket]:
    """A UDP socket of the host; its recv gives up after a while."""
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, port))
        sock.settimeout(30)
        yield sock
