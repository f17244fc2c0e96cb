"""doctor/checks/clock.py: a clock that nothing keeps, or that is not the registry's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.support.aio import at_end
from tests.support.certificates import Authority
from tests.support.etcd import EtcdServer, running
from tests.support.kubecluster import Kube
from tests.support.patient import levels, look, patient
from udpoverlay.doctor.base import Finding
from udpoverlay.doctor.checks import clock
from udpoverlay.doctor.checks.clock import CHECK, STA_UNSYNC, clock_status
from udpoverlay.doctor.patient import Patient
from udpoverlay.model.config import DaemonConfig, EtcdConfig


class Clocks:
    """A registry whose servers are only asked for their time."""

    def __init__(self, *urls: str) -> None:
        self.urls = urls

    def servers(self) -> Sequence[tuple[str, None]]:
        return [(url, None) for url in self.urls]


@asynccontextmanager
async def telling(date: str | None, status: str = "200 OK") -> AsyncIterator[str]:
    """An HTTP server whose answers say `date`; its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        dated = f"Date: {date}\r\n" if date is not None else ""
        writer.write(f"HTTP/1.1 {status}\r\n{dated}Content-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "clock_status", lambda: 0)


async def found(tmp_path: Path, *urls: str) -> list[Finding]:
    return await look(CHECK, patient(tmp_path, side=Clocks(*urls)))


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [(0, "ok"), (-3, "ok"), (20, "warning"), (-20, "warning"), (3600, "failure"), (-90, "failure")],
)
async def test_skew(tmp_path: Path, ahead: float, expected: str) -> None:
    async with telling(formatdate(time.time() - ahead, usegmt=True)) as url:
        findings = await found(tmp_path, url)
    assert levels(findings) == ["ok", expected]


async def test_refusal_tells_the_time_too(tmp_path: Path) -> None:
    async with telling(formatdate(usegmt=True), "403 Forbidden") as url:
        assert levels(await found(tmp_path, url)) == ["ok", "ok"]


@pytest.mark.parametrize("date", [None, "yesterday", "Mon, 99 Foo 2026 00:00:00 GMT"])
async def test_server_that_does_not_tell_is_passed_over(tmp_path: Path, date: str | None) -> None:
    async with telling(date) as mute, telling(formatdate(usegmt=True)) as url:
        assert levels(await found(tmp_path, mute)) == ["ok", "skipped"]
        assert levels(await found(tmp_path, "http://127.0.0.1:1", mute, url)) == ["ok", "ok"]


@pytest.mark.parametrize(
    ("status", "expected"), [(0, "ok"), (STA_UNSYNC, "warning"), (None, "skipped")]
)
async def test_what_keeps_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int | None, expected: str
) -> None:
    monkeypatch.setattr(clock, "clock_status", lambda: status)
    assert levels(await look(CHECK, patient(tmp_path))) == [expected, "skipped"]


@pytest.mark.etcd
async def test_real_etcd_tells_its_time(server: EtcdServer) -> None:
    here = Patient(DaemonConfig(etcd=EtcdConfig(endpoints=(server.url,))))
    at_end(here.aclose)
    findings = await look(CHECK, here)
    assert levels(findings) == ["ok", "ok"]
    assert server.url in findings[1].fact


@pytest.mark.etcd
async def test_real_etcd_behind_tls_tells_its_time(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("etcd", hosts=("127.0.0.1",))
    flags = [f"--cert-file={pair.cert}", f"--key-file={pair.key}"]
    with running(tmp_path / "etcd", scheme="https", flags=flags) as secured:
        etcd = EtcdConfig(endpoints=(secured.url,), cafile=str(authority.cert))
        here = Patient(DaemonConfig(etcd=etcd))
        at_end(here.aclose)
        assert levels(await look(CHECK, here)) == ["ok", "ok"]


async def test_kubernetes_tells_its_time(kube: Kube) -> None:
    config = DaemonConfig(kube_subnet_mgr=True, kube=await kube.source("n1"))
    here = Patient(config)
    try:
        assert levels(await look(CHECK, here)) == ["ok", "ok"]
    finally:
        await here.aclose()


def test_kernel_tells_its_status() -> None:
    status = clock_status()
    assert status is not None
    assert 0 <= status < 1 << 16
