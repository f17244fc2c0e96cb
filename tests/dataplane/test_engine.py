"""The engine on real TUN devices: two hosts on a cable, with and without offloads."""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path

import pytest
from netaddr import IPAddress, IPNetwork

from tests.support.engines import MTU, PORT, EnginePair, engine_pair
from tests.support.flows import tcp_stream
from tests.support.namespace import in_new_namespace
from udpoverlay import _fastpath as fp
from udpoverlay.dataplane.engine import Engine
from udpoverlay.dataplane.sink import Publisher
from udpoverlay.dataplane.tun import open_tun
from udpoverlay.dataplane.tunnel import Tunnel
from udpoverlay.dataplane.udp import open_udp
from udpoverlay.errors import KernelError, OperatorError
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.endpoint import Endpoint

MODES = [{}, {"per_packet": True}]

IP_RECVERR = 11
MSG_ERRQUEUE = 0x2000


def ids(settings: dict[str, object]) -> str:
    return "-".join(f"{name}={value}" for name, value in settings.items())


# ---- traffic


@pytest.mark.root
@pytest.mark.parametrize("settings", MODES, ids=ids)
def test_udp_of_every_size_arrives_whole_in_both_directions(settings: dict[str, object]) -> None:
    with engine_pair(**settings) as o, o.a.socket() as left, o.b.socket() as right:
        for size in (0, 1, 100, MTU - 28, MTU - 27, 4000, 60000):
            for sender, receiver in ((left, right), (right, left)):
                payload = os.urandom(size)
                sender.sendto(payload, receiver.getsockname())
                assert receiver.recvfrom(65536) == (payload, sender.getsockname())
        counts = o.counters(0)
        assert counts["outbound_sent"] == o.counters(1)["inbound_delivered"]


@pytest.mark.root
@pytest.mark.parametrize("settings", MODES, ids=ids)
def test_a_tcp_stream_arrives_byte_for_byte(settings: dict[str, object]) -> None:
    with engine_pair(**settings) as o:
        tcp_stream(o.a, o.b, 32)


@pytest.mark.root
def test_a_ping_loses_two_hops_on_its_way() -> None:
    """One at each end (flannel pkg/backend/udp/proxy_amd64.c); 64 becomes 62."""
    with engine_pair() as o:
        ping = o.a.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
        with ping:
            ping.settimeout(30)
            ping.bind((o.a.address, 0))
            request = struct.pack("!BBHHH", 8, 0, 0, 77, 1)
            checksum = 0xFFFF - (0x0800 + 77 + 1)
            ping.sendto(request[:2] + checksum.to_bytes(2, "big") + request[4:], (o.b.address, 0))
            answer = ping.recv(2000)
        assert answer[8] == 62
        assert answer[20:22] == b"\0\0"
        assert answer[24:26] == (77).to_bytes(2, "big")


# ---- ICMP errors reach who caused them


