"""ext/worker/refused.c: who keeps a place among the refused senders when many more come."""

from __future__ import annotations

import socket

from tests.support.pumprig import Rig, from_peer, rig
from udpoverlay import _fastpath as fp

STEADY = [f"127.1.{number}.1" for number in range(200)]
ONCE = [f"127.2.{number % 250}.{number // 250}" for number in range(1000)]
EACH = 64
"""Datagrams of a steady sender: four times what the others of one set take together."""


def refused_from(r: Rig, sender: str, datagrams: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind((sender, 0))
        for _ in range(datagrams):
            made.sendto(from_peer(), r.udp.getsockname())
    while r.step(fp.INBOUND, 4):
        pass


def listed(r: Rig) -> set[str]:
    return {socket.inet_ntoa(row[0]) for row in r.worker.refused()}


def test_single_datagrams_of_many_displace_nobody_who_sends_steadily() -> None:
    with rig(source_check="enforce", subnet=(socket.inet_aton("10.5.72.0"), 24)) as r:
        for sender in STEADY:
            refused_from(r, sender, EACH)
        before = listed(r) & set(STEADY)
        assert len(before) > 150  # 64 sets of four: some of 200 found theirs full
        for sender in ONCE:
            refused_from(r, sender, 1)
        assert before <= listed(r)
