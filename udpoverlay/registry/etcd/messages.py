"""How etcd's v3 API is spelled in JSON, and nothing else: bodies out, replies in.

Owns: field names, base64, 64-bit integers as strings (proto3 JSON mapping of etcd's rpc.proto).
Must not know: HTTP, endpoints, what a key means.

    range   {"key": b64, "range_end": b64, …}            → {"header", "kvs", "more", "count"}
    txn     {"compare": […], "success": […], "failure": […]} → {"header", "succeeded", "responses"}
    watch   {"create_request": {…}}   → one {"result": {…}} or {"error": {…}} a line, for ever

A field that is absent in a reply holds its zero value.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = [
    "Header",
    "KeyValue",
    "RangeReply",
    "TxnReply",
    "WatchEvent",
    "WatchReply",
    "delete_op",
    "error_of",
    "get_op",
    "grant_body",
    "if_absent",
    "if_unchanged",
    "key_value",
    "prefix_end",
    "put_op",
    "range_body",
    "range_reply",
    "txn_body",
    "txn_reply",
    "watch_body",
    "watch_reply",
]

Json = Mapping[str, Any]


class Header(NamedTuple):
    """Who answered, and at which point of its history."""

    cluster_id: int
    revision: int
    raft_term: int


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
    """Keys in byte order; `count` counts the whole range, also beyond a limit."""

    header: Header
    kvs: tuple[KeyValue, ...]
    more: bool
    count: int


class TxnReply(NamedTuple):
    """Whether the comparisons held, and the ranges that the branch taken has read."""

    header: Header
    succeeded: bool
    ranges: tuple[RangeReply, ...]


class WatchEvent(NamedTuple):
    """A put, or a delete (then only `key` and `mod_revision` of the pair are filled)."""

    deleted: bool
    kv: KeyValue


class WatchReply(NamedTuple):
    """One message of a watch; without events and marks it is a progress notification."""

    header: Header
    created: bool
    canceled: bool
    compact_revision: int
    reason: str
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


def range_body(  # noqa: PLR0913 - one argument a field of etcd's RangeRequest
    key: bytes,
    range_end: bytes = b"",
    *,
    revision: int = 0,
    limit: int = 0,
    newer_than: int = 0,
    keys_only: bool = False,
) -> dict[str, Any]:
    """A read. `newer_than`: only keys whose modification revision is greater."""
    body: dict[str, Any] = {"key": _b64(key)}
    if range_end:
        body["range_end"] = _b64(range_end)
    if revision:
        body["revision"] = str(revision)
    if limit:
        body["limit"] = str(limit)
    if newer_than:
        body["min_mod_revision"] = str(newer_than + 1)
    if keys_only:
        body["keys_only"] = True
    return body


def range_reply(reply: Json) -> RangeReply:
    """Read a range reply."""
    return RangeReply(
        _header(reply),
        tuple(key_value(kv) for kv in reply.get("kvs", ())),
        bool(reply.get("more", False)),
        int(reply.get("count", 0)),
    )


def if_absent(key: bytes) -> dict[str, Any]:
    """Comparison: the key does not exist."""
    return {"key": _b64(key), "target": "VERSION", "result": "EQUAL", "version": "0"}


def if_unchanged(key: bytes, mod_revision: int) -> dict[str, Any]:
    """Comparison: the key was last changed at `mod_revision`."""
    return {
        "key": _b64(key),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": str(mod_revision),
    }


def put_op(key: bytes, value: bytes, lease: int) -> dict[str, Any]:
    """Write; `lease` 0 keeps the key for ever."""
    request = {"key": _b64(key), "value": _b64(value)}
    if lease:
        request["lease"] = str(lease)
    return {"request_put": request}


def get_op(key: bytes) -> dict[str, Any]:
    """Read one key inside a transaction."""
    return {"request_range": range_body(key)}


def delete_op(key: bytes) -> dict[str, Any]:
    """Delete one key inside a transaction."""
    return {"request_delete_range": {"key": _b64(key)}}


def txn_body(
    compare: Sequence[Json], success: Sequence[Json], failure: Sequence[Json] = ()
) -> dict[str, Any]:
    """All comparisons hold → `success`, else `failure`; one revision for the whole."""
    return {"compare": list(compare), "success": list(success), "failure": list(failure)}


def txn_reply(reply: Json) -> TxnReply:
    """Read a transaction's reply."""
    ranges = [
        range_reply(response["response_range"])
        for response in reply.get("responses", ())
        if "response_range" in response
    ]
    return TxnReply(_header(reply), bool(reply.get("succeeded", False)), tuple(ranges))


def grant_body(ttl: int) -> dict[str, Any]:
    """Ask for a lease of `ttl` seconds, etcd chooses the id."""
    return {"TTL": str(ttl)}


def watch_body(key: bytes, range_end: bytes, start_revision: int) -> dict[str, Any]:
    """Every change of the range from `start_revision` on, with progress notifications."""
    request: dict[str, Any] = {
        "key": _b64(key),
        "start_revision": str(start_revision),
        "progress_notify": True,
    }
    if range_end:
        request["range_end"] = _b64(range_end)
    return {"create_request": request}


def watch_reply(result: Json) -> WatchReply:
    """Read the object under "result" of one line."""
    return WatchReply(
        _header(result),
        bool(result.get("created", False)),
        bool(result.get("canceled", False)),
        int(result.get("compact_revision", 0)),
        str(result.get("cancel_reason", "")),
        tuple(
            WatchEvent(event.get("type") == "DELETE", key_value(event["kv"]))
            for event in result.get("events", ())
        ),
    )


def key_value(kv: Json) -> KeyValue:
    """Read one key-value pair."""
    return KeyValue(
        base64.b64decode(kv["key"]),
        base64.b64decode(kv.get("value", "")),
        int(kv.get("create_revision", 0)),
        int(kv.get("mod_revision", 0)),
        int(kv.get("version", 0)),
        int(kv.get("lease", 0)),
    )


def error_of(reply: Mapping[str, Any]) -> tuple[int, str]:
    """gRPC code and message of an error object, as grpc-gateway 1 and 2 spell it."""
    code = reply.get("code", reply.get("grpc_code", 0))
    message = reply.get("message") or reply.get("error") or ""
    return (code if isinstance(code, int) else 0), str(message)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _header(reply: Json) -> Header:
    header = reply.get("header", {})
    return Header(
        int(header.get("cluster_id", 0)),
        int(header.get("revision", 0)),
        int(header.get("raft_term", 0)),
    )
