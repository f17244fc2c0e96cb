"""Which interface carries the tunnel, and which address is published to peers.

Owns: the order of the lookups, the rules of each, the order of an interface's addresses, the public
address, the tunnel's MTU. Pure: it judges a HostView and never looks at the host itself.
The rules are those of flannel pkg/ipmatch/match.go and pkg/ip/iface.go.
Must not know: netlink, leases, what the tunnel carries.

    iface …, in order ──► iface_regex …, in order ──► iface_can_reach ──► no interface: error
    an empty iface or iface_regex: the default route
    none of the three ──► the owner of public_ip (or public_ipv6) ──► neither set: default route
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from netaddr import IPAddress

from udpoverlay.errors import OperatorError
from udpoverlay.gocompat.net import parse_ip
from udpoverlay.host.links import Address, HostView, Link
from udpoverlay.model.public_address import public_address

__all__ = [
    "MINIMUM_MTU",
    "Choice",
    "Stack",
    "Wanted",
    "choose_interface",
    "tunnel_mtu",
]

MINIMUM_MTU = 68
"""The smallest MTU that IPv4 allows a link (RFC 791); the kernel accepts no less for a TUN."""


class Stack(Enum):
    """The IP families that the network configuration enables."""

    V4 = "IPv4"
    V6 = "IPv6"
    DUAL = "IPv4 and IPv6"

    @classmethod
    def of(cls, enable_ipv4: bool, enable_ipv6: bool) -> Stack:
        """Raises OperatorError when both are off."""
        if enable_ipv4:
            return cls.DUAL if enable_ipv6 else cls.V4
        if enable_ipv6:
            return cls.V6
        raise OperatorError(
            "the network configuration disables both IPv4 and IPv6",
            fix='set "EnableIPv4" or "EnableIPv6" to true',
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """The settings that the choice depends on, as the operator wrote them."""

    iface: tuple[str, ...] = ()
    iface_regex: tuple[str, ...] = ()
    iface_can_reach: str = ""
    public_ip: str = ""
    public_ipv6: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """The interface that was found; addresses of a family that is off are None.

    `address` is ours on the interface (the socket is bound to it), `public_ip` the one that peers
    send to; they differ behind NAT. `mtu` is the interface's, in bytes.
    """

    name: str
    index: int
    mtu: int
    address: IPAddress | None
    address_v6: IPAddress | None
    public_ip: IPAddress | None
    public_ipv6: IPAddress | None


class _NoMatch(Exception):
    """One lookup found nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A link, with the addresses that the lookup itself has already fixed."""

    link: Link
    v4: IPAddress | None = None
    v6: IPAddress | None = None


def tunnel_mtu(choice: Choice, overhead: int) -> int:
    """MTU of the tunnel device in bytes: the interface's less the encapsulation."""
    mtu = choice.mtu - overhead
    if mtu < MINIMUM_MTU:
        raise OperatorError(
            f"interface {choice.name} has an MTU of {choice.mtu}",
            fix=f"a tunnel needs at least {MINIMUM_MTU + overhead}: "
            "raise its MTU or choose another interface",
        )
    return mtu


def choose_interface(
    wanted: Wanted, stack: Stack, view: HostView, failed: Callable[[str], None]
) -> Choice:
    """The first lookup that succeeds decides; `failed` is called for each one that does not.

    Raises OperatorError that names everything tried and what the host has.
    """
    public_v4, public_v6 = _public(wanted, stack)
    reasons = []
    for what, lookup in _lookups(wanted, stack, view):
        try:
            found = _with_addresses(lookup(), stack)
        except _NoMatch as error:
            reasons.append(f"{what}: {error}")
            failed(reasons[-1])
            continue
        return Choice(
            name=found.link.name,
            index=found.link.index,
            mtu=found.link.mtu,
            address=found.v4,
            address_v6=found.v6,
            public_ip=public_v4 or found.v4,
            public_ipv6=public_v6 or found.v6,
        )
    raise OperatorError(
        f"no interface to use: {'; '.join(reasons)}",
        fix=f"{_advice(wanted)}; this host has {_inventory(view)}",
    )


