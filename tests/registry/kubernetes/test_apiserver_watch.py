"""Lists in pages and watches: the double answers as a real kube-apiserver does."""

from __future__ import annotations

import json

import aiohttp

from tests.support.kubecluster import NODES, Kube
from tests.support.kubewatch import Json, brief, version, watch


async def test_a_list_in_pages_is_of_one_version(kube: Kube) -> None:
    for index in range(5):
        await kube.node(f"n{index}")
    first = await kube.ok("GET", f"{NODES}?limit=2")
    assert first["kind"] == "NodeList"
    assert "kind" not in first["items"][0]
    assert first["metadata"]["remainingItemCount"] == 3
    await kube.delete_node("n4")
    names = [item["metadata"]["name"] for item in first["items"]]
    token = first["metadata"]["continue"]
    while token:
        page = await kube.ok("GET", f"{NODES}?limit=2&continue={token}")
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
    assert names == ["n0", "n1", "n2", "n3", "n4"]


async def test_a_page_of_a_forgotten_version_is_gone(kube: Kube) -> None:
    for index in range(3):
        await kube.node(f"n{index}")
    first = await kube.ok("GET", f"{NODES}?limit=1")
    await kube.delete_node("n0")
    await kube.forget_history()
    code, status = await kube.call(
        "GET", f"{NODES}?limit=1&continue={first['metadata']['continue']}"
    )
    assert (code, status["reason"]) == (410, "Expired")


async def test_a_watch_replays_what_happened_since_its_version(kube: Kube) -> None:
    start = await version(kube)
    await kube.node("n1")
    await kube.annotate("n1", public_ip="192.0.2.1")
    await kube.delete_node("n1")
    events = await watch(kube, f"resourceVersion={start}", 3)
    assert [brief(event) for event in events] == [
        ("ADDED", "n1"),
        ("MODIFIED", "n1"),
        ("DELETED", "n1"),
    ]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert versions[0] > int(start)
    assert events[0]["object"]["kind"] == "Node"
    assert events[2]["object"]["metadata"]["annotations"]


async def test_a_watch_without_a_version_begins_with_what_is_there(kube: Kube) -> None:
    await kube.node("n1")
    await kube.node("n2")
    events = await watch(kube, "", 2)
    assert sorted(map(brief, events)) == [("ADDED", "n1"), ("ADDED", "n2")]


async def test_a_watch_ends_when_it_was_asked_to_with_a_bookmark_before(kube: Kube) -> None:
    await kube.node("n1")
    start = await version(kube)
    query = f"resourceVersion={start}&timeoutSeconds=1&allowWatchBookmarks=true"
    lines: list[Json] = []
    headers = {"Authorization": f"Bearer {kube.admin_token}"}
    url = f"{kube.url}{NODES}?watch=1&{query}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, ssl=False) as response,
    ):
        async for text in response.content:
            lines.append(json.loads(text))
    for line in lines:
        assert line["type"] == "BOOKMARK"
        assert int(line["object"]["metadata"]["resourceVersion"]) >= int(start)


async def test_a_watch_from_a_forgotten_version_is_gone(kube: Kube) -> None:
    start = await version(kube)
    await kube.node("n1")
    await kube.delete_node("n1")
    await kube.forget_history()
    [event] = await watch(kube, f"resourceVersion={start}", 1)
    assert event["type"] == "ERROR"
    assert event["object"]["kind"] == "Status"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


async def test_a_watch_survives_a_restart_of_the_server_by_its_version(kube: Kube) -> None:
    await kube.node("n1")
    start = await version(kube)
    await kube.restart()
    await kube.node("n2")
    events = await watch(kube, f"resourceVersion={start}", 1)
    assert brief(events[0]) == ("ADDED", "n2")
