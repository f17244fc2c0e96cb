"""A renewal whose put found no answer: nothing is revoked that it may still need.

etcd takes an entry away together with the etcd lease it hangs on, which every other host must take
for the end of ours.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.aio import in_thread
from tests.support.etcd import EtcdServer
from tests.support.leases import attrs, subnet
from tests.support.network import EtcdNetwork
from udpoverlay.errors import RegistryUnavailable

pytestmark = pytest.mark.etcd

SUBNET = "10.5.7.0/24"


class Unanswered:
    """A host whose next put is told as failed; etcd gets it before that, or a little later."""

    def __init__(self, network: EtcdNetwork, *, late: bool) -> None:
        self.network = network
        self.registry = network.registry()
        self._client = self.registry._client
        self._txn, self._time_to_live = self._client.txn, self._client.time_to_live
        self._late = late
        self._put: tuple[Any, ...] | None = None

    def interrupt(self) -> None:
        async def txn(*request: Any) -> None:
            self._client.txn = self._txn  # type: ignore[method-assign]  # a test's interception
            self._put = request
            if not self._late:
                await self.carry_out()
            raise RegistryUnavailable("no answer")

        async def time_to_live(grant: int) -> tuple[int, tuple[bytes, ...]]:
            answer = await self._time_to_live(grant)
            await self.carry_out()  # between that answer and what is done with it
            return answer

        self._client.txn = txn  # type: ignore[method-assign,assignment]  # as above
        self._client.time_to_live = time_to_live  # type: ignore[method-assign,assignment]

    async def carry_out(self) -> None:
        """What was on its way arrives."""
        request, self._put = self._put, None
        if request is not None:
            assert (await self._txn(*request)).succeeded

    async def holding(self) -> int | None:
        """The etcd lease on which the entry hangs; None without an entry."""
        key = self.network.key(SUBNET)
        value = await in_thread(self.network.server.get, key)
        return None if value is None else await in_thread(self.network.server.lease_of, key)


async def test_put_that_arrives_after_its_failure_keeps_the_entry(server: EtcdServer) -> None:
    host = Unanswered(EtcdNetwork(server), late=True)
    lease = await host.registry.acquire(attrs("192.0.2.1"), subnet(SUBNET))
    host.interrupt()
    with pytest.raises(RegistryUnavailable):
        await host.registry.renew(lease)
    await host.carry_out()
    assert await host.holding() not in (None, lease.registry_lease), "the entry is gone"
    renewed = await host.registry.renew(lease)
    assert await host.holding() == renewed.registry_lease


async def test_put_that_was_carried_out_is_a_renewal(server: EtcdServer) -> None:
    host = Unanswered(EtcdNetwork(server), late=False)
    lease = await host.registry.acquire(attrs("192.0.2.1"), subnet(SUBNET))
    host.interrupt()
    renewed = await host.registry.renew(lease)
    assert await host.holding() == renewed.registry_lease != lease.registry_lease
    assert renewed.revision > lease.revision
