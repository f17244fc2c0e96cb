"""host/linkwatch.py against a real kernel, in network namespaces of our own."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
from pyroute2 import IPRoute

from tests.support.namespace import enter, entered_namespace, tun
from udpoverlay.host.linkwatch import link_deleted

pytestmark = pytest.mark.root

LINKS = 100
SECONDS = 30.0


async def is_waiting(watch: asyncio.Task[None]) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.shield(watch), 0.2)


@pytest.mark.own_namespace
async def test_vanished_link_is_noticed() -> None:
    with tun() as name:
        watch = asyncio.create_task(link_deleted(socket.if_nametoindex(name)))
        await is_waiting(watch)
    await asyncio.wait_for(watch, SECONDS)


@pytest.mark.own_namespace
async def test_link_that_never_was_counts_as_vanished() -> None:
    await asyncio.wait_for(link_deleted(4711), SECONDS)


def churn(namespace: int) -> None:
    enter(namespace)
    with IPRoute() as ipr:
        for _ in range(LINKS):
            ipr.link("add", ifname="a", kind="veth", peer={"ifname": "b"})
            for name in ("a", "b"):
                ipr.link("set", index=socket.if_nametoindex(name), state="up")
            ipr.link("del", index=socket.if_nametoindex("a"))


async def test_churn_of_other_links_costs_the_loop_nothing() -> None:
    with entered_namespace() as namespace:
        with tun() as name:
            watch = asyncio.create_task(link_deleted(socket.if_nametoindex(name)))
            await is_waiting(watch)
            other = threading.Thread(target=churn, args=(namespace,))
            began = time.thread_time()
            other.start()
            await asyncio.get_running_loop().run_in_executor(None, other.join)
            await is_waiting(watch)
            assert time.thread_time() - began < 0.25
        await asyncio.wait_for(watch, SECONDS)
