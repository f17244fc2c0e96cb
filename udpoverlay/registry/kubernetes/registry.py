"""Kubernetes as a registry: leases are Nodes, subnets are podCIDRs (--kube-subnet-mgr).

Owns: the order of flannel's Kubernetes manager (flannel pkg/subnet/kube/kube.go): node name,
net-conf.json, first sync, acquire, annotations, condition. Must not know: routes, who renews.

    open_kube ──► network_config ──► acquire ──────────► watch            complete
    node name      net-conf.json      own podCIDR,        Nodes as         NetworkUnavailable
    first sync     parsed, not        annotations via     lease events     = False
                   validated          nodes/<name>/status

Recoverable conditions (no podCIDR, a missing right, an API server that is away) are waited for:
`waiting` and the log name the cause and the command. Only what waiting cannot change is an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from udpoverlay import aio
from udpoverlay.clock import SYSTEM_CLOCK, Clock
from udpoverlay.errors import (
    OperatorError,
    RegistryConflict,
    RegistryError,
    RegistryUnavailable,
)
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.diagnose import DAEMON_RIGHTS, Right, missing_rights, why_denied
from udpoverlay.kubernetes.errors import KubeDenied, KubeNotFound
from udpoverlay.kubernetes.kubeconfig import SERVICE_ACCOUNT, load_access
from udpoverlay.kubernetes.nodes import News, NodeFeed
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model.config import KubeConfigSource
from udpoverlay.model.events import Event, Snapshot
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.netconf import NetConf, parse_netconf
from udpoverlay.registry.kubernetes.annotations import V4_ONLY_BACKENDS, AnnotationNames, StackNeeds
from udpoverlay.registry.kubernetes.node_leases import NodeLeases
from udpoverlay.registry.kubernetes.own_node import OwnNode
from udpoverlay.supervisor import Supervisor

__all__ = ["KubeRegistry", "KubeTiming", "open_kube", "read_net_conf"]

_log = get_logger(__name__)

NO_INFORMER = "alloc"
"""This backend type follows no Nodes; compared exactly, as flannel does."""


@dataclass(frozen=True, slots=True)
class KubeTiming:
    """Seconds."""

    sync: float = 600.0
    """How long the first complete list of Nodes may take."""
    poll: float = 3.0
    """Between two looks at what is waited for."""


async def open_kube(
    source: KubeConfigSource,
    *,
    timing: KubeTiming = KubeTiming(),
    service_account: Path = SERVICE_ACCOUNT,
    clock: Clock = SYSTEM_CLOCK,
) -> KubeRegistry:
    """Reach the cluster, find our Node's name, read net-conf.json, fill the cache of Nodes.

    Raises OperatorError (configuration), RegistryUnavailable when the first sync took longer than
    `timing.sync` and `source.continue_when_cache_not_ready` is not set.
    """
    names = AnnotationNames.from_prefix(source.annotation_prefix)
    access = load_access(source, service_account=service_account, clock=clock.monotonic)
    conf = read_net_conf(source.net_config_path)
    client = KubeClient(access, clock=clock.monotonic)
    registry = None
    try:
        deadline = clock.monotonic() + timing.sync
        node_name = source.node_name or await _node_of_pod(client, source, deadline, clock, timing)
        registry = KubeRegistry(client, source, conf, names, node_name, timing=timing, clock=clock)
        await registry.start(deadline)
    except BaseException:
        await (registry.aclose() if registry is not None else client.aclose())
        raise
    return registry


def read_net_conf(path: str) -> NetConf:
    """The network configuration in the file `path`. Raises OperatorError naming the file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise OperatorError(
            f"--net-config-path {path}: {why}",
            fix="mount the ConfigMap that holds net-conf.json there",
        ) from None
    try:
        return parse_netconf(text)
    except OperatorError as error:
        raise OperatorError(f"{path}: {error.what}", fix=error.fix) from error


