"""The network configuration: flannel's JSON document under <prefix>/config or net-conf.json.

Owns: its keys, their types and defaults, and the validation that flannel's etcd manager runs
(pkg/subnet/config.go; its Kubernetes manager skips it). Must not know: where the text came from.

    parse_netconf(text) ──► NetConf ──► .validated() ──► NetConf without an open default
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from netaddr import IPAddress, IPNetwork

from udpoverlay.errors import OperatorError
from udpoverlay.gocompat import json as gojson
from udpoverlay.gocompat import net as goip

__all__ = ["DEFAULT_BACKEND", "NetConf", "parse_netconf"]

DEFAULT_BACKEND = "udp"
"""The type when the document has no Backend (flannel's documentation says vxlan, its code udp)."""

_T = TypeVar("_T")


def _bad(key: str, value: object, why: str, fix: str) -> OperatorError:
    text = gojson.shorten(str(value))
    return OperatorError(f"network configuration: {key} {text} {why}", fix=fix)


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
    """Bits; 0: not given."""
    ipv6_network: IPNetwork | None = None
    ipv6_subnet_min: IPAddress | None = None
    ipv6_subnet_max: IPAddress | None = None
    ipv6_subnet_len: int = 0
    """Bits; 0: not given."""
    backend_type: str = DEFAULT_BACKEND
    """As written; look it up lower-cased."""
    backend: Mapping[str, Any] = field(default_factory=dict)
    """The Backend object, keys lower-cased (Go matches JSON keys without regard to case)."""

    def backend_int(self, key: str, default: int, low: int, high: int) -> int:
        """Read an integer of the Backend object, low..high; `default` when absent or null.

        Raises OperatorError naming key and value.
        """
        value = self.backend.get(key.lower())
        if value is None:
            return default
        if type(value) is not int or not low <= value <= high:
            raise _bad(
                f"Backend.{key}",
                _json_like(value),
                "is out of range",
                f"use an integer from {low} to {high}",
            )
        return value

    def validated(self) -> NetConf:
        """Check what flannel's etcd manager checks and fill in its defaults.

        Raises OperatorError naming key, value and fix.
        """
        conf = self
        if conf.enable_ipv4:
            length, low, high = _fit(_V4, conf.network, conf.subnet_len, conf.subnet_min,
                                     conf.subnet_max)  # fmt: skip
            conf = replace(conf, subnet_len=length, subnet_min=low, subnet_max=high)
        if conf.enable_ipv6:
            length, low, high = _fit(_V6, conf.ipv6_network, conf.ipv6_subnet_len,
                                     conf.ipv6_subnet_min, conf.ipv6_subnet_max)  # fmt: skip
            conf = replace(conf, ipv6_subnet_len=length, ipv6_subnet_min=low, ipv6_subnet_max=high)
        return conf


class _Family(NamedTuple):
    """The numbers in which the rules for IPv4 and IPv6 differ (flannel pkg/subnet/config.go)."""

    version: int
    width: int
    prefix: str
    longest_subnet: int
    longest_network: int
    usual_subnet: int
    example: str


_V4 = _Family(4, 32, "", 30, 28, 24, "10.244.0.0/16")
_V6 = _Family(6, 128, "IPv6", 126, 124, 64, "fd00:10:244::/48")


def _fit(
    family: _Family,
    network: IPNetwork | None,
    length: int,
    low: IPAddress | None,
    high: IPAddress | None,
) -> tuple[int, IPAddress, IPAddress]:
    """Return subnet length, first and last subnet address of one family."""
    network_key, length_key = f"{family.prefix}Network", f"{family.prefix}SubnetLen"
    if network is None or (network.value == 0 and network.prefixlen == 0):
        raise _bad(network_key, network or "(absent)", "is no network to take subnets from",
                   f'set it, for example "{network_key}": "{family.example}"')  # fmt: skip
    room = network.prefixlen + 2
    if length > 0:
        if not room <= length <= family.longest_subnet:
            raise _bad(
                length_key,
                length,
                f"does not fit {network_key} {network}",
                f"use {room} to {family.longest_subnet}: four subnets at least, each of four"
                " addresses at least"
                if room <= family.longest_subnet
                else f"use a larger {network_key}",
            )
    elif network.prefixlen > family.longest_network:
        raise _bad(network_key, network, "is too small for four subnets",
                   f"use a prefix length of {family.longest_network} or less")  # fmt: skip
    else:
        length = max(family.usual_subnet, room)
    step = 1 << (family.width - length)
    first, last = network.first + step, network.last + 1 - step

    def bound(key: str, given: IPAddress | None, default: int) -> IPAddress:
        if given is None or given.value == 0:
            return IPAddress(default, version=family.version)
        if given not in network:
            raise _bad(key, given, f"is not in {network_key} {network}",
                       f"use an address of {network}, or leave {key} out")  # fmt: skip
        if given.value % step:
            aligned = goip.network_of(given.value, length, family.version)
            raise _bad(key, given, f"is not on a {length_key} /{length} boundary",
                       f"use {aligned.ip}")  # fmt: skip
        return given

    low_key, high_key = f"{family.prefix}SubnetMin", f"{family.prefix}SubnetMax"
    lowest, highest = bound(low_key, low, first), bound(high_key, high, last)
    if lowest > highest:
        # flannel finds out later: it deletes the host's own lease, then nothing is free.
        raise _bad(low_key, lowest, f"is above {high_key} {highest}: no subnet lies between them",
                   "exchange them, or leave both out")  # fmt: skip
    return length, lowest, highest


def _json_like(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _unquoted(raw: str) -> str:
    # Go hands the raw token to UnmarshalJSON, which trims the quotes and undoes no escapes.
    return raw.strip('"')


def _parsed(parse: Callable[[str], _T | None], key: str, raw: str, kind: str, example: str) -> _T:
    value = parse(_unquoted(raw))
    if value is None:
        raise _bad(key, raw, f"is not an {kind}", f'write it like "{example}"')
    return value


def _network4(key: str, raw: str, _: object) -> IPNetwork:
    return _parsed(goip.parse_cidr4, key, raw, "IPv4 network", _V4.example)


def _network6(key: str, raw: str, _: object) -> IPNetwork:
    return _parsed(goip.parse_cidr6, key, raw, "IPv6 network", _V6.example)


def _address4(key: str, raw: str, _: object) -> IPAddress:
    return _parsed(goip.parse_ip4, key, raw, "IPv4 address", "10.244.1.0")


def _address6(key: str, raw: str, _: object) -> IPAddress | None:
    # A pointer in Go: null means "not given", where the IPv4 twin is an error.
    if raw == "null":
        return None
    return _parsed(goip.parse_ip6, key, raw, "IPv6 address", "fd00:10:244:1::")


def _bool(key: str, raw: str, current: Any) -> bool:
    try:
        return gojson.read_bool(raw, current)
    except gojson.GoJSONError:
        raise _bad(key, raw, "is not a bool", "use true or false without quotes") from None


def _uint(key: str, raw: str, current: Any) -> int:
    try:
        return gojson.read_uint(raw, current)
    except gojson.GoJSONError:
        raise _bad(key, raw, "is not a whole number", "write it like 24") from None


# Key as documented → (field, reader of the raw value).
_KEYS: dict[str, tuple[str, Callable[[str, str, Any], Any]]] = {
    "EnableIPv4": ("enable_ipv4", _bool),
    "EnableIPv6": ("enable_ipv6", _bool),
    "EnableNFTables": ("enable_nftables", _bool),
    "Network": ("network", _network4),
    "IPv6Network": ("ipv6_network", _network6),
    "SubnetMin": ("subnet_min", _address4),
    "SubnetMax": ("subnet_max", _address4),
    "IPv6SubnetMin": ("ipv6_subnet_min", _address6),
    "IPv6SubnetMax": ("ipv6_subnet_max", _address6),
    "SubnetLen": ("subnet_len", _uint),
    "IPv6SubnetLen": ("ipv6_subnet_len", _uint),
}
_BY_FOLDED = {gojson.fold(key): (key, *target) for key, target in _KEYS.items()}


def _backend(raw: str) -> tuple[str, dict[str, Any]]:
    """Return type and keys of the Backend value."""
    members = gojson.loads(raw)
    if members is None:
        return "", {}
    if not isinstance(members, gojson.Pairs):
        raise _bad("Backend", raw, "is not an object", 'write it like {"Type": "udp"}')
    kind = ""
    for key, value in members:
        if gojson.fold(key) != "type" or value is None:
            continue
        if not isinstance(value, str):
            raise _bad("Backend.Type", _json_like(value), "is not a string", 'write it like "udp"')
        kind = gojson.clean(value)
    return kind, gojson.fold_keys(members)


def parse_netconf(text: str) -> NetConf:
    """Read a network configuration by Go's rules; nothing is validated or defaulted yet.

    Raises OperatorError naming the key and the value, or where the text stops being JSON.
    """
    values: dict[str, Any] = {}
    defaults = NetConf()
    backend_raw = ""
    try:
        for key, raw in gojson.read_object(text) or ():
            folded = gojson.fold(key)
            if folded == "backend":
                backend_raw = raw
            elif known := _BY_FOLDED.get(folded):
                name, target, read = known
                values[target] = read(name, raw, values.get(target, getattr(defaults, target)))
        if backend_raw:
            values["backend_type"], values["backend"] = _backend(backend_raw)
    except gojson.GoJSONError as error:
        raise OperatorError(
            f"network configuration: not valid JSON: {error}", fix="correct the document"
        ) from None
    return NetConf(**values)
