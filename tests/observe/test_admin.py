"""observe/admin.py on real Unix sockets."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.support.admin import NODE
from tests.support.leases import Sink, lease, peers_for
from udpoverlay.control import Control
from udpoverlay.errors import OperatorError
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.refusal import Refusal
from udpoverlay.model.sender import RefusedSender
from udpoverlay.observe.admin import AdminServer
from udpoverlay.observe.status import (
    SCHEMA_VERSION,
    DataplaneFacts,
    LeaseFacts,
    PeerFacts,
    RegistryFacts,
    Status,
    TrafficFacts,
    counters_document,
    peers_document,
    status_document,
)
from udpoverlay.registry.memory import MemoryRegistry, MemoryStore

Reply = tuple[int, dict[str, Any]]


async def ask(path: Path, url: str, method: str = "GET", body: bytes = b"") -> Reply:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        writer.write(f"{method} {url} HTTP/1.0\r\nHost: x\r\n{length}\r\n".encode() + body)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)
    finally:
        writer.close()
        await writer.wait_closed()


def change(wanted: object) -> dict[str, object]:
    """Does what is asked for, unless it is 3."""
    if wanted == 3:
        raise OperatorError("3 is too many", fix="use 2")
    return {"schema": 1, "changed": wanted}


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[AdminServer]:
    server = AdminServer(
        str(path),
        {"/v1/facts": lambda: {"schema": 1, "facts": [1, 2]}},
        actions={"/v1/change": change},
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def is_gone(path: Path) -> bool:
    return not os.path.lexists(path)


def on_uvloop(coroutine: Coroutine[Any, Any, None]) -> None:
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()


@pytest.fixture(params=[asyncio.run, on_uvloop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    chosen: Callable[[Awaitable[None]], None] = request.param
    return chosen


async def test_a_document_is_served_to_root_alone(
    tmp_path: Path, run: Callable[[Awaitable[None]], None]
) -> None:
    path = tmp_path / "made" / "admin.sock"
    async with serving(path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert await ask(path, "/v1/facts") == (200, {"schema": 1, "facts": [1, 2]})
    assert is_gone(path)


async def test_what_is_not_there_is_answered_in_json(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with serving(path):
        assert await ask(path, "/v2/facts") == (404, {"error": "Not Found"})
        assert await ask(path, "/v1/facts", "POST") == (405, {"error": "Method Not Allowed"})
        assert await ask(path, "/v1/change") == (405, {"error": "Method Not Allowed"})


async def test_a_change_is_made_or_says_why_not(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with serving(path):
        assert await ask(path, "/v1/change", "POST", b'{"a": 2}') == (
            200,
            {"schema": 1, "changed": {"a": 2}},
        )
        assert await ask(path, "/v1/change", "POST", b"3") == (
            400,
            {"error": "3 is too many: use 2"},
        )


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 60_000, b"1" * 5000, b"{} {}"])
async def test_a_change_whose_body_is_no_json_is_refused(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "admin.sock"
    async with serving(path):
        assert await ask(path, "/v1/change", "POST", body) == (
            400,
            {"error": "the body is no JSON"},
        )


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter, which pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="udpoverlay-test-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.root
@pytest.mark.parametrize("wanted", ["GET /v1/facts", "POST /v1/change"])
async def test_another_user_is_refused_even_when_the_file_lets_him_in(
    open_directory: Path, wanted: str
) -> None:
    path = open_directory / "admin.sock"
    script = (
        "import os, socket, sys\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\n"
        f"s.sendall(b'{wanted} HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n')\n"
        "print(s.makefile().read())\n"
    )

    async with serving(path):
        os.chmod(path, 0o666)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(path), stdout=subprocess.PIPE
        )
        output = (await process.communicate())[0].decode()
    assert output.startswith("HTTP/1.1 403")
    assert output.endswith('{"error": "only root may ask"}\n')


async def test_a_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async with serving(path):
        assert (await ask(path, "/v1/facts"))[0] == 200


async def test_a_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with serving(path):
        with pytest.raises(OperatorError, match=r"admin-socket .* is in use by another daemon"):
            await AdminServer(str(path), {}).start()
        assert (await ask(path, "/v1/facts"))[0] == 200


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("mine")
    with pytest.raises(OperatorError, match="exists and is not a socket"):
        asyncio.run(AdminServer(str(path), {}).start())
    assert path.read_text() == "mine"


async def test_stopping_leaves_the_socket_of_a_successor(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with serving(path) as first:
        path.unlink()
        async with serving(path):
            await first.stop()
            assert (await ask(path, "/v1/facts"))[0] == 200
    assert is_gone(path)


@pytest.mark.parametrize("name", ["x" * 120, "nul\0byte"])
def test_an_impossible_path_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(OperatorError, match="cannot listen on admin-socket"):
        asyncio.run(AdminServer(f"{tmp_path}/{name}", {}).start())


TRAFFIC = TrafficFacts(3, 300, 2, 200, {"outbound_queue_full": 1}, 1.5)


def test_the_documents_carry_the_schema_and_plain_json() -> None:
    status = Status(
        version="1.2.3",
        pid=1,
        uptime_seconds=2.5,
        node=NODE,
        lease=LeaseFacts(subnet="10.5.72.0/24", expires_in_seconds=86400.0),
        registry=RegistryFacts(kind="etcd", counters={"requests": 3}, troubles={"a": "b"}),
        control={"renewals": 2},
        dataplane=DataplaneFacts(
            features={"udp-gro": "on"}, routes=1, counters={"sent": 7}, senders={"probes_sent": 0}
        ),
        peers=1,
        firewall={"mode": "nftables"},
    )
    document = json.loads(json.dumps(status_document(status)))
    assert document["schema"] == SCHEMA_VERSION
    assert document["node"]["tun"] == "flannel0"
    assert document["peers"] == 1
    refused = RefusedSender(
        address="203.0.113.9",
        reason="inbound_unknown_sender",
        datagrams=3,
        inner_source="10.5.73.7",
        inner_destination="10.5.72.7",
        seconds_ago=0.5,
    )
    peers = [
        PeerFacts("10.5.73.0/24", "192.0.2.2", also_sends_from=("203.0.113.7",), traffic=TRAFFIC),
        PeerFacts("10.0.0.0/8", "1.2.3.4", "too_wide"),
    ]
    document = json.loads(json.dumps(peers_document(peers, [refused])))
    assert document == {
        "schema": SCHEMA_VERSION,
        "peers": [
            {
                "subnet": "10.5.73.0/24",
                "public_ip": "192.0.2.2",
                "refused": "",
                "fallbacks": [],
                "also_sends_from": ["203.0.113.7"],
                "reports": [],
                "impaired": "",
                "mtu": 0,
                "traffic": {
                    "sent_packets": 3,
                    "sent_bytes": 300,
                    "delivered_packets": 2,
                    "delivered_bytes": 200,
                    "drops": {"outbound_queue_full": 1},
                    "heard_seconds_ago": 1.5,
                },
            },
            {
                "subnet": "10.0.0.0/8",
                "public_ip": "1.2.3.4",
                "refused": "too_wide",
                "fallbacks": [],
                "also_sends_from": [],
                "reports": [],
                "impaired": "",
                "mtu": 0,
                "traffic": {
                    "sent_packets": 0,
                    "sent_bytes": 0,
                    "delivered_packets": 0,
                    "delivered_bytes": 0,
                    "drops": {},
                    "heard_seconds_ago": None,
                },
            },
        ],
        "refused_senders": [asdict(refused)],
    }
    assert counters_document(
        dataplane={"a": 1}, senders={"s": 4}, reports={"p": 5}, control={"b": 2}, registry={"c": 3}
    ) == {
        "schema": SCHEMA_VERSION,
        "dataplane": {"a": 1},
        "senders": {"s": 4},
        "reports": {"p": 5},
        "control": {"b": 2},
        "registry": {"c": 3},
    }


def test_every_count_of_the_control_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/admin.md").read_text()
    registry = MemoryRegistry(MemoryStore(NetConf(), lambda: 0.0))
    own = lease("10.5.72.0/24", "192.0.2.1")
    control = Control(registry, Sink(), own, peers_for(own))
    for name in control.counters():
        assert f".{name}`" in page, name
    for refusal in Refusal:
        assert f"`{refusal.value}`" in page, refusal
