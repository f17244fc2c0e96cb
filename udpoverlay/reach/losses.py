"""Where requests were lost, as far as our own daemon's counters can tell.

    documents before ┐
    documents after  ┴──► losses(…) ──► findings: a reason that grew, or that all left this host

Owns: which counters speak of a peer, and the fix of each. Must not know: how documents are got,
what stands on the wire. Other packets to the same peer count too: a finding names what grew, no
more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from netaddr import IPAddress, IPNetwork

from udpoverlay.model.finding import Finding, warning
from udpoverlay.model.report import MEANINGS
from udpoverlay.reach.target import Target

__all__ = ["Look", "losses"]

Document = Mapping[str, Any]

_FIXES = {
    "outbound_impaired": "udpoverlay impair {peer} off",
    "outbound_impair_full": "udpoverlay impair {peer} off",
    "outbound_forbidden": "look for a rule that drops UDP in the chain OUTPUT: nft list ruleset",
    "outbound_unreachable": "ip route get {peer}; is the underlay's interface up?",
    "outbound_underlay_too_big": "the underlay is narrower than the tunnel believes: give the "
    "interface the path's MTU and restart the daemon",
    "outbound_too_big": "lower the MTU of what sends: udpoverlay status has the tunnel's",
    "outbound_own_datagram": "the way to {peer} leads into the tunnel itself: see --iface there",
    "inbound_unknown_sender": "udpoverlay peers shows the sender; is it that host? Then set "
    "--public-ip there",
    "inbound_foreign_source": "another host sends with that address: udpoverlay peers shows it",
    "inbound_foreign_destination": "the peer's daemon has an old lease of ours: restart it",
    "inbound_oversize": "the peer's tunnel has a larger MTU than ours: make both the same",
    "inbound_kernel_dropped": "too much at once: udpoverlay top; more --workers",
    "outbound_kernel_dropped": "too much at once: udpoverlay top; more --workers",
}
_OTHER_FIX = "docs/reference/counters.md has its meaning; udpoverlay explain {address}"
_UNATTRIBUTED = (
    "outbound_no_route",
    "outbound_own_datagram",
    "outbound_kernel_dropped",
    "inbound_unknown_sender",
    "inbound_kernel_dropped",
)
"""Counted for no peer."""


@dataclass(frozen=True, slots=True)
class Look:
    """What `/v1/status` and `/v1/peers` told at one moment."""

    status: Document
    peers: Document

    def peer(self, target: Target) -> Document:
        """The lease's entry; {} when it is gone."""
        for each in self.peers["peers"]:
            if (each["subnet"], each["public_ip"]) == (target.subnet, target.peer):
                found: Document = each
                return found
        return {}


def losses(
    target: Target, before: Look, after: Look, meanings: Mapping[str, str], *, size_only: bool
) -> list[Finding]:
    """What grew between two looks, the most first; else that all left this host.

    `meanings`: of each counter of drops. `size_only`: no request was lost in silence, so that what
    left this host needs no word.
    """
    then, now = before.peer(target), after.peer(target)
    if not now:
        return [warning(f"the lease of {target.peer} is gone", "udpoverlay peers")]
    if not then or after.status["pid"] != before.status["pid"]:
        return [warning("the daemon was started again meanwhile", "ping again")]
    found = [
        *_reports(target, then, now),
        *_refused_senders(target, before, after),
        *_drops(target, before, after, meanings),
    ]
    if not found and not size_only:
        found.append(_left(target, then, now, after))
    return found


def _reports(target: Target, then: Document, now: Document) -> Iterator[Finding]:
    earlier = {each["kind"]: each["count"] for each in then["reports"]}
    for each in now["reports"]:
        if each["count"] <= earlier.get(each["kind"], 0):
            continue
        words = each["kind"].replace("_", " ")
        meaning = MEANINGS.get(each["kind"], "about our datagrams to the peer")
        yield warning(
            f"{each['reporter']} reports {words}: {meaning}", f"udpoverlay explain {target.address}"
        )


def _refused_senders(target: Target, before: Look, after: Look) -> Iterator[Finding]:
    """Answers that came from an address which is not the peer's."""
    earlier = {each["address"]: each["datagrams"] for each in before.peers["refused_senders"]}
    for sender in after.peers["refused_senders"]:
        more = sender["datagrams"] - earlier.get(sender["address"], 0)
        if more > 0 and IPAddress(sender["inner_source"]) in IPNetwork(target.subnet):
            yield warning(
                f"{more:,} datagrams with a source in {target.subnet} came from "
                f"{sender['address']}, not from {target.peer}: {_words(sender['reason'])}",
                f"is {sender['address']} that host? Then set --public-ip there",
            )


def _drops(
    target: Target, before: Look, after: Look, meanings: Mapping[str, str]
) -> Iterator[Finding]:
    earlier, later = (look.peer(target)["traffic"]["drops"] for look in (before, after))
    grown = {name: count - earlier.get(name, 0) for name, count in later.items()}
    counters = [look.status["dataplane"]["counters"] for look in (before, after)]
    for name in _UNATTRIBUTED:
        grown[name] = counters[1].get(name, 0) - counters[0].get(name, 0)
    for name, count in sorted(grown.items(), key=lambda each: -each[1]):
        if count > 0:
            fix = _FIXES.get(name, _OTHER_FIX)
            yield warning(
                f"{count:,} dropped here, {_words(name)}: {meanings.get(name, 'see the counters')}",
                fix.format(peer=target.peer, address=target.address),
            )


def _left(target: Target, then: Document, now: Document, after: Look) -> Finding:
    sent, received = (
        now["traffic"][key] - then["traffic"][key] for key in ("sent_packets", "delivered_packets")
    )
    port, fix = after.status["node"]["port"], f"udpoverlay explain {target.address}"
    if sent <= 0:
        return warning(f"the daemon sent nothing to {target.peer}: nothing came to the tunnel", fix)
    where = f"{target.peer} UDP {port}"
    if received <= 0:
        return warning(
            f"{sent:,} packets left this host for {where}, and nothing came back",
            f"{fix}; there: does its daemon run, is UDP {port} open, does its packet filter take "
            "ICMP echo, do its packets leave?",
        )
    return warning(
        f"{sent:,} packets left this host for {where}, {received:,} came from there",
        f"{fix}; there: udpoverlay top, and does its packet filter take ICMP echo?",
    )


def _words(name: str) -> str:
    return name.replace("_", " ")
