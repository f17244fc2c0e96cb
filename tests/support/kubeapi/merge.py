"""The patch types of the API: strategic merge, JSON merge (RFC 7386) and JSON patch (RFC 6902).

Strategic merge is JSON merge with a rule a list (k8s.io/api core/v1 types.go, patchStrategy tags):
lists of objects named here are merged by their key, podCIDRs is a set that is added to, every other
list is replaced whole.
"""

from __future__ import annotations

import copy
from typing import Any

from tests.support.kubeapi import status

Json = dict[str, Any]

MERGE_KEYS = {
    ("status", "conditions"): "type",
    ("status", "addresses"): "type",
    ("metadata", "ownerReferences"): "uid",
}
UNION = {("spec", "podCIDRs"), ("metadata", "finalizers")}


def json_merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = json_merge(result.get(name), value)
    return result


def strategic_merge(target: Any, patch: Any, path: tuple[str, ...] = ()) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {name: copy.deepcopy(v) for name, v in patch.items() if name != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        here = (*path, name)
        if name.startswith("$"):
            continue  # ordering directives
        if value is None:
            result.pop(name, None)
        elif here in MERGE_KEYS and isinstance(value, list):
            result[name] = _merge_list(result.get(name) or [], value, MERGE_KEYS[here], here)
        elif here in UNION and isinstance(value, list):
            old = result.get(name) or []
            result[name] = old + [item for item in value if item not in old]
        else:
            result[name] = strategic_merge(result.get(name), value, here)
    return result


def _merge_list(old: list[Json], patch: list[Json], key: str, path: tuple[str, ...]) -> list[Json]:
    result = [dict(item) for item in old]
    for change in patch:
        if key not in change:
            raise status.ApiError(
                400,
                f"map: {change} does not contain declared merge key: {key}",
            )
        at = next((i for i, item in enumerate(result) if item.get(key) == change[key]), None)
        if change.get("$patch") == "delete":
            result = [item for item in result if item.get(key) != change[key]]
        elif at is None:
            result.append(copy.deepcopy(change))
        else:
            result[at] = strategic_merge(result[at], change, path)
    return result


def json_patch(target: Json, operations: Any) -> Json:
    result = copy.deepcopy(target)
    if not isinstance(operations, list):
        raise status.ApiError(400, "json patch must be a list")
    for operation in operations:
        parts = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        _apply(result, parts, operation)
    return result


def _apply(root: Json, parts: list[str], operation: Json) -> None:
    where: Any = root
    for part in parts[:-1]:
        where = where[int(part)] if isinstance(where, list) else where.get(part)
        if where is None:
            raise status.ApiError(422, f"jsonpatch: missing path {operation['path']}")
    last, kind = parts[-1], operation["op"]
    if kind == "test":
        found = where[int(last)] if isinstance(where, list) else where.get(last)
        if found != operation["value"]:
            raise status.ApiError(422, "jsonpatch: a test operation failed")
    elif isinstance(where, list):
        if kind == "add":
            where.insert(len(where) if last == "-" else int(last), operation["value"])
        elif kind == "remove":
            del where[int(last)]
        else:
            where[int(last)] = operation["value"]
    elif kind == "remove":
        if last not in where:
            raise status.ApiError(422, f"jsonpatch: missing path {operation['path']}")
        del where[last]
    else:
        where[last] = operation["value"]
