"""Unforeseen errors of our own: the watch begins again, and routes become right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.aio import until
from tests.support.etcd import EtcdServer, running
from tests.support.host import PEERS, Host, host_with_peers, new_peer
from udpoverlay.registry.etcd.entries import LeaseReader
from udpoverlay.registry.etcd.watch import Follower, FollowTiming

pytestmark = pytest.mark.etcd


@pytest.fixture
def server(tmp_path: Any, binary: str) -> Iterator[EtcdServer]:
    with running(tmp_path, binary=binary) as started:
        yield started


def broken(*_: Any) -> Any:
    raise ZeroDivisionError("unforeseen")


async def recovers(host: Host, added: dict[str, str]) -> None:
    await host.routes({**PEERS, **added})
    again = await new_peer(host, 51)
    await host.routes({**PEERS, **added, **again})
    assert host.sink.lost == []


async def test_unforeseen_error_in_reading_an_entry_is_survived(
    server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await host_with_peers(server)
    monkeypatch.setattr(LeaseReader, "put", broken)
    added = await new_peer(host)
    await until(lambda: host.count("task_failures") >= 1)
    assert "ZeroDivisionError: unforeseen" in host.registry.troubles()["etcd-leases"]
    monkeypatch.undo()
    await recovers(host, added)


async def test_unforeseen_error_in_following_is_survived(
    server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await host_with_peers(server)
    monkeypatch.setattr(Follower, "_note", broken)
    added = await new_peer(host)
    await until(lambda: host.count("task_failures") >= 1)
    monkeypatch.undo()
    await recovers(host, added)


async def test_unforeseen_error_in_checking_a_watch_ends_that_watch_alone(
    server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Follower, "_is_alive", broken)
    host = await host_with_peers(server, timing=FollowTiming(check_every=0.1))
    await until(lambda: host.count("task_failures") >= 1)
    monkeypatch.undo()
    await recovers(host, await new_peer(host))


async def test_a_watch_that_is_broken_is_told(server: EtcdServer) -> None:
    host = await host_with_peers(server)
    assert host.registry.troubles() == {}
    server.kill()
    await until(lambda: "etcd-leases" in host.registry.troubles())
    server.start()
    await until(lambda: host.registry.troubles() == {})
    await recovers(host, await new_peer(host))
