"""Each request there is, answered in each odd way there is: a value, or a registry's error."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubeclient import client, config
from tests.support.kubecluster import Kube
from tests.support.kubehostile import HOSTILE, HostileApi
from udpoverlay.errors import RegistryError
from udpoverlay.kubernetes.client import KubeClient

NONE: frozenset[str] = frozenset()


async def listed(made: KubeClient) -> None:
    async for _ in made.node_pages(NONE):
        pass


async def watched(made: KubeClient) -> None:
    async for _ in made.watch_nodes("5", asyncio.Event(), NONE):
        pass


def requests(made: KubeClient) -> dict[str, Coroutine[Any, Any, Any]]:
    return {
        "node": made.get_node("n1"),
        "list": listed(made),
        "watch": watched(made),
        "version": made.node_version(),
        "patch": made.patch_node("n1", {}),
        "patch status": made.patch_node_status("n1", {}),
        "pod": made.pod_node_name("ns", "pod"),
        "review": made.may_i("get", "nodes"),
        "lease": made.get_lease("ns", "l"),
        "new lease": made.create_lease("ns", {}),
        "changed lease": made.update_lease("ns", "l", {}),
    }


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_reply_to_any_request_is_a_value_or_one_error(
    double: Kube, tmp_path: Path, name: str
) -> None:
    async with HostileApi(double.api) as hostile:
        hostile.reply = lambda asked: HOSTILE[name]
        async with client(config(tmp_path, {"server": hostile.url})) as made:
            refused: list[str] = []
            for request in requests(made).values():
                try:
                    await request
                except RegistryError as error:
                    refused.append(str(error))
            assert hostile.served
            # No kind of object is what each of these requests wants.
            assert len(refused) >= 9
            assert all(len(text) < 1000 for text in refused)
