"""What would happen to a packet from this host to an address, step by step, and what is wrong.

    documents of the daemon ┐
    the kernel's routes     ┼──► explain(address, facts) ──► Step, Step, … in the packet's order
    forwarding              ┘

Owns: the order of the steps, and the sentence and the fix of each. Must not know: how the facts
were got, or how a step is shown. The first step that is wrong is the answer; later ones may follow
from it, so they stand behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netaddr import IPAddress, IPNetwork

from udpoverlay.model.finding import Finding, failure, good, warning
from udpoverlay.model.report import MEANINGS

__all__ = ["Facts", "Step", "Way", "explain"]

Document = Mapping[str, Any]
_RECENT_SECONDS = 60.0
"""An ICMP error or a refused datagram that came so lately is the likely reason."""
_SILENT_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Step:
    """One thing on the way."""

    name: str
    finding: Finding


@dataclass(frozen=True, slots=True)
class Way:
    """The kernel's route to an address: the device, or why there is none."""

    device: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is asked before anything is explained."""

    status: Document
    """`/v1/status`"""
    peers: Document
    """`/v1/peers`"""
    routes: Document
    """`/v1/routes`"""
    ways: Mapping[str, Way]
    """By address: the one that is explained, and every public IP."""
    forwarding_off: str
    """The setting that keeps packets from being forwarded; "": they are."""


def explain(address: str, facts: Facts) -> list[Step]:
    """The steps of a packet from this host to `address`, up to the last that can be told."""
    wanted, node = IPAddress(address), facts.status["node"]
    if wanted not in IPNetwork(node["network"]):
        return [
            _bad(
                "network",
                f"{address} is not in the overlay {node['network']}: {_sent(facts.ways[address])}",
                "give an address of the overlay",
            )
        ]
    subnet = facts.status["lease"]["subnet"]
    if wanted in IPNetwork(subnet):
        return [_own_subnet(address, subnet, facts)]
    steps = [_kernel_route(address, facts), *_tunnel(facts)]
    peer = _peer_of(wanted, facts.peers["peers"])
    steps.append(_lease(address, wanted, peer, facts))
    if peer is None or peer["refused"]:
        return steps
    steps += [*_route(wanted, peer, facts), _underlay(peer, facts)]
    steps += [*_mtu(peer, facts), *_rules(facts), *_impaired(peer)]
    steps += [*_reports(peer), *_heard(peer), *_drops(peer), *_refused_senders(peer, facts)]
    return steps


def _good(name: str, fact: str) -> Step:
    return Step(name, good(fact))


def _odd(name: str, fact: str, fix: str) -> Step:
    return Step(name, warning(fact, fix))


def _bad(name: str, fact: str, fix: str) -> Step:
    return Step(name, failure(fact, fix))


def _sent(way: Way) -> str:
    return f"the kernel sends it to {way.device}" if way.device else f"no way: {way.error}"


def _own_subnet(address: str, subnet: str, facts: Facts) -> Step:
    way, tun = facts.ways[address], facts.status["node"]["tun"]
    fact = f"{address} is in this host's own subnet {subnet}: {_sent(way)}, past the tunnel"
    if way.device and way.device != tun:
        return _good("subnet", fact)
    return _bad(
        "subnet",
        f"{address} is in this host's own subnet {subnet}, and no bridge has it: {_sent(way)}",
        "start a container here, or ask the CNI plugin: udpoverlay doctor --only cni",
    )


def _kernel_route(address: str, facts: Facts) -> Step:
    node, way = facts.status["node"], facts.ways[address]
    if way.device == node["tun"]:
        return _good("kernel route", f"{node['network']} goes to {node['tun']}")
    return _bad(
        "kernel route",
        f"{address} should go to {node['tun']}: {_sent(way)}",
        f"remove the route that is in the way: ip route get {address}",
    )


def _tunnel(facts: Facts) -> Iterator[Step]:
    status = facts.status
    for part, trouble in status["network"]["troubles"].items():
        yield _bad("tunnel", f"{part}: {trouble}", "the daemon tries again; see its log")
    for part, trouble in status["registry"]["troubles"].items():
        yield _odd("registry", f"{part}: {trouble}; routes may be old", "see the daemon's log")
    if setting := facts.forwarding_off:
        yield _odd(
            "forwarding",
            f"{setting} is 0: packets of this host pass, those of its containers do not",
            f"sysctl -w {setting}=1",
        )


def _peer_of(wanted: IPAddress, peers: Sequence[Document]) -> Document | None:
    """The peer whose lease decides; one with a route before one without."""
    holding = [peer for peer in peers if wanted in IPNetwork(peer["subnet"])]
    return max(
        holding,
        key=lambda peer: (not peer["refused"], IPNetwork(peer["subnet"]).prefixlen),
        default=None,
    )


def _lease(address: str, wanted: IPAddress, peer: Document | None, facts: Facts) -> Step:
    if peer is None:
        kind = facts.status["registry"]["kind"]
        return _bad(
            "lease",
            f"no host has a lease with {address}: the answer is net unreachable",
            f"start the daemon of that host, or look what {kind} has: udpoverlay peers",
        )
    if peer["refused"]:
        return _bad(
            "lease",
            f"{peer['public_ip']} has {peer['subnet']}, and gets no route: "
            f"{peer['refused'].replace('_', ' ')}",
            "docs/registry.md says what counts as a lease; correct it in the registry",
        )
    return _good("lease", f"{peer['public_ip']} has {peer['subnet']}")


def _route(wanted: IPAddress, peer: Document, facts: Facts) -> Iterator[Step]:
    routes = [r for r in facts.routes["routes"] if wanted in IPNetwork(r["destination"])]
    if not routes:
        yield _bad(
            "route",
            f"the daemon has no route to {peer['subnet']} yet",
            "wait a second and ask again; see the daemon's log",
        )
        return
    route = max(routes, key=lambda each: IPNetwork(each["destination"]).prefixlen)
    node = facts.status["node"]
    yield _good(
        "encapsulation",
        f"{node['backend']} from {node['interface_address']} to {route['endpoint']}",
    )


def _underlay(peer: Document, facts: Facts) -> Step:
    node, way = facts.status["node"], facts.ways[peer["public_ip"]]
    if not way.device:
        return _bad(
            "underlay",
            f"no way to {peer['public_ip']}: {way.error}",
            f"add a route to it: ip route get {peer['public_ip']}",
        )
    if way.device == node["tun"]:
        return _bad(
            "underlay",
            f"{peer['public_ip']} itself is routed into the tunnel",
            f"add a route to it by {node['interface']}",
        )
    return _good("underlay", f"{peer['public_ip']} by {way.device}")


def _mtu(peer: Document, facts: Facts) -> Iterator[Step]:
    node = facts.status["node"]
    yield _good(
        "MTU",
        f"packets of up to {node['mtu']:,} bytes through {node['tun']}; {node['interface']} "
        f"has {node['interface_mtu']:,}",
    )
    for fallback in peer["fallbacks"]:
        if fallback["retry_seconds"] is not None:
            yield _odd(
                "offload",
                f"{fallback['offload']} is off towards this peer: {fallback['cause']}",
                "it is tried again by itself; when it stays, the path's MTU is smaller than "
                f"{node['interface']}'s",
            )


def _rules(facts: Facts) -> Iterator[Step]:
    if error := facts.status["firewall"].get("error"):
        yield _bad("packet rules", error, "see the daemon's log")


def _impaired(peer: Document) -> Iterator[Step]:
    if peer["impaired"]:
        yield _odd(
            "impairment",
            f"packets to {peer['public_ip']} are made worse on purpose: {peer['impaired']}",
            f"udpoverlay impair {peer['public_ip']} off",
        )


def _reports(peer: Document) -> Iterator[Step]:
    heard = peer["traffic"]["heard_seconds_ago"]
    for report in peer["reports"]:
        seconds = report["seconds_ago"]
        if seconds > _RECENT_SECONDS:
            continue
        meaning = MEANINGS.get(report["kind"], report["kind"].replace("_", " "))
        fix = f"udpoverlay doctor --peer {peer['public_ip']}"
        fact = (
            f"ICMP from {report['reporter']} {seconds:.0f} s ago, {report['count']:,} times: "
            f"{meaning}"
        )
        if heard is not None and heard < seconds:
            yield _odd("answers", f"{fact}; {peer['public_ip']} was heard since", fix)
        else:
            yield _bad("answers", fact, fix)


def _heard(peer: Document) -> Iterator[Step]:
    traffic = peer["traffic"]
    heard = traffic["heard_seconds_ago"]
    public_ip = peer["public_ip"]
    if heard is None and traffic["sent_packets"]:
        yield _odd(
            "heard",
            f"{traffic['sent_packets']:,} packets went to {public_ip}, nothing ever came back",
            f"udpoverlay doctor --peer {public_ip}",
        )
    elif heard is None:
        yield _good("heard", f"nothing went to {public_ip} yet, and nothing came")
    elif heard > _SILENT_SECONDS:
        yield _odd(
            "heard",
            f"{public_ip} was heard {heard:.0f} s ago",
            f"udpoverlay doctor --peer {public_ip}",
        )
    else:
        yield _good("heard", f"{public_ip} was heard {heard:.0f} s ago")


def _drops(peer: Document) -> Iterator[Step]:
    for reason, count in sorted(peer["traffic"]["drops"].items(), key=lambda each: -each[1]):
        yield _odd(
            "drops",
            f"{count:,} packets since start: {reason.replace('_', ' ')}",
            "docs/reference/counters.md has its meaning; udpoverlay top shows whether it goes on",
        )


def _refused_senders(peer: Document, facts: Facts) -> Iterator[Step]:
    """Answers that came from an address which is not the peer's."""
    subnet = IPNetwork(peer["subnet"])
    for sender in facts.peers["refused_senders"]:
        if sender["seconds_ago"] > _RECENT_SECONDS:
            continue
        if IPAddress(sender["inner_source"]) in subnet:
            yield _bad(
                "sender check",
                f"{sender['datagrams']:,} datagrams with a source in {subnet} came from "
                f"{sender['address']}, not from {peer['public_ip']}: "
                f"{sender['reason'].replace('_', ' ')}",
                f"is {sender['address']} that host? Then set --public-ip there",
            )
