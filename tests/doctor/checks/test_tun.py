"""doctor/checks/tun.py on this machine, with the device node and with it hidden."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patient import levels, look, patient
from udpoverlay.doctor.checks.tun import CHECK

DOCTOR = (
    f"{sys.executable} -c 'import sys; from udpoverlay.cli.entry import udpoverlay; "
    "sys.exit(udpoverlay())' doctor --only tun --json"
)
NO_NODE = "mount -t tmpfs none /dev/net"
NO_NODES_AT_ALL = f"{NO_NODE} && mount -t tmpfs -o nodev none $TMPDIR"


def told(folder: Path, *prepare: str) -> tuple[int, list[dict[str, str]]]:
    """Exit status and findings of the command in a mount namespace, after some commands in it."""
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", " && ".join(["true", *prepare, DOCTOR])],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, "TMPDIR": str(folder)},
    )
    findings: list[dict[str, str]] = json.loads(done.stdout)["checks"][0]["findings"]
    return done.returncode, findings


@pytest.mark.root
async def test_device_can_be_made_and_leaves_nothing() -> None:
    before = os.listdir("/sys/class/net")
    findings = await look(CHECK, patient(Path("/")))
    assert levels(findings) == ["ok", "ok"]
    assert "can be made" in findings[1].fact
    assert os.listdir("/sys/class/net") == before


@pytest.mark.root
def test_missing_node_that_can_be_made_up_for_is_a_warning(tmp_path: Path) -> None:
    status, findings = told(tmp_path, NO_NODE)
    assert status == 0
    assert [each["level"] for each in findings] == ["warning", "ok"]
    assert "hostPath /dev/net/tun" in findings[0]["fix"]


@pytest.mark.root
def test_missing_node_is_a_failure_where_none_can_be_made(tmp_path: Path) -> None:
    status, findings = told(tmp_path, NO_NODES_AT_ALL)
    assert status == 1
    assert [each["level"] for each in findings] == ["failure"]
    assert "hostPath /dev/net/tun" in findings[0]["fix"]


@pytest.mark.root
def test_without_net_admin_it_is_a_failure() -> None:
    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_admin", "sh", "-c", DOCTOR],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 1
    assert "CAP_NET_ADMIN" in done.stdout
