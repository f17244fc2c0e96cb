"""A daemon's admin socket with documents of our making, and the commands that ask it."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from udpoverlay.cli.main import udpoverlay
from udpoverlay.model.sender import RefusedSender
from udpoverlay.observe.admin import Action, AdminServer, Streams
from udpoverlay.observe.status import (
    DataplaneFacts,
    FallbackFacts,
    LeaseFacts,
    NodeFacts,
    PeerFacts,
    RegistryFacts,
    ReportFacts,
    RouteFacts,
    Status,
    impairments_document,
    peers_document,
    routes_document,
    status_document,
)

__all__ = ["NODE", "SENDER", "Command", "Documents", "daemon", "documents"]

Documents = dict[str, dict[str, object]]

NODE = NodeFacts(
    public_ip="192.0.2.1",
    interface="eth0",
    interface_address="192.0.2.1",
    interface_mtu=1500,
    backend="udp",
    port=8285,
    network="10.5.0.0/16",
    tun="flannel0",
    tun_address="10.5.72.0",
    mtu=1472,
    source_check="enforce",
    subnet_file="/run/flannel/subnet.env",
    subnet_file_written=True,
)
STATUS = Status(
    version="1.2.3",
    pid=77,
    uptime_seconds=11_520.0,
    node=NODE,
    lease=LeaseFacts(subnet="10.5.72.0/24", expires_in_seconds=86_399.0),
    registry=RegistryFacts(kind="etcd", counters={}, troubles={}),
    control={"foreign_renewals": 0, "leases_refused": 0, "leases_waiting": 0},
    dataplane=DataplaneFacts(
        features={"udp-gro": "on", "uso": "unavailable: needs Linux 6.2"},
        routes=2,
        counters={"outbound_sent": 1_234_567, "outbound_no_route": 8, "inbound_delivered": 5},
        senders={},
    ),
    peers=3,
    firewall={"mode": "nftables", "repairs": 0, "error": ""},
    privileges={
        "uid": 0,
        "capabilities": ["NET_ADMIN", "NET_RAW"],
        "dropping": "on",
        "kept_for": {},
        "no_new_privs": True,
        "seccomp": "on",
        "threads_with_more": [],
    },
)
PEERS = [
    PeerFacts("10.5.73.0/24", "192.0.2.2", also_sends_from=("203.0.113.7",)),
    PeerFacts(
        "10.5.74.0/24",
        "192.0.2.3",
        fallbacks=(FallbackFacts("udp-segment", "datagrams longer than the MTU", 2, 90.0),),
        reports=(ReportFacts("port_unreachable", 12, "192.0.2.3", 3.0),),
    ),
    PeerFacts("10.0.0.0/8", "192.0.2.9", "too_wide"),
]
SENDER = RefusedSender(
    address="203.0.113.9",
    reason="inbound_unknown_sender",
    datagrams=1_003,
    inner_source="10.5.73.7",
    inner_destination="10.5.72.7",
    seconds_ago=5.5,
)
ROUTES = [
    RouteFacts("10.5.73.0/24", "192.0.2.2:8285", "flannel0"),
    RouteFacts("10.5.74.0/24", "192.0.2.3:8285", "flannel0"),
]


def documents() -> Documents:
    return copy.deepcopy(
        {
            "/v1/status": status_document(STATUS),
            "/v1/peers": peers_document(PEERS, [SENDER]),
            "/v1/routes": routes_document("10.5.0.0/16", ROUTES),
            "/v1/impair": impairments_document([]),
        }
    )


@contextmanager
def daemon(
    path: Path,
    found: Documents,
    actions: Mapping[str, Action] | None = None,
    *,
    streams: Streams | None = None,
) -> Iterator[None]:
    """Serves `found` from a loop of its own, as the commands block."""
    loop = asyncio.new_event_loop()
    served = {url: lambda url=url: found[url] for url in found}
    server = AdminServer(str(path), served, actions=actions, streams=streams)
    loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Command:
    """Runs a command as a shell would."""

    def __init__(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._path, self._patch, self._capsys = path, monkeypatch, capsys
        self.out = self.err = ""

    def __call__(self, *words: str) -> int:
        argv = ["udpoverlay", words[0], "--admin-socket", str(self._path), *words[1:]]
        self._patch.setattr("sys.argv", argv)
        code = udpoverlay()
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *words: str) -> dict[str, Any]:
        self(*words, "--json")
        document: dict[str, Any] = json.loads(self.out)
        return document
