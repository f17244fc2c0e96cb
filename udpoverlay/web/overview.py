"""What the page shows of a daemon at one moment, from its documents: pure.

Owns: the keys that page/hosts.js and page/map.js read. Must not know: how the documents were got.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from udpoverlay.observe.rates import DROPS

__all__ = ["failed", "host_document"]

_MOST_PEERS = 200
"""More than a screen has; the rest is counted."""


def failed(name: str, public_ip: str, error: str) -> dict[str, Any]:
    """Of a daemon that does not answer."""
    return {"name": name, "public_ip": public_ip, "error": error, "peers": [], "drops": []}


def host_document(
    name: str, status: Mapping[str, Any], peers: Mapping[str, Any], flow: Mapping[str, Any]
) -> dict[str, Any]:
    """Of one that answered; `flow`: observe/rates.py. Raises what an odd document leads to."""
    node, plane = status["node"], status["dataplane"]
    shown = flow["peers"][:_MOST_PEERS]
    leases: dict[str, list[Mapping[str, Any]]] = {}
    for lease in peers["peers"]:
        leases.setdefault(lease["public_ip"], []).append(lease)
    return {
        "name": name or node["public_ip"],
        "public_ip": node["public_ip"],
        "error": "",
        "subnet": status["lease"]["subnet"],
        "device": node["tun"],
        "mtu": node["mtu"],
        "backend": node["backend"],
        "version": status["version"],
        "uptime_seconds": status["uptime_seconds"],
        "unaccounted": plane.get("unaccounted", {}),
        "troubles": list(_troubles(status)),
        "outbound": flow["outbound"],
        "inbound": flow["inbound"],
        "drops": [{**drop, "meaning": DROPS.get(drop["reason"], "")} for drop in flow["drops"]],
        "peers": [{**peer, "notes": _notes(leases[peer["public_ip"]])} for peer in shown],
        "peers_more": len(flow["peers"]) - len(shown),
    }


def _troubles(status: Mapping[str, Any]) -> Iterator[str]:
    for part in ("network", "registry"):
        for what, why in status[part]["troubles"].items():
            yield f"{what}: {why}"
    if error := status["firewall"].get("error"):
        yield f"packet rules: {error}"
    for impairment in status["dataplane"].get("impairments", ()):
        yield f"impaired on purpose: {impairment['peer']}, {impairment['what']}"


def _notes(leases: list[Mapping[str, Any]]) -> list[str]:
    """What is out of the ordinary with a host, of all its leases; each once."""
    notes: dict[str, None] = {}
    for lease in leases:
        if lease["refused"]:
            notes[f"no route to {lease['subnet']}: {lease['refused'].replace('_', ' ')}"] = None
        for fallback in lease["fallbacks"]:
            if fallback["retry_seconds"] is not None:
                notes[f"{fallback['offload']} is off: {fallback['cause']}"] = None
        for report in lease["reports"]:
            notes[f"{report['count']:,} times {report['kind'].replace('_', ' ')}"] = None
        if lease.get("impaired"):
            notes[f"impaired on purpose: {lease['impaired']}"] = None
    return list(notes)
