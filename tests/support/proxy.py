"""A TCP proxy in the test's own loop that can be slow, deaf or cut."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

from tests.support.etcd import free_port


class Proxy:
    """Forwards to one server. `delay`: seconds a chunk. `deaf`: accepts, then says nothing."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self.port = free_port()
        self.url = f"{parts.scheme}://127.0.0.1:{self.port}"
        self.delay = 0.0
        self.deaf = False
        self.muted: dict[int, asyncio.Event] = {}
        """Connections by number whose answers are held back until the event is set."""
        self.connections = 0
        """How many connections there were; the first has number 1."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Break every connection there is."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        remote: asyncio.StreamWriter | None = None
        try:
            if self.deaf:
                await asyncio.Event().wait()
            back, remote = await asyncio.open_connection(*self._target)
            await asyncio.gather(
                self._pipe(reader, remote, number, False), self._pipe(back, writer, number, True)
            )
        except (asyncio.CancelledError, OSError):
            pass
        finally:
            self._tasks.discard(task)
            for each in (writer, remote):
                if each is not None:
                    each.transport.abort()

    async def _pipe(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
        answers: bool,
    ) -> None:
        while chunk := await reader.read(65536):
            if self.delay:
                await asyncio.sleep(self.delay)
            if answers and number in self.muted:
                await self.muted[number].wait()
            writer.write(chunk)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    def mute(self) -> None:
        """Hold back whatever the server says on the connections that there are."""
        for number in range(1, self.connections + 1):
            self.muted.setdefault(number, asyncio.Event())
