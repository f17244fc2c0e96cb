"""dataplane/engine.py: what of the device and the sockets is left where, and to whom."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from netaddr import IPAddress, IPNetwork

from tests.support.namespace import in_new_namespace
from udpoverlay import _fastpath as fp
from udpoverlay.dataplane import engine as engine_module
from udpoverlay.dataplane.engine import Engine
from udpoverlay.dataplane.tunnel import Tunnel
from udpoverlay.model.dataplane import DataplaneSettings

TUNNEL = Tunnel(
    mtu=1400,
    address=IPAddress("10.5.1.0"),
    subnet=IPNetwork("10.5.1.0/24"),
    bind=("0.0.0.0", 8285),
)
SETTINGS = DataplaneSettings(workers="3")


def descriptors() -> set[int]:
    """Those that are open; the listing itself needs one, too."""
    names = os.listdir("/proc/self/fd")
    return {int(name) for name in names if os.path.lexists(f"/proc/self/fd/{name}")}


def devices() -> str:
    return Path("/proc/thread-self/net/dev").read_text()


@pytest.mark.root
@pytest.mark.own_namespace
async def test_no_descriptor_of_an_engine_is_inherited() -> None:
    """A program that the daemon starts would keep the device alive after the daemon's end."""

    before = descriptors()
    engine = Engine.open(TUNNEL, SETTINGS)
    await engine.start()
    ours = descriptors() - before
    kept = {fd for fd in ours if not fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC}
    links = {os.readlink(f"/proc/self/fd/{fd}") for fd in kept}
    await engine.stop()
    del engine  # the workers' alarm goes with the object
    assert descriptors() <= before
    assert len(ours) >= 5  # two queues, two sockets, a worker's alarm …
    assert links == set()


@pytest.mark.root
def test_engine_that_cannot_be_made_leaves_no_device_and_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        assert "flannel0" in devices()
        raise MemoryError

    monkeypatch.setattr(fp, "Worker", no_memory)

    def scenario() -> None:
        before = descriptors()
        with pytest.raises(MemoryError):
            Engine.open(TUNNEL, SETTINGS)
        assert "flannel" not in devices()
        assert descriptors() <= before

    in_new_namespace(scenario)


@pytest.mark.parametrize("threads", [1, 2, 3, 64])
def test_exactly_one_worker_receives(threads: int) -> None:
    """Two would bring the packets of one peer out of order."""
    queues = list(range(max(1, threads - 1)))
    assignments = engine_module._assignments(threads, queues)
    assert len(assignments) == threads
    assert sum(bool(roles & fp.INBOUND) for roles, _ in assignments) == 1
    senders = [served for roles, served in assignments if roles & fp.OUTBOUND]
    assert sorted(queue for served in senders for queue in served) == queues
    receiver = next(served for roles, served in assignments if roles & fp.INBOUND)
    assert receiver == queues, "it writes each flow to the queue that reads it"
