"""The health server: what probes of Kubernetes and of systemd's watchers ask.

Owns: flanneld's two paths, byte for byte (flannel main.go, mustRunHealthz), and /statusz and
/metrics, which say more. Must not know: what readiness takes.

    /healthz   200 "flanneld is running"
    /readyz    200 "flanneld is ready", 503 "flanneld is not ready yet"; never goes back
    /statusz   200 JSON: ready, what does not work right now, and the counts behind it
    /metrics   200 Prometheus' text, 503 before there is anything to count
    others     404, as Go's net/http words it; any method is taken
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from udpoverlay.errors import OperatorError
from udpoverlay.log import get_logger
from udpoverlay.observe.http import HttpServer, Request, Response, tcp_listener
from udpoverlay.observe.metrics import CONTENT_TYPE

__all__ = ["Health", "health_server"]

_log = get_logger(__name__)


class Health:
    """Whether this host is ready, and what more there is to say of it."""

    def __init__(self) -> None:
        self.ready = False
        self.details: Callable[[], dict[str, object]] = dict
        """Builds the document of /statusz; set once there is something to tell."""
        self.metrics: Callable[[], bytes] | None = None
        """Builds the text of /metrics; likewise."""

    async def answer(self, request: Request) -> Response:
        """One request of a probe."""
        pages = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/statusz": self._statusz,
            "/metrics": self._metrics,
        }
        page = pages.get(request.path)
        if page is not None:
            return page()
        nosniff = ("X-Content-Type-Options", "nosniff")
        return Response(404, b"404 page not found\n", headers=(nosniff,))

    def _healthz(self) -> Response:
        return Response.text(200, "flanneld is running")

    def _readyz(self) -> Response:
        if self.ready:
            return Response.text(200, "flanneld is ready")
        return Response.text(503, "flanneld is not ready yet")

    def _statusz(self) -> Response:
        return Response.json({"ready": self.ready, **self.details()})

    def _metrics(self) -> Response:
        if self.metrics is None:
            return Response.text(503, "nothing to count yet\n")
        return Response(200, self.metrics(), CONTENT_TYPE)


@contextlib.asynccontextmanager
async def health_server(ip: str, port: int, health: Health | None = None) -> AsyncIterator[Health]:
    """Answer probes while the block runs; port 0: do not. Raises OperatorError."""
    health = health if health is not None else Health()
    if not port:
        yield health
        return
    try:
        listener = tcp_listener(ip, port)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise OperatorError(
            f"cannot serve health on {ip} port {port}: {why}",
            fix="choose another --healthz-port or --healthz-ip, or stop what listens there",
        ) from error
    server = HttpServer(health.answer)
    server.listen(listener)
    _log.info("health server", ip=ip, port=port)
    try:
        yield health
    finally:
        await server.stop()
