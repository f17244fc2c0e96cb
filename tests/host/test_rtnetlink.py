"""host/rtnetlink.py where the kernel answers as a healthy one does not."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from udpoverlay.errors import KernelError
from udpoverlay.host import rtnetlink
from udpoverlay.host.netlink import Netlink
from udpoverlay.host.rtnetlink import RTM_GETLINK, Rtnetlink

ERROR, DONE, NEWADDR = 2, 3, 20
INTERRUPTED = 0x10
SECONDS = 30.0


def message(kind: int, payload: bytes, sequence: int, flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload


def code(number: int) -> bytes:
    return struct.pack("=i", -number)


class Kernel:
    """The other end of the socket: answers each request with what the test gives it."""

    def __init__(self) -> None:
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        self._theirs.setblocking(False)
        self.rtnetlink = Rtnetlink()
        self.rtnetlink.close()
        self.rtnetlink._socket = ours
        self.asked = 0

    async def request(self) -> int:
        """Wait for a request; its sequence number."""
        data = await asyncio.get_running_loop().sock_recv(self._theirs, 65536)
        self.asked += 1
        return int(struct.unpack_from("=IHHII", data)[3])

    def send(self, *messages: bytes) -> None:
        self._theirs.send(b"".join(messages))

    async def answer(self, *kinds: tuple[int, bytes, int]) -> None:
        """Answer every request in this way: (type, payload, flags) of each message."""
        while True:
            sequence = await self.request()
            self.send(*(message(kind, payload, sequence, flags) for kind, payload, flags in kinds))

    def close(self) -> None:
        self.rtnetlink.close()
        self._theirs.close()


Scenario = Callable[[Kernel], Coroutine[Any, Any, None]]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def run(scenario: Scenario) -> None:
        async def bounded() -> None:
            kernel = Kernel()
            try:
                await asyncio.wait_for(scenario(kernel), SECONDS)
            finally:
                kernel.close()

        request.param(bounded())

    return run


async def answered(kernel: Kernel, asking: Any, *kinds: tuple[int, bytes, int]) -> Any:
    """What `asking` comes to while the kernel answers in one way."""
    answering = asyncio.ensure_future(kernel.answer(*kinds))
    try:
        return await asking
    finally:
        answering.cancel()


def test_interrupted_dump_is_asked_for_again(run: Callable[[Scenario], None]) -> None:
    async def scenario(kernel: Kernel) -> None:
        asking = asyncio.ensure_future(kernel.rtnetlink.dump(RTM_GETLINK, {}))
        for flags in (INTERRUPTED, INTERRUPTED, 0):
            kernel.send(message(DONE, code(0), await kernel.request(), flags))
        assert await asking == []
        assert kernel.asked == 3

    run(scenario)


def test_dump_that_is_interrupted_every_time_is_an_error(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(kernel: Kernel) -> None:
        netlink = Netlink()
        netlink._kernel = kernel.rtnetlink
        with pytest.raises(KernelError, match="cannot list addresses: they changed"):
            await answered(kernel, netlink.links(), (DONE, code(0), INTERRUPTED))
        assert kernel.asked == 5

    run(scenario)


@pytest.mark.parametrize("kind", [ERROR, DONE])
def test_error_of_a_dump_keeps_its_number(run: Callable[[Scenario], None], kind: int) -> None:
    async def scenario(kernel: Kernel) -> None:
        asking = kernel.rtnetlink.dump(RTM_GETLINK, {})
        with pytest.raises(OSError, match="No buffer space") as caught:
            await answered(kernel, asking, (kind, code(errno.ENOBUFS), 0))
        assert caught.value.errno == errno.ENOBUFS

    run(scenario)


def test_unanswered_request_is_an_error(
    run: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtnetlink, "_ANSWER_SECONDS", 0.01)

    async def scenario(kernel: Kernel) -> None:
        with pytest.raises(TimeoutError, match=r"no answer in 0.01 s"):
            await kernel.rtnetlink.dump(RTM_GETLINK, {})

    run(scenario)


def test_late_answer_to_another_request_is_skipped(run: Callable[[Scenario], None]) -> None:
    async def scenario(kernel: Kernel) -> None:
        asking = asyncio.ensure_future(kernel.rtnetlink.dump(RTM_GETLINK, {}))
        sequence = await kernel.request()
        kernel.send(message(DONE, code(errno.EPERM), sequence - 1))
        kernel.send(message(DONE, code(0), sequence))
        assert await asking == []

    run(scenario)


def test_cancellation_that_comes_with_the_answer_is_not_lost(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(kernel: Kernel) -> None:
        asking = asyncio.ensure_future(kernel.rtnetlink.dump(RTM_GETLINK, {}))
        kernel.send(message(DONE, code(0), await kernel.request()))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    run(scenario)


@pytest.mark.parametrize("length", [0, 15])
def test_broken_length_does_not_spin(
    run: Callable[[Scenario], None], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtnetlink, "_ANSWER_SECONDS", 0.01)

    async def scenario(kernel: Kernel) -> None:
        asking = asyncio.ensure_future(kernel.rtnetlink.dump(RTM_GETLINK, {}))
        sequence = await kernel.request()
        kernel.send(struct.pack("=IHHII", length, DONE, 0, sequence, 0) + bytes(64))
        with pytest.raises(TimeoutError):
            await asking

    run(scenario)
