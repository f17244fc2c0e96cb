"""Does a peer hear us, on the tunnel's port and in the shape of VXLAN: with `--peer` alone.

    who is it ──► by which interface ──► through the tunnel ──► to its tunnel port ──► as VXLAN

Who can answer what stands in docs/reference/doctor.md.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from netaddr import IPAddress

from udpoverlay.backend.udp import OVERHEAD
from udpoverlay.doctor.base import Check, Finding, failure, good, skipped, warning
from udpoverlay.doctor.facts import shapes
from udpoverlay.doctor.facts.probing import Outcome, ask, ping
from udpoverlay.doctor.patient import Patient
from udpoverlay.errors import KernelError
from udpoverlay.gocompat.net import parse_cidr4, parse_ip4
from udpoverlay.host.netlink import Netlink

__all__ = ["CHECK"]

_PLAIN_ECHO = 84
"""Bytes of a ping that no udpoverlayd takes for a probe."""
_VXLAN_QUESTION = 400
_NO_ONE = IPAddress("192.0.2.1")
"""Inner source where we have no tunnel address: for documentation (RFC 5737)."""
_LISTEN = "run this on the peer meanwhile: udpoverlay doctor --listen"
_OPEN = "open UDP {port} between the hosts, both ways, and see that the peer's daemon says ready"


@dataclass(frozen=True, slots=True)
class _Peer:
    """A peer and what is known of it."""

    public: IPAddress
    tunnel: IPAddress | None
    """Its tunnel address; None where no lease names it."""


async def _look(patient: Patient) -> Sequence[Finding]:
    if not patient.peers:
        return [skipped("no --peer was named")]
    findings: list[Finding] = []
    for name in patient.peers:
        peer = await _who(patient, name)
        if isinstance(peer, Finding):
            findings.append(peer)
        else:
            findings += await _one(patient, peer)
    return findings


async def _who(patient: Patient, name: str) -> _Peer | Finding:
    """By its public address, or by any address of its subnet."""
    address = parse_ip4(name)
    if address is None:
        return failure(f"--peer {name!r} is no IPv4 address", "name a public or overlay address")
    known = [
        (lease.subnet.v4, lease.attrs.public_ip)
        for lease in await patient.known(patient.leases) or ()
    ] or [
        (parse_cidr4(str(peer["subnet"])), parse_ip4(str(peer["public_ip"])))
        for peer in await patient.daemon_peers()
    ]
    for subnet, public in known:
        if subnet is None or public is None:
            continue
        if public == address or address in subnet:
            return _Peer(public, subnet.ip)
    network = await patient.network()
    if network is not None and address in network:
        return failure(f"no lease has {address}", "does its daemon run? see registry")
    return _Peer(address, None)


async def _one(patient: Patient, peer: _Peer) -> list[Finding]:
    findings = [await _way(patient, peer)]
    answered, through = await _through_tunnel(patient, peer)
    findings += through
    plain = await _plain(patient, peer)
    if not answered:
        findings.append(await _tunnel_port(patient, peer, plain))
    return [*findings, *await _as_vxlan(patient, peer, plain)]


async def _way(patient: Patient, peer: _Peer) -> Finding:
    view, tunnel = await patient.view(), await patient.tunnel()
    try:
        async with Netlink() as netlink:
            link = view.by_index((await netlink.route_to(peer.public)).index)
    except KernelError as error:
        return failure(error.what, f"ip route get {peer.public}")
    name = "no single interface" if link is None else link.name
    if name == tunnel:
        return failure(
            f"the way to {peer.public} leads into the tunnel itself",
            "its public address must not lie in Network: see --iface and --public-ip there",
        )
    return good(f"the way to {peer.public} is {name}")


# --- through the tunnel --------------------------------------------------------------------------


async def _through_tunnel(patient: Patient, peer: _Peer) -> tuple[bool, list[Finding]]:
    """Whether it answers there, and what was found."""
    status = await patient.status()
    if status is None:
        return False, [skipped("the tunnel: no daemon runs here")]
    if peer.tunnel is None:
        return False, [skipped(f"the tunnel: no lease has the public address {peer.public}")]
    source, mtu = str(status["node"]["tun_address"]), int(status["node"]["mtu"])
    target = str(peer.tunnel)
    small = await ping(source, target, shapes.PROBE_BYTES)
    if small.error == errno.EPERM:
        return False, [skipped("the tunnel: a ping needs CAP_NET_RAW")]
    if not small.answered:
        return False, [await _silent(patient, peer)]
    return True, [
        good(f"{target} answers through the tunnel in {_ms(small)}"),
        await _full_size(source, target, mtu),
    ]


async def _full_size(source: str, target: str, mtu: int) -> Finding:
    """The host answers these, not the daemon: its packet filter may forbid it."""
    if (await ping(source, target, mtu)).answered:
        return good(f"packets of {mtu} bytes pass to {target}, unfragmented")
    if not (await ping(source, target, _PLAIN_ECHO)).answered:
        return skipped(f"the MTU: the host of {target} answers no ping")
    return failure(
        f"packets of {mtu} bytes do not pass to {target}, short ones do",
        "something on the way carries less than this interface's MTU: lower it on both hosts "
        "(ip link set DEV mtu N) and restart the daemons",
    )


async def _silent(patient: Patient, peer: _Peer) -> Finding:
    """Why a peer does not answer, as far as our daemon knows."""
    for each in await patient.daemon_peers():
        if each["public_ip"] != str(peer.public):
            continue
        if each.get("refused"):
            return failure(
                f"{peer.tunnel} gets no route: {each['refused']}",
                "docs/registry.md says what counts as a lease",
            )
        return failure(
            f"{peer.tunnel} does not answer through the tunnel",
            _reports(each) or _OPEN.format(port=await patient.port()),
        )
    return failure(f"our daemon does not know the lease of {peer.public}", "see registry, daemon")


def _reports(peer: Mapping[str, Any]) -> str:
    latest = next(iter(peer.get("reports", ())), None)
    if latest is None or latest["seconds_ago"] > 60:
        return ""
    if latest["kind"] == "port_unreachable":
        return f"{latest['reporter']} says that nothing listens there: start the peer's daemon"
    return f"{latest['reporter']} reports {latest['kind']}: look at routes and firewalls on the way"


# --- its tunnel port -----------------------------------------------------------------------------


async def _plain(patient: Patient, peer: _Peer) -> Outcome:
    """A datagram as our daemon would send it; from the tunnel's port where it is free."""
    choice, port = await patient.known(patient.choice), await patient.port()
    source = await _own_tunnel_address(patient) or _NO_ONE
    made = partial(_made, source, peer.tunnel or peer.public, _length(choice))
    target = (str(peer.public), port)
    if choice is not None and choice.address is not None:
        outcome = await ask(made, target, (str(choice.address), port))
        if outcome.answered or outcome.error not in {errno.EADDRINUSE, errno.EADDRNOTAVAIL}:
            if outcome.answered or outcome.error:
                return outcome
            # udpoverlayd answers a short one itself, whatever its host does with pings.
            made = partial(_made, source, peer.tunnel or peer.public, 0)
            return await ask(made, target, (str(choice.address), port))
    return await ask(made, target)


