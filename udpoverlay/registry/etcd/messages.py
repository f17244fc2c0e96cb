"""etcd's messages, the part of them that we use: requests to bytes, replies to checked values.

Owns: method names, field numbers, and what a reply must hold to be believed (etcd
api/etcdserverpb/rpc.proto, api/mvccpb/kv.proto; the same in 3.4, 3.5 and 3.6).
Must not know: gRPC, endpoints, what a key means.

This is the one place where a reply of etcd is read. Whatever its bytes, a reader here returns a
value that holds all that it promises, or raises BadMessage: a reply without what was asked for,
with a key outside the range, in the wrong order, or with an impossible number is no reply of etcd.
A value too long for a lease is cut, so that what others write costs us no memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from udpoverlay.registry.etcd.values import (
    Header,
    KeyValue,
    RangeReply,
    TxnReply,
    WatchEvent,
    WatchReply,
    in_range,
)
from udpoverlay.registry.etcd.wire import BadMessage, bytes_field, fields, int_field, signed

__all__ = [
    "AUTHENTICATE",
    "LEASE_GRANT",
    "LEASE_REVOKE",
    "LEASE_TIME_TO_LIVE",
    "LONGEST_VALUE",
    "RANGE",
    "TXN",
    "WATCH",
    "BadMessage",
    "authenticate_reply",
    "authenticate_request",
    "delete_op",
    "get_op",
    "grant_reply",
    "grant_request",
    "if_absent",
    "if_unchanged",
    "progress_request",
    "put_op",
    "range_reply",
    "range_request",
    "revoke_reply",
    "revoke_request",
    "time_to_live_reply",
    "time_to_live_request",
    "txn_reply",
    "txn_request",
    "watch_reply",
    "watch_request",
]

RANGE = "/etcdserverpb.KV/Range"
TXN = "/etcdserverpb.KV/Txn"
WATCH = "/etcdserverpb.Watch/Watch"
LEASE_GRANT = "/etcdserverpb.Lease/LeaseGrant"
LEASE_REVOKE = "/etcdserverpb.Lease/LeaseRevoke"
LEASE_TIME_TO_LIVE = "/etcdserverpb.Lease/LeaseTimeToLive"
AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"

LONGEST_VALUE = 1 << 16
"""Bytes; a longer value is read as its first LONGEST_VALUE + 1, which no lease has."""
_LONGEST_TEXT = 500
_MOST_EVENTS = 1 << 16
"""In one message. etcd cuts its own at 2 MB, and a lease's event has more than 100 bytes."""
_MOST_REVISION = 1 << 62
_MOST_TTL = 9_000_000_000
"""etcd's own limit (server/lease/lessor.go, MaxLeaseTTL)."""


# ---------------------------------------------------------------- ranges


def range_request(  # noqa: PLR0913 - one argument a field of etcd's RangeRequest
    key: bytes,
    range_end: bytes = b"",
    *,
    revision: int = 0,
    limit: int = 0,
    newer_than: int = 0,
    keys_only: bool = False,
    count_only: bool = False,
) -> bytes:
    """A linearizable read. `newer_than`: only keys whose modification revision is greater."""
    return (
        bytes_field(1, key)
        + (bytes_field(2, range_end) if range_end else b"")
        + int_field(3, limit)
        + int_field(4, revision)
        + int_field(8, keys_only)
        + int_field(9, count_only)
        + int_field(10, newer_than + 1 if newer_than else 0)
    )


def range_reply(data: bytes, key: bytes, range_end: bytes = b"", *, limit: int = 0) -> RangeReply:
    """Read the reply to a request for these keys."""
    return _range(data, 0, len(data), (key, range_end, limit))


def _range(data: bytes, start: int, end: int, asked: tuple[bytes, bytes, int]) -> RangeReply:
    key, range_end, limit = asked
    header: Header | None = None
    kvs: list[KeyValue] = []
    more = False
    count = 0
    last = b""
    for tag, value, stop in fields(data, start, end):
        if tag == 0x12:
            kv = _key_value(data, value, stop)
            if kv.key <= last or not in_range(kv.key, key, range_end):
                raise BadMessage("etcd sent a key that was not asked for")
            last = kv.key
            kvs.append(kv)
            if limit and len(kvs) > limit:
                raise BadMessage("etcd sent more keys than were asked for")
        elif tag == 0x0A:
            header = _header(data, value, stop)
        elif tag == 0x18:
            more = value != 0
        elif tag == 0x20:
            count = _number(value, "count")
    if more and not kvs:
        raise BadMessage("etcd sent no key but says that there are more")
    return RangeReply(_required(header), tuple(kvs), more, count)