def _advice(wanted: Wanted) -> str:
    if wanted.iface or wanted.iface_regex or wanted.iface_can_reach:
        return "name one that carries the hosts' traffic: --iface=NAME"
    if wanted.public_ip or wanted.public_ipv6:
        return "for an address behind NAT name the interface too: --iface=NAME"
    return "name the interface between the hosts: --iface=NAME"


# --- what is tried, in which order ---------------------------------------------------------------

_Lookup = Callable[[], _Found]


def _lookups(wanted: Wanted, stack: Stack, view: HostView) -> list[tuple[str, _Lookup]]:
    lookups: list[tuple[str, _Lookup]] = []
    by_default = partial(_by_default_route, stack, view)
    # An empty name or pattern is the default route, not nothing (flannel ipmatch.LookupExtIface).
    for text in wanted.iface:
        lookup = partial(_by_text, text, wanted, stack, view) if text else by_default
        lookups.append((f"iface {text!r}", lookup))
    for pattern in wanted.iface_regex:
        lookup = partial(_by_regex, pattern, stack, view) if pattern else by_default
        lookups.append((f"iface-regex {pattern!r}", lookup))
    if wanted.iface_can_reach:
        what = f"iface-can-reach {wanted.iface_can_reach!r}"
        lookups.append((what, partial(_by_route, wanted.iface_can_reach, stack, view)))
    if not lookups:
        owner = wanted.public_ip or wanted.public_ipv6
        if owner:
            flag = "public-ip" if wanted.public_ip else "public-ipv6"
            lookups.append((f"{flag} {owner!r}", partial(_by_text, owner, wanted, stack, view)))
        else:
            lookups.append(("default route", by_default))
    return lookups


def _by_text(text: str, wanted: Wanted, stack: Stack, view: HostView) -> _Found:
    address = parse_ip(text)
    if address is None:
        link = view.by_name(text)
        if link is None:
            raise _NoMatch("no interface has this name")
        return _Found(link)
    if stack is not Stack.DUAL:
        wanted_version = 4 if stack is Stack.V4 else 6
        if address.version != wanted_version:
            raise _NoMatch(f"is not an {stack.value} address, but only {stack.value} is enabled")
        link = _owner(address, view)
        return _Found(link, v4=address) if stack is Stack.V4 else _Found(link, v6=address)
    return _by_both_addresses(address, wanted, view)


def _by_both_addresses(address: IPAddress, wanted: Wanted, view: HostView) -> _Found:
    v6 = parse_ip(wanted.public_ipv6) if wanted.public_ipv6 else None
    if address.version == 4:
        link = _owner(address, view)
        if v6 is None:
            return _Found(link, v4=address)
        v6_link = _owner(v6, view)
        if v6_link.name != link.name:
            raise _NoMatch(f"is on {link.name}, but public-ipv6 {v6} is on {v6_link.name}")
        return _Found(link, v4=address, v6=v6)
    if v6 is None:
        raise _NoMatch("an IPv6 address here needs public-ipv6 too when both families are enabled")
    return _Found(_owner(v6, view), v6=v6)


def _owner(address: IPAddress, view: HostView) -> Link:
    for link in view.links:
        if address in link.of_family(address.version):
            return link
    raise _NoMatch(f"no interface has the address {address}")


