"""Our own encoding against the protobuf library, with random values: requests and replies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.etcdproto import classes
from udpoverlay.registry.etcd import messages as m
from udpoverlay.registry.etcd.values import KeyValue, WatchEvent, WatchReply

PB = classes()
PREFIX = b"/net/subnets/"
END = b"/net/subnets0"

ints = st.integers(-(1 << 63), (1 << 63) - 1)
revisions = st.integers(1, (1 << 62) - 1)
keys = st.binary(min_size=1, max_size=40)
values = st.binary(max_size=300)
inside = st.binary(max_size=30).map(PREFIX.__add__)


def same(ours: bytes, theirs: Any) -> None:
    """The bytes are the library's, field for field in the order of their numbers."""
    assert ours == theirs.SerializeToString(deterministic=True)


# ---------------------------------------------------------------- requests


@given(
    st.fixed_dictionaries(
        {
            "key": keys,
            "range_end": values,
            **dict.fromkeys(("limit", "revision"), ints),
            **dict.fromkeys(("keys_only", "count_only"), st.booleans()),
        }
    ),
    revisions,
)
def test_a_read_is_the_librarys(asked: dict[str, Any], newer: int) -> None:
    ours = m.range_request(**asked, newer_than=newer)
    same(ours, PB["RangeRequest"](**asked, min_mod_revision=newer + 1))


ops = st.lists(st.tuples(st.sampled_from(["put", "get", "delete"]), keys, values, ints), max_size=4)


@given(st.lists(st.tuples(keys, ints.filter(bool) | st.none()), max_size=3), ops, ops)
def test_a_transaction_is_the_librarys(
    compare: list[tuple[bytes, int | None]], success: list[Any], failure: list[Any]
) -> None:
    def our(op: tuple[str, bytes, bytes, int]) -> m.Op:
        kind, key, value, lease = op
        made = {"put": m.put_op(key, value, lease), "get": m.get_op(key)}
        return made.get(kind, m.delete_op(key))

    def their(op: tuple[str, bytes, bytes, int]) -> Any:
        kind, key, value, lease = op
        if kind == "put":
            # `value` is there also when it is empty, which for the server is the same.
            return PB["RequestOp"](request_put=PB["PutRequest"](key=key, value=value, lease=lease))
        if kind == "get":
            return PB["RequestOp"](request_range=PB["RangeRequest"](key=key))
        return PB["RequestOp"](request_delete_range=PB["DeleteRangeRequest"](key=key))

    ours = m.txn_request(
        [m.if_absent(key) if at is None else m.if_unchanged(key, at) for key, at in compare],
        [our(op) for op in success],
        [our(op) for op in failure],
    )
    theirs = PB["TxnRequest"](
        compare=[
            PB["Compare"](key=key, version=0)
            if at is None
            else PB["Compare"](target=2, key=key, mod_revision=at)
            for key, at in compare
        ],
        success=[their(op) for op in success],
        failure=[their(op) for op in failure],
    )
    assert PB["TxnRequest"].FromString(ours) == theirs
    if all(op[2] for op in (*success, *failure) if op[0] == "put"):
        same(ours, theirs)


@given(keys, values, ints)
def test_a_watch_is_the_librarys(key: bytes, end: bytes, start: int) -> None:
    create = PB["WatchCreateRequest"](key=key, range_end=end, start_revision=start, fragment=True)
    same(m.watch_request(key, end, start), PB["WatchRequest"](create_request=create))
    progress = PB["WatchRequest"](progress_request=PB["WatchProgressRequest"]())
    same(m.progress_request(), progress)


@given(ints, ints)
def test_leases_are_the_librarys(lease: int, ttl: int) -> None:
    same(m.grant_request(lease, ttl), PB["LeaseGrantRequest"](TTL=ttl, ID=lease))
    same(m.revoke_request(lease), PB["LeaseRevokeRequest"](ID=lease))
    same(m.time_to_live_request(lease), PB["LeaseTimeToLiveRequest"](ID=lease, keys=True))


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_user_is_the_librarys(name: str, password: str) -> None:
    theirs = PB["AuthenticateRequest"](name=name, password=password)
    same(m.authenticate_request(name, password), theirs)


# ---------------------------------------------------------------- replies

headers = st.builds(
    PB["ResponseHeader"],
    cluster_id=st.integers(0, (1 << 64) - 1),
    member_id=st.integers(0, (1 << 64) - 1),
    revision=revisions,
    raft_term=st.integers(0, (1 << 64) - 1),
)


@st.composite
def pairs(draw: st.DrawFn, key: st.SearchStrategy[bytes] = inside) -> Any:
    modified = draw(revisions)
    return PB["KeyValue"](
        key=draw(key),
        value=draw(values),
        create_revision=draw(st.integers(0, modified)),
        mod_revision=modified,
        version=draw(st.integers(0, (1 << 62) - 1)),
        lease=draw(ints),
    )


