"""JSON to and from a Kubernetes API server: every reply goes through here, bytes to typed values.

Owns: the only use of msgspec; which fields are read of each kind of object and what each may be.
Must not know: HTTP, who asked, what happens to a reply that is refused.

A reply is what it must be, or KubeUndecodable says what is wrong with it; nothing else is raised,
whatever the bytes are. Fields that are not read here are skipped without being built, so junk in
them costs no memory. As in Go (encoding/json), null is the same as absent, and of a key that comes
twice the last one counts.

One bad object must not hide the others. A list page keeps its items apart: a Node that can be named
but not read is an OddNode beside the readable ones. A reply that cannot even be trusted to be whole
(no kind, no version, an item without a name) is refused, and the caller keeps what it knew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from udpoverlay.kubernetes.errors import KubeUndecodable, Status
from udpoverlay.kubernetes.node import NodeView

__all__ = [
    "TOKEN",
    "ExecCredential",
    "NodePage",
    "OddNode",
    "WatchEvent",
    "encode",
    "exec_credential",
    "matching",
    "node",
    "node_page",
    "parts",
    "pod_node_name",
    "read",
    "review",
    "status",
    "watch_event",
]

T = TypeVar("T")

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
"""A DNS-1123 subdomain: what the API server accepts as a Node's name (apimachinery validation)."""

TOKEN = re.compile(r"[!-~]{1,128}")
"""Versions and uids are opaque, but they go into URLs and logs: printable, and short."""

_CONTINUE = re.compile(r"[!-~]{1,8192}")

_MAX_REASON = 200
"""Characters of a decoder's complaint that are kept."""

_TEXT: Any = str | None
"""A value that may be null."""

_WATCH_KINDS = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"})


def read(data: bytes | bytearray | msgspec.Raw, kind: type[T], what: str) -> T:
    """Decode JSON into `kind`; KubeUndecodable starting with `what` when it does not fit."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError, OverflowError) as error:
        # msgspec's own errors are ValueErrors; nesting beyond Python's limit is a RecursionError.
        raise KubeUndecodable(f"{what}: {_reason(error)}") from None


def parts(data: bytes | bytearray | msgspec.Raw, what: str) -> dict[str, msgspec.Raw]:
    """The values of a JSON object, each still to be read."""
    return read(data, dict[str, msgspec.Raw], what)


def encode(body: Mapping[str, object]) -> bytes:
    """The JSON of a request's body; parts that were kept as bytes go out as they came."""
    return msgspec.json.encode(body)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)[:_MAX_REASON]


# ---------------------------------------------------------------------- nodes


class _Identity(msgspec.Struct, rename="camel", gc=False):
    name: str | None = None
    uid: str | None = None
    resource_version: str | None = None


class _Meta(_Identity, gc=False):
    annotations: dict[str, msgspec.Raw] | None = None


class _Spec(msgspec.Struct, gc=False):
    pod_cidr: str | None = msgspec.field(default=None, name="podCIDR")
    pod_cidrs: list[str | None] | None = msgspec.field(default=None, name="podCIDRs")
    taints: list[dict[str, str | None]] | None = None


class _Node(msgspec.Struct, gc=False):
    metadata: _Meta | None = None
    spec: _Spec | None = None


class _Named(msgspec.Struct, gc=False):
    metadata: _Identity | None = None


class _ListMeta(msgspec.Struct, rename="camel", gc=False):
    resource_version: str | None = None
    next: str | None = msgspec.field(default=None, name="continue")


class _List(msgspec.Struct, gc=False):
    kind: str | None = None
    metadata: _ListMeta | None = None
    items: list[msgspec.Raw] | None = None


@dataclass(frozen=True, slots=True)
class OddNode:
    """A Node of which only the identity can be read; `why` says what is wrong with the rest."""

    name: str
    uid: str
    revision: str
    why: str


@dataclass(frozen=True, slots=True)
class NodePage:
    """A part of the list of Nodes at version `revision`; `next` continues it, "" at the end."""

    revision: str
    next: str
    nodes: tuple[NodeView, ...]
    odd: tuple[OddNode, ...]


def node(
    data: bytes | bytearray | msgspec.Raw, keep: frozenset[str], what: str = "Node"
) -> NodeView:
    """Read one Node, keeping only the annotations named in `keep`."""
    found = read(data, _Node, what)
    meta, spec = found.metadata or _Meta(), found.spec or _Spec()
    name, uid, revision = _identity(meta, what)
    said = meta.annotations or {}
    try:
        kept = {key: read(said[key], _TEXT, f"annotation {key}") for key in keep & said.keys()}
    except KubeUndecodable as error:
        raise KubeUndecodable(f"{what} {name}: {error.what}") from None
    return NodeView(
        name=name,
        uid=uid,
        resource_version=revision,
        annotations={key: value or "" for key, value in kept.items()},
        pod_cidr=spec.pod_cidr or "",
        pod_cidrs=tuple(cidr or "" for cidr in spec.pod_cidrs or ()),
        taints=tuple(
            {key: value for key, value in taint.items() if value is not None}
            for taint in spec.taints or ()
        ),
    )


