"""Lists and watches of a Kubernetes API server, raw."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

from tests.support.kubecluster import NODES, Kube

Json = dict[str, Any]


async def watch(cluster: Kube, query: str, count: int, token: str = "") -> list[Json]:
    """The first `count` events of a watch."""
    events: list[Json] = []
    headers = {"Authorization": f"Bearer {token or cluster.admin_token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{cluster.url}{NODES}?watch=1&{query}", headers=headers, ssl=False
        ) as response,
    ):
        while len(events) < count:
            line = await asyncio.wait_for(response.content.readline(), 30)
            assert line, events
            events.append(json.loads(line))
    return events


def brief(event: Json) -> tuple[str, str]:
    return event["type"], event["object"]["metadata"].get("name", "")


async def version(cluster: Kube) -> str:
    return str((await cluster.ok("GET", NODES))["metadata"]["resourceVersion"])
