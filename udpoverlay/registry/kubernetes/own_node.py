"""Our own Node: from its podCIDR to our lease, the annotations on it, its network condition.

Owns: what is read from and written to the Node that we run on (flannel pkg/subnet/kube/kube.go
AcquireLease, CompleteLease, GetStoredPublicIP). Must not know: other Nodes, who waits.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timezone

from netaddr import IPNetwork

from udpoverlay.clock import Clock
from udpoverlay.errors import (
    OperatorError,
    RegistryError,
    RegistryUnavailable,
    UdpOverlayError,
)
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.diagnose import (
    DAEMON_RIGHTS,
    missing_rights,
    why_denied,
    why_no_pod_cidr,
)
from udpoverlay.kubernetes.errors import KubeDenied, KubeNotFound
from udpoverlay.kubernetes.node import NodeView, NotALease, pod_networks
from udpoverlay.kubernetes.nodes import NodeFeed
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.netconf import NetConf
from udpoverlay.registry.kubernetes.annotations import (
    AnnotationNames,
    StackNeeds,
    annotations_to_write,
    published,
)

__all__ = ["OwnNode"]

_log = get_logger(__name__)


class OwnNode:
    """Reads and writes one Node. `feed` is None where no cache of Nodes is kept (alloc)."""

    def __init__(  # noqa: PLR0913 - what it is made of; only open_kube makes one
        self,
        name: str,
        *,
        client: KubeClient,
        feed: NodeFeed | None,
        names: AnnotationNames,
        conf: NetConf,
        where: str,
        set_condition: bool,
        clock: Clock,
        poll: float,
    ) -> None:
        """`where` names the file that `conf` came from; `poll` is in seconds."""
        self.name = name
        self._client = client
        self._feed = feed
        self._names = names
        self._conf = conf
        self._where = where
        self._needs = StackNeeds.of(conf.enable_ipv4, conf.enable_ipv6, conf.backend_type)
        self._set_condition = set_condition
        self._clock = clock
        self._poll = poll
        self._report = RateLimited(_log, clock.monotonic, per_minute=1)
        self._troubles: dict[str, str] = {}
        self._uid = ""
        self._claimed: tuple[Lease, LeaseAttrs] | None = None
        self._complete = False
        self._condition_due = False
        self._saying = asyncio.Lock()

    def troubles(self) -> dict[str, str]:
        """What is not as it should be with our Node; {} when all is."""
        return dict(self._troubles)

    # ------------------------------------------------------------------ lease

    async def claim(self, attrs: LeaseAttrs) -> Lease | str:
        """Try once to take our podCIDR as a lease and publish `attrs`; else say what is missing.

        Raises OperatorError for what cannot change any more: a podCIDR outside Network.
        """
        try:
            return await self._claim(attrs)
        except _OutsideNetwork:
            raise
        except KubeDenied as error:
            return str(why_denied(error, await missing_rights(self._client, DAEMON_RIGHTS)))
        except ValueError as error:
            return f"Node {self.name}: {error}: kubectl get node {self.name} -o yaml shows it"
        except UdpOverlayError as error:
            return str(error)

    async def _claim(self, attrs: LeaseAttrs) -> Lease:
        if self._feed is not None and not self._feed.synced.is_set():
            raise self._feed.trouble or RegistryUnavailable("the list of Nodes is not complete yet")
        view = await self.view()
        if view is None or not (view.pod_cidr or view.pod_cidrs):
            nodes = self._feed.nodes if self._feed is not None else {}
            if view is not None:
                nodes = {**nodes, view.name: view}
            why = why_no_pod_cidr(self.name, nodes, self._conf)
            raise RegistryUnavailable(why.what, fix=why.fix)
        subnet = self.subnet(view)
        if self._conf.enable_ipv6 and subnet.v6 is None:
            self._report.warning("ipv6", "EnableIPv6 is on, but our Node has no IPv6 podCIDR")
        changes = annotations_to_write(view, self._names, attrs)
        if changes:
            patch = {"metadata": {"annotations": changes}}
            await self._client.patch_node_status(self.name, patch)
            _log.info("node annotated", node=self.name, annotations=sorted(changes))
        self._uid = view.uid
        public_ip = published(view, self._names.public_ip_overwrite, attrs.public_ip)
        revision = int(view.resource_version) if view.resource_version.isdecimal() else 0
        lease = Lease(subnet, replace(attrs, public_ip=public_ip), revision=revision)
        self._claimed = (lease, attrs)
        return lease

    async def view(self) -> NodeView | None:
        """Our Node as the cache has it, or as the server has it where there is no cache."""
        if self._feed is not None:
            return self._feed.nodes.get(self.name)
        try:
            return await self._client.get_node(self.name, self._names.all(), cached=True)
        except KubeNotFound:
            return None

    def subnet(self, view: NodeView) -> Subnet:
        """The part of a Node's podCIDRs that the enabled families use.

        Raises NotALease when a needed family is missing, OperatorError when Network has it not.
        """
        subnet = self._needs.subnet(*pod_networks(view))
        self._check_inside(subnet.v4, self._conf.network, "Network")
        self._check_inside(subnet.v6, self._conf.ipv6_network, "IPv6Network")
        return subnet

    def _check_inside(self, cidr: IPNetwork | None, network: IPNetwork | None, key: str) -> None:
        if cidr is None or (network is not None and cidr in network):
            return
        raise _OutsideNetwork(
            f"podCIDR {cidr} of Node {self.name} is not part of {key} {network or '(not set)'} "
            f"in {self._where}",
            fix=f"set {key} to the --cluster-cidr of what hands out podCIDRs",
        )

    # ------------------------------------------------------------------ condition

    async def complete(self) -> None:
        """Say that the network works: NetworkUnavailable = False. A failure is tried again."""
        self._complete = True
        if self._set_condition:
            self._condition_due = True
            await self._say_network_works()

    async def _say_network_works(self) -> None:
        # `complete` and `keep` may both be at it.
        async with self._saying:
            if self._condition_due:
                await self._patch_condition()

    async def _patch_condition(self) -> None:
        now = datetime.fromtimestamp(self._clock.now().wall, timezone.utc)
        stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {
            "type": "NetworkUnavailable",
            "status": "False",
            "lastHeartbeatTime": stamp,
            "lastTransitionTime": stamp,
            "reason": "FlannelIsUp",
            "message": "Flannel is running on this node",
        }
        try:
            await self._client.patch_node_status(self.name, {"status": {"conditions": [condition]}})
        except RegistryError as error:
            text = str(error)
            if isinstance(error, KubeDenied):
                missing = await missing_rights(self._client, DAEMON_RIGHTS)
                text = str(why_denied(error, missing))
            self._troubles["condition"] = f"NetworkUnavailable not set to False: {text}"
            self._report.error("condition", "condition NetworkUnavailable not set", error=text)
        else:
            self._troubles.pop("condition", None)
            self._condition_due = False
            _log.info("condition NetworkUnavailable set to False", node=self.name)

    # ------------------------------------------------------------------ afterwards

    async def keep(self) -> None:
        """Publish again when our Node was deleted and recreated with the same podCIDR; for ever.

        Annotations that were changed on the living Node are left alone, as flannel does. A failed
        condition is set later.
        """
        while True:
            await self._clock.sleep(self._poll)
            assert self._claimed is not None  # there is nothing to keep before
            lease, attrs = self._claimed
            await self._say_network_works()
            view = self._feed.nodes.get(self.name) if self._feed is not None else None
            if view is None or view.uid == self._uid or not (view.pod_cidr or view.pod_cidrs):
                continue
            if not self.still_holds(view, lease):
                now = ", ".join(view.pod_cidrs) or view.pod_cidr
                self._troubles["node"] = f"our Node has {now} now, and we still {lease.subnet}"
                self._report.error(
                    "moved",
                    "our node was recreated with another podCIDR",
                    node=self.name,
                    ours=lease.subnet,
                    now=now,
                    fix="restart udpoverlayd and the pods of this node",
                )
                continue
            try:
                again = await self.claim(attrs)
            except OperatorError as error:
                again = str(error)
            if isinstance(again, str):
                self._report.warning("again", "new node not annotated", node=self.name, why=again)
                continue
            self._troubles.pop("node", None)
            _log.warning("our node was recreated and is annotated again", node=self.name)
            if self._complete and self._set_condition:
                self._condition_due = True

    def still_holds(self, view: NodeView, lease: Lease) -> bool:
        """Whether our Node still has the podCIDR that is our lease."""
        try:
            return self.subnet(view) == lease.subnet
        except (NotALease, OperatorError):
            return False

    async def stored_public_ips(self) -> tuple[str, str]:
        """The annotations node-public-ip and node-public-ipv6, "" where absent.

        Without the right to get Nodes both are "", as manifests without it expect.
        """
        try:
            view = await self._client.get_node(self.name, self._names.all())
        except RegistryError as error:
            _log.warning("stored public addresses not read", node=self.name, error=str(error))
            return "", ""
        said = view.annotations
        return (
            said.get(self._names.node_public_ip, ""),
            said.get(self._names.node_public_ipv6, ""),
        )


class _OutsideNetwork(OperatorError):
    """Waiting does not help: spec.podCIDR never changes."""
