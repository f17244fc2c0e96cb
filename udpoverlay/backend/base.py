"""What a backend is, and what it makes: the model is flannel's pkg/backend/common.go.

Owns: the two protocols. Must not know: any backend.

    Backend   pure: what a `Backend.Type` means for leases, overhead and ports
    Network   the running data path: a device, a socket and workers under a stable route sink
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from netaddr import IPAddress, IPNetwork

from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.lease import LeaseAttrs

__all__ = ["Backend", "Network"]


class Backend(Protocol):
    """One kind of backend with one network's configuration."""

    @property
    def name(self) -> str:
        """As `Backend.Type` has it."""

    @property
    def network(self) -> IPNetwork:
        """The whole overlay."""

    @property
    def port(self) -> int:
        """UDP port, ours and every peer's."""

    def lease_attrs(self, public_ip: IPAddress | None) -> LeaseAttrs:
        """What our lease tells the others."""


class Network(Protocol):
    """The data path of one host. It is rebuilt when it must be, and the daemon goes on."""

    @property
    def device(self) -> str:
        """The tunnel device's name now."""

    @property
    def mtu(self) -> int:
        """The tunnel device's, in bytes, now."""

    def replace(self, routes: Mapping[IPNetwork, Endpoint]) -> None:
        """Publish `routes` as the whole of what is known, also to what is built later.

        Raises MemoryError or OSError when the table cannot be built; then the old one stays.
        """

    async def run(self) -> None:
        """Keep it as it has to be, until cancelled: it heals, or says why it cannot."""

    def troubles(self) -> dict[str, str]:
        """What keeps packets from flowing now, by part, in a sentence each; {} when nothing."""
