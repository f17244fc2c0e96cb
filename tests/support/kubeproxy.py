"""A proxy before either API server that can swallow answers: requests are carried out, and no more.

client ── http ──► SwallowingProxy ── http(s) ──► API server
           ◄ ✗ ─
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import aiohttp
from aiohttp import web

from tests.support.kubecluster import Cluster, until

Matches = Callable[[str, str], bool]
"""(method, path)."""

HOP_BY_HOP = {"transfer-encoding", "content-length", "connection", "content-encoding"}


class SwallowingProxy:
    """`async with SwallowingProxy(cluster) as proxy`: clients of `proxy.url`."""

    def __init__(self, cluster: Cluster) -> None:
        self.url = ""
        self.swallows: Matches = lambda method, path: False
        """Whose answers are swallowed from now on."""
        self.hanging = 0
        """Clients that wait for an answer which never comes."""
        self.swallowed: list[tuple[str, str, int]] = []
        """(method, path, code) of each answer."""
        self._target = cluster.url
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> SwallowingProxy:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        assert self._session is not None
        await self._runner.cleanup()
        await self._session.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in {"host", "content-length"}
        }
        async with self._session.request(
            request.method,
            self._target + request.path_qs,
            data=await request.read() if request.can_read_body else None,
            headers=headers,
            ssl=False,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            if self.swallows(request.method, request.path):
                await answer.read()
                self.swallowed.append((request.method, request.path, answer.status))
                self.hanging += 1
                try:
                    await until(lambda: request.transport is None or request.transport.is_closing())
                finally:
                    self.hanging -= 1
                raise web.HTTPGatewayTimeout
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            return response
