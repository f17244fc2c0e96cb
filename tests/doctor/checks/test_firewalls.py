"""doctor/checks/firewalls.py with what firewall-cmd(1) and ufw(8) print."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.patient import levels, look, patient
from udpoverlay.doctor.base import Finding
from udpoverlay.doctor.checks.firewalls import CHECK
from udpoverlay.model.netconf import NetConf

FIREWALLD = """#!/bin/sh
case "$*" in
    --state) echo "$STATE"; [ "$STATE" = running ] ;;
    --get-zone-of-interface=eth0) [ -n "$ZONE" ] && echo "$ZONE" ;;
    --get-default-zone) echo public ;;
    "--zone=$ALLOWED_IN --query-port=$ALLOWED") echo yes ;;
    *) echo no; exit 1 ;;
esac
"""
UFW = """#!/bin/sh
[ "$*" = "status verbose" ] && cat "$UFW_STATUS"
"""
UFW_STATUS = """Status: active
Logging: on (low)
Default: {default} (incoming), allow (outgoing), deny (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW IN    Anywhere
{rule}
22/tcp (v6)                ALLOW IN    Anywhere (v6)
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that alone is on PATH, beside the shell's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


def install(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


async def found(tmp_path: Path, port: int = 8285) -> list[Finding]:
    return await look(CHECK, patient(tmp_path, netconf=NetConf(backend={"port": port})))


async def test_no_firewall_is_good(tmp_path: Path, tools: Path) -> None:
    findings = await found(tmp_path)
    assert levels(findings) == ["ok"]


@pytest.mark.parametrize(
    ("state", "zone", "allowed_in", "allowed", "expected"),
    [
        ("running", "", "public", "8285/udp", "ok"),
        ("running", "", "public", "8285/tcp", "failure"),
        ("running", "work", "work", "8285/udp", "ok"),
        ("running", "work", "public", "8285/udp", "failure"),
        ("running", "trusted", "", "", "ok"),
        ("not running", "", "", "", "ok"),
    ],
)
async def test_firewalld(
    tmp_path: Path,
    tools: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    state: str,
    zone: str,
    allowed_in: str,
    allowed: str,
    expected: str,
) -> None:
    install(tools, "firewall-cmd", FIREWALLD)
    for name, value in (
        ("STATE", state),
        ("ZONE", zone),
        ("ALLOWED_IN", allowed_in),
        ("ALLOWED", allowed),
    ):
        monkeypatch.setenv(name, value)
    findings = await found(tmp_path)
    assert levels(findings) == [expected]
    if expected == "failure":
        assert f"--zone={zone or 'public'} --add-port=8285/udp" in findings[0].fix


@pytest.mark.parametrize(
    ("default", "rule", "expected"),
    [
        ("deny", "8285/udp                   ALLOW IN    192.0.2.0/24", "ok"),
        ("deny", "8285                       ALLOW IN    Anywhere", "ok"),
        ("deny", "8000:9000/udp              ALLOW IN    Anywhere", "ok"),
        ("deny", "Anywhere                   ALLOW IN    192.0.2.0/24", "ok"),
        ("deny", "8285/tcp                   ALLOW IN    Anywhere", "failure"),
        ("deny", "18285/udp                  ALLOW IN    Anywhere", "failure"),
        ("deny", "", "failure"),
        ("allow", "", "ok"),
        ("allow", "8285/udp                   DENY IN     Anywhere", "failure"),
        ("deny", "8285/udp (v6)              ALLOW IN    Anywhere (v6)", "failure"),
    ],
)
async def test_ufw(
    tmp_path: Path,
    tools: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    default: str,
    rule: str,
    expected: str,
) -> None:
    install(tools, "ufw", UFW)
    text = tmp_path / "ufw-status"
    text.write_text(UFW_STATUS.format(default=default, rule=rule))
    monkeypatch.setenv("UFW_STATUS", str(text))
    findings = await found(tmp_path)
    assert levels(findings) == [expected]


async def test_port_of_the_configuration_counts(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tools, "ufw", UFW)
    text = tmp_path / "ufw-status"
    text.write_text(UFW_STATUS.format(default="deny", rule="8285/udp ALLOW IN Anywhere"))
    monkeypatch.setenv("UFW_STATUS", str(text))
    findings = await found(tmp_path, port=9999)
    assert levels(findings) == ["failure"]
    assert "9999/udp" in findings[0].fix
