"""What the overlay sets out to reach, as ratios between paths of one bench.

Owns: the figures of docs/performance.md's table of targets that a bench can measure. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["TARGETS", "Outcome", "Target", "judge"]


@dataclass(frozen=True, slots=True)
class Target:
    """`path` against `reference` in `metric`: the ratio that must be, and the one aimed at."""

    what: str
    metric: str
    path: str
    reference: str
    must: float
    aim: float
    higher_is_better: bool = True
    link: str = ""
    """Only on this kind of link, "" on any."""


TARGETS = (
    Target("TCP, 1 stream", "tcp_gbit", "fast", "vxlan", 0.70, 1.0, link="offload"),
    Target("TCP, 1 stream", "tcp_gbit", "fast", "vxlan", 0.75, 1.0, link="plain"),
    Target("TCP, 1 stream", "tcp_gbit", "fast", "per-packet", 8, 12),
    Target("UDP 64 B received", "udp64_kpps", "fast", "vxlan", 1.0, 1.3),
    Target("TCP ping-pong p50, polling", "rr_p50", "fast", "vxlan", 0.6, 0.4, False),
    Target(
        "TCP ping-pong p50, not polling", "rr_p50", "fast-nopoll", "per-packet", 1.1, 0.9, False
    ),
    Target("daemons' CPU per GB of TCP", "tcp_cpu", "fast", "per-packet", 1 / 8, 1 / 12, False),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target and the ratio that was measured."""

    target: Target
    measured: float

    def _reaches(self, wanted: float) -> bool:
        if self.target.higher_is_better:
            return self.measured >= wanted
        return self.measured <= wanted

    @property
    def met(self) -> bool:
        """Whether what must be, is."""
        return self._reaches(self.target.must)

    @property
    def aim_met(self) -> bool:
        """Whether even the aim was reached."""
        return self._reaches(self.target.aim)


def judge(link: str, ratio: Callable[[str, str, str], float | None]) -> list[Outcome]:
    """The outcome of every target whose paths were measured on this kind of link."""
    outcomes = []
    for target in TARGETS:
        if target.link not in ("", link):
            continue
        measured = ratio(target.path, target.reference, target.metric)
        if measured is not None:
            outcomes.append(Outcome(target, measured))
    return outcomes
