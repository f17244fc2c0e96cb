"""host/linkwatch.py: a link that vanishes while notices are lost is noticed."""

from __future__ import annotations

import asyncio
import threading

import pytest
from pyroute2 import IPRoute

from tests.support.namespace import in_new_namespace
from udpoverlay.host.linkwatch import link_deleted

pytestmark = pytest.mark.root

CHANGES = 1000
"""Of a link; each makes a notice of more than a kilobyte, which no socket buffer holds."""


def test_link_that_vanished_among_lost_notices_is_noticed() -> None:
    def change_and_remove(kept: int, watched: int) -> None:
        with IPRoute() as ipr:
            for number in range(CHANGES):
                ipr.link("set", index=kept, mtu=1400 + number % 2)
            ipr.link("del", index=watched)

    def scenario() -> None:
        with IPRoute() as ipr:
            for name in ("kept", "watched"):
                ipr.link("add", ifname=name, kind="veth", peer=f"{name}-peer")
            kept, watched = (ipr.link_lookup(ifname=name)[0] for name in ("kept", "watched"))

        async def watch() -> None:
            watching = asyncio.create_task(link_deleted(watched))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(watching), 0.2)
            # In a thread of this namespace; the event loop stands still and reads nothing.
            other = threading.Thread(target=change_and_remove, args=(kept, watched))
            other.start()
            other.join()
            await asyncio.wait_for(watching, 30)

        asyncio.run(watch())

    in_new_namespace(scenario)
