"""What is no IP packet in a datagram to port 8285: the kernel's TUN and flanneld pass over it.

The ground on which questions between our own nodes could stand one day (docs/adr/0029): a first
half-byte that is neither 4 nor 6.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, Node, wait_until
from tests.support.wire import ping
from udpoverlay.dataplane.tun import open_tun
from udpoverlay.lab.hosts import Host
from udpoverlay.lab.traffic import Pair, datagrams

pytestmark = [pytest.mark.root]

PORT = 8285
NIBBLES = [number for number in range(16) if number not in {4, 6}]


@pytest.mark.own_namespace
async def test_kernel_refuses_a_packet_of_no_ip_version_on_a_plain_tun() -> None:
    tun = open_tun("side%d")
    try:
        for nibble in NIBBLES:
            with pytest.raises(OSError, match="Invalid argument") as caught:
                os.write(tun.queues[0], bytes([nibble << 4 | 5]) + bytes(40))
            assert caught.value.errno == errno.EINVAL
    finally:
        tun.close()


@pytest.fixture
def pair() -> Iterator[tuple[Node, Node]]:
    with Cluster("ours", "theirs") as cluster:
        ours = cluster.start("ours")
        theirs = cluster.start("theirs", program=["flanneld"])
        wait_until(
            lambda: ping(ours.host, ours.address, theirs.address, seconds=1) is not None, "packets"
        )
        yield ours, theirs


@pytest.mark.etcd
@pytest.mark.flanneld
def test_flanneld_passes_over_what_is_no_ip_packet_and_goes_on(pair: tuple[Node, Node]) -> None:
    ours, theirs = pair
    before = received(theirs.host)
    with ours.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for nibble in NIBBLES:
            for size in (1, 20, 40, 1400):
                data = bytes([nibble << 4 | 5]) + bytes(size - 1)
                for _ in range(50):
                    sock.sendto(data, (theirs.public_ip or "198.18.0.12", PORT))
    assert ping(ours.host, ours.address, theirs.address) is not None
    assert theirs.process.poll() is None
    assert received(theirs.host) - before <= 3  # the ping, and what it led to
    sent, came = datagrams(Pair(ours.end, theirs.end), size=64, seconds=0.5, rate=2000)
    assert sent["datagrams"] == came["datagrams"]


def received(host: Host) -> int:
    """Packets that the TUN gave to the host's kernel."""
    lines = host.run(["cat", "/proc/net/dev"])[1].splitlines()
    [line] = [line for line in lines if line.strip().startswith("flannel0:")]
    return int(line.partition(":")[2].split()[1])