# ---------------------------------------------------------------- transactions


def if_absent(key: bytes) -> bytes:
    """Comparison: the key does not exist (its version is 0)."""
    return bytes_field(3, key) + bytes((4 << 3, 0))


def if_unchanged(key: bytes, mod_revision: int) -> bytes:
    """Comparison: the key was last changed at `mod_revision`."""
    return int_field(2, 2) + bytes_field(3, key) + int_field(6, mod_revision)


_GET, _PUT, _DELETE = 1, 2, 3
"""The fields of RequestOp, and of ResponseOp."""


def put_op(key: bytes, value: bytes, lease: int) -> tuple[int, bytes, bytes]:
    """Write; `lease` 0 keeps the key for ever."""
    return _PUT, key, bytes_field(1, key) + bytes_field(2, value) + int_field(3, lease)


def get_op(key: bytes) -> tuple[int, bytes, bytes]:
    """Read one key inside a transaction."""
    return _GET, key, range_request(key)


def delete_op(key: bytes) -> tuple[int, bytes, bytes]:
    """Delete one key inside a transaction."""
    return _DELETE, key, bytes_field(1, key)


Op = tuple[int, bytes, bytes]


def txn_request(compare: Sequence[bytes], success: Sequence[Op], failure: Sequence[Op]) -> bytes:
    """All comparisons hold → `success`, else `failure`; one revision for the whole."""
    return b"".join(
        [
            *(bytes_field(1, each) for each in compare),
            *(bytes_field(2, bytes_field(kind, op)) for kind, _, op in success),
            *(bytes_field(3, bytes_field(kind, op)) for kind, _, op in failure),
        ]
    )


def txn_reply(data: bytes, success: Sequence[Op], failure: Sequence[Op]) -> TxnReply:
    """Read the reply to a transaction of these operations: one response for each, in order."""
    header: Header | None = None
    succeeded = False
    responses: list[tuple[int, int]] = []
    for tag, value, stop in fields(data):
        if tag == 0x0A:
            header = _header(data, value, stop)
        elif tag == 0x10:
            succeeded = value != 0
        elif tag == 0x1A:
            responses.append((value, stop))
            if len(responses) > max(len(success), len(failure)):
                break
    ops = success if succeeded else failure
    if len(responses) != len(ops):
        raise BadMessage("etcd answered a transaction with another number of responses")
    ranges = []
    for (kind, key, _), (start, stop) in zip(ops, responses, strict=True):
        content = next(fields(data, start, stop), (0, 0, 0))
        if content[0] != kind << 3 | 2:
            raise BadMessage("etcd answered a transaction with another kind of response")
        if kind == _GET:
            # The header inside a transaction's response is not filled: it has one for the whole.
            outer = _required(header)
            inner = _range_inside(data, content[1], content[2], key, outer)
            ranges.append(inner)
    return TxnReply(_required(header), succeeded, tuple(ranges))


def _range_inside(data: bytes, start: int, end: int, key: bytes, header: Header) -> RangeReply:
    kvs = [_key_value(data, at, stop) for tag, at, stop in fields(data, start, end) if tag == 0x12]
    if len(kvs) > 1 or any(kv.key != key for kv in kvs):
        raise BadMessage("etcd sent a key that was not asked for")
    return RangeReply(header, tuple(kvs), False, len(kvs))


# ---------------------------------------------------------------- leases


def grant_request(lease: int, ttl: int) -> bytes:
    """Ask for a lease of `ttl` seconds with this id."""
    return int_field(1, ttl) + int_field(2, lease)


def grant_reply(data: bytes, lease: int) -> int:
    """The seconds that etcd granted."""
    granted = ttl = 0
    for tag, value, _ in fields(data):
        if tag == 0x10:
            granted = signed(value)
        elif tag == 0x18:
            ttl = signed(value)
    if granted != lease or not 0 < ttl <= _MOST_TTL:
        raise BadMessage("etcd granted a lease without its id or a term")
    return ttl


def revoke_request(lease: int) -> bytes:
    """End a lease; keys attached to it vanish."""
    return int_field(1, lease)


def revoke_reply(data: bytes) -> None:
    """Nothing of it is needed, but it must be a message."""
    for _ in fields(data):
        pass


def time_to_live_request(lease: int) -> bytes:
    """Ask how long a lease still has, and which keys hang on it."""
    return int_field(1, lease) + int_field(2, 1)


