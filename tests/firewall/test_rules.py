"""firewall/rules.py and its two spellings against flannel's own rules, word for word."""

from __future__ import annotations

import json
from typing import Any

import pytest
from netaddr import IPNetwork

from udpoverlay.firewall.iptables import payload, render
from udpoverlay.firewall.nftables import transaction
from udpoverlay.firewall.rules import RuleSet, wanted_rules
from udpoverlay.model.config import FirewallSettings
from udpoverlay.model.lease import Subnet
from udpoverlay.model.netconf import parse_netconf

V4 = '{"Network": "10.244.0.0/16"}'
DUAL = '{"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:10:244::/48"}'
SUBNET = Subnet(IPNetwork("10.244.7.0/24"), IPNetwork("fd00:10:244:7::/64"))
MASQUERADE = FirewallSettings(masquerade=True)

POSTRTG = """\
-m mark --mark 0x4000/0x4000 -m comment --comment flanneld masq -j RETURN
-s 10.244.7.0/24 -d 10.244.0.0/16 -m comment --comment flanneld masq -j RETURN
-s 10.244.0.0/16 -d 10.244.7.0/24 -m comment --comment flanneld masq -j RETURN
! -s 10.244.0.0/16 -d 10.244.7.0/24 -m comment --comment flanneld masq -j RETURN
-s 10.244.0.0/16 ! -d 224.0.0.0/4 -m comment --comment flanneld masq -j MASQUERADE --random-fully
! -s 10.244.0.0/16 -d 10.244.0.0/16 -m comment --comment flanneld masq -j MASQUERADE --random-fully
"""


def sets(text: str = V4, *, nftables: bool = False, **settings: Any) -> tuple[RuleSet, ...]:
    wanted = FirewallSettings(**{"masquerade": True, **settings})
    return wanted_rules(parse_netconf(text), SUBNET, wanted, nftables=nftables)


def nft_lines(rules: RuleSet) -> list[str]:
    """The rules of a transaction in nft's own words."""
    lines = []
    for command in transaction(rules, random_fully=True):
        rule = command.get("add", {}).get("rule")
        if rule is None:
            continue
        words = []
        for expression in rule["expr"]:
            ((kind, value),) = expression.items()
            if kind != "match":
                words.append(f"{kind} fully-random" if value else kind)
                continue
            left, right = value["left"], value["right"]
            name = "meta mark" if "meta" in left else " ".join(left["payload"].values())
            text = (
                f"{right:#x}"
                if isinstance(right, int)
                else "/".join(str(part) for part in right["prefix"].values())
            )
            words.append(f"{name} {'!= ' if value['op'] == '!=' else ''}{text}")
        lines.append(" ".join(words))
    return lines


def test_iptables_masquerade_rules_are_flannels() -> None:
    (v4,) = sets()
    lines = [" ".join(render(rule, "flanneld masq", random_fully=True)) for rule in v4.masquerade]
    assert "".join(f"{line}\n" for line in lines) == POSTRTG


def test_random_fully_disabled_leaves_plain_masquerade() -> None:
    (v4,) = sets()
    text = payload(v4, {}, random_fully=False)
    assert "-j MASQUERADE\n" in text
    assert "--random-fully" not in text


def test_first_payload_adds_chains_rules_and_jumps() -> None:
    (v4,) = sets()
    lines = payload(v4, {}, random_fully=True).splitlines()
    assert lines[:2] == ["*nat", ":FLANNEL-POSTRTG - [0:0]"]
    jump = '-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG'
    assert lines[8:10] == [jump, "COMMIT"]
    assert lines[10:] == [
        "*filter",
        ":FLANNEL-FWD - [0:0]",
        '-A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
        '-A FLANNEL-FWD -d 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
        '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
        "COMMIT",
    ]


def test_jump_that_is_there_is_not_added_and_a_second_one_goes() -> None:
    jump = ("-A", "POSTROUTING", "-m", "comment", "--comment", "flanneld masq")
    words = (*jump, "-j", "FLANNEL-POSTRTG")
    (v4,) = sets()
    once = payload(v4, {"FLANNEL-POSTRTG": (words,)}, random_fully=True)
    assert "POSTROUTING -m" not in once
    twice = payload(v4, {"FLANNEL-POSTRTG": (words, words)}, random_fully=True)
    assert twice.count('-D POSTROUTING -m comment --comment "flanneld masq"') == 1


def test_nftables_default_order_is_flannels() -> None:
    (v4,) = sets(nftables=True)
    assert nft_lines(v4) == [
        "meta mark 0x4000 return",
        "ip saddr 10.244.7.0/24 ip daddr 10.244.0.0/16 return",
        "ip saddr 10.244.0.0/16 ip daddr 10.244.7.0/24 return",
        "ip saddr != 10.244.7.0/24 ip daddr 10.244.0.0/16 return",
        "ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random",
        "ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random",
        "ip saddr 10.244.0.0/16 accept",
        "ip daddr 10.244.0.0/16 accept",
    ]


def test_nftables_corrected_order_has_the_fourth_rule_of_iptables() -> None:
    (v4,) = sets(nftables=True, nft_order="corrected")
    assert nft_lines(v4)[3] == "ip saddr != 10.244.0.0/16 ip daddr 10.244.7.0/24 return"


def test_transaction_flushes_a_chain_before_it_fills_it() -> None:
    (v4,) = sets(nftables=True)
    order = [next(iter(command)) for command in transaction(v4, random_fully=True)]
    assert order == ["add", "add", "flush", *["add"] * 6, "add", "flush", *["add"] * 2]
    assert json.dumps(transaction(v4, random_fully=True))


def test_ipv6_rules_exist_where_an_ipv6_network_does() -> None:
    v4, v6 = sets(DUAL)
    assert (v4.version, v6.version) == (4, 6)
    text = payload(v6, {}, random_fully=True)
    assert "-s fd00:10:244:7::/64 -d fd00:10:244::/48" in text
    assert "! -d ff00::/8" in text
    (_, nft6) = sets(DUAL, nftables=True)
    assert "ip6 saddr fd00:10:244::/48 ip6 daddr != ff00::/8 masquerade fully-random" in nft_lines(
        nft6
    )


@pytest.mark.parametrize(
    ("settings", "chains"),
    [
        ({"masquerade": False, "forward": True}, (0, 2)),
        ({"masquerade": True, "forward": False}, (6, 0)),
        ({"masquerade": False, "forward": False}, (0, 0)),
    ],
)
def test_only_what_was_asked_for_is_wanted(
    settings: dict[str, Any], chains: tuple[int, int]
) -> None:
    (v4,) = sets(**settings)
    assert (len(v4.masquerade), len(v4.forward)) == chains
    assert v4.empty is (chains == (0, 0))
