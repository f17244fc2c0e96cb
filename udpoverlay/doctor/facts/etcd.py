"""etcd as the doctor asks it.

Owns: the question whether we may write, in a transaction that cannot change anything. Must not
know: which findings follow.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from udpoverlay.doctor.facts.side import Server
from udpoverlay.errors import RegistryError
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model.config import EtcdConfig
from udpoverlay.model.lease import Lease, Subnet
from udpoverlay.model.netconf import NetConf
from udpoverlay.registry.etcd.client import EtcdClient
from udpoverlay.registry.etcd.codec import subnet_key
from udpoverlay.registry.etcd.entries import LeaseReader, Paths
from udpoverlay.registry.etcd.listing import pages
from udpoverlay.registry.etcd.messages import if_absent, if_unchanged, put_op
from udpoverlay.registry.etcd.registry import EtcdRegistry
from udpoverlay.registry.etcd.tls import client_context

__all__ = ["EtcdSide"]

_log = get_logger(__name__)
_PAGE = 500
_NEVER = 1 << 60
"""A revision that no entry has."""


class EtcdSide:
    """See side.Side."""

    def __init__(self, config: EtcdConfig) -> None:
        """Raises OperatorError for an endpoint or a TLS file that cannot be used."""
        self.skipped = 0
        """Entries of the last listing that are no leases."""
        self._config = config
        self._registry = EtcdRegistry(config)
        self._client = EtcdClient(config)
        self._paths = Paths(config.prefix)

    @property
    def endpoints(self) -> Sequence[str]:
        """In the order of the flag."""
        return self._client.endpoints

    @property
    def config_key(self) -> str:
        """The key of the network configuration."""
        return self._paths.config.decode()

    def lease_key(self, subnet: Subnet) -> str:
        """The key of a lease."""
        return f"{self.config_key.rpartition('/')[0]}/subnets/{subnet_key(subnet)}"

    async def netconf(self) -> NetConf:
        """See side.Side."""
        return await self._registry.network_config()

    async def reach(self, endpoint: str) -> RegistryError | None:
        """Why one endpoint does not answer; None when it does."""
        try:
            await self._client.range(self._paths.config, endpoint=endpoint)
        except RegistryError as error:
            return error
        return None

    async def leases(self) -> Sequence[Lease]:
        """See side.Side."""
        counters: Counter[str] = Counter()
        reader = LeaseReader(
            self._paths, counters, RateLimited(_log, time.monotonic), lambda _: None
        )
        listed = reader.listing()
        async for _, page in pages(self._client, self._paths.leases.parts, _PAGE):
            for kv in page.kvs:
                listed.add(kv)
        self.skipped = counters["entries_skipped"]
        return listed.leases

    async def may_write(self, subnet: Subnet) -> None:
        """Raise the RegistryError with which etcd would refuse a lease of `subnet`.

        etcd checks the rights and the quota of both branches of a transaction before it compares
        (server/etcdserver/apply_auth.go, checkTxnAuth; quota.go). The comparisons exclude each
        other, so nothing is ever put, and the revision stays.
        """
        key = self._paths.of(subnet)
        await self._client.txn([if_absent(key), if_unchanged(key, _NEVER)], [put_op(key, b"", 0)])

    async def stored_public_ips(self) -> tuple[str, str]:
        """See side.Side."""
        return await self._registry.stored_public_ips()

    def servers(self) -> Sequence[Server]:
        """See side.Side. etcd answers HTTP/1.1 on its client port, too."""
        config = self._config
        if not any(endpoint.startswith("https:") for endpoint in self.endpoints):
            return [(endpoint, None) for endpoint in self.endpoints]
        context = client_context(
            keyfile=config.keyfile, certfile=config.certfile, cafile=config.cafile
        )
        context.set_alpn_protocols(["http/1.1"])  # in place of gRPC's h2
        return [(endpoint, context) for endpoint in self.endpoints]

    async def aclose(self) -> None:
        """See side.Side."""
        await self._registry.aclose()
        await self._client.aclose()