def _by_regex(pattern: str, stack: Stack, view: HostView) -> _Found:
    try:
        regex = re.compile(_from_re2(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        raise _NoMatch(f"is not a regular expression: {error}") from error
    for link in view.links:
        v4 = _first_match(regex, _usable(link, 4))
        v6 = _first_match(regex, _usable(link, 6))
        if stack is Stack.V4 and v4 is not None:
            return _Found(link, v4=v4)
        if stack is Stack.V6 and v6 is not None:
            return _Found(link, v6=v6)
        if stack is Stack.DUAL and v4 is not None and v6 is not None:
            return _Found(link, v4=v4, v6=v6)
    for link in view.links:
        if regex.search(link.name):
            return _Found(link)
    raise _NoMatch("matches no address and no name")


def _first_match(regex: re.Pattern[str], addresses: list[IPAddress]) -> IPAddress | None:
    return next((address for address in addresses if regex.search(str(address))), None)


def _by_route(text: str, stack: Stack, view: HostView) -> _Found:
    if parse_ip(text) is None:
        raise _NoMatch("is not an IP address")
    if view.reach is None:
        raise _NoMatch(view.reach_error or "no route leads there")
    link = view.by_index(view.reach.index)
    if link is None:
        raise _NoMatch("the route names no interface")
    source = view.reach.source
    if source is None:
        return _Found(link)
    if source.version == 4:
        return _Found(link, v4=source) if stack is not Stack.V6 else _Found(link)
    return _Found(link, v6=source) if stack is not Stack.V4 else _Found(link)


def _by_default_route(stack: Stack, view: HostView) -> _Found:
    v4 = None if stack is Stack.V6 else _default_link(4, view)
    v6 = None if stack is Stack.V4 else _default_link(6, view)
    if v4 is not None and v6 is not None and v4.name != v6.name:
        raise _NoMatch(f"IPv4 leaves through {v4.name}, but IPv6 through {v6.name}")
    link = v4 or v6
    assert link is not None  # each stack has at least one family
    return _Found(link)


def _default_link(version: int, view: HostView) -> Link:
    route = view.default_v4 if version == 4 else view.default_v6
    if route is None:
        raise _NoMatch(f"the host has no IPv{version} default route")
    link = view.by_index(route.index)
    if link is None:
        raise _NoMatch(f"the IPv{version} default route names no single interface (multipath)")
    return link


# --- addresses -----------------------------------------------------------------------------------


def _with_addresses(found: _Found, stack: Stack) -> _Found:
    link, v4, v6 = found.link, found.v4, found.v6
    if link.mtu == 0:
        raise _NoMatch(f"the MTU of {link.name} is not known")
    if stack is not Stack.V6 and v4 is None:
        v4 = _best(link, 4)
    if stack is not Stack.V4 and v6 is None:
        v6 = _best(link, 6)
    return _Found(link, v4=v4, v6=v6)


def _best(link: Link, version: int) -> IPAddress:
    usable = _usable(link, version)
    if not usable:
        raise _NoMatch(f"{link.name} has no usable IPv{version} address")
    return usable[0]


def _usable(link: Link, version: int) -> list[IPAddress]:
    """Global or link-local addresses that are not deprecated, the preferable first."""
    candidates = [
        address
        for address in link.addresses
        if address.ip.version == version
        and not address.deprecated
        and (_is_global(address.ip) or address.ip.is_link_local())
    ]
    return [address.ip for address in sorted(candidates, key=_preference)]


def _preference(address: Address) -> tuple[bool, bool, bool]:
    return (address.ip.is_link_local(), not address.permanent, address.temporary)


def _is_global(ip: IPAddress) -> bool:
    """Go's IP.IsGlobalUnicast: private ranges count, loopback, multicast and broadcast do not."""
    return not (
        ip.is_loopback()
        or ip.is_multicast()
        or ip.is_link_local()
        or int(ip) == 0
        or (ip.version == 4 and int(ip) == 0xFFFFFFFF)
    )


def _public(wanted: Wanted, stack: Stack) -> tuple[IPAddress | None, IPAddress | None]:
    v4 = public_address("public-ip", wanted.public_ip, 4)
    v6 = public_address("public-ipv6", wanted.public_ipv6, 6)
    return (None if stack is Stack.V6 else v4), (None if stack is Stack.V4 else v6)


# --- RE2 and what the host has -------------------------------------------------------------------

_POSIX_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7F",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": r"0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}


def _from_re2(pattern: str) -> str:
    r"""A RE2 pattern in Python's spelling: `[[:digit:]]`, `\z` and `\Q…\E` are translated.

    Python accepts more (look-around, back-references), which RE2 refuses; flags in the middle of a
    pattern and Unicode classes (`\pL`) are RE2's alone and are refused by Python.
    """
    pattern = re.sub(
        r"\\Q(.*?)(?:\\E|$)", lambda match: re.escape(match[1]), pattern, flags=re.DOTALL
    )
    pattern = re.sub(r"\[:(\w+):\]", lambda match: _POSIX_CLASSES.get(match[1], match[0]), pattern)
    return re.sub(r"(?<!\\)((?:\\\\)*)\\z", r"\1\\Z", pattern)


def _inventory(view: HostView) -> str:
    parts = []
    for link in view.links:
        addresses = " ".join(str(address.ip) for address in link.addresses)
        parts.append(f"{link.name} ({addresses or 'no address'})")
    return ", ".join(parts) or "no interface"