async def _node_of_pod(
    client: KubeClient, source: KubeConfigSource, deadline: float, clock: Clock, timing: KubeTiming
) -> str:
    """The Node that our Pod runs on; waits for what can change, until `deadline`."""
    if not (source.pod_name and source.pod_namespace):
        raise OperatorError(
            "neither NODE_NAME nor both POD_NAME and POD_NAMESPACE are set",
            fix="set NODE_NAME from fieldRef spec.nodeName in the DaemonSet",
        )
    pod = f"{source.pod_namespace}/{source.pod_name}"
    report = RateLimited(_log, clock.monotonic, per_minute=2)
    while True:
        try:
            name = await client.pod_node_name(source.pod_namespace, source.pod_name)
            break
        except KubeNotFound as error:
            raise OperatorError(
                f"there is no Pod {pod}", fix="correct POD_NAME and POD_NAMESPACE"
            ) from error
        except RegistryError as error:
            text = str(error)
            if isinstance(error, KubeDenied):
                text = str(why_denied(error, await missing_rights(client, (Right("get", "pods"),))))
            report.warning("pod", "the node's name cannot be looked up", pod=pod, error=text)
            if clock.monotonic() >= deadline:
                raise RegistryUnavailable(text, fix="or set NODE_NAME") from error
        await clock.sleep(timing.poll)
    if not name:
        raise OperatorError(f"Pod {pod} has no node yet", fix="set NODE_NAME")
    return name


