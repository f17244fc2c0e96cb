"""What etcd's messages hold: keys, replies, events; and which keys a range has.

Owns: the value types. Must not know: how they look on the wire (messages.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "Header",
    "KeyValue",
    "RangeReply",
    "TxnReply",
    "WatchEvent",
    "WatchReply",
    "in_range",
    "prefix_end",
]


class Header(NamedTuple):
    """Who answered, and at which point of its history."""

    cluster_id: int
    revision: int


class KeyValue(NamedTuple):
    """One key as etcd keeps it; `lease` is 0 for a key that never runs out."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int


@dataclass(frozen=True, slots=True)
class RangeReply:
    """Keys in byte order, each within what was asked for; `count` also counts beyond a limit."""

    header: Header
    kvs: tuple[KeyValue, ...]
    more: bool
    count: int


class TxnReply(NamedTuple):
    """Whether the comparisons held, and what each read of the branch taken has read."""

    header: Header
    succeeded: bool
    ranges: tuple[RangeReply, ...]


class WatchEvent(NamedTuple):
    """A put, or a delete (then only `key` and `mod_revision` of the pair are filled)."""

    deleted: bool
    kv: KeyValue


class WatchReply(NamedTuple):
    """One message of a watch; without events and marks it is a progress notification.

    `fragment`: more events of the same revision may follow in the next message.
    """

    created: bool
    canceled: bool
    compact_revision: int
    reason: str
    fragment: bool
    events: tuple[WatchEvent, ...]


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys that start with `prefix` (etcd clientv3 GetPrefixRangeEnd).

    >>> prefix_end(b"/a/subnets")
    b'/a/subnett'
    """
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return b"\x00"
    return stripped[:-1] + bytes([stripped[-1] + 1])


def in_range(found: bytes, key: bytes, range_end: bytes) -> bool:
    """Whether a request for `key` … `range_end` asks for `found`; b"" is `key` alone."""
    if not range_end:
        return found == key
    return found >= key and (range_end == b"\x00" or found < range_end)
