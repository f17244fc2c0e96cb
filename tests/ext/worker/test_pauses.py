"""ext/worker/inbound.c: the readers of UDP packets get a turn before their buffers are full."""

from __future__ import annotations

from tests.support.pumprig import from_peer, received, rig

SMALL = b"x" * 36
"""64 bytes with the headers."""
DEFAULT_BUFFER = 212_992
"""net.core.rmem_default"""


def deliver(count: int, **fields: int) -> int:
    """Pauses made while `count` packets were delivered."""
    with rig() as made:
        packet = from_peer(SMALL, **fields)
        for _ in range(count):
            made.send(packet)
            made.step()
            received(made.device)
        assert made.counts()["inbound_delivered"] == count
        return made.counts().get("inbound_pauses", 0)


def test_udp_is_paused_for_before_a_default_buffer_is_full() -> None:
    count = 1000
    pauses = deliver(count)
    assert pauses >= count * (len(from_peer(SMALL)) + 512) // DEFAULT_BUFFER * 2
    assert pauses <= count // 30  # a system call for many packets


def test_tcp_has_a_window_and_needs_no_pause() -> None:
    assert deliver(300, protocol=6) == 0
