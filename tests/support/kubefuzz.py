"""Replies of an API server, damaged in every way that a seed can think of.

python -m tests.support.kubefuzz SECONDS [SEED]    decodes damaged replies, prints what it did
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from udpoverlay.errors import RegistryError
from udpoverlay.kubernetes import codec
from udpoverlay.kubernetes.lease import read_lease
from udpoverlay.registry.kubernetes.annotations import AnnotationNames, StackNeeds
from udpoverlay.registry.kubernetes.node_leases import NodeLeases

NAMES = AnnotationNames.from_prefix("flannel.alpha.coreos.com")
PREFIX = "flannel.alpha.coreos.com/"


def node(index: int = 1) -> dict[str, Any]:
    """A Node as udpoverlayd leaves it."""
    cidr = f"10.244.{index}.0/24"
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {
            "name": f"n{index}",
            "uid": f"uid-{index}",
            "resourceVersion": str(1000 + index),
            "annotations": {
                PREFIX + "backend-data": "null",
                PREFIX + "backend-type": "",
                PREFIX + "public-ip": f"192.0.2.{index}",
                PREFIX + "kube-subnet-manager": "true",
                "other.io/a": "b",
            },
        },
        "spec": {
            "podCIDR": cidr,
            "podCIDRs": [cidr],
            "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}],
        },
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "capacity": {"cpu": "4"}},
    }


GOOD: dict[str, Callable[[], dict[str, Any]]] = {
    "list": lambda: {
        "kind": "NodeList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "1010", "continue": "", "remainingItemCount": 0},
        "items": [node(index) for index in (1, 2, 3)],
    },
    "node": node,
    "added": lambda: {"type": "ADDED", "object": node(4)},
    "deleted": lambda: {"type": "DELETED", "object": node(1)},
    "bookmark": lambda: {
        "type": "BOOKMARK",
        "object": {"kind": "Node", "metadata": {"resourceVersion": "1011"}},
    },
    "error": lambda: {
        "type": "ERROR",
        "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"},
    },
    "status": lambda: {
        "kind": "Status",
        "status": "Failure",
        "code": 403,
        "reason": "Forbidden",
        "message": 'User "u" cannot get resource "nodes" in API group "" at the cluster scope',
    },
    "lease": lambda: {
        "kind": "Lease",
        "apiVersion": "coordination.k8s.io/v1",
        "metadata": {"name": "l", "resourceVersion": "5", "annotations": {"a": "{}"}},
        "spec": {
            "holderIdentity": "a",
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-03-01T12:00:00.000000Z",
            "renewTime": "2026-03-01T12:00:00.000000Z",
            "leaseTransitions": 1,
        },
    },
    "pod": lambda: {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "n1"}},
    "review": lambda: {"kind": "SelfSubjectAccessReview", "status": {"allowed": True}},
    "exec": lambda: {
        "apiVersion": "client.authentication.k8s.io/v1",
        "status": {"token": "t", "expirationTimestamp": "2026-03-01T12:00:00Z"},
    },
}
KINDS = tuple(GOOD)

_ODD: tuple[str, ...] = (
    "null", "true", "0", "-1", "1e999", "-1e999", "1E-400", "9" * 400, "9" * 5000, "1.5",
    '""', '"x"', "[]", "{}", "[null]", "[{}]", '{"":0}', '"' + "x" * 5000 + '"',
    '"\\u0000"', '"\\ud800"',
    '"/../.."', '"10.244.1.0/24"', '"0.0.0.0/0"', '"::/0"', '"10.244.1.1/33"', '"255.255.255.255"',
    '"18446744073709551616"', '"\u0663\u0664"', '"\u202e"', "NaN", "Infinity",
)  # fmt: skip
_BYTES = (
    b"\x00",
    b"\xff",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\n",
    b'"',
    b"\\",
    b"{",
    b"}",
    b",",
    b":",
)


class Mutator:
    """Damages replies; the same seed gives the same damage."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def damaged(self, kind: str) -> bytes:
        """A reply of this kind with one to four things wrong with it."""
        pick = self._random
        document: Any = GOOD[kind]()
        marks: dict[str, str] = {}
        for _ in range(pick.randint(0, 3)):
            self._replace(document, marks)
        text = json.dumps(document, ensure_ascii=pick.random() < 0.5)
        for mark, odd in marks.items():
            text = text.replace(f'"{mark}"', odd, 1)
        data = text.encode("utf-8", "surrogatepass")
        for _ in range(pick.choice((0, 0, 1, 2))):
            data = self._bytes(data)
        return data

    def _replace(self, document: Any, marks: dict[str, str]) -> None:
        """Put something odd in the place of a value, or take it away, or give its key twice."""
        pick = self._random
        places: list[tuple[Any, Any]] = []
        queue = [document]
        while queue:
            found = queue.pop()
            items = found.items() if isinstance(found, dict) else enumerate(found)
            for key, value in items:
                places.append((found, key))
                if isinstance(value, dict | list):
                    queue.append(value)
        if not places:
            return
        place, key = pick.choice(places)
        deed = pick.random()
        if deed < 0.2:
            del place[key]
        elif deed < 0.3 and isinstance(place, dict):
            place[pick.choice(("kind", "metadata", "items", "spec", "x" * 300))] = place[key]
        else:
            mark = f"mark-{len(marks)}"
            depth = pick.choice((10, 900, 1100, 5000))
            deep = "[" * depth + "]" * depth
            marks[mark] = deep if pick.random() < 0.1 else pick.choice(_ODD)
            place[key] = mark

    def _bytes(self, data: bytes) -> bytes:
        pick = self._random
        at = pick.randrange(len(data) + 1)
        deed = pick.randrange(5)
        if deed == 0:
            return data[:at]
        if deed == 1:
            return data[:at] + pick.choice(_BYTES) + data[at:]
        if deed == 2:
            return data[:at] + bytes([pick.randrange(256)]) + data[at + 1 :]
        if deed == 3:
            end = pick.randrange(at, len(data) + 1)
            return data[:at] + data[end:]
        return data[:at] + data


