"""What a daemon leaves to the one that follows it: its tunnel, routes and counts, as JSON. Pure.

Owns: the form, which two versions of this program must both read: keys are only added, and one that
changes its meaning raises FORMAT. Must not know: how it is handed over, and descriptors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from netaddr import AddrFormatError, IPAddress, IPNetwork

from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.histogram import Histogram
from udpoverlay.model.traffic import PeerTraffic

__all__ = ["FORMAT", "Counts", "Legacy", "LegacyError"]

FORMAT = 1


class LegacyError(ValueError):
    """What was left cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted, by name; see backend/totals.py."""

    since: float = 0.0
    """When they began, on the monotonic clock of this boot."""
    counters: Mapping[str, int] = field(default_factory=dict)
    senders: Mapping[str, int] = field(default_factory=dict)
    reports: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    traffic: Mapping[str, PeerTraffic] = field(default_factory=dict)
    """By the peer's public IP."""
    histograms: Mapping[str, Histogram] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Legacy:
    """The facts of a tunnel (dataplane/tunnel.py), its routes and its counts."""

    version: str
    """Of the program that wrote it."""
    device: str
    index: int
    """The device's, in the kernel."""
    mtu: int
    address: IPAddress
    subnet: IPNetwork
    network: IPNetwork
    """The whole overlay, which is routed to the device."""
    bind: tuple[str, int]
    public_ip: IPAddress | None
    routes: Mapping[IPNetwork, Endpoint] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)

    def dump(self) -> bytes:
        """As JSON."""
        return json.dumps(
            {
                "format": FORMAT,
                "version": self.version,
                "device": self.device,
                "index": self.index,
                "mtu": self.mtu,
                "address": str(self.address),
                "subnet": str(self.subnet),
                "network": str(self.network),
                "bind": list(self.bind),
                "public_ip": None if self.public_ip is None else str(self.public_ip),
                "routes": [
                    [str(network), str(each.address), each.port, each.mtu, each.header.hex()]
                    for network, each in self.routes.items()
                ],
                "counts": asdict(self.counts),
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def load(cls, data: bytes) -> Legacy:
        """Raises LegacyError."""
        try:
            found = json.loads(data)
            if found["format"] != FORMAT:
                raise LegacyError(f"it has format {found['format']!r}, this program {FORMAT}")
            address, port = found["bind"]
            public_ip = found["public_ip"]
            return cls(
                version=_text(found["version"]),
                device=_text(found["device"]),
                index=_number(found["index"]),
                mtu=_number(found["mtu"]),
                address=IPAddress(_text(found["address"])),
                subnet=IPNetwork(_text(found["subnet"])),
                network=IPNetwork(_text(found["network"])),
                bind=(_text(address), _number(port)),
                public_ip=None if public_ip is None else IPAddress(_text(public_ip)),
                routes=dict(_route(*each) for each in found["routes"]),
                counts=_counts(found["counts"]),
            )
        except LegacyError:
            raise
        except (AddrFormatError, ArithmeticError, AttributeError, LookupError) as error:
            raise _odd(error) from error
        except (RecursionError, TypeError, ValueError) as error:
            raise _odd(error) from error


def _odd(error: Exception) -> LegacyError:
    return LegacyError(f"it is no legacy of ours: {type(error).__name__} {error}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise TypeError(f"{value!r} is no number of ours")
    return value


def _route(network: Any, address: Any, *more: Any) -> tuple[IPNetwork, Endpoint]:
    port, mtu, header = more
    endpoint = Endpoint(
        IPAddress(_text(address)), _number(port), _number(mtu), bytes.fromhex(_text(header))
    )
    return IPNetwork(_text(network)), endpoint


def _counts(found: Any) -> Counts:
    plain = {name: _by_name(found[name]) for name in ("counters", "senders", "reports", "dropped")}
    since = found["since"]
    if not isinstance(since, int | float):
        raise TypeError(f"{since!r} is no time")
    return Counts(
        float(since),
        **plain,
        traffic={_text(peer): _traffic(each) for peer, each in found["traffic"].items()},
        histograms={_text(name): _histogram(each) for name, each in found["histograms"].items()},
    )


def _by_name(found: Any) -> dict[str, int]:
    return {_text(name): _number(count) for name, count in found.items()}


def _traffic(found: Any) -> PeerTraffic:
    names = ("sent_packets", "sent_bytes", "delivered_packets", "delivered_bytes", "heard_ns")
    plain = {name: _number(found[name]) for name in names}
    return PeerTraffic(**plain, drops=_by_name(found["drops"]))


def _histogram(found: Any) -> Histogram:
    total, unit = found["total"], found["unit"]
    if not isinstance(total, int | float) or not isinstance(unit, int | float):
        raise TypeError("a histogram's sum is no number")
    return Histogram(tuple(map(_number, found["counts"])), total, unit)