def time_to_live_reply(data: bytes) -> tuple[int, tuple[bytes, ...]]:
    """Seconds that the lease still has, -1 when there is no such lease, and its keys."""
    ttl = 0
    keys = []
    for tag, value, stop in fields(data):
        if tag == 0x18:
            ttl = signed(value)
        elif tag == 0x2A:
            keys.append(data[value:stop])
    if not -1 <= ttl <= _MOST_TTL:
        raise BadMessage("etcd sent an impossible term of a lease")
    return ttl, tuple(keys)


# ---------------------------------------------------------------- users


def authenticate_request(name: str, password: str) -> bytes:
    """Ask for a token."""
    # What comes from the environment may hold bytes that are no UTF-8: they are sent as they were.
    parts = (text.encode("utf-8", "surrogateescape") for text in (name, password))
    return b"".join(bytes_field(number, part) for number, part in enumerate(parts, 1))


def authenticate_reply(data: bytes) -> str:
    """The token, which goes back as a header: printable ASCII, and not empty."""
    token = b""
    for tag, value, stop in fields(data):
        if tag == 0x12:
            token = data[value:stop]
    if not token or not token.isascii() or not token.decode("ascii").isprintable():
        raise BadMessage("etcd sent a token that cannot be one")
    return token.decode("ascii")


# ---------------------------------------------------------------- watches


def watch_request(key: bytes, range_end: bytes, start_revision: int) -> bytes:
    """Every change of the range from `start_revision` on, in messages of bounded size."""
    create = (
        bytes_field(1, key)
        + (bytes_field(2, range_end) if range_end else b"")
        + int_field(3, start_revision)
        + int_field(8, 1)  # fragment
    )
    return bytes_field(1, create)


def progress_request() -> bytes:
    """Ask an open watch to send a message when it has sent all that happened up to now."""
    return bytes_field(3, b"")


def watch_reply(data: bytes, key: bytes, range_end: bytes) -> WatchReply:
    """Read one message of a watch of this range."""
    created = canceled = fragment = False
    compact_revision = 0
    reason = ""
    events: list[WatchEvent] = []
    for tag, value, stop in fields(data):
        if tag == 0x5A:
            event = _event(data, value, stop)
            if not in_range(event.kv.key, key, range_end):
                raise BadMessage("etcd sent an event of a key that is not watched")
            events.append(event)
            if len(events) > _MOST_EVENTS:
                raise BadMessage("etcd sent more events in one message than it ever does")
        elif tag == 0x18:
            created = value != 0
        elif tag == 0x20:
            canceled = value != 0
        elif tag == 0x28:
            compact_revision = _number(value, "compact revision")
        elif tag == 0x32:
            reason = data[value : min(stop, value + _LONGEST_TEXT)].decode("utf-8", "replace")
        elif tag == 0x38:
            fragment = value != 0
    return WatchReply(created, canceled, compact_revision, reason, fragment, tuple(events))


def _event(data: bytes, start: int, end: int) -> WatchEvent:
    kind = 0
    kv: KeyValue | None = None
    for tag, value, stop in fields(data, start, end):
        if tag == 0x08:
            kind = value
        elif tag == 0x12:
            kv = _key_value(data, value, stop)
    if kv is None or kind not in (0, 1):
        raise BadMessage("etcd sent an event that is neither a put nor a delete of a key")
    return WatchEvent(kind == 1, kv)


# ---------------------------------------------------------------- their parts


def _key_value(data: bytes, start: int, end: int) -> KeyValue:
    key = content = b""
    created = modified = version = lease = 0
    for tag, value, stop in fields(data, start, end):
        if tag == 0x0A:
            key = data[value:stop]
        elif tag == 0x10:
            created = value
        elif tag == 0x18:
            modified = value
        elif tag == 0x20:
            version = value
        elif tag == 0x2A:
            content = data[value : min(stop, value + LONGEST_VALUE + 1)]
        elif tag == 0x30:
            lease = signed(value)
    if not key:
        raise BadMessage("etcd sent an entry without a key")
    if not (0 < modified < _MOST_REVISION and created <= modified and version < _MOST_REVISION):
        raise BadMessage("etcd sent an entry with an impossible revision")
    return KeyValue(key, content, created, modified, version, lease)


def _header(data: bytes, start: int, end: int) -> Header:
    cluster = revision = 0
    for tag, value, _ in fields(data, start, end):
        if tag == 0x08:
            cluster = value
        elif tag == 0x18:
            revision = _number(value, "revision")
    return Header(cluster, revision)


def _required(header: Header | None) -> Header:
    # An etcd without any key is at revision 1.
    if header is None or not header.revision:
        raise BadMessage("etcd sent a reply without its revision")
    return header


def _number(value: int, name: str) -> int:
    if value >= _MOST_REVISION:
        raise BadMessage(f"etcd sent an impossible {name}")
    return value
