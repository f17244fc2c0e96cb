"""The packet rules of flannel, as values: what must be there, in which order.

Owns: the rules (flannel pkg/trafficmngr/iptables/iptables.go, nftables/nftables.go), one rule set
for each address family. Must not know: a tool, a process, the order in which sets are applied.

P is our own subnet, C the network of the whole overlay, M multicast:

    masquerade   0x4000 set          → return       kube-proxy masquerades it itself
                 P → C               → return       inside the overlay the source stays
                 C → P               → return
                 !C → P              → return       what came from outside keeps its source
                 C → !M              → masquerade   pods to the world
                 !C → C              → masquerade   the host itself to pods of other hosts
    forward      C → any, any → C    → accept

flannel's nftables rules have `!P → C` in the fourth place, which returns before the last rule can
match: a host's own packets to remote pods are then not masqueraded. That order is the default in
nftables mode, for the same result beside flannel; `corrected` takes iptables' fourth rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netaddr import IPNetwork

from udpoverlay.model.config import FirewallSettings, MasqueradeOrder
from udpoverlay.model.lease import Subnet
from udpoverlay.model.netconf import NetConf

__all__ = [
    "KUBE_PROXY_MARK",
    "Rule",
    "RuleSet",
    "Verdict",
    "wanted_rules",
]

KUBE_PROXY_MARK = 0x4000
"""The bit that kube-proxy sets on packets that it masquerades itself."""

_MULTICAST = {4: IPNetwork("224.0.0.0/4"), 6: IPNetwork("ff00::/8")}

Verdict = Literal["return", "accept", "masquerade"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a chain: every condition that is set must hold."""

    verdict: Verdict
    source: IPNetwork | None = None
    destination: IPNetwork | None = None
    not_source: bool = False
    not_destination: bool = False
    kube_proxy_mark: bool = False


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of one address family; an empty chain is one that is not wanted."""

    version: int
    """4 or 6."""
    masquerade: tuple[Rule, ...] = ()
    forward: tuple[Rule, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing is wanted in this family."""
        return not self.masquerade and not self.forward


def wanted_rules(
    conf: NetConf, subnet: Subnet, settings: FirewallSettings, *, nftables: bool
) -> tuple[RuleSet, ...]:
    """The rule sets for a host that holds `subnet`; one a family whose network is configured."""
    order = settings.nft_order if nftables else "corrected"
    sets = []
    for version, network, own in (4, conf.network, subnet.v4), (6, conf.ipv6_network, subnet.v6):
        if network is None:
            continue
        masquerade: tuple[Rule, ...] = ()
        if settings.masquerade and own is not None:
            masquerade = _masquerade(network, own, _MULTICAST[version], order)
        forward = _forward(network) if settings.forward else ()
        sets.append(RuleSet(version, masquerade, forward))
    return tuple(sets)


def _masquerade(
    network: IPNetwork, own: IPNetwork, multicast: IPNetwork, order: MasqueradeOrder
) -> tuple[Rule, ...]:
    if order == "corrected":
        from_outside = Rule("return", network, own, not_source=True)
    else:
        from_outside = Rule("return", own, network, not_source=True)
    return (
        Rule("return", kube_proxy_mark=True),
        Rule("return", own, network),
        Rule("return", network, own),
        from_outside,
        Rule("masquerade", network, multicast, not_destination=True),
        Rule("masquerade", network, network, not_source=True),
    )


def _forward(network: IPNetwork) -> tuple[Rule, ...]:
    return (Rule("accept", source=network), Rule("accept", destination=network))
