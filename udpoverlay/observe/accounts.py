"""Whether every packet that was taken has its verdict.

Owns: that sum. Must not know: who counts, or where it is shown.

    taken + copies made on purpose = verdicts of the direction + held back on purpose + unaccounted
"""

from __future__ import annotations

from collections.abc import Mapping

from udpoverlay import _fastpath as fp

__all__ = ["DIRECTIONS", "unaccounted"]

DIRECTIONS = ("outbound", "inbound")


def unaccounted(counters: Mapping[str, int], held_back: int = 0) -> dict[str, int]:
    """Packets without a verdict, by direction; anything but 0 is a defect of ours.

    `held_back`: outbound packets that wait because of `udpoverlay impair`. Packets of the batch at
    hand are not taken yet: what has its verdict early makes up for nothing, so less than 0 is 0.
    """
    verdicts = dict.fromkeys(DIRECTIONS, 0)
    for name, direction, *_ in fp.VERDICTS:
        verdicts[direction] += counters.get(name, 0)
    more = {"outbound": counters.get("outbound_duplicates", 0) - held_back}
    return {
        direction: max(
            0, counters.get(f"{direction}_taken", 0) + more.get(direction, 0) - verdicts[direction]
        )
        for direction in DIRECTIONS
    }
