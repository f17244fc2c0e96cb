"""Follows who sends to us: probes peers behind other addresses, and tells of senders unknown.

Owns: reading what the workers refused, sending probes, publishing what was proved, the lines in the
log. Must not know: how a datagram is judged (ext/worker/source_check.h), when a probe is due
(verification.py). Costs nothing while nothing is refused and no peer sends from another address: a
worker writes to an eventfd once after it was armed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections import Counter
from collections.abc import Sequence

from netaddr import IPAddress, IPNetwork

from udpoverlay import _fastpath as fp
from udpoverlay.aio import event_or_sleep
from udpoverlay.clock import SYSTEM_CLOCK, Clock
from udpoverlay.dataplane.sink import Publisher
from udpoverlay.dataplane.verification import Probe, Verification
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model.sender import RefusedSender

__all__ = ["SenderWatch"]

_log = get_logger(__name__)

PAUSE_SECONDS = 0.05
"""Between two looks: what a flood of refused datagrams can make us do."""
STEADY_SECONDS = 10.0
"""Only who still sends after this is worth a line: a new host may be faster than our registry."""
RECENT_SECONDS = 5.0


class SenderWatch:
    """One for an engine; `run` until cancelled."""

    def __init__(  # noqa: PLR0913 - the parts it stands between are its parameters
        self,
        pump: fp.Pump,
        workers: Sequence[fp.Worker],
        publisher: Publisher,
        udp: socket.socket,
        tun_address: IPAddress,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`udp` is the socket that the workers receive from; it is borrowed."""
        self._pump = pump
        self._workers = workers
        self._publisher = publisher
        self._udp = udp
        self._tun_address = tun_address.packed
        self._clock = clock
        self._verification = Verification(fp.PROBE_PLACES, lambda: secrets.randbits(64) or 1)
        self._first_seen: dict[str, float | None] = {}
        """When a sender was first refused; None: the log has said so."""
        self._looked = 0.0
        self._counters: Counter[str] = Counter()
        self._limited = RateLimited(_log, clock.monotonic)

    # ------------------------------------------------------------------ what others may ask

    def counters(self) -> dict[str, int]:
        """Plain counts since start."""
        names = ("probes_sent", "probes_lost", "senders_proved", "senders_expired")
        return {name: self._counters[name] for name in names}

    def refused(self) -> list[RefusedSender]:
        """Who sent what was refused, the latest first; at most 256 (ext/worker/refused.h)."""
        now = self._clock.monotonic()
        return [
            RefusedSender(
                address=_text(address),
                reason=fp.VERDICTS[verdict][0],
                datagrams=datagrams,
                inner_source=_text(source),
                inner_destination=_text(destination),
                seconds_ago=max(0.0, round(now - seen / 1e9, 3)),
            )
            for address, verdict, datagrams, source, destination, seen in self._rows()
        ]

    def proved(self) -> dict[str, list[str]]:
        """Public IP → other addresses that its holder was proved to send from."""
        found: dict[str, list[str]] = {}
        for address, public_ip in self._verification.aliases():
            found.setdefault(_text(public_ip), []).append(_text(address))
        return found

    def _rows(self) -> list[tuple[bytes, int, int, bytes, bytes, int]]:
        rows = [row for worker in self._workers for row in worker.refused()]
        return sorted(rows, key=lambda row: row[5], reverse=True)

    # ------------------------------------------------------------------ life

    async def run(self) -> None:
        """Look whenever something was refused or answered, or a probe is due, until cancelled.

        May be started again after an error: without it a peer behind a NAT stays refused.
        """
        alarm = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pump.alarm_fd, self._rang, alarm)
        try:
            while True:
                await self._turn(alarm)
        finally:
            loop.remove_reader(self._pump.alarm_fd)

    def _rang(self, alarm: asyncio.Event) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._pump.alarm_fd, 8)
        alarm.set()

    async def _turn(self, alarm: asyncio.Event) -> None:
        self._pump.arm()
        due = self._verification.due()
        if due is None:
            await alarm.wait()
        else:
            left = max(0.0, due - self._clock.monotonic())
            await event_or_sleep(alarm, left, self._clock.sleep)
        alarm.clear()
        self.look()
        self._limited.flush()
        await self._clock.sleep(PAUSE_SECONDS)

    def look(self) -> None:
        """Take in answers and refusals, send what probes are due, publish what was proved."""
        now = self._clock.monotonic()
        changed = self._take_answers(now)
        if self._verification.expire(self._publisher.holds, now):
            self._counters["senders_expired"] += 1
            changed = True
        if changed:
            self._publisher.publish_aliases(self._verification.aliases())
        rows = self._rows()
        claims = []
        for address, verdict, _, source, _, seen in rows:
            if seen / 1e9 >= self._looked and verdict in _CLAIMS:
                claims += self._claim(address, source)
        self._looked = now
        for place, probe in self._verification.begin(claims, now):
            self._send(place, probe, now)
        self._report(now)

    # ------------------------------------------------------------------ probes

    def _claim(self, address: bytes, source: bytes) -> list[tuple[IPNetwork, bytes]]:
        """The lease that a datagram from `source` claims to come from."""
        held = self._publisher.holder(source)
        if held is None:
            return []
        subnet, public_ip = held
        return [] if public_ip == address else [(subnet, public_ip)]

    def _send(self, place: int, probe: Probe, now: float) -> None:
        self._pump.open_probe(place, probe.nonce)
        packet = fp.build_probe(self._tun_address, probe.subnet.ip.packed, probe.nonce)
        to = (_text(probe.public_ip), self._publisher.port(probe.subnet))
        try:
            self._udp.sendto(packet, to)
        except OSError:
            self._lose(place, now)
        else:
            self._counters["probes_sent"] += 1

    def _take_answers(self, now: float) -> bool:
        changed = False
        for place, probe in self._verification.out():
            address = self._pump.probe_answer(place, probe.nonce)
            if address is not None:
                if self._verification.answered(place, address, now):
                    changed = True
                    self._counters["senders_proved"] += 1
                    self._limited.info(
                        "proved",
                        "a peer sends from another address than its public IP",
                        public_ip=_text(probe.public_ip),
                        address=_text(address),
                        subnet=probe.subnet,
                    )
            elif probe.deadline <= now:
                self._lose(place, now)
        return changed

    def _lose(self, place: int, now: float) -> None:
        self._pump.close_probe(place)
        self._verification.lost(place, now)
        self._counters["probes_lost"] += 1

    # ------------------------------------------------------------------ the log

    def _report(self, now: float) -> None:
        """One line for each sender that goes on, some a minute in all."""
        here: dict[str, float | None] = {}
        for sender in self.refused():
            if sender.address in here or sender.seconds_ago > RECENT_SECONDS:
                continue
            first = self._first_seen.get(sender.address, now)
            if first is not None and now - first >= STEADY_SECONDS:
                self._say(sender)
                first = None
            here[sender.address] = first
        self._first_seen = here

    def _say(self, sender: RefusedSender) -> None:
        self._limited.warning(
            "refused",
            "datagrams do not pass the source check",
            sender=sender.address,
            reason=sender.reason,
            inner_source=sender.inner_source,
            inner_destination=sender.inner_destination,
            datagrams=sender.datagrams,
            fix=_FIXES.get(sender.reason, ""),
        )


_NUMBERS = {facts[0]: number for number, facts in enumerate(fp.VERDICTS)}
_CLAIMS = {_NUMBERS["inbound_unknown_sender"], _NUMBERS["inbound_foreign_source"]}
"""Refusals that may be a peer's that sends from another address."""
_FIXES = {
    "inbound_unknown_sender": "if it is a node: its PublicIP must be the address that it sends"
    " from, or it must answer pings on its tunnel address; else close the port to it",
    "inbound_foreign_source": "masquerade on that node what is neither a container's nor its own"
    " (ip-masq)",
    "inbound_foreign_destination": "that node has an old lease or another network configuration",
}


def _text(address: bytes) -> str:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address)
