"""The host's links, addresses and routes as plain values.

Owns: the value types between netlink.py, which fills them, and interfaces.py, which judges them.
Must not know: netlink, sockets, settings.
"""

from __future__ import annotations

from dataclasses import dataclass

from netaddr import IPAddress, IPNetwork

__all__ = ["Address", "DefaultRoute", "HostView", "Link", "Route", "RouteAnswer"]


@dataclass(frozen=True, slots=True)
class Address:
    """One address of a link with those flags that decide whether it is a good source."""

    ip: IPAddress
    prefixlen: int
    permanent: bool = True
    """Set by hand or for ever (IFA_F_PERMANENT); false for autoconfigured ones with a lifetime."""
    temporary: bool = False
    """A privacy address (IFA_F_TEMPORARY, the same bit as IPv4's secondary)."""
    deprecated: bool = False
    """Past its preferred lifetime (IFA_F_DEPRECATED)."""


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface; `addresses` are in the kernel's order, `mtu` is in bytes."""

    index: int
    name: str
    mtu: int
    up: bool = True
    addresses: tuple[Address, ...] = ()

    def of_family(self, version: int) -> tuple[IPAddress, ...]:
        """All addresses of IP `version` (4 or 6), unfiltered, in the kernel's order."""
        return tuple(a.ip for a in self.addresses if a.ip.version == version)


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """The first default route of a family; `index` is 0 when it names no one link (multipath)."""

    index: int


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table to a network by one link."""

    network: IPNetwork
    index: int


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """What the kernel would use towards a destination: the link and the source address."""

    index: int
    source: IPAddress | None


@dataclass(frozen=True, slots=True)
class HostView:
    """One look at the host: everything that choosing an interface may depend on.

    `reach` is the answer for the one destination that was asked for, None when nothing was asked;
    `reach_error` says why there is no answer.
    """

    links: tuple[Link, ...]
    default_v4: DefaultRoute | None = None
    default_v6: DefaultRoute | None = None
    reach: RouteAnswer | None = None
    reach_error: str = ""

    def by_name(self, name: str) -> Link | None:
        """The link called `name`."""
        return next((link for link in self.links if link.name == name), None)

    def by_index(self, index: int) -> Link | None:
        """The link with kernel index `index`."""
        return next((link for link in self.links if link.index == index), None)
