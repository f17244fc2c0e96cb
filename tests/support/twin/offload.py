"""Twin of ext/offload/offload.h: the kernel's segmentation, and which packets may coalesce.

`segment` is written from the kernel's rules (net/ipv4/tcp_offload.c tcp_gso_segment, udp_offload.c
__udp_gso_segment, af_inet.c inet_gso_segment, net/ipv6/ip6_offload.c). `coalesce` states what
coalescing is for rather than how it is done: packets may be joined exactly when
segmenting the joined packet gives the same bytes back.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["PLAIN", "Vnet", "coalesce", "finish", "flow_of", "internet_checksum", "segment"]

NEEDS_CSUM = 1
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 0, 1, 4, 5, 0x80
TCP, UDP = 6, 17
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
DONT_FRAGMENT = 0x4000
EXTENSIONS = (0, 43, 60)


class Vnet(NamedTuple):
    """struct virtio_net_hdr in the host's byte order."""

    flags: int = 0
    gso_type: int = GSO_NONE
    header_length: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

    def pack(self) -> bytes:
        return struct.pack("=BBHHHH", *self)

    @classmethod
    def unpack(cls, data: bytes) -> Vnet:
        return cls(*struct.unpack("=BBHHHH", data[:10]))


PLAIN = Vnet().pack()