def icmp_error(sender: socket.socket, to: tuple[str, int], **options: int) -> tuple[int, int, str]:
    """Send a datagram; type, code and origin of the ICMP error that comes back for it."""
    sender.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    if "ttl" in options:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, options["ttl"])
    sender.sendto(b"12345678", to)
    end = time.monotonic() + 60
    while True:
        try:
            _, ancillary, _, _ = sender.recvmsg(100, 200, MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except BlockingIOError:
            assert time.monotonic() < end, "no ICMP error came"
            time.sleep(0.005)
            continue
        # struct sock_extended_err, then the address of who reported it (linux/errqueue.h)
        data = ancillary[0][2]
        return data[5], data[6], socket.inet_ntoa(data[20:24])


@pytest.mark.root
@pytest.mark.parametrize("settings", MODES, ids=ids)
def test_the_local_sender_hears_that_no_peer_has_the_destination(
    settings: dict[str, object],
) -> None:
    """On a host with default settings: rp_filter and accept_local as the kernel sets them."""
    with engine_pair(**settings) as o, o.a.socket() as sender:
        assert icmp_error(sender, ("10.5.77.1", 9)) == (3, 0, "10.5.1.0")
        wait_for(o, 0, "icmp_sent", 1)


@pytest.mark.root
def test_each_end_of_the_tunnel_is_a_hop_of_a_traceroute() -> None:
    with engine_pair() as o, o.a.socket() as sender:
        assert icmp_error(sender, (o.b.address, 9), ttl=1) == (11, 0, "10.5.1.0")
        assert icmp_error(sender, (o.b.address, 9), ttl=2) == (11, 0, "10.5.2.0")


# ---- no loop, whatever the routes say


@pytest.mark.root
@pytest.mark.parametrize("settings", MODES, ids=ids)
@pytest.mark.parametrize("size", [0, 100, MTU - 28, 5000])
def test_peer_address_inside_its_own_subnet_makes_no_loop(
    settings: dict[str, object], size: int
) -> None:
    """The host routes the datagram to 10.5.9.5 into the tunnel, which has a route for it."""
    with engine_pair(**settings) as o, o.a.socket() as sender, o.b.socket() as receiver:
        routes = {
            IPNetwork("10.5.9.0/24"): Endpoint(IPAddress("10.5.9.5"), PORT),
            o.b.network: Endpoint(IPAddress(o.b.underlay), PORT),
        }
        o.engines[0].replace(routes)
        for _ in range(10):
            sender.sendto(bytes(size), ("10.5.9.7", 9))
        for payload in (b"first", b"second"):  # the device's queue is in order
            sender.sendto(payload, receiver.getsockname())
            assert receiver.recv(100) == payload
        counts = o.counters(0)
        assert counts.get("outbound_own_datagram", 0) + counts.get("outbound_underlay_too_big", 0)
        fragments = 10 * (1 + size // 1400)
        assert counts["outbound_sent"] <= 2 + 3 * fragments


@pytest.mark.root
def test_fresh_tunnel_drops_nothing() -> None:
    """A link with an IPv6 address of its own asks for routers and reports its groups at once."""
    with engine_pair() as o:
        time.sleep(3)  # rtr_solicitation: the first one after a second at most
        for position in (0, 1):
            drops = {name for name, _, kind, _ in fp.VERDICTS if kind == "drop"}
            assert drops.isdisjoint(o.counters(position)), o.counters(position)


# ---- what the kernel may refuse


@pytest.mark.root
def test_an_unreachable_underlay_is_counted_and_ends_when_the_way_is_back() -> None:
    with engine_pair() as o, o.a.socket() as left, o.b.socket() as right:
        o.engines[0].replace({o.b.network: Endpoint(IPAddress("198.51.100.1"), PORT)})
        left.sendto(b"lost", right.getsockname())
        wait_for(o, 0, "outbound_unreachable", 1)
        o.engines[0].replace({o.b.network: Endpoint(IPAddress(o.b.underlay), PORT)})
        left.sendto(b"found", right.getsockname())
        assert right.recv(100) == b"found"


@pytest.mark.root
@pytest.mark.parametrize("settings", MODES, ids=ids)
def test_a_device_that_is_down_is_counted_without_spinning(settings: dict[str, object]) -> None:
    with engine_pair(**settings) as o, o.a.socket() as left:
        device_flags(o, 1, up=False)
        for _ in range(3):
            left.sendto(b"lost", (o.b.address, 9))
        wait_for(o, 1, "inbound_device_down", 3)
        calls = o.counters(1).get("tun_write_calls", 0)
        time.sleep(0.05)
        assert o.counters(1).get("tun_write_calls", 0) == calls


@pytest.mark.root
@pytest.mark.parametrize("settings", MODES, ids=ids)
def test_a_device_that_is_removed_ends_the_engine_with_an_error(
    settings: dict[str, object],
) -> None:
    with engine_pair(**settings) as o:
        engine = o.engines[0]
        remove_device(o, 0)
        with pytest.raises(KernelError, match="packets stopped flowing through flannel0"):
            o.a.run(engine.wait())


def wait_for(o: EnginePair, position: int, name: str, count: int) -> None:
    end = time.monotonic() + 60
    while o.counters(position).get(name, 0) < count:
        assert time.monotonic() < end, o.counters(position)
        time.sleep(0.002)


def device_flags(o: EnginePair, position: int, *, up: bool) -> None:
    from pyroute2 import IPRoute  # noqa: PLC0415 - 0.15 s that only root tests spend

    def run() -> None:
        with IPRoute() as ipr:
            state = "up" if up else "down"
            ipr.link("set", index=o.engines[position].tun_index, state=state)

    o.hosts[position].call(run)


def remove_device(o: EnginePair, position: int) -> None:
    from pyroute2 import IPRoute  # noqa: PLC0415 - 0.15 s that only root tests spend

    def run() -> None:
        with IPRoute() as ipr:
            ipr.link("del", index=o.engines[position].tun_index)

    o.hosts[position].call(run)


# ---- opening and closing

SETTINGS = DataplaneSettings()


def tunnel(**facts: object) -> Tunnel:
    return Tunnel(
        **{
            "mtu": MTU,
            "address": IPAddress("10.5.1.0"),
            "subnet": IPNetwork("10.5.1.0/24"),
            "bind": ("127.0.0.1", PORT),
            **facts,
        }
    )


@pytest.mark.root
@pytest.mark.own_namespace
async def test_stopping_twice_is_fine_and_takes_the_device_away() -> None:
    engine = Engine.open(tunnel(bind=("0.0.0.0", PORT)), SETTINGS)
    name = engine.tun_name
    assert name == "flannel0"
    assert engine.tun_index == socket.if_nametoindex(name)
    await engine.start()
    await engine.stop()
    await engine.stop()
    await engine.wait()
    with pytest.raises(OSError, match="no interface"):
        socket.if_nametoindex(name)
    assert engine.counters()["outbound_sent"] == 0


@pytest.mark.root
def test_a_taken_port_is_named_and_no_device_is_left() -> None:
    def scenario() -> None:
        taken = r"0\.0\.0\.0 port 8285.*Backend\.Port"
        with open_udp("0.0.0.0", PORT), pytest.raises(KernelError, match=taken):
            Engine.open(tunnel(bind=("0.0.0.0", PORT)), SETTINGS)
        assert "flannel" not in Path("/proc/thread-self/net/dev").read_text()

    in_new_namespace(scenario)


def test_an_address_of_no_interface_is_named() -> None:
    with pytest.raises(KernelError, match=r"192\.0\.2\.77.*--iface"):
        Engine.open(tunnel(bind=("192.0.2.77", PORT)), SETTINGS)


@pytest.mark.root
def test_a_device_name_in_use_is_named() -> None:
    def scenario() -> None:
        tun = open_tun("taken0")
        try:
            with pytest.raises(KernelError, match="taken0"):
                open_tun("taken0")
        finally:
            tun.close()

    in_new_namespace(scenario)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"mtu": 67}, "67"),
        ({"mtu": 70000}, "70000"),
        ({"bind": ("127.0.0.1", 0)}, "Backend.Port is 0"),
    ],
)
def test_tunnel_that_cannot_be_is_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(OperatorError, match=named):
        tunnel(**wrong)


