"""A TUN device that refuses super-packets: no packet is lost, and they are tried again."""

from __future__ import annotations

import errno

from tests.support.calls import orders, run_with_orders
from tests.support.pumprig import Rig, forwarded, received, rig
from tests.support.segments import Segment, noise
from tests.support.twin.offload import PLAIN

UDP = Segment(tcp=False, ttl=64)


def packets(flow: int, *sizes: int) -> list[bytes]:
    """Consecutive datagrams of one flow."""
    return [
        UDP.but(payload=noise(size), id=i, ports=(1000 + flow, 53)).build()
        for i, size in enumerate(sizes)
    ]


def deliver(r: Rig, sent: list[bytes]) -> list[bytes]:
    for packet in sent:
        r.send(packet)
    r.step()
    return received(r.device)


def refused_in_the_middle_of_a_batch() -> None:
    """Two flows wait in the batch while the super-packet of a third is refused."""
    waiting = [*packets(1, *[500] * 10), *packets(2, *[500] * 10)]
    refused = packets(3, 500, 500, 100)  # the short one ends the run: it is written at once
    late = packets(1, *[500] * 12)[10:]
    with rig(vnet_header=True, coalesce_udp=True) as r:
        orders().fail_super(errno.EINVAL)
        writes = deliver(r, [*waiting, *refused, *late])
        assert r.verdicts() == {"inbound_delivered": 25}
        assert writes[:3] == [PLAIN + forwarded(packet) for packet in refused]
        assert len(writes) == 5
        counts = r.counts()
        assert counts["coalesced_refused"] == 1
        assert counts["coalesced_super_packets"] == 2
        assert counts["inbound_fast_packets"] == 22
        assert counts["inbound_plain_packets"] == 3


def test_refusal_in_the_middle_of_a_batch_loses_and_reorders_nothing() -> None:
    run_with_orders(refused_in_the_middle_of_a_batch)


def refused_in_every_batch() -> None:
    run = packets(1, 500, 500, 500)
    with rig(vnet_header=True, coalesce_udp=True) as r:
        orders().fail_super(errno.EINVAL, 1000)
        pause = 1
        for refusals in range(1, 10):
            deliver(r, run)
            assert r.counts()["coalesced_refused"] == refusals
            deliver(r, run)  # not tried: the pause has just begun
            assert r.counts()["coalesced_refused"] == refusals
            ((name, cause, count, _),) = r.worker.fallbacks()
            assert (name, count) == ("coalesce-udp", refusals)
            assert "kernel" in cause
            orders().wait(pause - 1)
            deliver(r, run)
            assert r.counts()["coalesced_refused"] == refusals, "tried before the pause was over"
            orders().wait(1)
            deliver(r, run)  # what it takes is looked at after a batch
            pause = min(2 * pause, 128)
        assert "coalesced_super_packets" not in r.counts()


def test_refused_kind_is_tried_again_after_pauses_that_double() -> None:
    run_with_orders(refused_in_every_batch)


def refused_once() -> None:
    run = packets(1, 500, 500, 500)
    with rig(vnet_header=True, coalesce_udp=True) as r:
        orders().fail_super(errno.EINVAL)
        deliver(r, run)
        assert r.worker.fallbacks()[0][3] > 0
        orders().wait(2)
        deliver(r, run)
        assert len(deliver(r, run)) == 1, "super-packets are back"
        assert r.worker.fallbacks()[0][2:] == (1, 0)
        assert r.verdicts() == {"inbound_delivered": 9}


def test_refused_once_is_back_after_a_second() -> None:
    run_with_orders(refused_once)


def one_kind_refused() -> None:
    tcp = [Segment(noise(500), id=i, sequence=i * 500, ttl=64).build() for i in range(3)]
    with rig(vnet_header=True, coalesce_udp=True, coalesce_tcp=True) as r:
        orders().fail_super(errno.EOPNOTSUPP)
        deliver(r, packets(1, 500, 500, 500))
        assert len(deliver(r, [*tcp, *packets(1, 500, 500)])) == 3


def test_refused_kind_leaves_the_others_alone() -> None:
    run_with_orders(one_kind_refused)
