"""etcd leases that this host made for its entry: which run, and which hold no key any more.

Owns: making them so that a lost answer does no harm, and revoking what is left over. Must not know:
what an entry says, when it is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable

from udpoverlay.clock import Clock
from udpoverlay.errors import RegistryError
from udpoverlay.registry.etcd.channel import within
from udpoverlay.registry.etcd.client import EtcdClient
from udpoverlay.registry.etcd.errors import EtcdPrecondition

__all__ = ["Grants"]

_TIDY_SECONDS = 2.0
_MOST = 8
"""Remembered of either kind, the oldest are forgotten: they run out by themselves."""


class Grants:
    """Of one client. An id that is 0 stands for none."""

    def __init__(self, client: EtcdClient, clock: Clock, term: int) -> None:
        """`term` in seconds."""
        self._client = client
        self._clock = clock
        self._term = term
        self._ids = random.SystemRandom()
        self._made: dict[int, float] = {}
        """When each runs out, on the clock's monotonic side."""
        self._loose: dict[int, None] = {}
        """Those that hold no key of ours, or may hold none; the oldest first."""

    async def make(self) -> tuple[int, float]:
        """A new one, loose until it `holds`; its id, and when it runs out."""
        # With an id of our choice the answer may get lost: we know what to ask for, and to revoke.
        grant = self._ids.randrange(1, 1 << 63)
        self.loosen(grant)
        started = self._clock.monotonic()
        try:
            seconds = await self._client.grant(grant, self._term)
        except EtcdPrecondition:
            # An earlier try of this same request got through.
            seconds = max(0, (await self._client.time_to_live(grant))[0])
        expires_at = started + seconds
        self._made[grant] = expires_at
        _forget_oldest(self._made)
        return grant, expires_at

    def expires_at(self, grant: int) -> float | None:
        """When one of ours runs out; None: it is none of ours."""
        return self._made.get(grant)

    def loosen(self, grant: int) -> None:
        """It holds no key of ours any more, or may hold none."""
        if grant:
            self._loose[grant] = None
            _forget_oldest(self._loose)

    def holds(self, grant: int) -> None:
        """It holds our key."""
        self._loose.pop(grant, None)

    async def tidy(self, grants: Iterable[int] | None = None) -> None:
        """Revoke those (all) that are loose and hold no key, as far as etcd answers at once."""

        async def revoke() -> None:
            for grant in list(self._loose if grants is None else grants):
                seconds, keys = await self._client.time_to_live(grant)
                if seconds >= 0 and not keys:
                    await self._client.revoke(grant)
                    self._client.counters["leases_revoked"] += 1
                self._loose.pop(grant, None)

        with contextlib.suppress(RegistryError, asyncio.TimeoutError):
            await within(_TIDY_SECONDS, revoke())


def _forget_oldest(grants: dict[int, float] | dict[int, None]) -> None:
    while len(grants) > _MOST:
        del grants[next(iter(grants))]
