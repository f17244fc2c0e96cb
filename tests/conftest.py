"""Which tests can run here, and what REQUIRE=1 makes of those that cannot.

A marked test needs a part of the machine (root and namespaces, etcd, a kube-apiserver, flanneld).
Where the part is missing it is skipped with the reason; with REQUIRE=1 the missing part is a
failure, save for the two peers that nobody can be asked to have (kube-apiserver, flanneld).
"""

from __future__ import annotations

import os

import pytest

from tests.support import need
from tests.support.kubecluster import double, kube, real_apiserver  # noqa: F401 - fixtures

PARTS = {
    "root": need.root,
    "etcd": need.etcd,
    "kube": need.kube_apiserver,
    "flanneld": need.flanneld,
}
OPTIONAL = {"kube", "flanneld"}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for part, missing in PARTS.items():
        if item.get_closest_marker(part) is None:
            continue
        reason = missing()
        if reason is None:
            continue
        if os.environ.get("REQUIRE") == "1" and part not in OPTIONAL:
            pytest.fail(f"REQUIRE=1, but {reason}", pytrace=False)
        pytest.skip(reason)
