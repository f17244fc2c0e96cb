"""Kubernetes as the doctor asks it.

Owns: which requests answer the doctor's questions. Must not know: which findings follow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from udpoverlay.doctor.facts.side import Server
from udpoverlay.errors import OperatorError, RegistryError
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.diagnose import DAEMON_RIGHTS, Right
from udpoverlay.kubernetes.errors import KubeDenied
from udpoverlay.kubernetes.kubeconfig import load_access
from udpoverlay.kubernetes.node import NodeView
from udpoverlay.model.config import KubeConfigSource
from udpoverlay.model.lease import Lease
from udpoverlay.model.netconf import NetConf
from udpoverlay.registry.kubernetes.annotations import AnnotationNames, StackNeeds
from udpoverlay.registry.kubernetes.node_leases import NodeLeases
from udpoverlay.registry.kubernetes.registry import read_net_conf

__all__ = ["KubeSide"]


class KubeSide:
    """See side.Side."""

    def __init__(self, source: KubeConfigSource) -> None:
        """Raises OperatorError when no API server is named, or a kubeconfig is wrong."""
        self.source = source
        self.names = AnnotationNames.from_prefix(source.annotation_prefix)
        self._access = load_access(source)
        self._client = KubeClient(self._access)
        self._nodes: dict[str, NodeView] | None = None
        self._node_name = source.node_name

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._access.server

    async def netconf(self) -> NetConf:
        """See side.Side."""
        return read_net_conf(self.source.net_config_path)

    async def node_name(self) -> str:
        """Our Node. Raises OperatorError where nothing names it, RegistryError."""
        source = self.source
        if not self._node_name and source.pod_name and source.pod_namespace:
            self._node_name = await self._client.pod_node_name(
                source.pod_namespace, source.pod_name
            )
        if not self._node_name:
            raise OperatorError(
                "neither NODE_NAME nor both POD_NAME and POD_NAMESPACE are set",
                fix="NODE_NAME=$(hostname) udpoverlay doctor …",
            )
        return self._node_name

    async def nodes(self) -> Mapping[str, NodeView]:
        """All Nodes by name. Raises RegistryError."""
        if self._nodes is None:
            found: dict[str, NodeView] = {}
            async with contextlib.aclosing(self._client.node_pages(self.names.all())) as pages:
                async for page in pages:
                    found.update((view.name, view) for view in page.nodes)
            self._nodes = found
        return self._nodes

    async def leases(self) -> Sequence[Lease]:
        """See side.Side: also those of two Nodes that publish one address."""
        conf = await self.netconf()
        needs = StackNeeds.of(conf.enable_ipv4, conf.enable_ipv6, conf.backend_type)
        return NodeLeases(self.names, needs).reset(await self.nodes(), 0).leases

    async def rights(self) -> tuple[list[Right], list[Right]]:
        """Rights that we have and that we lack, as the server says. Raises RegistryError."""
        have: list[Right] = []
        lack: list[Right] = []
        wanted: tuple[Right, ...] = DAEMON_RIGHTS
        if not self.source.node_name:
            wanted = (*wanted, Right("get", "pods", namespace=self.source.pod_namespace))
        for right in wanted:
            held = await self._client.may_i(
                right.verb, right.resource, namespace=right.namespace, group=right.group
            )
            (have if held else lack).append(right)
        return have, lack

    async def who(self) -> str:
        """The name that the API server has for us, "" where it does not say."""
        try:
            await self._client.node_version()
        except KubeDenied as error:
            return error.user
        except RegistryError:
            return ""
        return ""

    async def stored_public_ips(self) -> tuple[str, str]:
        """See side.Side. Without the rights for it both are "", as for the daemon."""
        try:
            view = await self._client.get_node(await self.node_name(), self.names.all())
        except (RegistryError, OperatorError):
            return "", ""
        said = view.annotations
        return said.get(self.names.node_public_ip, ""), said.get(self.names.node_public_ipv6, "")

    def servers(self) -> Sequence[Server]:
        """See side.Side."""
        tls = self._access.tls
        return [(self._access.server, None if tls is None else tls.context)]

    async def aclose(self) -> None:
        """See side.Side."""
        await self._client.aclose()
