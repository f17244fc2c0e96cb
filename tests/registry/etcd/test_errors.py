"""An error is what its gRPC code says; the text is one version's English, and is shown alone."""

from __future__ import annotations

import pytest

from udpoverlay.errors import RegistryDenied, RegistryError, RegistryUnavailable
from udpoverlay.registry.etcd.errors import (
    EtcdCompacted,
    EtcdInvalid,
    EtcdPrecondition,
    EtcdTokenRefused,
    status_error,
)

KINDS: dict[int, type[RegistryError]] = {
    **dict.fromkeys((1, 2, 4, 6, 10, 12, 13, 14, 15, 17, 99, -1), RegistryUnavailable),
    3: EtcdInvalid,
    5: RegistryError,
    7: RegistryDenied,
    8: RegistryError,
    9: EtcdPrecondition,
    11: EtcdCompacted,
    16: EtcdTokenRefused,
}
TEXTS = [
    "",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: invalid auth token",
    "etcdserver: permission denied",
    "etcdserver: user name is empty",
    "etcdserver: authentication is not enabled",
    "etcdserver: authentication failed, invalid user ID or password",
    "etcdserver: requested lease not found",
    "etcdserver: mvcc: database space exceeded",
    "etcdserver: no leader",
    "etwas ganz anderes",
]


@pytest.mark.parametrize("code", KINDS)
def test_error_is_what_its_code_says_whatever_the_text(code: int) -> None:
    for text in TEXTS:
        error = status_error("http://e:2379", code, text)
        assert type(error) is KINDS[code], text
        assert text.removeprefix("etcdserver: ") in error.what
