"""The podCIDR controller as a process: settings, signals, health, a look without acting.

Owns: what a replica is made of. Must not know: flags (cli/podcidr_controller.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from udpoverlay.clock import Clock, SystemClock
from udpoverlay.errors import KernelError, RegistryError
from udpoverlay.kubernetes.cidr_set import CidrAllocator, Finding, Pool
from udpoverlay.kubernetes.client import Json, KubeClient
from udpoverlay.kubernetes.diagnose import missing_rights, why_denied
from udpoverlay.kubernetes.errors import KubeDenied, KubeNotFound
from udpoverlay.kubernetes.kubeconfig import load_access
from udpoverlay.model.config import KubeConfigSource
from udpoverlay.observe.http import HttpError, HttpServer, Request, Response, tcp_listener
from udpoverlay.podcidr.controller import PodCidrController
from udpoverlay.podcidr.election import ElectionPeriods, Leadership
from udpoverlay.podcidr.reconciler import NODE_RIGHTS

__all__ = ["BootClock", "ControllerSettings", "check", "run"]


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """The configuration of a replica."""

    pools: tuple[Pool, ...]
    source: KubeConfigSource
    identity: str
    """Unique to this process."""
    remove_taints: tuple[str, ...] = ()
    lease_namespace: str = "kube-system"
    lease_name: str = "udpoverlay-podcidr-controller"
    periods: ElectionPeriods = field(default_factory=ElectionPeriods)
    healthz_ip: str = "0.0.0.0"  # noqa: S104 - probes come from the node
    healthz_port: int = 0
    """0: no health server."""


class BootClock(SystemClock):
    """Seconds since boot: a leader that was suspended knows that its time is over."""

    def monotonic(self) -> float:
        """CLOCK_BOOTTIME."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


async def run(settings: ControllerSettings, clock: Clock, unwinding: asyncio.Event) -> int:
    """Be a replica until cancelled. Raises OperatorError, KernelError."""
    client = KubeClient(load_access(settings.source))
    leadership = Leadership(
        client,
        namespace=settings.lease_namespace,
        name=settings.lease_name,
        identity=settings.identity,
        periods=settings.periods,
        clock=clock,
    )
    controller = PodCidrController(
        client, leadership, settings.pools, settings.remove_taints, clock
    )
    async with contextlib.AsyncExitStack() as undo:
        undo.push_async_callback(client.aclose)
        if settings.healthz_port:
            undo.push_async_callback(_serve_health(settings, controller))
        try:
            await controller.run()
        finally:
            unwinding.set()
    return 0


def _serve_health(
    settings: ControllerSettings, controller: PodCidrController
) -> Callable[[], Awaitable[None]]:
    """Answer /healthz, /readyz and /status; returns what ends it."""

    async def answer(request: Request) -> Response:
        if request.path in {"/healthz", "/readyz"}:
            healthy = controller.healthy()
            return Response.text(200 if healthy else 503, "ok" if healthy else "deaf")
        if request.path == "/status":
            return Response.json(controller.status())
        raise HttpError(404, "Not Found")

    try:
        listener = tcp_listener(settings.healthz_ip, settings.healthz_port)
    except OSError as error:
        raise KernelError(
            f"--healthz-port {settings.healthz_port}: {error.strerror}",
            fix="use a free port, or 0 for none",
            errno=error.errno or 0,
        ) from error
    server = HttpServer(answer)
    server.listen(listener)
    return server.stop


async def check(settings: ControllerSettings) -> Json:
    """What a leader would find, without acting: the same facts as its /status, and who leads."""
    client = KubeClient(load_access(settings.source))
    try:
        allocator = CidrAllocator(settings.pools)
        findings: list[Finding] = []
        without: list[str] = []
        count = 0
        try:
            async with contextlib.aclosing(client.node_pages(frozenset())) as pages:
                async for page in pages:
                    count += len(page.nodes) + len(page.odd)
                    for view in page.nodes:
                        findings += allocator.adopt(view)
                        if not (view.pod_cidr or view.pod_cidrs):
                            without.append(view.name)
                    findings += [Finding(odd.name, odd.why, "") for odd in page.odd]
        except KubeDenied as error:
            why = why_denied(error, await missing_rights(client, NODE_RIGHTS))
            raise RegistryError(why.what, fix=why.fix) from error
        free = zip(settings.pools, allocator.free(), strict=True)
        return {
            "schema": 1,
            "holder": await _holder(client, settings),
            "nodes": count,
            "without_pod_cidr": without,
            "free": {str(pool.network): slots for pool, slots in free},
            "findings": [
                {"node": each.node, "what": each.text, "fix": each.fix} for each in findings
            ],
        }
    finally:
        await client.aclose()


async def _holder(client: KubeClient, settings: ControllerSettings) -> str | None:
    """Who holds the Lease; None when it has no holder or we may not look."""
    try:
        lease = await client.get_lease(settings.lease_namespace, settings.lease_name)
    except (KubeNotFound, KubeDenied):
        return None
    return lease.holder or None
