"""What stands in front of a packet: seen by the peer, and by nothing that looks at packets."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.support.cprogram import run_c_test
from tests.support.pumprig import NET, forwarded, receive, rig, to_peer

HEADER = bytes(range(0xE0, 0xE0 + 22))


def test_a_tunnel_with_22_bytes_in_front_of_each_packet(tmp_path: Path) -> None:
    """All that tests/c/test_encap.c looks at, where no Python stands between."""
    assert re.fullmatch(r"1\d passed, 0 failed", run_c_test("test_encap", tmp_path))


def test_a_packet_leaves_behind_the_header_that_its_route_has() -> None:
    with rig() as r:
        host, port = r.peer.getsockname()
        r.table.publish([(socket.inet_aton(NET), 24, socket.inet_aton(host), port, 0, HEADER)])
        r.device.send(to_peer())
        r.step()
        assert receive(r.peer, 1) == [HEADER + forwarded(to_peer())]
        assert r.counts()["outbound_bytes"] == len(to_peer())


def test_a_header_that_is_too_long_leaves_the_old_routes() -> None:
    with rig() as r:
        bad = (socket.inet_aton(NET), 24, bytes(4), 1, 0, bytes(25))
        with pytest.raises(ValueError, match="24 bytes at most"):
            r.table.publish([bad])
        r.device.send(to_peer())
        r.step()
        assert receive(r.peer, 1) == [forwarded(to_peer())]


def test_routes_to_one_peer_keep_their_own_headers() -> None:
    headers = {98: HEADER, 99: bytes(22)}
    with rig() as r:
        host, port = r.peer.getsockname()
        address = socket.inet_aton(host)
        r.table.publish(
            [
                (socket.inet_aton(f"10.5.{net}.0"), 24, address, port, 0, header)
                for net, header in headers.items()
            ]
        )
        for net in headers:
            r.device.send(to_peer(destination=f"10.5.{net}.1"))
        r.step()
        assert [datagram[:22] for datagram in receive(r.peer, 2)] == list(headers.values())
