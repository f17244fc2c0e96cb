"""How a lease is spelled in etcd: key and value, byte for byte as flannel does it.

Owns: `<subnet-key>` and the JSON of LeaseAttrs (flannel pkg/subnet/subnet.go, pkg/lease/lease.go).
Must not know: prefixes, requests, who reads it.

    10.5.52.0-24                      {"PublicIP":"1.2.3.4","PublicIPv6":null}
    10.12.13.0-24&fd00:12:13::-56     {"PublicIP":"1.2.3.4","PublicIPv6":"2001:db8::1"}
    0.0.0.0-0&fd00:12:13::-56         IPv6 only
"""

from __future__ import annotations

import re

from netaddr import IPAddress, IPNetwork

from udpoverlay.gocompat import json as gojson
from udpoverlay.gocompat import net as goip
from udpoverlay.model.lease import LeaseAttrs, Subnet

__all__ = ["BadLeaseValue", "decode_attrs", "encode_attrs", "parse_subnet_key", "subnet_key"]


class BadLeaseValue(ValueError):
    """A stored value that is no lease; the message names the field and the text found."""


# Unanchored at the start, and only the first dot is a dot: as upstream has it.
_KEY = re.compile(r"(\d+\.\d+.\d+.\d+)-(\d+)(?:&([a-f\d:]+)-(\d+))?\Z", re.ASCII)
_MAX_KEY = 256
_EMPTY_V4 = "0.0.0.0-0"
_PLAIN_VALUE = re.compile(rb'\{"PublicIP":"([0-9.]+)","PublicIPv6":null\}')


def subnet_key(subnet: Subnet) -> str:
    """Return the last component of the etcd key of `subnet`."""
    v4, v6 = subnet.v4, subnet.v6
    key = _EMPTY_V4 if v4 is None else f"{v4.ip}-{v4.prefixlen}"
    return key if v6 is None else f"{key}&{goip.ip6_text(v6.value)}-{v6.prefixlen}"


def parse_subnet_key(key: str) -> Subnet | None:
    """Read the last component of an etcd key; None when it is not a subnet.

    As liberal as flannel: text before the address and set host bits are tolerated, so several keys
    can name one subnet. Where one key per subnet is needed, compare `subnet_key(result)` with it.
    A /32 or /128 is no subnet of a host, nor is a whole family; 0.0.0.0-0 and ::-0 stand for none.
    """
    match = _KEY.search(key) if len(key) <= _MAX_KEY else None
    if match is None:
        return None
    text4, length4, text6, length6 = match.groups()
    try:
        v4 = _network(goip.parse_ip4(text4), int(length4), 31)
        v6 = None if text6 is None else _network(goip.parse_ip6(text6), int(length6), 127)
        return Subnet(v4, v6)
    except ValueError:
        return None


def _network(address: IPAddress | None, length: int, longest: int) -> IPNetwork | None:
    """None for 0/0, which stands for no subnet of that family; ValueError for what is none."""
    if address is None or length > longest or (length == 0 and address.value):
        raise ValueError("not a subnet")
    if length == 0:
        return None
    net = goip.network_of(address.value, length, address.version)
    if address.version == 6 and goip.is_mapped(net.value):
        raise ValueError("it would be written with dots, which no reader of keys takes")
    return net


def encode_attrs(attrs: LeaseAttrs) -> bytes:
    """Return the value to store, identical to what flannel writes for the same attributes.

    Raises ValueError when `backend_data` or `backend_v6_data` is not JSON.
    """
    if attrs.public_ip.version != 4:
        raise ValueError(f"public_ip {attrs.public_ip} is not an IPv4 address")
    v6 = attrs.public_ipv6
    v6_text = "null" if v6 is None else f'"{goip.ip6_text(v6.value)}"'
    parts = [f'{{"PublicIP":"{attrs.public_ip}","PublicIPv6":{v6_text}']
    if attrs.backend_type:
        parts.append(f'"BackendType":{gojson.quote(attrs.backend_type)}')
    if attrs.backend_data:
        parts.append(f'"BackendData":{gojson.compact(attrs.backend_data)}')
    if attrs.backend_v6_data:
        parts.append(f'"BackendV6Data":{gojson.compact(attrs.backend_v6_data)}')
    return (",".join(parts) + "}").encode()


def decode_attrs(value: bytes) -> LeaseAttrs:
    """Read a stored value by Go's rules: keys of any case, unknown ones ignored, last one wins.

    A missing PublicIP is 0.0.0.0, as upstream. Bytes that are not UTF-8 count as U+FFFD.
    Raises BadLeaseValue.
    """
    if plain := _PLAIN_VALUE.fullmatch(value):
        address = goip.parse_ip4(plain.group(1).decode("ascii"))
        if address is not None:
            return LeaseAttrs(address)
    try:
        return _decode(value.decode("utf-8", "replace"))
    except gojson.GoJSONError as error:
        raise BadLeaseValue(str(error)) from None


def _decode(text: str) -> LeaseAttrs:
    public_ip: IPAddress = IPAddress(0, version=4)
    public_ipv6: IPAddress | None = None
    backend_type = backend_data = backend_v6_data = ""
    for key, raw in gojson.read_object(text) or ():
        name = gojson.fold(key)
        if name == "publicip":
            public_ip = goip.parse_ip4(raw.strip('"'))
            if public_ip is None:
                raise BadLeaseValue(f"PublicIP {gojson.shorten(raw)} is not an IPv4 address")
        elif name == "publicipv6":
            public_ipv6 = None if raw == "null" else goip.parse_ip6(raw.strip('"'))
            if public_ipv6 is None and raw != "null":
                raise BadLeaseValue(f"PublicIPv6 {gojson.shorten(raw)} is not an IP address")
        elif name == "backendtype":
            backend_type = gojson.read_string(raw, backend_type)
        elif name == "backenddata":
            backend_data = raw
        elif name == "backendv6data":
            backend_v6_data = raw
    return LeaseAttrs(public_ip, public_ipv6, backend_type, backend_data, backend_v6_data)
