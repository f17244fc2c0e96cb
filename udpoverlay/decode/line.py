"""How an IP packet is shown in a line: between whom it is, and what.

Owns: this form. Must not know: who shows it.
"""

from __future__ import annotations

from udpoverlay.decode.ip import Ip

__all__ = ["ends"]


def ends(packet: Ip) -> str:
    """For example "10.1.0.2:4000 > 10.2.0.2:80 TCP SYN"."""
    transport = packet.transport
    source, destination, name = packet.source, packet.destination, f"protocol {packet.protocol}"
    if transport is not None:
        name = f"{transport.name} {transport.detail}".rstrip()
        if transport.source_port is not None:
            source = _with_port(packet, source, transport.source_port)
            destination = _with_port(packet, destination, transport.destination_port or 0)
    if packet.fragment_offset is not None:
        name += f" fragment at {packet.fragment_offset}"
    return f"{source} > {destination} {name}"


def _with_port(packet: Ip, address: str, port: int) -> str:
    return f"[{address}]:{port}" if packet.version == 6 else f"{address}:{port}"
