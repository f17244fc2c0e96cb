"""What is done to a peer's packets on purpose: the values between command, admin and engine.

Owns: the value types, their limits, how an impairment reads, its form in JSON. Must not know: how
it is done (ext/worker/impair.h), how the command spells it (cli/admin/impair.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from ipaddress import ip_address

from udpoverlay.errors import OperatorError

__all__ = [
    "LEAST_RATE",
    "MOST_DELAY_MS",
    "MOST_RATE",
    "MOST_SECONDS",
    "MOST_SEED",
    "MOST_TOGETHER",
    "Impairment",
    "ImpairmentState",
    "how_to_allow",
]

MOST_SECONDS = 3600
MOST_DELAY_MS = 5000.0
LEAST_RATE = 8_000
"""Bits a second."""
MOST_RATE = 100_000_000_000
MOST_SEED = (1 << 64) - 1
MOST_TOGETHER = 8
"""Peers that can be impaired at a time. The C unit has the same limits; a test compares."""


@dataclass(frozen=True, slots=True)
class Impairment:
    """What is to happen to the packets for one peer. Raises OperatorError for what cannot be."""

    peer: str
    """Its public IP."""
    seconds: float
    seed: int
    """The same seed makes the same pattern."""
    loss_percent: float = 0.0
    duplicate_percent: float = 0.0
    corrupt_percent: float = 0.0
    """Of the packets: one bit behind the IP header is flipped."""
    reorder_percent: float = 0.0
    reorder_ms: float = 0.0
    """So long those are held back: later ones overtake them."""
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    """Up to so much more or less than the delay."""
    rate_bits_per_second: int = 0
    """Of inner packets; 0: not limited."""

    def __post_init__(self) -> None:
        _check_peer(self.peer)
        _within("the time", self.seconds, 0.1, MOST_SECONDS, "s")
        _within("seed", self.seed, 0, MOST_SEED, "", whole=True)
        for name in ("loss", "duplicate", "corrupt", "reorder"):
            _within(name, getattr(self, f"{name}_percent"), 0, 100, "%")
        _within("delay", self.delay_ms, 0, MOST_DELAY_MS, "ms")
        _within("reorder by", self.reorder_ms, 0, MOST_DELAY_MS, "ms")
        _within("jitter", self.jitter_ms, 0, MOST_DELAY_MS, "ms")
        if self.jitter_ms > self.delay_ms:
            raise OperatorError(
                f"a jitter of {self.jitter_ms:g} ms is more than the delay of {self.delay_ms:g} ms",
                fix="no packet can leave before it came: use a delay as long as its jitter",
            )
        if self.rate_bits_per_second != 0:
            _within("rate", self.rate_bits_per_second, LEAST_RATE, MOST_RATE, "bit/s", whole=True)
        if bool(self.reorder_percent) != bool(self.reorder_ms):
            raise OperatorError("reorder takes both: how many packets, and how long each waits")
        if not self.what():
            raise OperatorError(
                "nothing is to happen to the packets", fix="name one of loss, delay, …"
            )

    def what(self) -> str:
        """What happens, for example "loss 5 %, delay 50 ms ± 10 ms"; "" for nothing."""
        parts = [
            f"{name} {value:g} %"
            for name, value in (
                ("loss", self.loss_percent),
                ("duplicate", self.duplicate_percent),
                ("corrupt", self.corrupt_percent),
            )
            if value
        ]
        if self.reorder_percent:
            parts.append(f"reorder {self.reorder_percent:g} % by {self.reorder_ms:g} ms")
        if self.delay_ms:
            jitter = f" ± {self.jitter_ms:g} ms" if self.jitter_ms else ""
            parts.append(f"delay {self.delay_ms:g} ms{jitter}")
        if self.rate_bits_per_second:
            parts.append(f"rate {self.rate_bits_per_second / 1e6:g} Mbit/s")
        return ", ".join(parts)

    @classmethod
    def from_json(cls, document: object) -> Impairment:
        """Read the object that `asdict` makes. Raises OperatorError: it comes from outside."""
        if not isinstance(document, Mapping):
            raise OperatorError("an impairment is a JSON object")
        known = {field.name: field for field in fields(cls)}
        for name, value in document.items():
            if name not in known:
                raise OperatorError(
                    f"unknown key {str(name)[:40]!r}", fix=f"use {', '.join(known)}"
                )
            wants_text = name == "peer"
            if isinstance(value, bool) or not isinstance(value, str if wants_text else int | float):
                raise OperatorError(f"{name} is no {'text' if wants_text else 'number'}")
        missing = {"peer", "seconds", "seed"} - document.keys()
        if missing:
            raise OperatorError(f"{min(missing)} is missing")
        return cls(**document)


@dataclass(frozen=True, slots=True)
class ImpairmentState:
    """One that is active, and what it did."""

    impairment: Impairment
    left_seconds: float
    packets: int = 0
    """That it met."""
    lost: int = 0
    corrupted: int = 0
    duplicated: int = 0
    reordered: int = 0
    overflowed: int = 0
    """Dropped: too many were held back already, or the limited rate's backlog was too long."""
    waiting: int = 0
    """Held back right now."""

    def as_json(self) -> dict[str, object]:
        """The settings and what came of them, in one object, and in words."""
        mine: dict[str, object] = asdict(self)
        del mine["impairment"]
        return {**asdict(self.impairment), "what": self.impairment.what(), **mine}


def how_to_allow() -> OperatorError:
    """What is answered where the operator of the daemon did not allow it."""
    return OperatorError(
        "this daemon does not allow impairments",
        fix="start it with --allow-impair (UDPOVERLAY_ALLOW_IMPAIR=true), on a host for tests",
    )


def _check_peer(text: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        raise OperatorError(
            f"{text[:60]!r} is no public IP of a peer", fix="udpoverlay peers lists them"
        ) from None


def _within(  # noqa: PLR0913 - a value, its bounds and how they read
    name: str, value: float, least: float, most: float, unit: str, *, whole: bool = False
) -> None:
    # NaN fails the comparison, too.
    if not least <= value <= most or (whole and not isinstance(value, int)):
        space = f" {unit}" if unit else ""
        shown = f"{value:.15g}" if isinstance(value, float) else f"{value}"[:24]
        raise OperatorError(f"{name} is {shown}{space}", fix=f"use {least} to {most:,}{space}")
