"""--subnet-lease-renew-margin against a real etcd: minutes before the end of the lease's term."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.support.cluster import PREFIX, Cluster, Node, wait_until
from udpoverlay.lab.actions import web

pytestmark = [pytest.mark.root, pytest.mark.etcd]

MARGIN = 2
"""Minutes."""


def ask(cluster: Cluster, path: str, **request: Any) -> dict[str, Any]:
    """etcd's JSON gateway, from the host that etcd runs in."""
    status, body = cluster.fabric.switch.call(
        web.request,
        address=cluster.etcd.endpoint.removeprefix("http://"),
        method="POST",
        path=path,
        body=json.dumps(request),
    )
    assert status == 200, body
    answer: dict[str, Any] = json.loads(body)
    return answer


class Entry:
    """A node's own entry in etcd."""

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self._cluster = cluster
        name = f"{PREFIX}/subnets/{node.subnet.replace('/', '-')}"
        self._key = base64.b64encode(name.encode()).decode()

    def _read(self) -> dict[str, Any]:
        entry: dict[str, Any] = ask(self._cluster, "/v3/kv/range", key=self._key)["kvs"][0]
        return entry

    def shorten(self, seconds: int) -> str:
        """Write the same value under an etcd lease that ends in `seconds`; the lease's number."""
        lease = str(ask(self._cluster, "/v3/lease/grant", TTL=seconds)["ID"])
        ask(self._cluster, "/v3/kv/put", key=self._key, value=self._read()["value"], lease=lease)
        return lease

    @property
    def lease(self) -> str:
        """The etcd lease that it hangs on."""
        return str(self._read()["lease"])

    def seconds_left(self) -> int:
        return int(ask(self._cluster, "/v3/lease/timetolive", ID=self.lease)["TTL"])


def test_lease_is_renewed_that_many_minutes_before_its_end() -> None:
    with Cluster("n1") as cluster:
        node = cluster.start("n1", f"--subnet-lease-renew-margin={MARGIN}")
        entry = Entry(cluster, node)
        long_before = entry.shorten(MARGIN * 60 + 3600)
        wait_until(lambda: bool(node.lines("another daemon renews our lease")), "it is noticed")
        assert entry.lease == long_before, "renewed an hour too early"
        short_before = entry.shorten(MARGIN * 60 + 2)
        wait_until(lambda: entry.lease != short_before, "the lease is renewed")
        assert entry.seconds_left() > 86000
