"""doctor/listen.py: what it answers, and that it is no tool for strangers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

import pytest
from netaddr import IPAddress

from tests.support.etcd import free_port
from udpoverlay.doctor import listen as module
from udpoverlay.doctor.facts import shapes
from udpoverlay.doctor.facts.probing import ask
from udpoverlay.doctor.facts.shapes import question, read, wrapped
from udpoverlay.doctor.listen import listen
from udpoverlay.errors import OperatorError

A, B = IPAddress("192.0.2.1"), IPAddress("192.0.2.2")


def made(nonce: int) -> bytes:
    return question(A, B, nonce, 400)


class Listening:
    """A listener on free ports of this host, with what it told."""

    def __init__(self) -> None:
        self.ports = (free_port(), free_port())
        self.taken: Sequence[int] = ()
        self.open: Sequence[int] = ()
        self.asked: list[tuple[str, int]] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Listening]:
        ready = asyncio.Event()

        def opened(ports: Sequence[int], taken: Sequence[int]) -> None:
            self.open, self.taken = list(ports), list(taken)
            ready.set()

        task = asyncio.ensure_future(
            listen(
                self.ports, 3600.0, opened, lambda address, port: self.asked.append((address, port))
            )
        )
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_questions_of_both_shapes_are_answered_with_what_it_knows() -> None:
    async with Listening().running() as far:
        for port in far.ports:
            for shape in (made, lambda nonce: wrapped(made(nonce))):
                outcome = await ask(shape, ("127.0.0.1", port))
                assert outcome.answered
                assert outcome.facts["ports"] == list(far.ports)
                assert outcome.facts["bad_checksums"] >= 0
        assert far.asked == [("127.0.0.1", port) for port in far.ports]


async def test_answer_comes_from_the_address_that_was_asked() -> None:
    """A connected socket, as the asker's is, takes no other."""
    async with Listening().running() as far:
        for address in ("127.0.0.1", "127.0.0.2", "127.9.9.9"):
            assert (await ask(made, (address, far.ports[0]))).answered, address


async def test_closed_port_is_refused_and_says_by_whom() -> None:
    outcome = await ask(made, ("127.0.0.1", free_port()))
    assert outcome.refused
    assert not outcome.answered
    assert outcome.reporter == "127.0.0.1"


async def test_nothing_but_questions_is_answered() -> None:
    async with Listening().running() as far:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as stranger:
            stranger.connect(("127.0.0.1", far.ports[0]))
            loop = asyncio.get_running_loop()
            for datagram in (b"", b"x" * 400, shapes.answer(made(1), {})):
                stranger.send(datagram)
            stranger.send(made(7))  # in order: once it is answered the others were not
            probe = read(await loop.sock_recv(stranger, 4096))
            assert probe is not None
            assert probe.nonce == 7
            with pytest.raises(BlockingIOError):
                stranger.recv(4096)


def test_answers_a_second_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    budget = module._Budget()
    answered = sum(budget.take() for _ in range(5 * module.ANSWERS_A_SECOND))
    assert answered == module.ANSWERS_A_SECOND
    now[0] += 1.0
    assert budget.take()


async def test_ports_of_others_are_told_and_left_alone() -> None:
    far = Listening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", far.ports[0]))
        async with far.running():
            assert far.taken == [far.ports[0]]
            assert far.open == [far.ports[1]]
            outcome = await ask(made, ("127.0.0.1", far.ports[1]))
            assert outcome.facts["ports"] == [far.ports[1]]


async def test_no_free_port_is_an_error() -> None:
    far = Listening()
    with contextlib.ExitStack() as others:
        for port in far.ports:
            other = others.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            other.bind(("127.0.0.1", port))
        with pytest.raises(OperatorError, match="none of the UDP ports"):
            await listen(far.ports, 1.0, lambda *_: None, lambda *_: None)


async def test_it_ends_by_itself() -> None:
    far = Listening()
    await listen(far.ports, 0.01, lambda *_: None, lambda *_: None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("", far.ports[0]))
