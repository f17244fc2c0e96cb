"""Runs under a counting malloc (tests/c/count_malloc.c): prints what moving packets allocated.

    LD_PRELOAD=count_malloc.so COUNT_MALLOC=FILE python -m tests.support.count_allocations

The last line holds two numbers: allocations of the C heap and bytes of the Python heap gained while
packets went through a warm pump.
"""

from __future__ import annotations

import gc
import mmap
import os
import time
import tracemalloc

from tests.support.pumprig import Rig
from tests.support.segments import Segment, noise, super_packet
from tests.support.twin.offload import PLAIN
from udpoverlay import _fastpath as fp

ROUNDS = 200


def main() -> None:
    with open(os.environ["COUNT_MALLOC"], "r+b") as file:
        shared = mmap.mmap(file.fileno(), 8)
    words = memoryview(shared).cast("L")
    made = Rig(
        udp_gro=True,
        vnet_header=True,
        udp_segment=True,
        coalesce_tcp=True,
        coalesce_udp=True,
        icmp_burst=9,
        allow_impair=True,
    )
    made.udp.setsockopt(fp.SOL_UDP, fp.UDP_GRO, 1)
    host, port = made.peer.getsockname()
    made.table.publish([(bytes([10, 1, 1, 0]), 24, bytes(map(int, host.split("."))), port, 0)])
    address = made.udp.getsockname()
    # Every way through: super-packet, run of equal packets, odd ones, refused ones; both ways.
    vnet, packet = super_packet(Segment(noise(30000)), 1000)
    outbound = [
        vnet + packet,
        *([PLAIN + Segment(noise(50), tcp=False).build()] * 5),
        PLAIN + Segment(b"odd", destination=9).build(),
        PLAIN + Segment(b"expired", ttl=1).build(),
        PLAIN + b"short",
    ]
    inbound = [Segment(noise(500), id=i, sequence=i * 500).build() for i in range(8)]
    inbound += [Segment(b"expired", ttl=1).build(), b"short", bytes(60000)]
    sink = bytearray(70000)
    both = fp.OUTBOUND | fp.INBOUND
    counted = 0

    def drain(sock: object) -> None:
        try:
            while True:
                sock.recv_into(sink)  # type: ignore[attr-defined] # a socket
        except BlockingIOError:
            pass

    def once() -> int:
        for data in outbound:
            made.device.send(data)
        for data in inbound:
            made.peer.sendto(data, address)
        before = words[0]
        made.worker.step(both, 4)
        gained = words[0] - before
        drain(made.device)
        drain(made.peer)
        return gained

    for _ in range(20):
        once()
    gc.collect()
    gc.disable()
    for _ in range(ROUNDS):
        counted += once()
    # And with the peer impaired: what that takes is there before packets come.
    half = fp.IMPAIR_MILLIONTHS // 2
    made.pump.set_impairment(
        0,
        bytes(map(int, host.split("."))),
        time.monotonic_ns() + 60 * 10**9,
        **{"loss": half, "duplicate": half, "corrupt": half, "delay_us": 100, "jitter_us": 100},
    )
    assert made.worker.offer_impairment(0)
    for _ in range(ROUNDS):
        counted += once()
    assert made.worker.impairment_counts(0)[1] > ROUNDS
    tracemalloc.start()  # only now: it allocates for what it traces
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(ROUNDS):
        once()
    after, _ = tracemalloc.get_traced_memory()
    verdicts = sum(made.worker.counts()[0])
    assert verdicts > ROUNDS * 40, verdicts
    print(counted, after - before)


if __name__ == "__main__":
    main()
