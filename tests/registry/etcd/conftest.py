"""An etcd of each version that the machine has (tests/support/etcd.py says which)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.etcd import EtcdServer, binaries, running, version


@pytest.fixture(
    scope="session", params=binaries() or [""], ids=lambda path: version(path) or "none"
)
def binary(request: pytest.FixtureRequest) -> str:
    """One etcd after the other."""
    path: str = request.param
    return path


@pytest.fixture(scope="module")
def server(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """One server for all tests of a module."""
    with running(tmp_path_factory.mktemp("etcd"), binary=binary) as started:
        yield started
