"""Plain HTTP before either API server: as it is, or with answers that are swallowed.

client ── http ──► Front ── http(s) ──► API server
           ◄ ✗ ─            a swallowed request is carried out, and no more
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import aiohttp
from aiohttp import web

from tests.support.kubecluster import Kube, until

Matches = Callable[[str, str], bool]
"""(method, path)."""

HOP_BY_HOP = {"transfer-encoding", "content-length", "connection", "content-encoding"}


class Front:
    """`async with Front(target) as front`: clients of `front.url`."""

    def __init__(
        self, target: str, address: str = "127.0.0.1", port: int = 0, token: str = ""
    ) -> None:
        """`token`, if any, is what every request gets in place of its own."""
        self.url = ""
        self._target = target
        self._address, self._port = address, port
        self._token = token
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Front:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, self._port).start()
        self.url = f"http://{self._address}:{self._runner.addresses[0][1]}"
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
        headers.setdefault("Content-Type", "application/json")
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        async with self._session.request(
            request.method,
            self._target + request.path_qs,
            data=await request.read() if request.can_read_body else None,
            headers=headers,
            ssl=False,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            return await self._pass_on(request, answer)

    async def _pass_on(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
        return response


class SwallowingProxy(Front):
    """`async with SwallowingProxy(cluster) as proxy`: answers of some requests never come."""

    def __init__(self, cluster: Kube) -> None:
        super().__init__(cluster.url)
        self.swallows: Matches = lambda method, path: False
        """Whose answers are swallowed from now on."""
        self.hanging = 0
        """Clients that wait for an answer which never comes."""
        self.swallowed: list[tuple[str, str, int]] = []
        """(method, path, code) of each answer."""

    async def __aenter__(self) -> SwallowingProxy:
        await super().__aenter__()
        return self

    async def _pass_on(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        if not self.swallows(request.method, request.path):
            return await super()._pass_on(request, answer)
        await answer.read()
        self.swallowed.append((request.method, request.path, answer.status))
        self.hanging += 1
        try:
            await until(lambda: request.transport is None or request.transport.is_closing())
        finally:
            self.hanging -= 1
        raise web.HTTPGatewayTimeout