def internet_checksum(data: bytes) -> int:
    """RFC 1071, word by word."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True)
class Parts:
    """An IP packet taken apart; `transport` is the offset of the TCP or UDP header."""

    ip: bytes
    header: bytes
    payload: bytes
    protocol: int

    @property
    def ipv6(self) -> bool:
        return self.ip[0] >> 4 == 6

    @property
    def addresses(self) -> bytes:
        return self.ip[8:40] if self.ipv6 else self.ip[12:20]


def take_apart(packet: bytes) -> Parts:
    """Of a well-formed TCP or UDP packet."""
    if packet[0] >> 4 == 6:
        protocol, end = packet[6], 40
        while protocol in EXTENSIONS:
            protocol, end = packet[end], end + 8 * (packet[end + 1] + 1)
    else:
        protocol, end = packet[9], 4 * (packet[0] & 15)
    size = 8 if protocol == UDP else 4 * (packet[end + 12] >> 4)
    return Parts(packet[:end], packet[end : end + size], packet[end + size :], protocol)


def _with(data: bytes, offset: int, layout: str, value: int) -> bytes:
    packed = struct.pack(layout, value)
    return data[:offset] + packed + data[offset + len(packed) :]


def put_together(parts: Parts, *, sums: bool = True) -> bytes:
    """The packet with every length, and with `sums` every checksum, made from scratch."""
    ip, header = parts.ip, parts.header
    length = len(header) + len(parts.payload)
    if parts.ipv6:
        ip = _with(ip, 4, "!H", len(ip) - 40 + length)
    else:
        ip = _with(ip, 2, "!H", len(ip) + length)
        ip = _with(ip, 10, "!H", 0)
        ip = _with(ip, 10, "!H", internet_checksum(ip))
    at = 6 if parts.protocol == UDP else 16
    if parts.protocol == UDP:
        header = _with(header, 4, "!H", length)
    pseudo = parts.addresses + struct.pack("!II", length, parts.protocol)
    if sums:
        header = _with(header, at, "!H", 0)
        check = internet_checksum(pseudo + header + parts.payload)
        if parts.protocol == UDP and check == 0:
            check = 0xFFFF
        header = _with(header, at, "!H", check)
    else:
        header = _with(header, at, "!H", ~internet_checksum(pseudo) & 0xFFFF)
    return ip + header + parts.payload


def finish(vnet: Vnet, packet: bytes) -> bytes:
    """skb_checksum_help(): an ordinary packet, its checksum finished where that is asked for."""
    if not vnet.flags & NEEDS_CSUM:
        return packet
    check = internet_checksum(packet[vnet.csum_start :]) or 0xFFFF
    return _with(packet, vnet.csum_start + vnet.csum_offset, "!H", check)


def segment(vnet: Vnet, packet: bytes) -> list[bytes]:
    """What the kernel makes of a super-packet where the device cannot."""
    if vnet.gso_type == GSO_NONE:
        return [finish(vnet, packet)]
    parts = take_apart(packet)
    no_sum = (
        parts.protocol == UDP
        and not parts.ipv6
        and not vnet.flags & NEEDS_CSUM
        and parts.header[6:8] == b"\0\0"
    )
    chunks = [
        parts.payload[at : at + vnet.gso_size] for at in range(0, len(parts.payload), vnet.gso_size)
    ] or [b""]
    out = []
    for index, chunk in enumerate(chunks):
        ip, header = parts.ip, parts.header
        if not parts.ipv6:
            ip = _with(ip, 4, "!H", (int.from_bytes(ip[4:6], "big") + index) & 0xFFFF)
        if parts.protocol == TCP:
            sequence = int.from_bytes(header[4:8], "big") + index * vnet.gso_size
            flags = header[13]
            if index > 0:
                flags &= ~CWR
            if index < len(chunks) - 1:
                flags &= ~(FIN | PSH)
            header = _with(_with(header, 4, "!I", sequence & 0xFFFFFFFF), 13, "!B", flags)
        made = put_together(Parts(ip, header, chunk, parts.protocol))
        if no_sum:
            made = _with(made, len(ip) + 6, "!H", 0)
        out.append(made)
    return out


# ---- coalesce


def _whole(packet: bytes) -> bool:
    """TCP or UDP right behind the shortest IP header, lengths that match, not a fragment."""
    if len(packet) < 20:
        return False
    if packet[0] >> 4 == 6:
        if len(packet) < 40 or int.from_bytes(packet[4:6], "big") != len(packet) - 40:
            return False
        protocol, at = packet[6], 40
    else:
        fragment = int.from_bytes(packet[6:8], "big")
        if packet[0] != 0x45 or fragment & ~DONT_FRAGMENT:
            return False
        if int.from_bytes(packet[2:4], "big") != len(packet):
            return False
        protocol, at = packet[9], 20
    return len(packet) - at >= {TCP: 20, UDP: 8}.get(protocol, 1 << 20)


def flow_of(packet: bytes) -> tuple[bytes, ...]:
    """(addresses, protocol and ports), or (addresses,) for all flows between them, or ()."""
    if len(packet) < 20 or (packet[0] >> 4 == 6 and len(packet) < 40):
        return ()
    ipv6 = packet[0] >> 4 == 6
    addresses = packet[8:40] if ipv6 else packet[12:20]
    protocol = packet[6] if ipv6 else packet[9]
    if protocol == 58 if ipv6 else protocol not in (TCP, UDP):
        return ()
    if not _whole(packet):
        return (addresses,)
    at = 40 if ipv6 else 20
    return (addresses, packet[at : at + 4] + bytes([protocol]))


def _eligible(packet: bytes) -> bool:
    """Whether a packet may be part of a super-packet at all."""
    if not _whole(packet):
        return False
    at = 40 if packet[0] >> 4 == 6 else 20
    protocol = packet[6] if at == 40 else packet[9]
    if protocol == UDP:
        length, check = struct.unpack_from("!HH", packet, at + 4)
        return bool(length == len(packet) - at and length > 8 and check != 0)
    size = 4 * (packet[at + 12] >> 4)
    flags = packet[at + 13]
    return 20 <= size < len(packet) - at and flags & (FIN | SYN | RST | ACK | URG) == ACK


def _join(packets: Sequence[bytes]) -> tuple[Vnet, bytes]:
    """The super-packet of a run, without asking whether it may be one."""
    first, last = take_apart(packets[0]), take_apart(packets[-1])
    header = first.header
    kind = GSO_UDP_L4
    if first.protocol == TCP:
        kind = GSO_TCPV6 if first.ipv6 else GSO_TCPV4
        if header[13] & CWR:
            kind |= GSO_ECN
        header = _with(header, 13, "!B", header[13] | last.header[13] & (PSH | FIN))
    payload = b"".join(take_apart(packet).payload for packet in packets)
    vnet = Vnet(
        flags=NEEDS_CSUM,
        gso_type=kind,
        header_length=len(first.ip) + len(header),
        gso_size=len(first.payload),
        csum_start=len(first.ip),
        csum_offset=16 if first.protocol == TCP else 6,
    )
    return vnet, put_together(Parts(first.ip, header, payload, first.protocol), sums=False)


@dataclass
class _Run:
    flow: tuple[bytes, ...]
    packets: list[bytes] = field(default_factory=list)

    def takes(self, packet: bytes, max_segments: int) -> bool:
        packets = [*self.packets, packet]
        if take_apart(packet).protocol == UDP:
            max_segments = min(max_segments, 64)
        if len(packets) > max_segments:
            return False
        if sum(map(len, packets)) - (len(packets) - 1) * self._headers() > 0xFFFF:
            return False
        return segment(*_join(packets)) == packets

    def _headers(self) -> int:
        parts = take_apart(self.packets[0])
        return len(parts.ip) + len(parts.header)

    def write(self) -> tuple[bytes, list[bytes]]:
        if len(self.packets) == 1:
            return PLAIN + self.packets[0], self.packets
        vnet, packet = _join(self.packets)
        return vnet.pack() + packet, self.packets


def coalesce(packets: Sequence[bytes], max_segments: int = 64) -> list[tuple[bytes, list[bytes]]]:
    """The writes that one batch becomes, flow by flow in order; each with the packets in it."""
    writes: list[tuple[bytes, list[bytes]]] = []
    pending: list[_Run] = []

    def write_runs(flow: tuple[bytes, ...]) -> None:
        for run in [run for run in pending if run.flow[: len(flow)] == flow]:
            pending.remove(run)
            writes.append(run.write())

    for packet in packets:
        flow = flow_of(packet)
        run = next((run for run in pending if run.flow == flow), None)
        if _eligible(packet):
            if run is not None and run.takes(packet, max_segments):
                run.packets.append(packet)
                continue
            write_runs(flow)
            pending.append(_Run(flow, [packet]))
        else:
            if flow:
                write_runs(flow)
            writes.append((PLAIN + packet, [packet]))
    write_runs(())
    return writes
