"""Damage bytes as a broken or hostile peer may: seeded, so that a failure can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence

_ODD = (
    b"",
    b"\0",
    b"\xff" * 10,
    b"\x80" * 11,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\x12\0" * 50,
    b"\x5a\0" * 50,
    b"\x0b",
    b"\x0c",
)


def mutated(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """`data` with one to four kinds of damage; `others` are spliced in."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(out) + 1)
        span = rng.randrange(1, 1 + max(1, min(len(out) - at, 40)))
        kind = rng.randrange(8)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at % len(out)] = rng.randrange(256)
        elif kind == 2:
            del out[at : at + span]
        elif kind == 3:
            out[at:at] = rng.randbytes(span)
        elif kind == 4:
            out[at:at] = rng.choice(_ODD)
        elif kind == 5:
            out[at:at] = out[at : at + span] * rng.randrange(1, 4)
        elif kind == 6:
            del out[at:]
        elif others:
            other = rng.choice(others)
            cut = rng.randrange(len(other) + 1)
            out[at:] = other[cut:]
    return bytes(out)