class KubeRegistry:
    """See registry.base.Registry; made by open_kube."""

    COUNTERS = (
        "requests",
        "request_failures",
        "undecodable",
        "lists",
        "relists",
        "watches",
        "watch_breaks",
        "watch_compactions",
        "history_lost",
        "skipped_entries",
        "task_failures",
    )

    def __init__(  # noqa: PLR0913 - only open_kube makes one
        self,
        client: KubeClient,
        source: KubeConfigSource,
        conf: NetConf,
        names: AnnotationNames,
        node_name: str,
        *,
        timing: KubeTiming,
        clock: Clock,
    ) -> None:
        self.waiting = ""
        """What acquire waits for, with the command that fixes it; "" when it does not wait."""
        self._client = client
        self._keeping = False
        self._go_on_unsynced = source.continue_when_cache_not_ready
        self._conf = conf
        self._names = names
        self._timing = timing
        self._clock = clock
        self._supervisor = Supervisor(clock)
        self._report = RateLimited(_log, clock.monotonic, per_minute=2)
        self._feed: NodeFeed | None = None
        if conf.backend_type != NO_INFORMER:
            self._feed = NodeFeed(
                client,
                names.all(),
                clock=clock,
                on_denied=self._on_denied,
            )
        self._own = OwnNode(
            node_name,
            client=client,
            feed=self._feed,
            names=names,
            conf=conf,
            where=source.net_config_path,
            set_condition=source.set_node_network_unavailable,
            clock=clock,
            poll=timing.poll,
        )

    @property
    def node_name(self) -> str:
        """The Node that we run on."""
        return self._own.name

    async def start(self, deadline: float) -> None:
        """Fill the cache of Nodes until `deadline` (by the clock); part of open_kube."""
        if self._feed is None:
            _log.info("no node cache for this backend", backend=NO_INFORMER)
            return
        self._supervisor.start("kube-nodes", self._feed.run)
        left = max(0.0, deadline - self._clock.monotonic())
        await aio.event_or_sleep(self._feed.synced, left, self._clock.sleep)
        if self._feed.synced.is_set():
            _log.info("node cache complete", nodes=len(self._feed.nodes), node=self.node_name)
            return
        trouble = self._feed.trouble or RegistryUnavailable("no answer is complete yet")
        what = f"the Nodes could not be listed within {self._timing.sync:.0f} s: {trouble.what}"
        if not self._go_on_unsynced:
            raise RegistryUnavailable(what, fix=trouble.fix)
        _log.warning("going on without a complete node cache", error=what)

    async def _on_denied(self, error: KubeDenied) -> None:
        why = why_denied(error, await missing_rights(self._client, DAEMON_RIGHTS))
        self._report.error("denied", "rights are missing", why=str(why))

    # ------------------------------------------------------------------ the Registry protocol

    async def network_config(self) -> NetConf:
        """net-conf.json as it is: flannel validates it in etcd mode only."""
        return self._conf

    async def acquire(
        self, attrs: LeaseAttrs, previous: Subnet | None, conf: NetConf | None = None
    ) -> Lease:
        """Take the subnet that our Node was given; `previous` has no say in it.

        Waits, with `waiting` set, for a Node, a podCIDR, a right or the API server. Raises
        OperatorError when the podCIDR is not part of Network: it cannot change any more.
        """
        if self._conf.enable_ipv6 and not self._conf.enable_ipv4 and self._v4_only():
            raise OperatorError(
                f"backend {self._conf.backend_type} carries IPv4 only and EnableIPv4 is false",
                fix="set EnableIPv4 to true, or use the vxlan backend of flannel",
            )
        while True:
            pause = self._timing.poll
            try:
                claimed = await self._own.claim(attrs)
            except OperatorError:
                raise
            except Exception as error:
                claimed, pause = repr(error), self._supervisor.failed("kube-lease", error)
            if isinstance(claimed, Lease):
                break
            self.waiting = claimed
            self._report.warning("waiting", "waiting for a lease", why=claimed)
            await self._clock.sleep(pause)
        self.waiting = ""
        if not self._keeping:
            self._keeping = True
            self._supervisor.start("kube-own-node", self._own.keep)
        return claimed

    async def republish(self, lease: Lease, attrs: LeaseAttrs) -> Lease:
        """Annotate our Node with other attributes; see registry.base."""
        # Connections from an address that we have no more are dead, and take long to say so.
        await self._client.aclose()
        claimed = await self._own.claim(attrs)
        if not isinstance(claimed, Lease):
            raise RegistryUnavailable(claimed)
        if claimed.subnet != lease.subnet:
            raise RegistryConflict(
                f"our Node has {claimed.subnet} now, and we still {lease.subnet}",
                fix="restart udpoverlayd and the pods of this node",
            )
        return claimed

    def _v4_only(self) -> bool:
        return self._conf.backend_type.lower() in V4_ONLY_BACKENDS

    async def complete(self, lease: Lease) -> None:
        """Set the condition NetworkUnavailable to False; tried again later when it fails now."""
        try:
            await self._own.complete()
        except Exception as error:
            self._supervisor.failed("kube-condition", error)

    async def watch(self) -> AsyncIterator[Event]:
        """Every Node that is a lease; see registry.base.Registry."""
        if self._feed is None:
            yield Snapshot(())
            await asyncio.Event().wait()
            return
        needs = StackNeeds.of(
            self._conf.enable_ipv4, self._conf.enable_ipv6, self._conf.backend_type
        )
        leases = NodeLeases(self._names, needs)
        feed, follower = self._feed, self._feed.follow()
        try:
            while True:
                news = await follower.next()
                try:
                    events = _events(leases, feed, news)
                except Exception as error:
                    # What was reported stays; then everything is looked at again.
                    pause = self._supervisor.failed("kube-leases", error)
                    follower.start_over(news.lost_history)
                    await self._clock.sleep(pause)
                    continue
                for node, why in leases.take_odd():
                    self._client.counters["skipped_entries"] += 1
                    self._report.warning("odd", "node is no usable lease", node=node, why=why)
                for event in events:
                    yield event
        finally:
            feed.leave(follower)

    async def stored_public_ips(self) -> tuple[str, str]:
        """What the Node's annotations say instead of --public-ip and --public-ipv6, or "" each."""
        return await self._own.stored_public_ips()

    def counters(self) -> dict[str, int]:
        """See registry.base.Registry and COUNTERS."""
        counts = {name: self._client.counters[name] for name in self.COUNTERS}
        counts["task_failures"] = self._supervisor.failures
        return counts

    def troubles(self) -> dict[str, str]:
        """See registry.base.Registry."""
        return {
            **({"lease": self.waiting} if self.waiting else {}),
            **self._own.troubles(),
            **(self._feed.troubles() if self._feed is not None else {}),
            **self._supervisor.troubles(),
        }

    def watch_age(self) -> float | None:
        """See registry.base.Registry."""
        return None if self._feed is None else self._feed.age()

    async def aclose(self) -> None:
        """Stop following and close connections; annotations and condition stay."""
        await self._supervisor.aclose()
        await self._client.aclose()


def _events(leases: NodeLeases, feed: NodeFeed, news: News) -> list[Event]:
    """What `news` of the Nodes means for leases."""
    if not news.reset:
        return list(leases.change(feed.nodes, news.names))
    revision = int(feed.revision) if feed.revision.isascii() and feed.revision.isdecimal() else 0
    return [leases.reset(feed.nodes, revision, news.lost_history)]
