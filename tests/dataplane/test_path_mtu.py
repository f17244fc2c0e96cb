"""A path MTU that shrinks, truly or by a forged report: nothing is lost, speed comes back."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from pyroute2 import IPRoute

from tests.support.flows import tcp_stream
from tests.support.overlay import Overlay, overlay

DEADLINE = 60.0
MEGABYTES = 8


def set_underlay_mtu(o: Overlay, position: int, mtu: int) -> None:
    def run() -> None:
        with IPRoute() as ipr:
            ipr.link("set", index=ipr.link_lookup(ifname=f"eth{position}")[0], mtu=mtu)

    o.hosts[position].call(run)


def fast_share(o: Overlay) -> float:
    """How much of a TCP stream from a to b leaves by the fast path."""
    before = o.counters(0)
    tcp_stream(o.a, o.b, MEGABYTES)
    after = o.counters(0)

    def gained(name: str) -> int:
        return after.get(name, 0) - before.get(name, 0)

    return gained("outbound_fast_packets") / max(1, gained("outbound_sent"))


def eventually(condition: Callable[[], bool]) -> float:
    """Seconds until `condition`."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < DEADLINE, "never became true"
        time.sleep(0.05)
    return time.monotonic() - start


@pytest.mark.root
def test_underlay_mtu_that_shrinks_for_a_moment_costs_seconds() -> None:
    with overlay() as o:
        assert fast_share(o) > 0.9
        set_underlay_mtu(o, 0, 1300)
        assert fast_share(o) < 0.1
        (found,) = o.engines[0].fallbacks()
        assert (found.offload, found.peer) == ("udp-segment", o.b.underlay)
        assert "MTU" in found.cause
        assert found.retry_seconds is not None
        assert o.engines[0].features()["udp-segment"].startswith("on, fallen back for 1 peer: ")
        assert "outbound_underlay_too_big" not in o.counters(0)
        set_underlay_mtu(o, 0, 1500)
        eventually(lambda: fast_share(o) > 0.9)
        assert o.engines[0].features()["udp-segment"] == "on"