def read(kv: Any) -> KeyValue:
    """What of the library's pair ours must hold."""
    return KeyValue(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


@given(
    headers, st.lists(pairs(), max_size=5, unique_by=lambda kv: kv.key), st.booleans(), revisions
)
def test_a_page_of_the_library_is_read(header: Any, kvs: list[Any], more: bool, count: int) -> None:
    kvs.sort(key=lambda kv: kv.key)
    theirs = PB["RangeResponse"](header=header, kvs=kvs, more=more and bool(kvs), count=count)
    ours = m.range_reply(theirs.SerializeToString(), PREFIX, END)
    assert ours.header == (header.cluster_id, header.revision)
    assert ours.kvs == tuple(read(kv) for kv in kvs)
    assert (ours.more, ours.count) == (theirs.more, count)


@given(
    headers,
    st.lists(st.tuples(pairs(), st.booleans()), max_size=5),
    st.fixed_dictionaries(
        {
            **dict.fromkeys(("created", "canceled", "fragment"), st.booleans()),
            "compact_revision": st.integers(0, (1 << 62) - 1),
        }
    ),
    st.text(max_size=40),
)
def test_a_watchs_message_of_the_library_is_read(
    header: Any, events: list[tuple[Any, bool]], marks: dict[str, Any], reason: str
) -> None:
    theirs = PB["WatchResponse"](
        **marks,
        header=header,
        watch_id=7,
        cancel_reason=reason,
        events=[PB["Event"](type=int(gone), kv=kv, prev_kv=kv) for kv, gone in events],
    )
    told = tuple(WatchEvent(gone, read(kv)) for kv, gone in events)
    ours = m.watch_reply(theirs.SerializeToString(), PREFIX, END)
    assert ours == WatchReply(**marks, reason=reason, events=told)


@given(headers, pairs(st.just(PREFIX)), st.booleans(), st.booleans())
def test_a_transactions_reply_of_the_library_is_read(
    header: Any, kv: Any, succeeded: bool, found: bool
) -> None:
    got = PB["RangeResponse"](kvs=[kv] if found else [], count=int(found))
    put = PB["PutResponse"](header=header)
    theirs = PB["TxnResponse"](
        header=header,
        succeeded=succeeded,
        responses=[
            PB["ResponseOp"](response_put=put)
            if succeeded
            else PB["ResponseOp"](response_range=got)
        ],
    )
    ours = m.txn_reply(theirs.SerializeToString(), [m.put_op(PREFIX, b"", 0)], [m.get_op(PREFIX)])
    assert (ours.header, ours.succeeded) == ((header.cluster_id, header.revision), succeeded)
    kvs = (read(kv),) if found else ()
    assert [reply.kvs for reply in ours.ranges] == ([] if succeeded else [kvs])


@given(headers, ints, st.integers(1, 9_000_000_000), st.lists(keys, max_size=4))
def test_leases_of_the_library_are_read(
    header: Any, lease: int, ttl: int, held: list[bytes]
) -> None:
    granted = PB["LeaseGrantResponse"](header=header, ID=lease, TTL=ttl)
    assert m.grant_reply(granted.SerializeToString(), lease) == ttl
    left = PB["LeaseTimeToLiveResponse"](header=header, ID=lease, TTL=ttl, grantedTTL=9, keys=held)
    assert m.time_to_live_reply(left.SerializeToString()) == (ttl, tuple(held))
    gone = PB["LeaseTimeToLiveResponse"](header=header, ID=lease, TTL=-1)
    assert m.time_to_live_reply(gone.SerializeToString()) == (-1, ())


@given(headers, st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_a_token_of_the_library_is_read(header: Any, token: str) -> None:
    theirs = PB["AuthenticateResponse"](header=header, token=token)
    assert m.authenticate_reply(theirs.SerializeToString()) == token


@pytest.mark.parametrize("name", ["RangeResponse", "TxnResponse", "WatchResponse"])
def test_unknown_fields_of_the_library_are_passed_over(name: str) -> None:
    """What a later etcd may add comes with other numbers."""
    more = PB["RangeRequest"](key=b"/x", sort_order=1, max_mod_revision=1 << 40).SerializeToString()
    added = b"\xf2\x07" + bytes([len(more)]) + more  # field 126
    data = PB[name](header=PB["ResponseHeader"](revision=5)).SerializeToString() + added
    if name == "RangeResponse":
        assert m.range_reply(data, PREFIX, END).kvs == ()
    elif name == "TxnResponse":
        assert m.txn_reply(data, [], []).header.revision == 5
    else:
        assert m.watch_reply(data, PREFIX, END).events == ()
