"""An etcd client that is patient, and what stands in its way."""

from __future__ import annotations

import time
from typing import Any

from tests.support.aio import at_end
from tests.support.etcd import free_port
from tests.support.network import PATIENT
from tests.support.proxy import Proxy
from udpoverlay.errors import RegistryUnavailable
from udpoverlay.model.config import EtcdConfig
from udpoverlay.registry.etcd.client import EtcdClient, EtcdTimeouts

HASTY = EtcdTimeouts(connect=2.0, request=2.0)
"""For endpoints that will not answer; a healthy one may need a second try."""


def client(*endpoints: str, timeouts: EtcdTimeouts = PATIENT, **config: Any) -> EtcdClient:
    made = EtcdClient(EtcdConfig(endpoints=endpoints, **config), timeouts=timeouts)
    at_end(made.aclose)
    return made


async def proxy_to(url: str) -> Proxy:
    proxy = Proxy(url)
    await proxy.start()
    at_end(proxy.stop)
    return proxy


def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


async def patiently(etcd: EtcdClient, key: bytes = b"/x", deadline: float = 30.0) -> int:
    """Read until it works, as callers do; the revision."""
    end = time.monotonic() + deadline
    while True:
        try:
            return (await etcd.range(key)).header.revision
        except RegistryUnavailable:
            assert time.monotonic() < end, "no endpoint answers"
