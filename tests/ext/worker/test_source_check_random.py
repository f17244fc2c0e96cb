"""The source check against its slow and obvious twin, on random routes, aliases and datagrams."""

from __future__ import annotations

import random
import socket
from ipaddress import IPv4Network

import pytest

from tests.support.packets import ipv4
from tests.support.pumprig import OWN, rig
from tests.support.twin.source_check import World
from udpoverlay import _fastpath as fp

SENDERS = [f"127.0.0.{number}" for number in range(1, 9)]
PUBLIC = [f"192.0.2.{number}" for number in range(1, 7)]
INNER = [
    *(f"10.5.{third}.{last}" for third in range(95, 102) for last in (0, 1, 17, 200, 255)),
    *("10.5.72.0", "10.5.72.9", "10.5.72.255", "10.6.0.1", "203.0.113.1", "8.8.8.8"),
    *("127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255"),
    *PUBLIC,
]
OURS = ["10.5.72.0", "10.5.72.1", "10.5.72.77", "10.5.72.254"]


def random_world(chance: random.Random) -> World:
    """Nested prefixes, several to a peer; peers that share addresses by port or by alias."""
    routes = {}
    for _ in range(chance.randint(1, 12)):
        third, length = chance.randint(95, 101), chance.choice([20, 22, 24, 24, 24, 28, 32])
        network = IPv4Network(
            (f"10.5.{third}.{chance.choice([0, 1, 17, 200])}", length), strict=False
        )
        routes[network] = (chance.choice(PUBLIC), chance.choice([8285, 8285, 9]))
    aliases = [(chance.choice(SENDERS), chance.choice(PUBLIC)) for _ in range(chance.randint(0, 9))]
    return World(IPv4Network(f"{OWN}/24"), ["203.0.113.1"], routes, aliases)


@pytest.mark.parametrize("seed", range(25))
def test_random_datagrams_get_the_twins_verdict(seed: int) -> None:
    chance = random.Random(seed)
    with rig(
        source_check="enforce",
        subnet=(socket.inet_aton(OWN), 24),
        own_addresses=[socket.inet_aton("203.0.113.1")],
    ) as r:
        sockets = {}
        for address in SENDERS:
            sockets[address] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sockets[address].bind((address, 0))
        expected: dict[str, int] = {}
        for _ in range(6):
            world = random_world(chance)
            r.table.publish(
                [
                    (
                        network.network_address.packed,
                        network.prefixlen,
                        socket.inet_aton(host),
                        port,
                        0,
                    )
                    for network, (host, port) in world.routes.items()
                ],
                [(socket.inet_aton(a), socket.inet_aton(of)) for a, of in world.aliases],
            )
            for _ in range(chance.randint(1, 60)):
                outer = chance.choice(SENDERS)
                source = chance.choice(INNER)
                to = chance.choice(OURS) if chance.random() < 0.7 else chance.choice(INNER)
                for _ in range(chance.choice([1, 1, 1, 3])):  # a run, as from the cache
                    packet = ipv4(b"x" * 8, source=source, destination=to)
                    sockets[outer].sendto(packet, r.udp.getsockname())
                    verdict = world.verdict(outer, source, to)
                    expected[verdict] = expected.get(verdict, 0) + 1
            r.step(fp.INBOUND, 9)
            assert r.verdicts() == expected, world
        for each in sockets.values():
            each.close()
