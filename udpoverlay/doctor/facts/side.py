"""The registry's side as the doctor asks it: one look, no retries, nothing written.

Owns: the questions that both registries answer. Must not know: what the answers mean.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Protocol

from udpoverlay.model.lease import Lease
from udpoverlay.model.netconf import NetConf

__all__ = ["Server", "Side"]

Server = tuple[str, ssl.SSLContext | None]
"""A URL, and what TLS with it needs."""


class Side(Protocol):
    """One registry; `aclose` it."""

    async def netconf(self) -> NetConf:
        """The network configuration. Raises OperatorError, RegistryError."""

    async def leases(self) -> Sequence[Lease]:
        """All leases, our own too. Raises RegistryError."""

    async def stored_public_ips(self) -> tuple[str, str]:
        """What the registry has for this host, as registry.base.Registry."""

    def servers(self) -> Sequence[Server]:
        """Its servers, whose clocks can be asked."""

    async def aclose(self) -> None:
        """Close connections."""
