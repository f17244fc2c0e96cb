"""Does the kernel forward between the pods and the tunnel, and do the packet rules let it."""

from __future__ import annotations

from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, failure, good, skipped
from udpoverlay.doctor.patient import Patient
from udpoverlay.errors import KernelError
from udpoverlay.firewall.policy import dropping_chains
from udpoverlay.host.sysctl import forwarding_off

__all__ = ["CHECK"]

_OF_IPTABLES = ("ip filter FORWARD", "iptables FORWARD", "iptables-legacy FORWARD")
"""Chains in which the daemon's own rules accept the overlay, in iptables mode."""


async def _look(patient: Patient) -> Sequence[Finding]:
    return [await _kernel(patient), *await _policy(patient)]


async def _kernel(patient: Patient) -> Finding:
    setting = forwarding_off(await patient.tunnel(), patient.path("/proc/sys"))
    if setting:
        return failure(
            f"{setting} is 0: packets stop between pods and tunnel",
            f"sysctl -w {setting}=1, and in /etc/sysctl.d/ for the next boot",
        )
    return good("IPv4 packets are forwarded")


async def _policy(patient: Patient) -> list[Finding]:
    network = await patient.network()
    if network is None:
        return [skipped("the policy of FORWARD: the overlay's network is not known, see registry")]
    try:
        chains = await dropping_chains(network, await patient.tunnel())
    except KernelError as error:
        return [skipped(f"the policy of FORWARD: {error.what}")]
    return [await _dropping(patient, chain, str(network)) for chain in chains] or [
        good("no chain drops what is forwarded for the overlay")
    ]


async def _dropping(patient: Patient, chain: str, network: str) -> Finding:
    netconf = await patient.known(patient.netconf)
    nftables = netconf is not None and netconf.enable_nftables
    if chain in _OF_IPTABLES and not nftables and await patient.status() is None:
        if patient.config.firewall.forward:
            return good(f"{chain} drops; the daemon accepts {network} there when it starts")
        return failure(
            f"{chain} drops what is forwarded, and --iptables-forward-rules is false",
            "start udpoverlayd with --iptables-forward-rules=true, the default",
        )
    return failure(
        f"{chain} drops what is forwarded, and no rule in it names {network}",
        _accept(chain, network),
    )


def _accept(chain: str, network: str) -> str:
    if chain.endswith(" FORWARD") and chain.startswith("iptables"):
        tool = chain.partition(" ")[0]
        return f"{tool} -I FORWARD -s {network} -j ACCEPT; {tool} -I FORWARD -d {network} -j ACCEPT"
    return (
        f"nft insert rule {chain} ip saddr {network} accept; "
        f"nft insert rule {chain} ip daddr {network} accept"
    )


CHECK = Check("forwarding", "forwarding", _look)
