"""Objects, their versions and the history that watches replay (etcd and the watch cache in one)."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from tests.support.kubeapi import status

Json = dict[str, Any]
Key = tuple[str, str, str]
"""Resource, namespace ("" when cluster-wide), name."""


@dataclass(frozen=True)
class Change:
    """One write; `object` is the state after it, or the last state for a deletion."""

    revision: int
    kind: str
    key: Key
    object: Json


@dataclass
class Store:
    """Everything that survives a restart of the server."""

    revision: int = 1000
    objects: dict[Key, Json] = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)
    compacted: int = 1000
    """Watches from an older revision are Gone."""
    snapshots: dict[int, dict[Key, Json]] = field(default_factory=dict)
    """What the pages of a chunked list that began at a revision are cut from."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def get(self, key: Key) -> Json:
        try:
            return copy.deepcopy(self.objects[key])
        except KeyError:
            raise status.not_found(key[0], key[2]) from None

    def select(self, resource: str, namespace: str) -> Iterator[tuple[Key, Json]]:
        for key in sorted(self.objects):
            if key[0] == resource and namespace in ("", key[1]):
                yield key, self.objects[key]

    async def create(self, key: Key, obj: Json) -> Json:
        if key in self.objects:
            raise status.already_exists(key[0], key[2])
        obj = copy.deepcopy(obj)
        meta = obj.setdefault("metadata", {})
        meta["name"] = key[2]
        if key[1]:
            meta["namespace"] = key[1]
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return await self._write("ADDED", key, obj)

    async def replace(self, key: Key, obj: Json) -> Json:
        """Store `obj` under `key`; when nothing differs, nothing happens."""
        if obj == self.objects[key]:
            return copy.deepcopy(obj)
        return await self._write("MODIFIED", key, copy.deepcopy(obj))

    async def delete(self, key: Key) -> Json:
        obj = self.get(key)
        del self.objects[key]
        return await self._write("DELETED", key, obj, keep=False)

    async def _write(self, kind: str, key: Key, obj: Json, *, keep: bool = True) -> Json:
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        if keep:
            self.objects[key] = obj
        self.history.append(Change(self.revision, kind, key, copy.deepcopy(obj)))
        await self.notify()
        return copy.deepcopy(obj)

    async def notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def backup(self) -> Store:
        """The data as it is now, for a server that will be restored from it."""
        return Store(
            revision=self.revision, objects=copy.deepcopy(self.objects), compacted=self.revision
        )

    def without_range(self, node: str) -> Store:
        """The same, from before `node` got its podCIDR."""
        spec = self.objects["nodes", "", node]["spec"]
        spec.pop("podCIDR", None)
        spec.pop("podCIDRs", None)
        return self

    def compact(self) -> None:
        """Forget all history: older watches and pages are Gone from now on."""
        self.compacted = self.revision
        self.history.clear()
        self.snapshots.clear()

    def since(self, revision: int, resource: str, namespace: str) -> list[Change]:
        if revision < self.compacted:
            raise status.expired(f"too old resource version: {revision} ({self.compacted})")
        return [
            change
            for change in self.history
            if change.revision > revision
            and change.key[0] == resource
            and namespace in ("", change.key[1])
        ]
