"""The one face of every registry: etcd, Kubernetes, memory.

Who implements it owns retries of a single request, fail-over between endpoints, and turning what
the registry says into udpoverlay.errors. Who calls it (control.py, daemon.py) owns when to acquire,
renew and give up. One contract suite (tests/registry/contract.py) runs against all implementations.

    network_config ──► acquire ──► watch (Snapshot, Added, Removed …, for ever)
                          │
                          └──► renew … renew ;  watch_own (Added, Removed of our own key, for ever)

The last line is RenewingRegistry's: where leases run out (etcd yes, Kubernetes no).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from udpoverlay.model.events import Event
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.netconf import NetConf

__all__ = ["Registry", "RenewingRegistry"]


class Registry(Protocol):
    """Subnet leases kept outside this host."""

    async def network_config(self) -> NetConf:
        """Read and validate the network configuration, once.

        Raises RegistryUnavailable (not reachable, or no configuration stored yet: the daemon
        retries every second), OperatorError (the stored text is wrong: names the key and value).
        """

    async def stored_public_ips(self) -> tuple[str, str]:
        """Public IPv4 and IPv6 address that the registry itself has for this host, "" each if none.

        They win over the configured ones (Kubernetes' node-public-ip annotations).
        """

    async def acquire(
        self, attrs: LeaseAttrs, previous: Subnet | None, conf: NetConf | None = None
    ) -> Lease:
        """Claim a subnet for this host: its own one again, `previous`, or a free one at random.

        `conf` is what `network_config` returned; without it that is asked again.
        Never takes over a subnet that another host holds. Raises OutOfSubnets, RegistryError.
        """

    async def republish(self, lease: Lease, attrs: LeaseAttrs) -> Lease:
        """Publish other attributes for our `lease`, the same subnet; the returned one replaces it.

        Raises RegistryConflict when the entry belongs to another host, RegistryError when it cannot
        be done now.
        """

    async def complete(self, lease: Lease) -> None:
        """Tell the registry that the data path of this host is up (Kubernetes' condition)."""

    def watch(self) -> AsyncIterator[Event]:
        """All leases, for ever: survives reconnects, compaction and outages without an exception.

        Entries that cannot be understood are skipped and counted, never reported as a loss.
        """

    def counters(self) -> dict[str, int]:
        """Plain counts since start: requests, failures, reconnects, skipped entries …"""

    def troubles(self) -> dict[str, str]:
        """What does not work right now, by part, in a sentence each; {} when all does."""

    def watch_age(self) -> float | None:
        """Seconds since the registry last said something on the watch of all leases, if only that
        nothing changed; None: it has not yet, or is not watched."""

    async def aclose(self) -> None:
        """Close connections; leases stay in the registry."""


@runtime_checkable
class RenewingRegistry(Registry, Protocol):
    """A registry whose leases run out unless they are renewed."""

    async def renew(self, lease: Lease) -> Lease:
        """Extend `lease` by its full term if it is still ours; the returned one replaces it.

        Raises RegistryConflict when the entry now belongs to another host.
        """

    def watch_own(self, lease: Lease) -> AsyncIterator[Event]:
        """Changes of exactly this host's entry, for ever; Removed when it is deleted or ran out.

        Added has `foreign` set when the entry got its term from another client.

        After the registry lost its history (events.Snapshot) a Snapshot with `lost_history` comes
        instead, empty when our entry is gone: that is no revocation.
        """