def _made(source: IPAddress, destination: IPAddress, length: int, nonce: int) -> bytes:
    return shapes.question(source, destination, nonce, length)


def _length(choice: Any) -> int:
    return 1472 if choice is None else max(choice.mtu - OVERHEAD, 576)


async def _own_tunnel_address(patient: Patient) -> IPAddress | None:
    choice = await patient.known(patient.choice)
    for lease in await patient.known(patient.leases) or ():
        if choice is not None and lease.attrs.public_ip == choice.public_ip and lease.subnet.v4:
            return lease.subnet.v4.ip
    return None


async def _tunnel_port(patient: Patient, peer: _Peer, plain: Outcome) -> Finding:
    port = await patient.port()
    where = f"{peer.public} UDP {port}"
    if plain.answered:
        who = "doctor --listen" if plain.facts else "its daemon"
        return good(f"{where}: {who} answers in {_ms(plain)}")
    if plain.refused:
        return failure(
            f"{where}: arrives, and nothing listens there (says {plain.reporter or 'this host'})",
            f"start the peer's daemon, or {_LISTEN}",
        )
    if plain.error not in {0, errno.EADDRINUSE}:
        return failure(f"{where}: {os.strerror(plain.error)}", _OPEN.format(port=port))
    if await patient.status() is not None:
        return skipped(f"{where}: a daemon there answers only what comes through the tunnel")
    return warning(
        f"{where}: no answer", f"{_LISTEN}; a daemon there answers hosts with a lease alone"
    )


# --- as VXLAN ------------------------------------------------------------------------------------


async def _as_vxlan(patient: Patient, peer: _Peer, plain: Outcome) -> list[Finding]:
    def made(nonce: int) -> bytes:
        return shapes.wrapped(shapes.question(_NO_ONE, peer.public, nonce, _VXLAN_QUESTION))

    targets = [(str(peer.public), port) for port in shapes.VXLAN_PORTS]
    answers = await asyncio.gather(*(ask(made, target) for target in targets))
    outcomes = dict(zip(shapes.VXLAN_PORTS, answers, strict=True))
    if plain.facts and not all(outcome.answered for outcome in outcomes.values()):
        again = await _plain(patient, peer)  # what came damaged meanwhile is counted there
        plain = again if again.facts else plain
    port = await patient.port()
    return [_judged(peer, plain, outcome, vxlan, port) for vxlan, outcome in outcomes.items()]


def _judged(peer: _Peer, plain: Outcome, outcome: Outcome, vxlan: int, port: int) -> Finding:
    where = f"VXLAN to {peer.public} UDP {vxlan}"
    if outcome.answered:
        return good(f"{where}: arrives and is answered in {_ms(outcome)}")
    if outcome.refused and outcome.reporter == str(peer.public):
        return good(f"{where}: arrives, nothing listens there")
    listening = plain.facts.get("ports", ())
    if isinstance(listening, list) and vxlan in listening:
        bad = plain.facts.get("bad_checksums", 0)
        damaged = f"; {bad} datagrams came there with a wrong checksum" if bad else ""
        return warning(
            f"{where}: lost, while UDP {port} gets through{damaged}",
            "a hypervisor, network card or firewall on the way drops VXLAN (flannel issue 2388): "
            "use the udp backend, or try ethtool -K DEV tx off on both hosts",
        )
    if plain.facts:
        return skipped(f"{where}: not known, the port is taken there (by a VXLAN device?)")
    if outcome.error:
        return skipped(
            f"{where}: {os.strerror(outcome.error)} (says {outcome.reporter or 'this host'})"
        )
    return skipped(f"{where}: no answer, which alone says nothing; {_LISTEN}")


def _ms(outcome: Outcome) -> str:
    return f"{(outcome.seconds or 0.0) * 1000:.1f} ms"


CHECK = Check(
    "peer", "the way to peers (--peer)", _look, parts=lambda patient: max(1, len(patient.peers))
)
