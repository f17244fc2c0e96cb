"""A coordination.k8s.io Lease: what is read of it, and how it is written back.

Owns: its fields, and that our writing loses nothing that others keep in it. Must not know: what it
means to hold it (podcidr/election.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from udpoverlay.kubernetes.codec import TOKEN, matching, parts, read
from udpoverlay.kubernetes.errors import KubeUndecodable

__all__ = ["LeaseObject", "read_lease"]

_MAX_SECONDS = 2**31 - 1
"""Integers in a Lease are int32 (k8s.io/api coordination/v1)."""

_PARTS: Any = dict[str, msgspec.Raw] | None


class _LeaseSpec(msgspec.Struct, rename="camel", gc=False):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


@dataclass(frozen=True, slots=True)
class LeaseObject:
    """A coordination.k8s.io Lease: what is read of it, and all of it, to be written back."""

    revision: str = ""
    holder: str = ""
    duration: int = 0
    """Seconds."""
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0
    annotations: Mapping[str, str] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The object as it came, two levels deep; what lies below is kept as bytes."""

    @property
    def term(self) -> tuple[object, ...]:
        """What differs after a replica renewed, took or released the Lease."""
        return (self.holder, self.duration, self.acquired, self.renewed, self.transitions)

    def changed(self, spec: Mapping[str, object], annotations: Mapping[str, str]) -> dict[str, Any]:
        """The object to write: this one with some fields of spec and annotations replaced."""
        meta = dict(self.document.get("metadata") or {})
        if annotations:
            meta["annotations"] = {**self.annotations, **annotations}
        return {
            **self.document,
            "metadata": meta,
            "spec": {**(self.document.get("spec") or {}), **spec},
        }


class _LeaseMeta(msgspec.Struct, rename="camel", gc=False):
    name: str
    resource_version: str | None = None
    annotations: dict[str, str] | None = None


class _Lease(msgspec.Struct, gc=False):
    kind: str
    metadata: _LeaseMeta
    spec: _LeaseSpec | None = None


def read_lease(data: bytes | bytearray, what: str) -> LeaseObject:
    """Read a Lease."""
    found = read(data, _Lease, what)
    if found.kind != "Lease":
        raise KubeUndecodable(f"{what}: kind is {found.kind[:80]!r}, not Lease")
    spec = found.spec or _LeaseSpec()
    duration, transitions = spec.lease_duration_seconds or 0, spec.lease_transitions or 0
    if not (0 <= duration <= _MAX_SECONDS and 0 <= transitions <= _MAX_SECONDS):
        raise KubeUndecodable(f"{what}: leaseDurationSeconds or leaseTransitions out of range")
    document: dict[str, Any] = dict(parts(data, what))
    for part in ("metadata", "spec"):
        if part in document:
            document[part] = read(document[part], _PARTS, what) or {}
    return LeaseObject(
        revision=matching(
            found.metadata.resource_version, TOKEN, f"{what}: metadata.resourceVersion"
        ),
        holder=spec.holder_identity or "",
        duration=duration,
        acquired=spec.acquire_time or "",
        renewed=spec.renew_time or "",
        transitions=transitions,
        annotations=found.metadata.annotations or {},
        document=document,
    )
