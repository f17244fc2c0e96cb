"""Which packets an impairment chooses: slow and obvious (ext/worker/impair_rule.h)."""

from __future__ import annotations

__all__ = ["CORRUPT", "DUPLICATE", "LOSS", "REORDER", "bit", "chosen"]

LOSS, CORRUPT, BIT, DUPLICATE, REORDER = 0, 1, 2, 3, 4
DRAWS = 8
MASK = (1 << 64) - 1


def splitmix(seed: int, count: int) -> list[int]:
    """The first numbers of the SplitMix64 sequence (Steele, Lea, Flood 2014), by its state."""
    state, found = seed, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        x = state
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        found.append(x ^ (x >> 31))
    return found


def chosen(seed: int, kind: int, chance: int, packets: int) -> list[bool]:
    """For each packet whether what has that chance, in millionths, happens to it."""
    numbers = splitmix(seed, packets * DRAWS)[kind::DRAWS]
    return [(number >> 32) * 1_000_000 >> 32 < chance for number in numbers]


def bit(seed: int, packet: int, bits: int) -> int:
    """Which of so many bits of that packet is the wrong one."""
    return (splitmix(seed, packet * DRAWS + BIT + 1)[-1] >> 32) * bits >> 32
