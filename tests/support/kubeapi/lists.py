"""Lists in pages, each page of one version."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.support.kubeapi import rules, status
from tests.support.kubeapi.store import Store

Json = dict[str, Any]


def page(store: Store, resource: str, namespace: str, query: dict[str, str]) -> Json:
    """The part of a list that `query` asks for, with the token that continues it.

    All pages are of the version that the first one saw, as long as the store remembers it.
    """
    limit, start = int(query.get("limit", "0")), None
    revision, objects = store.revision, store.objects
    if token := query.get("continue"):
        try:
            revision, start = json.loads(base64.b64decode(token))
        except ValueError:
            raise status.ApiError(400, "continue key is not valid") from None
        if revision not in store.snapshots:
            raise status.expired(
                "The provided continue parameter is too old to display a consistent list "
                "result. You can start a new list without the continue parameter."
            )
        objects = store.snapshots[revision]
    elif limit:
        store.snapshots[revision] = dict(store.objects)
    keys = [key for key in sorted(objects) if key[0] == resource and namespace in ("", key[1])]
    if start is not None:
        keys = [key for key in keys if list(key) > start]
    found = keys[:limit] if limit else keys
    meta: Json = {"resourceVersion": str(revision)}
    if len(found) < len(keys):
        cursor = json.dumps([revision, list(found[-1])])
        meta["continue"] = base64.b64encode(cursor.encode()).decode()
        meta["remainingItemCount"] = len(keys) - len(found)
    api_version, kind = rules.KINDS[resource]
    items = [
        {name: v for name, v in objects[key].items() if name not in ("kind", "apiVersion")}
        for key in found
    ]
    return {"kind": f"{kind}List", "apiVersion": api_version, "metadata": meta, "items": items}
