"""The side that leaves: how another daemon takes our tunnel over, on the admin socket.

    POST /v1/handover {"step": "offer"}    what there is, with descriptors; we go on
                      {"step": "release"}  we stop moving packets; what was counted by then
                      {"step": "commit"}   the other moves them: we end
    no commit within PATIENCE seconds      the other has failed: we go on as before

Owns: these steps and their order. Must not know: how a tunnel stops, how the daemon ends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from udpoverlay.backend.base import Leaving
from udpoverlay.log import get_logger
from udpoverlay.observe.http import HttpError, Request, Response

__all__ = ["PATH", "PATIENCE", "Offer"]

_log = get_logger(__name__)

PATH = "/v1/handover"
PATIENCE = 3.0
"""Seconds between release and commit, which takes milliseconds."""


class Offer:
    """One tunnel that may be taken over; None: there is none to take."""

    def __init__(
        self,
        leaving: Leaving | None,
        *,
        managed: bool,
        on_offer: Callable[[], None] = lambda: None,
    ) -> None:
        """`managed`: a service manager runs us, which must not find another in our place.

        `on_offer` is called when another daemon begins to take over.
        """
        self._on_offer = on_offer
        self._leaving = leaving
        self._managed = managed
        self._taken = asyncio.Event()
        self._patience: asyncio.Task[None] | None = None

    def handlers(self) -> dict[str, Callable[[Request], Awaitable[Response]]]:
        """For the admin socket."""
        return {PATH: self.answer}

    async def taken(self) -> None:
        """Return when another daemon has taken over."""
        await self._taken.wait()
        _log.info("another daemon has taken over")

    async def answer(self, request: Request) -> Response:
        """See above. Raises HttpError."""
        try:
            step = json.loads(request.body)["step"]
        except (LookupError, RecursionError, TypeError, ValueError):
            raise HttpError(400, 'the body is {"step": …}') from None
        steps = {"offer": self._offer, "release": self._release, "commit": self._commit}
        if not isinstance(step, str) or step not in steps:
            raise HttpError(400, f"step is one of {', '.join(steps)}")
        if self._leaving is None:
            raise HttpError(409, "this backend has no tunnel that could be taken over")
        if self._managed:
            raise HttpError(
                409, "a service manager runs this daemon: let that restart it (systemctl restart)"
            )
        return await steps[step](self._leaving)

    async def _offer(self, leaving: Leaving) -> Response:
        self._free()
        self._on_offer()
        queues, udp = leaving.descriptors()
        body = leaving.legacy().dump()
        return Response(200, body, "application/json", descriptors=(udp, *queues))

    async def _release(self, leaving: Leaving) -> Response:
        self._free()
        # Before the first await: a second one that asks meanwhile is refused.
        self._patience = asyncio.ensure_future(self._wait(leaving))
        legacy = await leaving.suspend()
        return Response(200, legacy.dump(), "application/json")

    async def _commit(self, _: Leaving) -> Response:
        if self._patience is None or self._patience.done():
            raise HttpError(409, "nothing was released, or too long ago")
        self._patience.cancel()
        self._taken.set()
        return Response.json({})

    def _free(self) -> None:
        if self._taken.is_set() or (self._patience is not None and not self._patience.done()):
            raise HttpError(409, "another daemon is taking over")

    async def _wait(self, leaving: Leaving) -> None:
        await asyncio.sleep(PATIENCE)
        _log.error("the daemon that was to take over has failed, going on", seconds=PATIENCE)
        await leaving.resume()
