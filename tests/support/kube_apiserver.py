"""A real kube-apiserver with a real etcd behind it, where KUBEBUILDER_ASSETS or PATH has one.

The same face as tests.support.kubeapi.KubeApi for what both can do, so that one suite asks both.

python -m tests.support.kube_apiserver ADDRESS:PORT DIRECTORY

is one for hosts in namespaces: plain HTTP at that address, every request an administrator's.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.support.etcd import EtcdServer, free_port
from tests.support.patience import DEADLINE

ADMIN = "token-admin"
USERS = {f"token-{i}": f"tester-{i}" for i in range(100)}
"""kube-apiserver reads its tokens once, so they are made in advance."""


def find() -> str:
    """The binary's path."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / "kube-apiserver").exists():
        return str(Path(assets) / "kube-apiserver")
    found = shutil.which("kube-apiserver")
    assert found is not None, "no kube-apiserver"
    return found


def signing_key() -> bytes:
    """A fresh P-256 private key (RFC 5915), to sign service account tokens that are not used."""
    scalar = os.urandom(31).rjust(32, b"\x01")
    der = bytes.fromhex("303102010104 20") + scalar + bytes.fromhex("a00a06082a8648ce3d030107")
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{body}-----END EC PRIVATE KEY-----\n".encode()


class KubeApiServer:
    """One server. Its port, its certificate and its data stay the same over restarts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.etcd = EtcdServer(directory / "etcd")
        self.admin_token = ADMIN
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "kube-apiserver.log"
        (directory / "sa.key").write_bytes(signing_key())
        rows = [f'{ADMIN},admin,0,"system:masters"']
        rows += [f"{token},{user},{user}" for token, user in USERS.items()]
        (directory / "tokens.csv").write_text("\n".join(rows) + "\n")

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self.directory / "certs" / "apiserver.crt"

    def start(self) -> None:
        if self.etcd._process is None:
            self.etcd.start()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    find(),
                    f"--etcd-servers={self.etcd.url}",
                    f"--cert-dir={self.directory / 'certs'}",
                    "--bind-address=127.0.0.1",
                    "--advertise-address=127.0.0.1",
                    f"--secure-port={self.port}",
                    "--service-account-issuer=https://kubernetes.default.svc",
                    f"--service-account-signing-key-file={self.directory / 'sa.key'}",
                    f"--service-account-key-file={self.directory / 'sa.key'}",
                    "--service-cluster-ip-range=10.254.0.0/24",
                    f"--token-auth-file={self.directory / 'tokens.csv'}",
                    "--authorization-mode=RBAC",
                    # Pods need no service account and no node agent here.
                    "--disable-admission-plugins=ServiceAccount",
                    "--shutdown-delay-duration=0s",
                ],
                stdout=log,
                stderr=log,
            )
        self._wait_ready()

    def _wait_ready(self) -> None:
        import ssl  # noqa: PLC0415 - only here

        trusting = ssl._create_unverified_context()
        request = urllib.request.Request(
            f"{self.url}/readyz", headers={"Authorization": f"Bearer {ADMIN}"}
        )
        deadline = time.monotonic() + 4 * DEADLINE
        while True:
            assert self._process is not None
            assert self._process.poll() is None, self.log()
            try:
                with urllib.request.urlopen(request, timeout=5, context=trusting):
                    return
            except OSError:
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.1)

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-6000:]

    def stop(self) -> None:
        """End the API server; etcd goes on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self.stop()
        self.etcd.kill()


async def main(listen: str, directory: Path) -> None:
    """Serve until killed."""
    from tests.support.kubeproxy import Front  # noqa: PLC0415 - which imports this module

    server = KubeApiServer(directory)
    server.start()
    address, _, port = listen.rpartition(":")
    async with Front(server.url, address, int(port), token=ADMIN):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
