"""Where the IP packet begins in a captured frame.

Owns: the headers of links (tcpdump.org/linktypes.html). Must not know: what is in the packet.
"""

from __future__ import annotations

from udpoverlay.decode.frame import Frame, Link

__all__ = ["ETHERNET_HEADER", "ether_type", "ip_offset"]

ETHERNET_HEADER = 14
_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_VLAN = {0x8100, 0x88A8}
_NAMES = {_ARP: "ARP", 0x88CC: "LLDP", 0x8863: "PPPoE", 0x8864: "PPPoE"}
_BARE = {Link.RAW, Link.RAW_BSD, Link.RAW_OPENBSD, Link.IPV4, Link.IPV6}
_FIXED = {Link.SLL: (14, 16), Link.SLL2: (0, 20)}
"""Link → where its EtherType stands, and how long its header is."""


def ip_offset(frame: Frame) -> int | str:
    """Bytes in front of the IP packet; else what the frame holds instead, in a word or two."""
    if frame.link in _BARE:
        return 0
    if frame.link in {Link.NULL, Link.LOOP}:
        return 4
    if frame.link == Link.ETHERNET:
        return ether_type(frame.data)
    if frame.link in _FIXED:
        at, size = _FIXED[frame.link]
        kind = int.from_bytes(frame.data[at : at + 2], "big")
        return size if kind in {_IPV4, _IPV6} else _name(kind)
    return f"link type {frame.link}"


def ether_type(data: bytes) -> int | str:
    """The same for bytes that begin with an Ethernet header."""
    at = ETHERNET_HEADER - 2
    kind = int.from_bytes(data[at : at + 2], "big")
    while kind in _VLAN and len(data) >= at + 6:
        at += 4
        kind = int.from_bytes(data[at : at + 2], "big")
    if len(data) < at + 2:
        return "no whole Ethernet header"
    return at + 2 if kind in {_IPV4, _IPV6} else _name(kind)


def _name(kind: int) -> str:
    return _NAMES.get(kind, f"EtherType {kind:#06x}")
