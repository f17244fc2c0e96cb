"""An etcd test network: its own prefix in a running server, and registries of its hosts."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

from tests.support.aio import at_end
from tests.support.etcd import EtcdServer
from tests.support.leases import attrs
from udpoverlay.model.config import EtcdConfig
from udpoverlay.model.lease import LeaseAttrs
from udpoverlay.registry.etcd.client import EtcdTimeouts
from udpoverlay.registry.etcd.registry import EtcdRegistry
from udpoverlay.registry.etcd.watch import FollowTiming

_numbers = itertools.count(1)

QUICK = FollowTiming(first_retry=0.02, max_retry=0.2)
"""Back-off for tests that restart a server."""
PATIENT = EtcdTimeouts(connect=20.0, request=20.0)
"""For tests that are not about time-outs: a busy machine is not a fault."""


def plain_value(public_ip: str) -> str:
    """What a host of the udp backend writes, byte for byte."""
    return f'{{"PublicIP":"{public_ip}","PublicIPv6":null}}'


class EtcdNetwork:
    """One network with a prefix that no other test uses."""

    def __init__(self, server: EtcdServer, prefix: str = "", **conf: Any) -> None:
        self.server = server
        self.prefix = prefix or f"/test/{next(_numbers)}"
        if conf or not prefix:
            self.configure(**(conf or {"Network": "10.5.0.0/16"}))

    def configure(self, **conf: Any) -> None:
        self.server.put(f"{self.prefix}/config", json.dumps(conf))

    def key(self, subnet: str) -> str:
        """`10.5.1.0/24` → its key; anything else is taken as it is."""
        return f"{self.prefix}/subnets/{subnet.replace('/', '-')}"

    def value(self, subnet: str) -> str | None:
        return self.server.get(self.key(subnet))

    def entries(self) -> list[str]:
        """Last components of all lease keys."""
        found = self.server.keys(f"{self.prefix}/subnets/")
        return [key.rsplit("/", 1)[1] for key in found]

    def claim(self, subnet: str, public_ip: str, lease: int = 0) -> None:
        """Write a lease as some other host does."""
        self.server.put(self.key(subnet), plain_value(public_ip), lease)

    def registry(
        self,
        *,
        endpoints: tuple[str, ...] = (),
        seed: int | None = None,
        timeouts: EtcdTimeouts = PATIENT,
        timing: FollowTiming = QUICK,
        **more: Any,
    ) -> EtcdRegistry:
        settings = {
            name: more.pop(name)
            for name in ("username", "password", "cafile", "certfile", "keyfile")
            if name in more
        }
        config = EtcdConfig(
            endpoints=endpoints or (self.server.url,), prefix=self.prefix, **settings
        )
        registry = EtcdRegistry(
            config,
            rng=None if seed is None else random.Random(seed),
            timeouts=timeouts,
            timing=timing,
            **more,
        )
        at_end(registry.aclose)
        return registry

    def attrs(self, host: int) -> LeaseAttrs:
        return attrs(f"192.0.2.{host}")
