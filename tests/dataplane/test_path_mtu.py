"""A path MTU that shrinks, truly or by a forged report: nothing is lost, speed comes back."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from tests.support.engines import EnginePair, Host, engine_pair
from tests.support.flows import tcp_stream
from tests.support.icmperrors import icmp_error, send_error
from tests.support.patience import DEADLINE

pytestmark = pytest.mark.root

MEGABYTES = 8
NARROW = 1300


def fast_share(o: EnginePair) -> float:
    """How much of a TCP stream from a to b, all of which arrives, leaves by the fast path."""
    before = o.counters(0)
    tcp_stream(o.a, o.b, MEGABYTES)
    after = o.counters(0)

    def gained(name: str) -> int:
        return after.get(name, 0) - before.get(name, 0)

    return gained("outbound_fast_packets") / max(1, gained("outbound_sent"))


def seconds_to_full_speed(o: EnginePair) -> float:
    start = time.monotonic()
    while fast_share(o) < 0.9:
        assert time.monotonic() - start < DEADLINE, o.engines[0].fallbacks()
    return time.monotonic() - start


def set_mtu(host: Host, name: str, mtu: int) -> None:
    def run() -> None:
        with IPRoute() as ipr:
            ipr.link("set", index=ipr.link_lookup(ifname=name)[0], mtu=mtu)

    host.call(run)


def test_underlay_mtu_that_shrinks_for_a_moment_costs_seconds() -> None:
    with engine_pair() as o:
        assert fast_share(o) > 0.9
        set_mtu(o.a, "eth0", NARROW)
        assert fast_share(o) < 0.1
        (found,) = o.engines[0].fallbacks()
        assert (found.offload, found.peer) == ("udp-segment", o.b.underlay)
        assert "MTU" in found.cause
        assert found.retry_seconds is not None
        assert o.engines[0].features()["udp-segment"].startswith("on, fallen back for 1 peer: ")
        set_mtu(o.a, "eth0", 1500)
        assert seconds_to_full_speed(o) < 20
        assert o.engines[0].features()["udp-segment"] == "on"
        assert "outbound_underlay_too_big" not in o.counters(0)


# ---- reports that anybody can send


def forge_reports(o: EnginePair, mtu: int, count: int) -> None:
    """As a stranger on the link would: b knows nothing of it."""
    with o.b.call(
        lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    ) as raw:
        for _ in range(count):
            send_error(raw, icmp_error(3, 4, o.a.underlay, o.b.underlay, rest=mtu))


@pytest.mark.parametrize("mtu", [0, 552, 1499])
def test_forged_report_costs_seconds_while_the_kernel_believes_it(mtu: int) -> None:
    with engine_pair() as o:
        assert fast_share(o) > 0.9
        forge_reports(o, mtu, 1)
        assert fast_share(o) < 0.9
        assert [found.peer for found in o.engines[0].fallbacks()] == [o.b.underlay]
        assert seconds_to_full_speed(o) < 20
        (found,) = o.engines[0].fallbacks()
        assert found.retry_seconds is None
        assert found.past_mtu_seconds is not None, "the kernel has forgotten it by itself"
        assert o.engines[0].report_counters()["fragmentation_needed"] == 1


def test_repeated_forged_reports_cost_no_packet_and_end_with_the_last() -> None:
    with engine_pair() as o:
        for _ in range(4):
            forge_reports(o, 552, 20)
            fast_share(o)
        assert seconds_to_full_speed(o) < 40


def test_repeated_reports_without_an_mtu_count_like_any_others() -> None:
    """From a router older than RFC 1191 behind which the path is narrow: not to be sent past it."""
    with engine_pair() as o:
        assert fast_share(o) > 0.9
        end = time.monotonic() + 5
        while time.monotonic() < end:
            forge_reports(o, 0, 1)
            tcp_stream(o.a, o.b, 1)
        (found,) = o.engines[0].fallbacks()
        assert found.count >= 2, "it was tried again"
        assert found.past_mtu_seconds is None
        assert seconds_to_full_speed(o) < 40


# ---- a path that is narrow indeed


class RoutedPair(EnginePair):
    """The cable goes through a router: r answers ARP for both sides and forwards.

    a  192.0.2.1 ══ ra │ r │ rb ══ 192.0.2.2  b
    """

    def _cable(self) -> None:
        self.router = Host(254)
        for host, name, port in ((self.a, "eth0", "ra"), (self.b, "eth1", "rb")):
            self._plug(host, name, port)
        self.router.call(self._forward)

    def _plug(self, host: Host, name: str, port: str) -> None:
        def lay() -> None:
            with IPRoute() as ipr:
                ipr.link("add", ifname=name, kind="veth", peer={"ifname": port})
                ipr.link(
                    "set", index=ipr.link_lookup(ifname=port)[0], net_ns_fd=self.router.namespace
                )
                index = ipr.link_lookup(ifname=name)[0]
                ipr.addr("add", index=index, address=host.underlay, prefixlen=24)
                ipr.addr("add", index=1, address=host.address, prefixlen=32)
                for each in (1, index):
                    ipr.link("set", index=each, state="up")

        host.call(lay)

    def _forward(self) -> None:
        with IPRoute() as ipr:
            ipr.link("set", index=1, state="up")
            ipr.addr("add", index=1, address="192.0.2.254", prefixlen=32)
            for port, host in (("ra", self.a), ("rb", self.b)):
                index = ipr.link_lookup(ifname=port)[0]
                ipr.link("set", index=index, state="up")
                ipr.route("add", dst=f"{host.underlay}/32", oif=index, scope=253)
                for name, value in (("conf", "proxy_arp"), ("neigh", "proxy_delay")):
                    on = "1" if value == "proxy_arp" else "0"
                    Path(f"/proc/sys/net/ipv4/{name}/{port}/{value}").write_text(on)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        Path("/proc/sys/net/ipv4/icmp_ratelimit").write_text("0")

    def close(self) -> None:
        super().close()
        self.router.close()


@contextmanager
def routed(**settings: Any) -> Iterator[RoutedPair]:
    made = RoutedPair(**settings)
    try:
        yield made
    finally:
        made.close()


def test_narrow_path_is_found_out_and_nothing_is_sent_past_it_for_long() -> None:
    with routed() as o:
        assert fast_share(o) > 0.9
        set_mtu(o.router, "rb", NARROW)
        # Segmented sends carry no "do not fragment" (net/ipv4/ip_output.c, __ip_make_skb: the whole
        # send is longer than the MTU), so it is the first datagram alone that is reported.
        end = time.monotonic() + DEADLINE
        while not o.engines[0].fallbacks():
            assert time.monotonic() < end
            fast_share(o)
        end = time.monotonic() + 6
        while time.monotonic() < end:
            assert fast_share(o) < 0.5, o.engines[0].fallbacks()
        (found,) = o.engines[0].fallbacks()
        assert found.peer == o.b.underlay
        assert found.count >= 2, "it was tried again, and the router said no"
        assert found.past_mtu_seconds is None
        reports = {each.kind: each for each in o.engines[0].path_reports()}
        assert reports["fragmentation_needed"].reporter == "192.0.2.254"
        set_mtu(o.router, "rb", 1500)
        assert seconds_to_full_speed(o) < 40


def test_narrow_path_without_a_raw_socket_is_left_to_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("udpoverlay.dataplane.engine.open_reports", lambda *_: None)
    with engine_pair() as o:
        assert o.engines[0].report_counters() == {}
        forge_reports(o, 552, 1)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            assert fast_share(o) < 0.9
        (found,) = o.engines[0].fallbacks()
        assert found.count >= 2
        assert found.past_mtu_seconds is None
