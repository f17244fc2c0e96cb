"""The ways in which an etcd for flannel is locked up: each serves a whole life of a lease.

claim ── follow the others ── renew ── another host comes and is seen
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.aio import collecting, in_thread, run
from tests.support.certificates import CLIENT, SERVER, Authority, Pair
from tests.support.etcd import EtcdServer, running
from tests.support.leases import attrs
from tests.support.network import EtcdNetwork, plain_value
from udpoverlay.errors import RegistryDenied
from udpoverlay.model.events import Added, Snapshot

pytestmark = pytest.mark.etcd

ROOT = "--user=root:rootpass"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class Locked:
    """An etcd with TLS and client certificates; `files` are those of a client named `flannel`."""

    def __init__(self, directory: Path, authority: Authority, binary: str, **server: Any) -> None:
        self.files = self._files(authority, "flannel")
        admin = self._files(authority, "root")
        pair = authority.issue(f"etcd{len(server)}", **server)
        self.running = running(
            directory,
            scheme="https",
            binary=binary,
            flags=[
                f"--cert-file={pair.cert}",
                f"--key-file={pair.key}",
                "--client-cert-auth",
                f"--trusted-ca-file={authority.cert}",
            ],
            env={
                "ETCDCTL_CACERT": admin["cafile"],
                "ETCDCTL_CERT": admin["certfile"],
                "ETCDCTL_KEY": admin["keyfile"],
            },
        )

    def _files(self, authority: Authority, name: str) -> dict[str, str]:
        pair: Pair = authority.issue(name, usages=(CLIENT,), hosts=())
        return {
            "cafile": str(authority.cert),
            "certfile": str(pair.cert),
            "keyfile": str(pair.key),
        }


def configure(server: EtcdServer, *root: str) -> None:
    server.etcdctl(*root, "put", "/net/config", '{"Network":"10.5.0.0/16"}')


def with_users(server: EtcdServer) -> None:
    """Users root and flannel, the latter for /net alone."""
    configure(server)
    for command in (
        "user add root:rootpass",
        "user grant-role root root",
        "user add flannel:sesame",
        "role add net",
        "role grant-permission net --prefix=true readwrite /net",
        "user grant-role flannel net",
        "auth enable",
    ):
        server.etcdctl(*command.split())


async def live(server: EtcdServer, *root: str, **config: Any) -> None:
    network = EtcdNetwork(server, prefix="/net")
    registry = network.registry(**config)
    lease = await registry.acquire(attrs("192.0.2.1"), None)
    async with (
        collecting(registry.watch()) as all_leases,
        collecting(registry.watch_own(lease)) as own,
    ):
        await all_leases.until(lambda events: events)
        assert isinstance(all_leases.items[0], Snapshot)
        assert [found.subnet for found in all_leases.items[0].leases] == [lease.subnet]
        await own.until(lambda events: events)
        renewed = await registry.renew(lease)
        await own.until(lambda events: len(events) > 1)
        assert own.items[1].lease.revision == renewed.revision  # type: ignore[union-attr]  # Added
        put = (*root, "put", network.key("10.5.250.0/24"), plain_value("192.0.2.2"))
        await in_thread(server.etcdctl, *put)
        await all_leases.until(
            lambda events: any(
                isinstance(event, Added) and str(event.lease.subnet) == "10.5.250.0/24"
                for event in events
            )
        )
    assert registry.counters()["watch_breaks"] == 0


def test_users_and_a_certificate_that_names_one(
    tmp_path: Path, authority: Authority, binary: str
) -> None:
    locked = Locked(tmp_path, authority, binary)
    with locked.running as server:
        with_users(server)
        run(live(server, ROOT, **locked.files, username="flannel", password="sesame"))


def test_users_and_a_certificate_that_names_nobody_known(
    tmp_path: Path, authority: Authority, binary: str
) -> None:
    """The user name counts, as in etcd's own client."""
    locked = Locked(tmp_path, authority, binary)
    files = locked._files(authority, "node-17.example")
    with locked.running as server:
        with_users(server)
        run(live(server, ROOT, **files, username="flannel", password="sesame"))
        with pytest.raises(RegistryDenied) as caught:
            run(live(server, ROOT, **files))
        assert "role grant-permission" in caught.value.fix


def test_users_by_their_certificate_alone(
    tmp_path: Path, authority: Authority, binary: str
) -> None:
    locked = Locked(tmp_path, authority, binary)
    with locked.running as server:
        with_users(server)
        run(live(server, ROOT, **locked.files))


def test_a_server_certificate_for_servers_alone(
    tmp_path: Path, authority: Authority, binary: str
) -> None:
    """As every guide makes it; etcd's own gateway cannot reach its etcd with such a one."""
    locked = Locked(tmp_path, authority, binary, usages=(SERVER,))
    with locked.running as server:
        configure(server)
        run(live(server, **locked.files))


def test_a_gateway_that_is_off(tmp_path: Path, binary: str) -> None:
    with running(tmp_path, binary=binary, flags=["--enable-grpc-gateway=false"]) as server:
        configure(server)
        run(live(server))
