"""What holds for all tests: which can run here, how `async def` ones run, what surrounds them.

A marked test needs a part of the machine (root and namespaces, etcd, a kube-apiserver, flanneld).
Where the part is missing it is skipped with the reason; with REQUIRE=1 the missing part is a
failure, save for the two peers that few machines have (kube-apiserver, flanneld).

An `async def` test runs in a uvloop of its own (tests/support/aio.py) and fails after a minute, or
after the seconds of its mark `deadline`. The mark `own_namespace` runs it in an empty network
namespace. A fixture that gives an `aio.InLoop` is entered in the test's loop.

Neither the environment nor the signals of the shell that started us reach what the tests start.
"""

from __future__ import annotations

import inspect
import os
import signal

import pytest

from tests.support import aio, need, patience
from tests.support.kubecluster import double, kube, real_apiserver  # noqa: F401 - fixtures
from tests.support.namespace import in_new_namespace

PARTS = {
    "root": need.root,
    "etcd": need.etcd,
    "kube": need.kube_apiserver,
    "flanneld": need.flanneld,
    "browser": need.browser,
}
OPTIONAL = {"kube", "flanneld"}


FOREIGN = (
    *("FLANNELD_", "UDPOVERLAY_", "ETCD_", "ETCDCTL_", "KUBERNETES_"),
    *("KUBECONFIG", "NODE_NAME", "POD_NAME", "EVENT_QUEUE_DEPTH", "CONT_WHEN_CACHE_NOT_READY"),
    *("INVOCATION_ID", "FDSTORE", "LISTEN_"),
    *("NOTIFY_SOCKET", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"),
    *("COLUMNS", "LINES", "FORCE_COLOR", "CLICOLOR_FORCE", "PYTHONWARNINGS"),
)
"""Beginnings of variables that change what a program under test does."""
OURS = {"UDPOVERLAY_TEST_ETCDS", "UDPOVERLAY_FUZZ_SECONDS"}
"""What the tests themselves are told; no program under test knows these."""


def pytest_configure() -> None:
    for name in list(os.environ):
        if name.startswith(FOREIGN) and name not in OURS:
            del os.environ[name]
    # A shell ignores SIGINT and SIGQUIT for what runs in the background, nohup SIGHUP. An ignored
    # signal stays ignored in all children, a handled one gets its default there.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {
        name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters
    }
    mark = pyfuncitem.get_closest_marker("deadline")
    deadline = mark.args[0] if mark else patience.DEADLINE

    def test() -> None:
        aio.run(aio.call(pyfuncitem.obj, arguments), deadline)

    if pyfuncitem.get_closest_marker("own_namespace"):
        in_new_namespace(test)
    else:
        test()
    return True


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