def decode_all(data: bytes) -> Counter[str]:
    """Give one reply to every decoder: values or RegistryErrors. Returns what came out."""
    keep = NAMES.all()
    out: Counter[str] = Counter()
    readers: dict[str, Callable[[], Any]] = {
        "list": lambda: codec.node_page(data, keep, "list"),
        "node": lambda: codec.node(data, keep),
        "watch": lambda: codec.watch_event(data, keep, "watch"),
        "status": lambda: codec.status(data),
        "lease": lambda: codec.encode(read_lease(data, "lease").changed({}, {"a/b": "c"})),
        "pod": lambda: codec.pod_node_name(data, "pod"),
        "review": lambda: codec.review(data, "review"),
        "exec": lambda: codec.exec_credential(data),
    }
    for name, reader in readers.items():
        try:
            value = reader()
        except RegistryError:
            out[f"{name} refused"] += 1
        else:
            out[f"{name} read"] += 1
            if isinstance(value, codec.NodePage):
                _follow(value)
    return out


def _follow(page: codec.NodePage) -> None:
    """What can be read can be followed, whatever it says."""
    leases = NodeLeases(NAMES, StackNeeds.of(True, True, "vxlan"))
    nodes = {view.name: view for view in page.nodes}
    leases.reset({}, 0)
    leases.change(nodes, nodes)
    leases.reset(nodes, 1)
    leases.change({}, nodes)


def main(seconds: float, seed: int) -> None:
    """Decode damaged replies for some time."""
    mutator, total = Mutator(seed), Counter[str]()
    end, count, slowest = time.monotonic() + seconds, 0, 0.0
    while time.monotonic() < end:
        for kind in KINDS:
            data = mutator.damaged(kind)
            began = time.process_time()
            total += decode_all(data)
            slowest = max(slowest, time.process_time() - began)
            count += 1
    worst = f"the slowest {slowest * 1000:.0f} ms of CPU"
    print(f"seed {seed}: {count} replies in {seconds:.0f} s, {worst}")
    for name, times in sorted(total.items()):
        print(f"  {name:<16}{times}")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