def test_two_networks_of_one_family_may_share_a_peer() -> None:
    table = fp.RouteTable()
    peer = Endpoint(IPAddress("192.0.2.9"), PORT, 1400)
    Publisher(table).publish({IPNetwork("10.5.1.0/24"): peer, IPNetwork("10.5.2.0/24"): peer})
    assert len(table) == 2
    assert table.peers == 1
    assert table.lookup(bytes([10, 5, 2, 9])) == (bytes([192, 0, 2, 9]), PORT, 1400)


@pytest.mark.parametrize(
    ("release", "offload"),
    [("7.1.2-generic", "udp-segment"), ("5.4.0-100-generic", "udp-gro"), ("6.18.5", "")],
)
@pytest.mark.root
@pytest.mark.own_namespace
async def test_offload_that_the_kernel_is_known_to_damage_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, release: str, offload: str
) -> None:
    monkeypatch.setattr("platform.release", lambda: release)
    engine = Engine.open(
        Tunnel(
            mtu=1400,
            address=IPAddress("10.5.1.0"),
            subnet=IPNetwork("10.5.1.0/24"),
            bind=("0.0.0.0", 8285),
        ),
        DataplaneSettings(),
    )
    try:
        refused = {
            name: state for name, state in engine.features().items() if f"Linux {release}" in state
        }
    finally:
        await engine.stop()
    assert list(refused) == ([offload] if offload else [])
    assert all("fixed in" in state for state in refused.values())
