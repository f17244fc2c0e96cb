"""backend/network.py: when the tunnel is looked at. What it repairs: tests/netns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from netaddr import IPAddress, IPNetwork

from tests.support.patience import DEADLINE
from udpoverlay.backend import network
from udpoverlay.backend.kinds import backend_of
from udpoverlay.backend.network import TunnelNetwork
from udpoverlay.dataplane.tunnel import Tunnel
from udpoverlay.host.interfaces import Choice
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.netconf import parse_netconf

CHOICE = Choice("lo", 1, 1500, IPAddress("127.0.0.1"), None, IPAddress("192.0.2.10"), None)


class Idle:
    """An engine that moves nothing, for ever."""

    tun_name, tun_index = "lo", 1

    @classmethod
    def open(cls, *_: Any, **__: Any) -> Idle:
        return cls()

    async def wait(self) -> None:
        await asyncio.Event().wait()


async def test_what_changed_before_the_notices_began_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An address that goes between the choice at the start and the subscription gives no notice."""
    monkeypatch.setattr(network, "Engine", Idle)
    monkeypatch.setattr(network, "LOOK_SECONDS", 10 * DEADLINE)
    looked = asyncio.Event()

    async def choose() -> Choice:
        looked.set()
        await asyncio.Event().wait()
        return CHOICE

    backend = backend_of(parse_netconf('{"Network": "10.5.0.0/16"}').validated())
    tunnel = Tunnel(
        mtu=1472,
        address=IPAddress("10.5.72.0"),
        bind=("127.0.0.1", 8285),
        subnet=IPNetwork("10.5.72.0/24"),
    )
    made = TunnelNetwork(tunnel, DataplaneSettings(), CHOICE, backend, choose=choose)
    running = asyncio.ensure_future(made.run())
    await asyncio.wait_for(looked.wait(), DEADLINE)
    running.cancel()
