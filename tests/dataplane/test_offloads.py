"""Every combination of offloads delivers the same bytes; with all of them the fast path carries."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pyroute2 import IPRoute

from tests.support.engines import MTU, EnginePair, engine_pair
from tests.support.flows import tcp_stream, udp_datagrams, udp_segmented
from tests.support.namespace import in_new_namespace
from tests.support.pumprig import rig
from tests.support.segments import Segment, noise
from udpoverlay import _fastpath as fp
from udpoverlay.dataplane.tun import open_tun
from udpoverlay.model.dataplane import OFFLOADS

ALL = frozenset(OFFLOADS)
DROPS = {name for name, _, kind, _ in fp.VERDICTS if kind == "drop"}

SETTINGS: dict[str, dict[str, Any]] = {
    "all": {},
    **{f"no-{offload}": {"offloads_off": frozenset({offload})} for offload in OFFLOADS},
    **{
        f"only-{offload}": {"offloads_off": ALL - {offload}}
        for offload in ("vnet-hdr", "udp-segment")
    },
    "none": {"offloads_off": ALL},
    "per-packet": {"per_packet": True},
    **{f"{count}-workers": {"workers": str(count)} for count in (1, 2, 3, 5)},
    "busy": {"busy_poll_us": 1000},
    "never-busy": {"busy_poll_us": 0},
}


@pytest.mark.root
@pytest.mark.parametrize("name", SETTINGS)
def test_the_same_bytes_arrive(name: str) -> None:
    with engine_pair(**SETTINGS[name]) as o:
        for sender, receiver in ((o.a, o.b), (o.b, o.a)):
            tcp_stream(sender, receiver, 4)
            udp_datagrams(sender, receiver, (0, 1, 100, MTU - 28, MTU - 27, 9000, 65507))
            udp_segmented(sender, receiver, 1000, 30)
        for position in (0, 1):
            counts = o.counters(position)
            refused = {name: count for name, count in counts.items() if name in DROPS}
            assert not refused


@pytest.mark.root
def test_the_fast_path_carries_the_bulk() -> None:
    with engine_pair() as o:
        tcp_stream(o.a, o.b, 64)
        sent, delivered = o.counters(0), o.counters(1)
        assert sent["outbound_fast_packets"] > 9 * sent.get("outbound_plain_packets", 0)
        assert sent["tun_super_packets"] * 10 < sent["outbound_fast_packets"]
        assert delivered["inbound_fast_packets"] > 9 * delivered.get("inbound_plain_packets", 0)
        assert delivered["udp_gro_receives"] > 0


@pytest.mark.root
@pytest.mark.parametrize("settings", [{"offloads_off": ALL}, {"per_packet": True}])
def test_with_all_offloads_off_every_packet_goes_alone(settings: dict[str, Any]) -> None:
    with engine_pair(**settings) as o:
        tcp_stream(o.a, o.b, 4)
        sent, delivered = o.counters(0), o.counters(1)
        assert "outbound_fast_packets" not in sent
        assert "tun_super_packets" not in sent
        assert "inbound_fast_packets" not in delivered
        assert "udp_gro_receives" not in delivered
        assert "spins" not in delivered
        assert sent["udp_send_calls"] >= sent["outbound_sent"]
        assert set(o.engines[0].features().values()) == {"off (switch)"}


@pytest.mark.root
def test_features_tell_what_is_on_what_is_off_and_why() -> None:
    with engine_pair(workers="1", offloads_off=frozenset({"vnet-hdr", "udp-gro"})) as o:
        features = o.engines[0].features()
        assert features.keys() == OFFLOADS.keys()
        assert features["udp-segment"] == "on"
        assert features["vnet-hdr"] == features["udp-gro"] == "off (switch)"
        assert features["coalesce-tcp"] == "unavailable: needs vnet-hdr"
        assert features["multi-queue"].startswith("unavailable: needs 3 workers")


@pytest.mark.root
def test_two_hops_are_taken_and_the_congestion_mark_is_kept() -> None:
    """With all offloads on, as without them: a packet with three hops arrives with one."""
    with engine_pair() as o, o.a.socket() as left, o.b.socket() as right:
        left.setsockopt(0, 2, 3)  # IP_TTL
        left.setsockopt(0, 1, 2)  # IP_TOS: ECT(0)
        right.setsockopt(0, 13, 1)  # IP_RECVTOS
        right.setsockopt(0, 12, 1)  # IP_RECVTTL
        left.sendto(b"hop", right.getsockname())
        _, ancillary, _, _ = right.recvmsg(100, 100)
        values = {kind: data[0] for _, kind, data in ancillary}
        assert values == {1: 2, 2: 1}


def spins(o: EnginePair) -> int:
    return sum(engine.counters()["spins"] for engine in o.engines)


@pytest.mark.root
def test_busy_polling_catches_answers_and_an_idle_tunnel_does_not_spin() -> None:
    """A worker does not spin while other tasks want its CPU: a round counts when it could."""
    with engine_pair(busy_poll_us=1000) as o, o.a.socket() as left, o.b.socket() as right:

        def ask() -> None:
            left.sendto(b"ping", right.getsockname())
            right.recv(10)

        def spins_in_a_burst() -> bool:
            before = spins(o)
            for _ in range(20):
                ask()
                right.sendto(b"pong", left.getsockname())
                left.recv(10)
            return spins(o) > before

        end = time.monotonic() + 60
        while not any(engine.counters()["spin_hits"] for engine in o.engines):
            assert time.monotonic() < end, "no spin caught an answer"
            spins_in_a_burst()
        rounds = idle = 0
        while rounds < 10:
            assert time.monotonic() < end, f"it could spin in {rounds} rounds alone"
            could = spins_in_a_burst()
            time.sleep(0.03)  # longer than the longest window by far: a lone packet now and then
            before = spins(o)
            ask()
            time.sleep(0.003)
            found = spins(o) - before
            if could and spins_in_a_burst():
                rounds += 1
                idle += found > 0
        assert idle <= 2, f"{idle} of {rounds} lone packets made it spin"


@pytest.mark.root
def test_a_device_that_refuses_a_super_packet_gets_its_packets_one_by_one() -> None:
    """A TUN without IFF_VNET_HDR takes the header for the packet and refuses everything."""

    def scenario() -> dict[str, int]:
        tun = open_tun("refuse0")
        try:
            with rig(vnet_header=True, coalesce_tcp=True) as r:
                worker = fp.Worker(
                    r.pump, roles=fp.INBOUND, tun_fds=tun.queues, udp_fd=r.udp.fileno()
                )
                for _ in range(2):
                    for i in range(3):
                        r.send(Segment(noise(500), id=i, sequence=i * 500).build())
                    worker.step(fp.INBOUND, 1)
                names = [facts[0] for facts in (*fp.VERDICTS, *fp.COUNTERS)]
                verdicts, counters = worker.counts()
                worker.close()
                return dict(zip(names, (*verdicts, *counters), strict=True))
        finally:
            tun.close()

    def with_loopback() -> dict[str, int]:
        with IPRoute() as ipr:
            ipr.link("set", index=1, state="up")
        return scenario()

    counts = in_new_namespace(with_loopback)
    assert counts["coalesced_refused"] == 1  # after that, nothing of the kind is coalesced any more
    assert counts["tun_write_calls"] == 1 + 3 + 3
    assert counts["inbound_write_failed"] + counts["inbound_device_down"] == 6
