"""An open watch: etcd's messages, checked, as they come.

Owns: opening one watch on one call, asking it for a sign of life. Must not know: endpoints, what is
watched, when to open it again.
"""

from __future__ import annotations

import asyncio

from udpoverlay.errors import RegistryError, RegistryUnavailable
from udpoverlay.registry.etcd import messages
from udpoverlay.registry.etcd.channel import Call, within
from udpoverlay.registry.etcd.errors import EtcdTimedOut, EtcdTokenRefused
from udpoverlay.registry.etcd.values import (
    WatchReply,
)

__all__ = ["WatchStream"]


class WatchStream:
    """An open watch: whole messages as they come. Close it with `close`."""

    def __init__(self, endpoint: str, call: Call, key: bytes, range_end: bytes) -> None:
        self.endpoint = endpoint
        self.heard = 0
        """How many messages came so far."""
        self._call = call
        self._key = key
        self._range_end = range_end
        self._ready: list[WatchReply] = []
        self._bad: RegistryError | None = None

    async def opened(self, timeout: float) -> None:
        """Return when etcd has made the watch; RegistryError when it refuses or says nothing."""
        try:
            self._ready = await within(timeout, self.read())
        except asyncio.TimeoutError:
            self.close()
            raise EtcdTimedOut(f"etcd at {self.endpoint} opened no watch in time") from None
        except BaseException:
            self.close()
            raise
        first = self._ready[0]
        if first.created and not first.canceled:
            return
        self.close()
        if first.created:
            # Here etcd gives its reason in words alone. Of our requests it refuses those of a user
            # it does not know, or knows no more, or who may not read these keys.
            raise EtcdTokenRefused(
                f"etcd at {self.endpoint} refused the watch: {first.reason}",
                fix="grant the user's role read on etcd-prefix: etcdctl role grant-permission",
            )
        raise RegistryUnavailable(f"etcd at {self.endpoint} opened no watch: {first.reason}")

    async def read(self) -> list[WatchReply]:
        """All messages that have arrived, at least one; RegistryError at the end, after them."""
        if self._ready:
            ready, self._ready = self._ready, []
            return ready
        if self._bad is not None:
            raise self._bad
        replies: list[WatchReply] = []
        for data in await self._call.read():
            try:
                replies.append(messages.watch_reply(data, self._key, self._range_end))
            except RegistryError as error:
                self._bad = error
                break
        self.heard += len(replies)
        if not replies and self._bad is not None:
            raise self._bad
        return replies

    async def ask(self) -> None:
        """Ask for a sign of life: a message without events, after all that happened up to now."""
        await self._call.send(messages.progress_request())

    def close(self, why: RegistryError | None = None) -> None:
        """End the watch at once; a pending `read` raises `why`."""
        self._call.close(why)
