"""A registry and a podCIDR controller in a storm of damaged replies, and the calm after it.

python -m tests.support.kubestorm SECONDS [SEED]    storms and calms in turn, prints what it did

In a storm most replies are refused by the codec, or are no HTTP at all; nothing true is ever told
falsely, so in the calm everything must be exactly right again.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.kubeapi import KubeApi
from tests.support.kubecluster import Kube, until
from tests.support.kubefuzz import NAMES, Mutator
from tests.support.kubehostile import HOSTILE, Asked, HostileApi, http
from tests.support.kuberegistry import ATTRS, QUICK, NoonClock, Told, opened, watching
from tests.support.podcidr import assert_disjoint, controller, ranges, source
from udpoverlay.clock import SystemClock
from udpoverlay.errors import RegistryError
from udpoverlay.kubernetes import codec
from udpoverlay.kubernetes.lease import read_lease
from udpoverlay.podcidr.election import ElectionPeriods
from udpoverlay.registry.kubernetes.registry import KubeRegistry

KEEP = NAMES.all()
SMALL = [name for name, raw in HOSTILE.items() if len(raw) < 1 << 20]
PERIODS = ElectionPeriods(duration=4.0, renew_deadline=2.0, retry=0.1)

LIVING = 40
"""Nodes at a time, far fewer than there are ranges: each range is given again and again."""


class Hurry(NoonClock):
    """Pauses are short; the deadline of the first sync is not."""

    async def sleep(self, seconds: float) -> None:
        deadline = QUICK.sync - 1 < seconds <= QUICK.sync
        await asyncio.sleep(seconds if deadline else min(seconds, 0.02))


class Brisk(SystemClock):
    """No pause is longer than the periods of the election."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, PERIODS.renew_deadline))


class Storm:
    """Makes replies; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._mutator = Mutator(seed)

    def reply(self, asked: Asked) -> bytes | None:
        pick = self._random
        if pick.random() < 0.2:
            self.counts["honest"] += 1
            return None
        if pick.random() < 0.3:
            self.counts["hostile"] += 1
            return HOSTILE[pick.choice(SMALL)]
        self.counts["damaged"] += 1
        if asked.watch:
            kinds = ("added", "deleted", "bookmark", "error")
            lines = [
                self._refused(pick.choice(kinds), lambda data: codec.watch_event(data, KEEP, ""))
                for _ in range(pick.randint(1, 3))
            ]
            return http(b"\n".join(lines) + b"\n")
        kind, reader = self._answer(asked)
        return http(self._refused(kind, reader), pick.choice(("200 OK", "201 Created")))

    def _answer(self, asked: Asked) -> tuple[str, Callable[[bytes], Any]]:
        """Which kind of object answers a request, and how it is read."""
        if "leases" in asked.path:
            return "lease", lambda data: read_lease(data, "")
        if "selfsubjectaccessreviews" in asked.path:
            return "review", lambda data: codec.review(data, "")
        if asked.path.endswith("/nodes"):
            return "list", lambda data: codec.node_page(data, KEEP, "")
        return "node", lambda data: codec.node(data, KEEP)

    def _refused(self, kind: str, reader: Callable[[bytes], Any]) -> bytes:
        """A damaged reply that says nothing that could be believed."""
        while True:
            data = self._mutator.damaged(kind).replace(b"\n", b" ")
            try:
                reader(data)
            except RegistryError:
                return data


async def rounds(cluster: Kube, seconds: float, seed: int) -> str:
    """Storm and calm in turn for `seconds`. AssertionError when something stays wrong."""
    storm = Storm(seed)
    expected = {"10.244.1.0/24": "192.0.2.1", "10.244.2.0/24": "192.0.2.2"}
    await cluster.node("n1", "10.244.1.0/24")
    await cluster.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
    count, slowest = 0, 0.0
    async with HostileApi(cluster.api) as hostile:
        daemon = await cluster.source("n1", url=hostile.url)
        access = await source(cluster, url=hostile.url)
        async with (
            opened(daemon, Hurry()) as registry,
            watching(registry) as told,
            controller(cluster, access=access, periods=PERIODS, clock=Brisk()) as replica,
        ):
            lease = await registry.acquire(ATTRS, None)
            await told.become(expected)
            end = time.monotonic() + seconds
            while count == 0 or time.monotonic() < end:
                count += 1
                hostile.reply = storm.reply
                await hostile.cut()
                ip = f"192.0.2.{100 + count % 100}"
                await cluster.annotate("n2", public_ip=ip)
                expected["10.244.2.0/24"] = ip
                await cluster.node(f"p{count}")
                if count > LIVING:
                    await cluster.delete_node(f"p{count - LIVING}")
                await registry.complete(lease)
                await registry.stored_public_ips()
                await asyncio.sleep(1.0)
                assert set(told.leases) >= {"10.244.1.0/24", "10.244.2.0/24"}, "a route is lost"
                hostile.reply = lambda asked: None
                began = time.monotonic()
                await _right(cluster, registry, told, expected, f"p{count}")
                slowest = max(slowest, time.monotonic() - began)
                assert registry.counters()["task_failures"] == 0, registry.troubles()
                assert replica.status()["task_failures"] == 0, replica.status()
            counters = registry.counters()
    made = ", ".join(f"{number} {kind}" for kind, number in sorted(storm.counts.items()))
    return (
        f"seed {seed}: {count} storms in {seconds:.0f} s, {made} replies; all right again after "
        f"{slowest:.1f} s at most; {counters}"
    )


async def _right(
    cluster: Kube, registry: KubeRegistry, told: Told, expected: dict[str, str], node: str
) -> None:
    """Wait until the registry tells what is true and the controller gave what was wanted."""
    await told.become(expected)
    await until(lambda: registry.troubles() == {}, "no trouble is left")

    async def given() -> bool:
        return bool((await ranges(cluster))[node])

    await until(given, f"{node} has a range")
    assert_disjoint(await ranges(cluster))


async def main(seconds: float, seed: int) -> None:
    """Run against a double of its own."""
    async with KubeApi() as api:
        with tempfile.TemporaryDirectory() as directory:
            print(await rounds(Kube(Path(directory), api, None), seconds, seed))


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
