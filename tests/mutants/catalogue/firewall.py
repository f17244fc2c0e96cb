"""Masquerade and forward rules, the CNI plugin: what pods are seen as, and what they get."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_ATTACHMENTS = "udpoverlay/cni/attachments.py"
_ENV = "udpoverlay/cni/subnet_env.py"
_MANAGER = "udpoverlay/firewall/manager.py"
_NFTABLES = "udpoverlay/firewall/nftables.py"
_IPTABLES = "udpoverlay/firewall/iptables.py"
_PLUGIN = "udpoverlay/cni/plugin.py"
_RULES = "udpoverlay/firewall/rules.py"

_PURE = ("tests/firewall/test_rules.py",)
_CNI = ("tests/cni/test_plugin.py",)

MUTANTS = (
    Mutant(
        name="pod-to-pod-masqueraded",
        bug="a server in a pod sees the node's address instead of the client pod's",
        file=_RULES,
        old='        Rule("return", own, network),\n',
        new="",
        tests=_PURE,
    ),
    Mutant(
        name="kube-proxy-masqueraded-twice",
        bug="packets that kube-proxy marked are masqueraded here, too",
        file=_RULES,
        old='        Rule("return", kube_proxy_mark=True),\n',
        new="",
        tests=_PURE,
    ),
    Mutant(
        name="multicast-masqueraded",
        bug="multicast from pods leaves with the node's address",
        file=_RULES,
        old='Rule("masquerade", network, multicast, not_destination=True)',
        new='Rule("masquerade", network)',
        tests=_PURE,
    ),
    Mutant(
        name="forward-one-way",
        bug="with a FORWARD policy of drop pods hear no answers",
        file=_RULES,
        old='(Rule("accept", source=network), Rule("accept", destination=network))',
        new='(Rule("accept", source=network),)',
        tests=_PURE,
    ),
    Mutant(
        name="rules-pile-up",
        bug="each restart adds all nftables rules once more",
        file=_NFTABLES,
        old='        {"flush": {"chain": {**where, "name": chain["name"]}}},\n',
        new="",
        tests=_PURE,
    ),
    Mutant(
        name="cni-without-a-name",
        bug="a configuration without a name mixes its addresses with those of all networks",
        file=_PLUGIN,
        old='        _check_name(config.get("name"))\n',
        new="        pass\n",
        tests=_CNI,
    ),
    Mutant(
        name="rules-not-tried-out",
        bug="a host that cannot masquerade leaves a lease behind, and peers send to it",
        file=_MANAGER,
        old="            await tool.try_out(rules)\n",
        new="",
        tests=("tests/netns/test_bad_input.py",),
    ),
    Mutant(
        name="trying-out-sets-rules",
        bug="rules of the whole network are in force until the lease is known",
        file=_IPTABLES,
        old='self._put(rules, "--test")',
        new="self._put(rules)",
        tests=("tests/firewall/test_kernel.py",),
    ),
    Mutant(
        name="vanished-rules-not-set-again",
        bug="a firewall that is reloaded cuts pods off until the daemon restarts",
        file=_MANAGER,
        old="                if await self._intact():\n                    continue\n",
        new="                if True:\n                    continue\n",
        tests=("tests/firewall/test_kernel.py::test_rules_that_vanish_are_set_again",),
    ),
    Mutant(
        name="cni-bridge-mtu-missing",
        bug="pods get an MTU of 1500: their full packets are too long for the tunnel",
        file=_PLUGIN,
        old='    given.setdefault("mtu", env.mtu)\n',
        new="",
        tests=_CNI,
    ),
    Mutant(
        name="cni-masquerades-beside-the-daemon",
        bug="the bridge masquerades pod to pod although the daemon masquerades already",
        file=_PLUGIN,
        old='    given.setdefault("ipMasq", not env.ip_masq)\n',
        new='    given.setdefault("ipMasq", True)\n',
        tests=_CNI,
    ),
    Mutant(
        name="cni-del-forgets-before-it-is-done",
        bug="a DEL that failed cannot be tried again: the pod's address is never freed",
        file=_PLUGIN,
        old='        delegate.run(kept["type"], kept, environ)\n'
        "        attachments.forget(_data_dir(config), container)\n",
        new="        attachments.forget(_data_dir(config), container)\n"
        '        delegate.run(kept["type"], kept, environ)\n',
        tests=_CNI,
    ),
    Mutant(
        name="cni-container-id-is-a-path",
        bug="a container id with ../ in it writes files anywhere",
        file=_ATTACHMENTS,
        old='    if not container or "/" in container or container in {".", ".."}:\n',
        new="    if not container:\n",
        tests=_CNI,
    ),
    Mutant(
        name="cni-subnet-keeps-host-bits",
        bug="the range of addresses begins at 10.5.72.1: the delegate refuses it",
        file=_ENV,
        old="    network = value >> (width - length) << (width - length)\n",
        new="    network = value\n",
        tests=_CNI,
    ),
)
