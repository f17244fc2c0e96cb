"""Users of etcd: tokens that run out, rights that change, refusals and their fix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.aio import at_end, in_thread, run
from tests.support.etcd import EtcdServer, running
from tests.support.etcdclient import HASTY, client, nowhere, patiently
from tests.support.network import EtcdNetwork
from udpoverlay.errors import RegistryDenied, RegistryError
from udpoverlay.model.config import EtcdConfig
from udpoverlay.model.events import Snapshot
from udpoverlay.registry.etcd.client import EtcdClient
from udpoverlay.registry.etcd.messages import (
    if_absent,
    put_op,
)
from udpoverlay.registry.etcd.values import (
    prefix_end,
)

# ---------------------------------------------------------------- authentication


@pytest.fixture
def secured(tmp_path: Any, binary: str) -> Iterator[EtcdServer]:
    """etcd with users: root, and flannel who may read and write /net only."""
    with running(tmp_path, binary=binary) as started:
        started.put("/net/config", '{"Network":"10.5.0.0/16"}')
        for command in (
            "user add root:rootpass",
            "user grant-role root root",
            "user add flannel:open,sesame",
            "role add net",
            "role grant-permission net --prefix=true readwrite /net",
            "user grant-role flannel net",
            "auth enable",
        ):
            started.etcdctl(*command.split())
        yield started


def root(server: EtcdServer, *args: str) -> None:
    server.etcdctl("--user=root:rootpass", *args)


@pytest.mark.etcd
async def test_a_user_gets_a_lease_and_follows_it(secured: EtcdServer) -> None:
    network = EtcdNetwork(secured, prefix="/net")
    registry = network.registry(username="flannel", password="open,sesame")
    lease = await registry.acquire(network.attrs(1), None)
    watch = registry.watch()
    event = await watch.__anext__()
    assert isinstance(event, Snapshot)
    assert [found.subnet for found in event.leases] == [lease.subnet]
    await watch.aclose()  # type: ignore[attr-defined]  # it is a generator


@pytest.mark.etcd
async def test_a_token_that_etcd_does_not_know_any_more_is_replaced(secured: EtcdServer) -> None:
    etcd = client(secured.url, username="flannel", password="open,sesame")
    await etcd.range(b"/net/x")
    assert etcd.counters["authentications"] == 1
    etcd._token = "ranout.1"
    await etcd.range(b"/net/x")
    assert etcd.counters["authentications"] == 2
    stream = await etcd.watch(b"/net/", prefix_end(b"/net/"), 1)
    assert (await stream.read())[0].created
    stream.close()


@pytest.mark.etcd
async def test_a_token_from_the_future_of_a_restored_etcd_is_given_up(secured: EtcdServer) -> None:
    """etcd does not answer a token whose log index it has not reached."""

    etcd = client(secured.url, timeouts=HASTY, username="flannel", password="open,sesame")
    etcd._token = "restored.1000000"
    await patiently(etcd, b"/net/x")
    assert etcd.counters["authentications"] >= 1


@pytest.mark.etcd
async def test_changed_users_and_roles_need_no_restart(secured: EtcdServer) -> None:
    etcd = client(secured.url, username="flannel", password="open,sesame")
    await etcd.range(b"/net/x")
    await in_thread(root, secured, "user", "add", "other:pass")
    await etcd.txn([if_absent(b"/net/y")], [put_op(b"/net/y", b"1", 0)])


def denial(url: str, **config: Any) -> str:
    async def ask() -> None:
        await client(url, **config).range(b"/elsewhere")

    with pytest.raises(RegistryDenied) as caught:
        run(ask())
    assert caught.value.fix
    return str(caught.value)


@pytest.mark.etcd
def test_every_refusal_of_a_user_has_its_fix(secured: EtcdServer) -> None:
    stranger = denial(secured.url)
    assert "etcd-username and etcd-password" in stranger
    assert "a client certificate whose common name is a user" in stranger
    wrong = denial(secured.url, username="flannel", password="hunter2")
    assert "refused the user name or password" in wrong
    assert "hunter2" not in wrong
    assert "refused the user name" in denial(secured.url, username="stranger", password="x")
    foreign = denial(secured.url, username="flannel", password="open,sesame")
    assert "role grant-permission" in foreign


@pytest.mark.etcd
async def test_a_user_name_where_authentication_is_off_is_harmless(server: EtcdServer) -> None:
    etcd = client(server.url, username="flannel", password="open,sesame")
    await etcd.range(b"/x")
    await etcd.range(b"/x")
    assert etcd.counters["authentications"] == 1


def test_a_password_never_shows() -> None:
    config = EtcdConfig(username="me", password="open,sesame")
    assert "sesame" not in repr(config)
    with pytest.raises(RegistryError) as caught:
        run(client_of(config).range(b"/x"))
    assert "sesame" not in repr(caught.value) + str(caught.value)


def client_of(config: EtcdConfig) -> EtcdClient:
    dead = EtcdConfig(endpoints=(nowhere(),), username=config.username, password=config.password)
    made = EtcdClient(dead)
    at_end(made.aclose)
    return made
