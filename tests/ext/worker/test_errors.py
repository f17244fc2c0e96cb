"""Each error of a send: what is counted, what is tried again, and that nothing else is lost."""

from __future__ import annotations

import errno

import pytest

from tests.support.calls import orders, run_with_orders
from tests.support.pumprig import Rig, received, rig, to_peer
from udpoverlay import _fastpath as fp

REFUSED = {
    errno.EHOSTUNREACH: "outbound_unreachable",
    errno.ENETUNREACH: "outbound_unreachable",
    errno.ECONNREFUSED: "outbound_unreachable",
    errno.ENETDOWN: "outbound_unreachable",
    errno.EPERM: "outbound_forbidden",
    errno.EACCES: "outbound_forbidden",
    errno.EMSGSIZE: "outbound_underlay_too_big",
    errno.EINVAL: "outbound_send_failed",
}
ODD, EQUAL = (10, 20, 30), (40, 40, 40)


def offer(r: Rig, sizes: tuple[int, ...]) -> None:
    for size in sizes:
        r.device.send(to_peer(bytes(size)))


def states_until_done(r: Rig) -> list[int]:
    states = [r.step(fp.OUTBOUND)]
    while states[-1]:
        states.append(r.step(fp.OUTBOUND))
    return states


def each_refusal() -> None:
    for code, verdict in REFUSED.items():
        with rig(udp_segment=True) as r:
            offer(r, ODD)
            orders().fail_send(code)
            assert states_until_done(r) == [0]
            assert r.verdicts() == {verdict: 1, "outbound_sent": 2}, errno.errorcode[code]
            assert len(received(r.peer)) == 2


def test_refused_datagram_is_counted_by_its_error_and_the_rest_goes() -> None:
    run_with_orders(each_refusal)


def room_that_comes_back() -> None:
    for code, state, times in (
        (errno.EAGAIN, fp.BLOCKED, 2),
        (errno.ENOBUFS, fp.RETRY, 3),
        (errno.ENOMEM, fp.RETRY, 1),
    ):
        with rig(udp_segment=True) as r:
            offer(r, ODD)
            orders().fail_send(code, times)
            waits = [state] * times
            assert states_until_done(r)[: times + 1] == [*waits, fp.MORE_OUTBOUND]
            assert r.verdicts() == {"outbound_sent": 3}
            assert len(received(r.peer)) == 3
            assert r.counts()["udp_send_blocked"] == times


def test_full_socket_and_full_memory_lose_nothing() -> None:
    run_with_orders(room_that_comes_back)


def memory_that_stays_full() -> None:
    with rig(udp_segment=True) as r:
        offer(r, ODD)
        orders().fail_send(errno.ENOBUFS, 9)
        assert states_until_done(r)[:9] == [*[fp.RETRY] * 8, fp.MORE_OUTBOUND]
        assert r.verdicts() == {"outbound_queue_full": 1, "outbound_sent": 2}


def test_memory_that_stays_full_costs_one_datagram() -> None:
    run_with_orders(memory_that_stays_full)


def interrupted() -> None:
    with rig(udp_segment=True) as r:
        offer(r, ODD)
        orders().fail_send(errno.EINTR)
        states_until_done(r)
        assert r.verdicts() == {"outbound_sent": 3}


def test_interrupted_send_is_repeated() -> None:
    run_with_orders(interrupted)


def segmented_refusals() -> None:
    for code in (errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP):
        with rig(udp_segment=True) as r:
            offer(r, EQUAL)
            orders().fail_segmented(code)
            states_until_done(r)
            assert r.verdicts() == {"outbound_sent": 3}, errno.errorcode[code]
            assert len(received(r.peer)) == 3
            counts = r.counts()
            assert counts["udp_segment_refused"] == 1
            assert counts["outbound_plain_packets"] == 3


def test_refused_segmented_send_goes_out_one_by_one() -> None:
    run_with_orders(segmented_refusals)


def forbidden_run() -> None:
    with rig(udp_segment=True) as r:
        offer(r, EQUAL)
        orders().fail_send(errno.EPERM)
        states_until_done(r)
        assert r.verdicts() == {"outbound_forbidden": 3}


def test_run_that_a_firewall_forbids_is_counted_packet_by_packet() -> None:
    run_with_orders(forbidden_run)


def device_gone_in_a_batch() -> None:
    with rig(udp_segment=True) as r:
        offer(r, EQUAL)
        orders().fail_read(r.tun.fileno(), 2, errno.EBADFD)
        with pytest.raises(OSError, match="bad state"):
            r.step(fp.OUTBOUND)
        assert len(received(r.peer)) == 2
        assert r.verdicts() == {"outbound_sent": 2}


def test_device_that_goes_within_a_batch_costs_no_packet_read() -> None:
    run_with_orders(device_gone_in_a_batch)


def read_that_fails() -> None:
    with rig() as r:
        offer(r, ODD)
        orders().fail_read(r.tun.fileno(), 1, errno.ENOMEM)
        r.step(fp.OUTBOUND)
        assert r.counts()["tun_read_failed"] == 1
        r.step(fp.OUTBOUND)
        assert r.verdicts() == {"outbound_sent": 3}


def test_read_that_fails_for_another_reason_is_counted_and_tried_again() -> None:
    run_with_orders(read_that_fails)
