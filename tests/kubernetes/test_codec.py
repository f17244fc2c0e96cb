"""Replies of an API server, decoded: what is read, what is refused; nothing else is raised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.kubefuzz import KINDS, Mutator, decode_all
from udpoverlay.kubernetes import codec
from udpoverlay.kubernetes.errors import KubeUndecodable, Status
from udpoverlay.kubernetes.lease import read_lease
from udpoverlay.kubernetes.node import NodeView

KEEP = frozenset({"a.b/c"})
META = {"name": "n1", "uid": "u-1", "resourceVersion": "7"}
NODE = {
    "kind": "Node",
    "metadata": {**META, "annotations": {"a.b/c": "d", "other": "x" * 100}, "labels": {"a": "b"}},
    "spec": {
        "podCIDR": "10.1.0.0/24",
        "podCIDRs": ["10.1.0.0/24"],
        "taints": [{"key": "k", "effect": "NoSchedule", "timeAdded": None}],
    },
    "status": {"images": [1, 2, 3]},
}
VIEW = NodeView(
    "n1",
    "u-1",
    "7",
    {"a.b/c": "d"},
    "10.1.0.0/24",
    ("10.1.0.0/24",),
    ({"key": "k", "effect": "NoSchedule"},),
)


def dump(obj: Any) -> bytes:
    return json.dumps(obj).encode()


def page(*items: Any, **meta: Any) -> bytes:
    return dump(
        {"kind": "NodeList", "metadata": {"resourceVersion": "9", **meta}, "items": list(items)}
    )


# ---------------------------------------------------------------------- nodes


def test_a_node_is_reduced_to_what_matters() -> None:
    assert codec.node(dump(NODE), KEEP) == VIEW


def test_null_is_absent() -> None:
    node: dict[str, Any] = {"metadata": {**META, "annotations": {"a.b/c": None}}, "spec": None}
    assert codec.node(dump(node), KEEP) == NodeView("n1", "u-1", "7", {"a.b/c": ""})
    node = {"metadata": {**META, "annotations": None}, "spec": {"podCIDRs": None, "taints": None}}
    assert codec.node(dump(node), KEEP) == NodeView("n1", "u-1", "7")


def test_of_a_key_given_twice_the_last_counts() -> None:
    text = dump(NODE).replace(b'"podCIDR": ', b'"podCIDR": "10.9.0.0/24", "podCIDR": ')
    assert codec.node(text, KEEP) == VIEW


@pytest.mark.parametrize(
    "junk",
    [b"1e999", b"9" * 10_000, b'"\xff\xfe"', b"[[[[]]]]", b"-0.0", b'"' + b"x" * 99_999 + b'"'],
    ids=lambda junk: str(junk[:20]),
)  # fmt: skip
def test_junk_in_what_is_not_read_is_skipped(junk: bytes) -> None:
    assert codec.node(dump(NODE).replace(b"[1, 2, 3]", junk), KEEP) == VIEW


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b"", "truncated"),
        (b"null", "got `null`"),
        (b"[]", "got `array`"),
        (b"[" * 100_000, "got `array`"),
        (b'{"x":' + b"[" * 100_000, "nested too deeply"),
        (b'{"x":' + b'{"a":' * 100_000, "nested too deeply"),
        (b"{}", "metadata.name is missing"),
        (b'{"metadata":[]}', "got `array`"),
        (b'{"metadata":{"name":5}}', "got `int`"),
        (b'{"metadata":{"name":"\xff"}}', "not UTF-8"),
        (b'{"metadata":{"name":"\\ud800"}}', "truncated"),
        (b'{"metadata":{"name":"../x","uid":"u","resourceVersion":"1"}}', "'../x'"),
        (b'{"metadata":{"name":"n","uid":"u"}}', "resourceVersion is missing"),
        (b'{"metadata":{"name":"n","uid":"u","resourceVersion":""}}', "resourceVersion is ''"),
        (b'{"metadata":{"name":"n","resourceVersion":"1"}}', "uid is missing"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_node_is_refused(broken: bytes, why: str) -> None:
    with pytest.raises(KubeUndecodable) as raised:
        codec.node(broken, KEEP)
    assert why in str(raised.value)


@pytest.mark.parametrize(
    "broken",
    [
        {"metadata": {**META, "annotations": {"a.b/c": 5}}},
        {"metadata": META, "spec": "x"},
        {"metadata": META, "spec": {"podCIDRs": "10.0.0.0/24"}},
        {"metadata": META, "spec": {"podCIDRs": [7]}},
        {"metadata": META, "spec": {"taints": [1]}},
        {"metadata": {**META, "annotations": []}},
    ],
    ids=str,
)
def test_a_node_that_can_only_be_named_stands_beside_the_others(broken: Any) -> None:
    found = codec.node_page(page(NODE, broken), KEEP, "list")
    assert found.nodes == (VIEW,)
    [odd] = found.odd
    assert (odd.name, odd.uid, odd.revision) == ("n1", "u-1", "7")
    assert odd.why
    with pytest.raises(KubeUndecodable):
        codec.node(dump(broken), KEEP)


def test_a_page_says_how_it_goes_on() -> None:
    found = codec.node_page(page(NODE, **{"continue": "abc"}), KEEP, "list")
    assert (found.revision, found.next) == ("9", "abc")


@pytest.mark.parametrize(
    "broken",
    [
        b"{}",
        page(NODE).replace(b'"NodeList"', b'"PodList"'),
        page(NODE).replace(b'"9"', b'""'),
        page(NODE).replace(b'"9"', b"9"),
        page(NODE).replace(b'"9"', b'"' + b"9" * 1000 + b'"'),
        page(NODE).replace(b'"items": [', b'"items": null, "x": ['),
        page(NODE).replace(b'"items": [', b'"x": ['),
        page(NODE, {}),
        page(NODE, None),
        page(NODE, {"metadata": {"name": "n2"}}),
        page(NODE, **{"continue": 7}),
        page(NODE, **{"continue": "a b"}),
        page(NODE)[:-1],
        page(NODE) + b"x",
    ],
    ids=lambda text: str(text[:20] + text[-20:]),
)
def test_a_page_that_cannot_be_whole_is_refused(broken: bytes) -> None:
    with pytest.raises(KubeUndecodable):
        codec.node_page(broken, KEEP, "list")


# ---------------------------------------------------------------------- watches


def test_watch_events_are_of_five_kinds() -> None:
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        event = codec.watch_event(dump({"type": kind, "object": NODE}), KEEP, "watch")
        assert (event.kind, event.revision, event.node) == (kind, "7", VIEW)
    mark = {"type": "BOOKMARK", "object": {"kind": "Node", "metadata": {"resourceVersion": "8"}}}
    assert codec.watch_event(dump(mark), KEEP, "watch") == codec.WatchEvent("BOOKMARK", "8")
    error = {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "old"}}
    event = codec.watch_event(dump(error), KEEP, "watch")
    assert event.status == Status(410, "Expired", "old")


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"type": "ADDED"},
        {"type": "ADDED", "object": None},
        {"type": "ADDED", "object": {}},
        {"type": "SOMETHING", "object": NODE},
        {"type": None, "object": NODE},
        {"type": ["ADDED"], "object": NODE},
        {"type": "BOOKMARK", "object": {}},
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": None}}},
        {"type": "DELETED", "object": {"metadata": {"name": "n1"}}},
    ],
    ids=str,
)
def test_a_line_that_is_no_event_is_refused(broken: Any) -> None:
    with pytest.raises(KubeUndecodable):
        codec.watch_event(dump(broken), KEEP, "watch")


# ---------------------------------------------------------------------- refusals and the rest


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"", Status()),
        (b"<html>", Status()),
        (b"null", Status()),
        (b"[" * 9000, Status()),
        (b"{}", Status()),
        (b'{"code":"x","reason":7,"message":"m"}', Status(message="m")),
        (b'{"code":1e999,"reason":"r"}', Status(reason="r")),
        (b'{"code":403,"message":null}', Status(code=403)),
    ],
    ids=str,
)
def test_of_a_refusal_what_can_be_read_is(body: bytes, wanted: Status) -> None:
    assert codec.status(body) == wanted


LEASE = {
    "kind": "Lease",
    "metadata": {"name": "l", "resourceVersion": "3", "ownerReferences": [{"kind": "Pod"}]},
    "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "strategy": "x"},
}


def test_a_lease_is_written_back_with_all_that_it_holds() -> None:
    lease = read_lease(dump(LEASE), "GET")
    assert (lease.holder, lease.duration, lease.revision) == ("a", 15, "3")
    body = codec.encode(lease.changed({"holderIdentity": "b"}, {"a/b": "c"}))
    assert json.loads(body) == {
        **LEASE,
        "metadata": {**LEASE["metadata"], "annotations": {"a/b": "c"}},  # type: ignore[dict-item]
        "spec": {**LEASE["spec"], "holderIdentity": "b"},  # type: ignore[dict-item]
    }


@pytest.mark.parametrize(
    "spec",
    [
        {"leaseDurationSeconds": 10**400},
        {"leaseDurationSeconds": 2**31},
        {"leaseDurationSeconds": -1},
        {"leaseDurationSeconds": "15"},
        {"leaseDurationSeconds": 1.5},
        {"leaseTransitions": 2**40},
        {"holderIdentity": 7},
        [],
    ],
    ids=lambda spec: str(spec)[:40],
)
def test_a_lease_with_odd_numbers_is_refused(spec: Any) -> None:
    with pytest.raises(KubeUndecodable):
        read_lease(dump({**LEASE, "spec": spec}), "GET")
    with pytest.raises(KubeUndecodable):
        read_lease(b"{}", "GET")


# ---------------------------------------------------------------------- anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(
        ["kind", "metadata", "name", "uid", "resourceVersion", "items", "spec", "type", "object",
         "podCIDRs", "taints", "annotations", "a.b/c", "continue", "status", "allowed", "code"]
    ), inner),
    max_leaves=30,
)  # fmt: skip


@given(JSON)
@settings(max_examples=150, deadline=None)
def test_any_json_is_a_value_or_undecodable(obj: Any) -> None:
    decode_all(dump(obj))


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_a_value_or_undecodable(data: bytes) -> None:
    decode_all(data)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_replies_are_a_value_or_undecodable(kind: str) -> None:
    mutator = Mutator(seed=1)
    for _ in range(300):
        decode_all(mutator.damaged(kind))
