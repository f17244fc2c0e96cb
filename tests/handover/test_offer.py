"""handover/offer.py: the steps, in their order, and what a client that strays from it gets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.model.test_legacy import LEGACY
from tests.support.aio import until
from udpoverlay.handover import offer as module
from udpoverlay.handover.offer import PATH, Offer
from udpoverlay.model.legacy import Legacy
from udpoverlay.observe.http import HttpError, Request


class Tunnel:
    """See backend.base.Leaving."""

    publications = 1

    def __init__(self) -> None:
        self.done: list[str] = []

    def legacy(self) -> Legacy:
        return LEGACY

    def descriptors(self) -> tuple[list[int], int]:
        return [7, 8], 9

    async def suspend(self) -> Legacy:
        self.done.append("suspend")
        await asyncio.sleep(0)
        return LEGACY

    async def resume(self) -> None:
        self.done.append("resume")


async def ask(offer: Offer, body: Any) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await offer.answer(Request("POST", PATH, body=data))


async def step(offer: Offer, name: str) -> Any:
    return await ask(offer, {"step": name})


async def test_three_steps_end_the_old_daemon() -> None:
    tunnel, asked = Tunnel(), []
    offer = Offer(tunnel, managed=False, on_offer=lambda: asked.append(1))
    taken = asyncio.ensure_future(offer.taken())
    offered = await step(offer, "offer")
    assert (Legacy.load(offered.body), offered.descriptors) == (LEGACY, (9, 7, 8))
    assert (tunnel.done, asked) == ([], [1])  # it goes on meanwhile
    assert Legacy.load((await step(offer, "release")).body) == LEGACY
    assert tunnel.done == ["suspend"]
    assert not taken.done()
    await step(offer, "commit")
    await taken
    for name in ("offer", "release", "commit"):
        with pytest.raises(HttpError, match=r"taking over|too long ago"):
            await step(offer, name)


async def test_who_does_not_commit_gives_the_tunnel_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    tunnel = Tunnel()
    offer = Offer(tunnel, managed=False)
    await step(offer, "release")
    with pytest.raises(HttpError, match="another daemon is taking over"):
        await step(offer, "release")
    await until(lambda: tunnel.done == ["suspend", "resume"])
    with pytest.raises(HttpError, match="too long ago"):
        await step(offer, "commit")
    await step(offer, "offer")  # another one may try


async def test_two_that_release_at_once_are_told_apart() -> None:
    tunnel = Tunnel()
    offer = Offer(tunnel, managed=False)
    found = await asyncio.gather(
        step(offer, "release"), step(offer, "release"), return_exceptions=True
    )
    assert [isinstance(each, HttpError) for each in found] == [False, True]
    assert tunnel.done == ["suspend"]
    await step(offer, "commit")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"5", b"{}", b'{"step": 5}', b'{"step": "x"}', b"[" * 60_000]
)
async def test_what_is_no_step_is_refused(body: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        await ask(Offer(Tunnel(), managed=False), body)
    assert caught.value.status == 400


async def test_daemon_of_a_service_manager_says_who_restarts_it() -> None:
    with pytest.raises(HttpError, match="systemctl restart"):
        await step(Offer(Tunnel(), managed=True), "offer")


async def test_backend_without_a_tunnel_has_nothing_to_offer() -> None:
    with pytest.raises(HttpError, match="no tunnel"):
        await step(Offer(None, managed=False), "offer")
