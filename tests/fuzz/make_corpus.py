"""Writes the seed inputs of the fuzz harnesses (tests/fuzz/corpus/); run after a change of formats.

python -m tests.fuzz.make_corpus
"""

from __future__ import annotations

from pathlib import Path

from tests.support.packets import icmp, ipv4, ipv6
from tests.support.segments import Segment, super_packet
from udpoverlay._fastpath import build_probe

CORPUS = Path(__file__).parent / "corpus"
BOTH = b"\x03"

PACKETS = {
    "udp": BOTH + ipv4(bytes(8)),
    "ttl-1": BOTH + ipv4(bytes(8), ttl=1),
    "options": BOTH + ipv4(b"x", options=b"\x01" * 40),
    "fragment": BOTH + ipv4(bytes(8), fragment=0x2001),
    "echo": BOTH + ipv4(icmp(8), protocol=1),
    "probe": BOTH + build_probe(bytes([10, 1, 0, 0]), bytes([10, 2, 0, 0]), 1 << 40),
    "icmp-error": BOTH + ipv4(icmp(3), protocol=1),
    "trailing": BOTH + ipv4() + b"rubbish",
    "long-total": BOTH + ipv4(total_length=0xFFFF),
    "ipv6": BOTH + ipv6(bytes(8)),
    "jumbogram": BOTH + ipv6(next_header=0),
    "ipv6-refused": b"\x01" + ipv6(),
    "stump": BOTH + b"\x45",
}

V4 = [(bytes([10, 1, n, 0]), 24) for n in range(5)]
ROUTES = {
    "neighbours": bytes([5]) + b"".join(a + bytes([n]) for a, n in V4) + bytes([10, 1, 2, 9]),
    "nested": bytes([4])
    + b"".join(bytes([10, 1, 1, 1, n]) for n in (0, 8, 24, 32))
    + bytes([10, 1, 1, 2, 9, 9, 9, 9]),
    "one-bit-apart": bytes([2]) + bytes([10, 0, 0, 0, 32, 10, 0, 0, 1, 32, 10, 0, 0, 2]),
    "twice": bytes([2]) + bytes([10, 0, 0, 0, 30] * 2) + bytes([10, 0, 0, 3, 10, 0, 0, 4]),
    "ipv6": bytes([0x82])
    + bytes.fromhex("fd00000000010000000000000000000040")
    + bytes.fromhex("fd00000000020000000000000000000040")
    + bytes.fromhex("fd000000000200000000000000000001"),
    "ipv6-default": bytes([0x81]) + bytes(17) + bytes(range(16)),
}

ANY = bytes([127, 255, 255, 255, 0])  # limits that hold back nothing
SEGMENT = {
    # ext/offload/offload.h's kinds: limits, what (kind and gso_size), payload in 16 bytes, changes
    **{f"kind-{kind}": ANY + bytes([kind << 1 | 20 << 3, 20]) for kind in range(4)},
    "tight": bytes([2, 20, 0, 200, 22]) + bytes([4 | 20 << 3, 20]),
    "flags": ANY + bytes([4 | 20 << 3, 20]) + bytes([10 + 33, 0x89, 1, 0x80]),
    "extension": ANY
    + b"\1"
    + b"".join(super_packet(Segment(ipv6=True, payload=bytes(90), extension=bytes(8)), 40)),
    "options": ANY
    + b"\1"
    + b"".join(super_packet(Segment(payload=bytes(90), ip_options=b"\1\1\1\0"), 40)),
    "unfinished": ANY + b"\1" + bytes([1, 0, 0, 0, 0, 0, 20, 0, 16, 0]) + Segment().build(),
}

STEADY = bytes([15, 63])  # all kinds, up to 64 packets
COALESCE = {
    **{f"run-{flow}": STEADY + bytes([0, flow, 100, 0, 0, 0]) * 6 for flow in range(4)},
    "interleaved": STEADY
    + b"".join(bytes([0, flow, 100, 0, 0, 0]) for _ in range(4) for flow in range(0, 39, 3)),
    "short-last": STEADY + bytes([0, 2, 100, 0, 0, 0]) * 3 + bytes([0, 2, 50, 0, 0, 0]) * 3,
    "push": STEADY + bytes([0, 2, 90, 0, 0, 0, 6, 2, 90, 33, 0, 8]) * 3,
    "damaged": STEADY + bytes([0, 2, 90, 0, 0, 0, 2, 2, 90, 60, 0, 8]) * 3,
    "fragment": STEADY + bytes([0, 2, 90, 0, 0, 0, 6, 2, 90, 7, 0, 8]) * 3,
    "rubbish": STEADY + bytes([0, 2, 90, 0, 0, 0, 1, 40, 0, 0, 0, 0]) * 3,
}


def main() -> None:
    folders = {"packet": PACKETS, "routes": ROUTES, "segment": SEGMENT, "coalesce": COALESCE}
    for folder, inputs in folders.items():
        (CORPUS / folder).mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (CORPUS / folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
