"""handover/bridge.py on a real device: what fits is gone on with, what does not is closed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from netaddr import IPAddress, IPNetwork

from tests.dataplane.test_descriptors import descriptors, devices
from udpoverlay._version import VERSION
from udpoverlay.dataplane.engine import Engine
from udpoverlay.dataplane.tunnel import Tunnel
from udpoverlay.handover.bridge import TUN, UDP, Bridge, bridge
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.legacy import Counts, Legacy

pytestmark = [pytest.mark.root, pytest.mark.own_namespace]

TUNNEL = Tunnel(
    mtu=1400,
    address=IPAddress("10.5.1.0"),
    subnet=IPNetwork("10.5.1.0/24"),
    bind=("0.0.0.0", 8285),
)
NETWORK = IPNetwork("10.5.0.0/16")
SETTINGS = DataplaneSettings()
ROUTES = {IPNetwork("10.5.2.0/24"): Endpoint(IPAddress("192.0.2.2"), 8285)}


async def left(settings: DataplaneSettings = SETTINGS) -> tuple[dict[str, list[int]], Legacy]:
    """What a daemon that has ended leaves to its service manager."""
    engine = Engine.open(TUNNEL, settings)
    queues, udp = engine.descriptors()
    kept = {TUN: [os.dup(fd) for fd in queues], UDP: [os.dup(udp)]}
    legacy = Legacy(
        version=VERSION,
        device=engine.tun_name,
        index=engine.tun_index,
        mtu=TUNNEL.mtu,
        address=TUNNEL.address,
        subnet=TUNNEL.subnet,
        network=NETWORK,
        bind=TUNNEL.bind,
        public_ip=None,
        routes=ROUTES,
        counts=Counts(since=5.0, counters={"outbound_sent": 7, "no_such_counter": 9}),
    )
    await engine.stop()
    assert "flannel0" in devices()
    return kept, legacy


async def test_tunnel_of_the_last_run_goes_on_with_its_routes_and_counts() -> None:
    kept, legacy = await left()
    found = await bridge(kept, legacy.dump(), SETTINGS)
    assert found is not None
    assert found._engine.route_count() == 1
    assert found._engine.alive()
    offered = await found.offer(TUNNEL, NETWORK)
    assert offered is not None
    assert offered.tun.name == "flannel0"
    assert found.bound == TUNNEL.bind
    state = await found.release()
    assert (state.counts.since, state.counts.counters["outbound_sent"]) == (5.0, 7)
    assert "no_such_counter" not in state.counts.counters
    offered.tun.close()
    assert offered.sockets is not None
    offered.sockets.close()
    await found.aclose()
    assert "flannel0" not in devices()


async def test_start_that_fails_stops_the_threads_before_their_descriptors_are_closed() -> None:
    kept, legacy = await left()
    found = await bridge(kept, legacy.dump(), SETTINGS)
    assert found is not None
    offered = await found.offer(TUNNEL, NETWORK)
    assert offered is not None
    assert found._engine.alive()
    await found.aclose()
    assert not found._engine.alive()
    assert "flannel0" in devices()  # the network's to close, which is next
    await found.aclose()
    offered.tun.close()
    assert offered.sockets is not None
    offered.sockets.close()
    assert "flannel0" not in devices()


async def test_note_without_routes_moves_nothing_until_there_are_some() -> None:
    """Each peer would be an unknown sender, and each packet without a route: all would be lost."""
    kept, legacy = await left()
    found = await bridge(kept, replace(legacy, routes={}).dump(), SETTINGS)
    assert found is not None
    assert not found._engine._threads.started
    await found.discard()


def changed(**values: Any) -> Callable[[Legacy], bytes]:
    return lambda legacy: replace(legacy, **values).dump()


@pytest.mark.parametrize(
    "note",
    [
        lambda _: None,
        lambda _: b"",
        lambda legacy: legacy.dump().replace(b'"format":1', b'"format":99'),
        changed(index=1),
        changed(device="flannel7"),
        changed(bind=("0.0.0.0", 8286)),
        changed(bind=("192.0.2.7", 8285)),
        changed(mtu=5),
    ],
    ids=["none", "empty", "format", "index", "device", "port", "address", "mtu"],
)
async def test_note_that_does_not_fit_costs_the_device_and_leaves_nothing_open(
    note: Callable[[Legacy], bytes | None],
) -> None:
    before = descriptors()
    kept, legacy = await left()
    assert await bridge(kept, note(legacy), SETTINGS) is None
    assert "flannel0" not in devices()
    assert descriptors() <= before
    engine = Engine.open(TUNNEL, SETTINGS)  # nothing is in the way
    await engine.stop()


@pytest.mark.parametrize(
    "settings",
    [DataplaneSettings(workers="3"), DataplaneSettings(offloads_off=frozenset({"vnet-hdr"}))],
    ids=["workers", "offload"],
)
async def test_device_that_was_made_for_other_settings_is_made_again(
    settings: DataplaneSettings,
) -> None:
    kept, legacy = await left()
    assert await bridge(kept, legacy.dump(), settings) is None
    assert "flannel0" not in devices()


async def test_only_some_of_the_descriptors_are_not_enough() -> None:
    before = descriptors()
    for missing in (TUN, UDP):
        kept, legacy = await left()
        os.close(kept.pop(missing)[0])
        assert await bridge(kept, legacy.dump(), SETTINGS) is None
        assert descriptors() <= before


async def test_another_subnet_is_another_device() -> None:
    kept, legacy = await left()
    found = await bridge(kept, legacy.dump(), SETTINGS)
    assert isinstance(found, Bridge)
    other = replace(TUNNEL, address=IPAddress("10.5.9.0"), subnet=IPNetwork("10.5.9.0/24"))
    assert await found.offer(other, NETWORK) is None
    assert "flannel0" not in devices()
    assert found.bound is None
    await found.aclose()
