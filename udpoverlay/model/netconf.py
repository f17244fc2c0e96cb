"""The network configuration: flannel's JSON document under <prefix>/config or net-conf.json.

Owns: its keys, Go's reading rules for them, defaults and validation (flannel pkg/subnet/config.go).
Must not know: where the text came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netaddr import IPAddress, IPNetwork

__all__ = ["NetConf"]


@dataclass(frozen=True, slots=True)
class NetConf:
    """A parsed network configuration; after `validated()` no default is open any more."""

    enable_ipv4: bool = True
    enable_ipv6: bool = False
    enable_nftables: bool = False
    network: IPNetwork | None = None
    subnet_min: IPAddress | None = None
    subnet_max: IPAddress | None = None
    subnet_len: int = 0
    ipv6_network: IPNetwork | None = None
    ipv6_subnet_min: IPAddress | None = None
    ipv6_subnet_max: IPAddress | None = None
    ipv6_subnet_len: int = 0
    backend_type: str = "udp"
    """As written; look it up lower-cased."""
    backend: Mapping[str, Any] = field(default_factory=dict)
    """The Backend object, keys lower-cased (Go matches JSON keys without regard to case)."""
