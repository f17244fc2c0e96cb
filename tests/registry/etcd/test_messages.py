"""etcd's messages: the bytes of requests, and what a reply must hold to be believed.

The vectors are what the protobuf library makes of the same messages.
"""

from __future__ import annotations

import pytest

from udpoverlay.registry.etcd import messages as m
from udpoverlay.registry.etcd.wire import BadMessage, bytes_field, fields, int_field

REQUESTS = {
    "0a022f6112022f62180520ac0240015005": m.range_request(
        b"/a", b"/b", limit=5, revision=300, newer_than=4, keys_only=True
    ),
    "0a061a022f6b20000a0910021a022f6b30ac02121412120a022f6b12017618fbffffffffffffffff01"
    "12061a040a022f6b1a060a040a022f6b": m.txn_request(
        [m.if_absent(b"/k"), m.if_unchanged(b"/k", 300)],
        [m.put_op(b"/k", b"v", -5), m.delete_op(b"/k")],
        [m.get_op(b"/k")],
    ),
    "0a0d0a022f6112022f6218ac024001": m.watch_request(b"/a", b"/b", 300),
    "1a00": m.progress_request(),
    "0880a305104d": m.grant_request(77, 86400),
    "084d1001": m.time_to_live_request(77),
    "0a026d65120373c3a9": m.authenticate_request("me", "sé"),
}


@pytest.mark.parametrize("expected", REQUESTS)
def test_a_request_has_the_bytes_of_protobuf(expected: str) -> None:
    assert REQUESTS[expected].hex() == expected


def header(revision: int = 9) -> bytes:
    return bytes_field(1, int_field(1, 7) + int_field(3, revision))


def pair(key: bytes, revision: int = 5, **more: int) -> bytes:
    return (
        bytes_field(1, key)
        + int_field(2, more.get("created", 2))
        + int_field(3, revision)
        + int_field(4, 1)
        + bytes_field(5, b"v")
    )


def listed(*pairs: bytes, tail: bytes = b"") -> bytes:
    return header() + b"".join(bytes_field(2, each) for each in pairs) + tail


def test_a_page_is_read() -> None:
    reply = m.range_reply(listed(pair(b"/a"), pair(b"/b"), tail=b"\x18\x01\x20\x07"), b"/", b"0")
    assert reply.header == (7, 9)
    assert [kv.key for kv in reply.kvs] == [b"/a", b"/b"]
    assert (reply.more, reply.count) == (True, 7)


def test_unknown_fields_are_passed_over() -> None:
    later = int_field(90, 5) + bytes_field(91, b"new") + b"\xa5\x01abcd" + b"\xa1\x01abcdefgh"
    assert m.range_reply(listed(pair(b"/a"), tail=later), b"/", b"0").kvs[0].key == b"/a"


@pytest.mark.parametrize(
    ("why", "reply"),
    [
        ("without its revision", b""),
        ("without its revision", header(0)),
        ("impossible revision", header(-1)),
        ("impossible revision", listed(pair(b"/a", -1))),
        ("impossible revision", listed(pair(b"/a", 5, created=6))),
        ("without a key", listed(pair(b""))),
        ("not asked for", listed(pair(b"0"))),
        ("not asked for", listed(pair(b"/b"), pair(b"/a"))),
        ("not asked for", listed(pair(b"/a"), pair(b"/a"))),
        ("more keys", listed(pair(b"/a"), pair(b"/b"), pair(b"/c"))),
        ("says that there are more", listed(tail=b"\x18\x01")),
        ("cut off", listed(pair(b"/a"))[:-1]),
        ("wire type 3", header() + b"\x13"),
        ("64 bits", header() + b"\x20" + b"\xff" * 10 + b"\x01"),
    ],
)
def test_a_reply_to_something_else_is_refused(why: str, reply: bytes) -> None:
    with pytest.raises(BadMessage, match=why):
        m.range_reply(reply, b"/", b"0", limit=2)


def test_a_value_too_long_for_a_lease_is_cut() -> None:
    entry = bytes_field(1, b"/a") + int_field(3, 5) + bytes_field(5, bytes(1_000_000))
    [kv] = m.range_reply(listed(entry), b"/", b"0").kvs
    assert len(kv.value) == m.LONGEST_VALUE + 1


def test_a_transactions_reply_has_a_response_for_each_operation() -> None:
    put, get = [m.put_op(b"/k", b"v", 1)], [m.get_op(b"/k")]
    done = header() + int_field(2, 1) + bytes_field(3, bytes_field(2, b""))
    assert m.txn_reply(done, put, get) == ((7, 9), True, ())
    read = header() + bytes_field(3, bytes_field(1, bytes_field(2, pair(b"/k"))))
    assert m.txn_reply(read, put, get).ranges[0].kvs[0].key == b"/k"
    foreign = header() + bytes_field(3, bytes_field(1, bytes_field(2, pair(b"/x"))))
    for wrong in (header(), done + bytes_field(3, b""), header() + int_field(2, 1), foreign):
        with pytest.raises(BadMessage):
            m.txn_reply(wrong, put, get)
    with pytest.raises(BadMessage, match="another kind"):
        m.txn_reply(header() + bytes_field(3, bytes_field(2, b"")), put, get)


@pytest.mark.parametrize("token", [b"", b"a\nb", "sé".encode(), b"\0"])
def test_a_token_that_cannot_be_a_header_is_refused(token: bytes) -> None:
    with pytest.raises(BadMessage, match="token"):
        m.authenticate_reply(header() + bytes_field(2, token))


def test_a_watchs_events_are_of_its_range() -> None:
    put = bytes_field(11, bytes_field(2, pair(b"/a")))
    gone = bytes_field(
        11, int_field(1, 1) + bytes_field(2, bytes_field(1, b"/a") + int_field(3, 6))
    )
    reply = m.watch_reply(header() + put + gone, b"/", b"0")
    assert [(event.deleted, event.kv.mod_revision) for event in reply.events] == [
        (False, 5),
        (True, 6),
    ]
    for wrong in (b"", bytes_field(2, pair(b"0")), int_field(1, 2) + bytes_field(2, pair(b"/a"))):
        with pytest.raises(BadMessage):
            m.watch_reply(header() + bytes_field(11, wrong), b"/", b"0")


def test_fields_end_where_their_message_ends() -> None:
    """A nested message whose last number reaches beyond it."""
    data = bytes_field(1, b"\x08\x80") + b"\x01"
    with pytest.raises(BadMessage, match="cut off"):
        list(fields(data, 2, 4))