def node_page(data: bytes | bytearray, keep: frozenset[str], what: str) -> NodePage:
    """Read a part of the list of Nodes."""
    found = read(data, _List, what)
    meta = found.metadata or _ListMeta()
    if found.kind != "NodeList":
        raise KubeUndecodable(f"{what}: kind is {_quoted(found.kind)}, not NodeList")
    revision = matching(meta.resource_version, TOKEN, f"{what}: metadata.resourceVersion")
    following = meta.next or ""
    if following:
        matching(following, _CONTINUE, f"{what}: metadata.continue")
    if found.items is None:
        raise KubeUndecodable(f"{what}: items is missing or null")
    nodes: list[NodeView] = []
    odd: list[OddNode] = []
    for item in found.items:
        view = _node_or_odd(item, keep, what)
        if isinstance(view, OddNode):
            odd.append(view)
        else:
            nodes.append(view)
    return NodePage(revision, following, tuple(nodes), tuple(odd))


def _node_or_odd(data: msgspec.Raw, keep: frozenset[str], what: str) -> NodeView | OddNode:
    try:
        return node(data, keep)
    except KubeUndecodable as error:
        why = error.what
    meta = read(data, _Named, f"{what}: a Node").metadata or _Identity()
    name, uid, revision = _identity(meta, f"{what}: a Node")
    return OddNode(name, uid, revision, why.removeprefix("Node: ").removeprefix(f"Node {name}: "))


def _identity(meta: _Identity, what: str) -> tuple[str, str, str]:
    return (
        matching(meta.name, _NAME, f"{what}: metadata.name"),
        matching(meta.uid, TOKEN, f"{what}: metadata.uid"),
        matching(meta.resource_version, TOKEN, f"{what}: metadata.resourceVersion"),
    )


def matching(text: str | None, pattern: re.Pattern[str], what: str) -> str:
    """`text`, which must be there and match `pattern` as a whole."""
    if text is None or pattern.fullmatch(text) is None:
        raise KubeUndecodable(f"{what} is {_quoted(text)}")
    return text


def _quoted(text: str | None) -> str:
    return "missing" if text is None else repr(text[:80])


# ---------------------------------------------------------------------- watches


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    object: msgspec.Raw = msgspec.Raw(b"")


class _Bookmark(msgspec.Struct, gc=False):
    metadata: _ListMeta | None = None


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch of Nodes."""

    kind: str
    """ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""
    revision: str = ""
    """What the watch is complete up to; "" for ERROR."""
    node: NodeView | None = None
    """The Node of ADDED and MODIFIED, and of DELETED where it can be read."""
    odd: OddNode | None = None
    """In its place when it cannot."""
    status: Status | None = None
    """What an ERROR says."""


def watch_event(line: bytes | bytearray, keep: frozenset[str], what: str) -> WatchEvent:
    """Read one line of a watch of Nodes."""
    event = read(line, _Event, what)
    if event.type not in _WATCH_KINDS:
        raise KubeUndecodable(f"{what}: an event of type {_quoted(event.type)}")
    kind = event.type
    if kind == "ERROR":
        return WatchEvent(kind, status=status(event.object))
    if kind == "BOOKMARK":
        meta = read(event.object, _Bookmark, what).metadata or _ListMeta()
        return WatchEvent(kind, matching(meta.resource_version, TOKEN, f"{what}: a bookmark"))
    found = _node_or_odd(event.object, keep, what)
    if isinstance(found, OddNode):
        return WatchEvent(kind, found.revision, odd=found)
    return WatchEvent(kind, found.resource_version, node=found)


# ---------------------------------------------------------------------- refusals


def status(data: bytes | bytearray | msgspec.Raw) -> Status:
    """Read what can be read of a Status; a refusal stays one, whatever its body is."""
    try:
        found = parts(data, "Status")
    except KubeUndecodable:
        return Status()
    return Status(
        code=_field(found, "code", int, 0),
        reason=_field(found, "reason", str, ""),
        message=_field(found, "message", str, ""),
    )


def _field(found: Mapping[str, msgspec.Raw], name: str, kind: type[T], default: T) -> T:
    if name not in found:
        return default
    try:
        return read(found[name], kind, name)
    except KubeUndecodable:
        return default


# ---------------------------------------------------------------------- other objects


class _PodSpec(msgspec.Struct, rename="camel", gc=False):
    node_name: str | None = None


class _Pod(msgspec.Struct, gc=False):
    metadata: _Identity
    spec: _PodSpec | None = None


def pod_node_name(data: bytes | bytearray, what: str) -> str:
    """The Node that a Pod runs on, "" while it has none."""
    found = read(data, _Pod, what)
    name = (found.spec or _PodSpec()).node_name or ""
    return matching(name, _NAME, f"{what}: spec.nodeName") if name else ""


class _ReviewStatus(msgspec.Struct, gc=False):
    allowed: bool


class _Review(msgspec.Struct, gc=False):
    status: _ReviewStatus


def review(data: bytes | bytearray, what: str) -> bool:
    """Whether a SelfSubjectAccessReview allows what was asked."""
    return read(data, _Review, what).status.allowed


# ---------------------------------------------------------------------- credential plugins


class _ExecStatus(msgspec.Struct, rename="camel", gc=False):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: str | None = None


class _Exec(msgspec.Struct, rename="camel", gc=False):
    api_version: str
    status: _ExecStatus


@dataclass(frozen=True, slots=True)
class ExecCredential:
    """What a credential plugin printed; "" for what it did not."""

    api_version: str
    token: str = field(repr=False)
    certificate: str
    key: str = field(repr=False)
    expires: str


def exec_credential(data: bytes) -> ExecCredential:
    """Read an ExecCredential (k8s.io/client-go pkg/apis/clientauthentication)."""
    found = read(data, _Exec, "ExecCredential")
    said = found.status
    return ExecCredential(
        found.api_version,
        said.token or "",
        said.client_certificate_data or "",
        said.client_key_data or "",
        said.expiration_timestamp or "",
    )
