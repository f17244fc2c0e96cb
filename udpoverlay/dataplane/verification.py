"""Which other addresses a peer is proved to send from: who is probed, when, and what follows.

Owns: the decisions. Must not know: sockets, C, a clock (`now` is seconds of a monotonic one).

A lease says where its holder receives. Behind a NAT, or with a public IP that is not its
interface's, the holder sends from another address, and its datagrams are refused as an unknown
sender's. So it is asked: a probe goes to the public IP of the lease that the datagram claims to
come from, and the address that answers is the holder's (ext/packet/probe.h). A stranger never sees
the probe, so no stranger can answer it; all it can cause is a probe per lease, less and less often.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from netaddr import IPNetwork

__all__ = ["Probe", "Verification"]

ANSWER_SECONDS = 1.0
"""After this a probe counts as lost."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Pause after a probe that brought nothing new, doubling from the first to the longest."""
CONFIRM_SECONDS = 60.0
CONFIRM_AGAIN_SECONDS = 10.0
"""A proved address is proved again after the first, and when that failed after the second."""
EXPIRE_SECONDS = 300.0
"""A proved address that was not proved again for so long is forgotten."""
ADDRESSES_MAX = 4
"""Proved addresses that one peer can have; of more, those proved last."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe that is out."""

    subnet: IPNetwork
    """The lease in question; its first address is the holder's TUN address."""
    public_ip: bytes
    """Where the probe goes."""
    nonce: int
    deadline: float
    confirms: bool
    """It asks whether what is proved still holds; no datagram was refused."""


@dataclass(slots=True)
class _Proof:
    subnet: IPNetwork
    proved: float
    again: float
    """When to ask next."""


class Verification:
    """Leases in question, probes that are out, addresses that are proved."""

    def __init__(self, places: int, nonce: Callable[[], int]) -> None:
        """At most `places` probes are out at a time; `nonce` makes a random number."""
        self._nonce = nonce
        self._out: dict[int, Probe] = {}
        self._free = list(range(places))
        self._pauses: dict[bytes, tuple[float, float]] = {}
        """Public IP → not to be probed before, length of the pause after that."""
        self._proofs: dict[tuple[bytes, bytes], _Proof] = {}
        """(address, public IP) → proof."""

    # ------------------------------------------------------------------ what others may ask

    def aliases(self) -> list[tuple[bytes, bytes]]:
        """(address, public IP of the peer that it was proved of), to be published."""
        return list(self._proofs)

    def out(self) -> Iterator[tuple[int, Probe]]:
        """Place and probe of those that are out."""
        return iter(list(self._out.items()))

    def due(self) -> float | None:
        """When to look again though nothing happens; None: never."""
        moments = [probe.deadline for probe in self._out.values()]
        moments += [proof.again for proof in self._proofs.values()]
        return min(moments, default=None)

    # ------------------------------------------------------------------ what happens

    def answered(self, place: int, address: bytes, now: float) -> bool:
        """The probe at `place` was answered from `address`; whether the aliases changed."""
        probe = self._close(place)
        key = (address, probe.public_ip)
        known = self._proofs.get(key)
        proof = _Proof(probe.subnet, now, now + CONFIRM_SECONDS)
        if known is not None:
            self._proofs[key] = proof
        if known is not None or address == probe.public_ip:
            self._lengthen_pause(probe, now)
            return False
        self._pauses.pop(probe.public_ip, None)
        self._proofs[key] = proof
        same = [key for key in self._proofs if key[1] == probe.public_ip]
        for each in sorted(same, key=lambda key: self._proofs[key].proved)[:-ADDRESSES_MAX]:
            del self._proofs[each]
        return True

    def lost(self, place: int, now: float) -> None:
        """The probe at `place` could not be sent, or was not answered."""
        self._lengthen_pause(self._close(place), now)

    def expire(self, holds: Callable[[IPNetwork, bytes], bool], now: float) -> bool:
        """Forget old proofs, and those of whom `holds` says no more; whether aliases changed."""
        gone = [
            key
            for key, proof in self._proofs.items()
            if proof.proved + EXPIRE_SECONDS <= now or not holds(proof.subnet, key[1])
        ]
        for key in gone:
            del self._proofs[key]
        self._pauses = {
            public_ip: (until, length)
            for public_ip, (until, length) in self._pauses.items()
            if until + LONGEST_PAUSE > now
        }
        return bool(gone)

    def begin(
        self, claims: Iterable[tuple[IPNetwork, bytes]], now: float
    ) -> list[tuple[int, Probe]]:
        """Take out probes for the leases (subnet, public IP) in question, and for old proofs.

        In random order: no flood of made-up claims keeps a true one waiting for long.
        """
        old = {}
        for (_, public_ip), proof in self._proofs.items():
            if proof.again <= now:
                proof.again = now + CONFIRM_AGAIN_SECONDS
                old[public_ip] = proof.subnet
        wanted = {
            public_ip: subnet
            for subnet, public_ip in claims
            if self._pauses.get(public_ip, (now, 0.0))[0] <= now
        }
        busy = {probe.public_ip for probe in self._out.values()}
        ready = [item for item in {**wanted, **old}.items() if item[0] not in busy]
        random.shuffle(ready)
        begun = []
        for public_ip, subnet in ready[: len(self._free)]:
            place = self._free.pop()
            confirms = public_ip not in wanted
            probe = Probe(subnet, public_ip, self._nonce(), now + ANSWER_SECONDS, confirms)
            self._out[place] = probe
            begun.append((place, probe))
        return begun

    def _close(self, place: int) -> Probe:
        self._free.append(place)
        return self._out.pop(place)

    def _lengthen_pause(self, probe: Probe, now: float) -> None:
        """Nothing new: let refused datagrams wait longer before the next probe."""
        if probe.confirms:
            return
        length = self._pauses.get(probe.public_ip, (0.0, FIRST_PAUSE))[1]
        self._pauses[probe.public_ip] = (now + length, min(2 * length, LONGEST_PAUSE))
