"""deploy/systemd: the unit is well-formed and says nothing that the daemon does not know."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from udpoverlay.cli.daemon_flags import FLANNEL_FLAGS, FLANNEL_PREFIX
from udpoverlay.host.privileges.calls import GROUPS, PLUGINS
from udpoverlay.model.config import DaemonConfig

SYSTEMD = Path(__file__).parents[2] / "deploy" / "systemd"
UNIT = SYSTEMD / "udpoverlayd.service"


def settings() -> dict[str, str]:
    lines = UNIT.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and line[0] not in "#[")


def test_every_variable_of_the_environment_file_is_a_flag() -> None:
    known = {f"{FLANNEL_PREFIX}_{flag.name.upper().replace('-', '_')}" for flag in FLANNEL_FLAGS}
    text = (SYSTEMD / "udpoverlayd.default").read_text()
    used = set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE))
    assert used
    assert used <= known


def test_the_unit_lets_the_daemon_write_where_it_writes_by_default() -> None:
    directories = {f"/run/{name}" for name in settings()["RuntimeDirectory"].split()}
    assert directories == {
        str(Path(path).parent) for path in (DaemonConfig().subnet_file, DaemonConfig().admin_socket)
    }
    assert settings()["RuntimeDirectoryPreserve"] == "yes"


def test_the_unit_waits_for_readiness_and_grants_two_capabilities() -> None:
    assert settings()["Type"] == "notify"
    assert settings()["CapabilityBoundingSet"] == "CAP_NET_ADMIN CAP_NET_RAW"
    assert settings()["DeviceAllow"] == "/dev/net/tun rw"


def test_the_unit_lets_iptables_take_its_lock() -> None:
    """ProtectSystem=strict leaves /run read-only, and a path that is missing cannot be let out."""
    assert settings()["ProtectSystem"] == "strict"
    assert settings()["ReadWritePaths"] == "-/run/xtables.lock"
    assert settings()["ExecStartPre"] == "-+/usr/bin/touch /run/xtables.lock"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on PATH")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/udpoverlayd", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert complaints == []


def calls_of(group: str) -> set[str]:
    """The calls of a filter set of systemd, and of the sets in it."""
    argv = ["systemd-analyze", "--no-pager", "syscall-filter", group]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    words = [line.strip() for line in done.stdout.splitlines()[1:]]
    found = {word for word in words if word and word[0] not in "#@"}
    for word in words:
        if word.startswith("@"):
            found |= calls_of(word)
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on PATH")
def test_the_unit_allows_the_calls_that_the_daemons_own_filter_allows() -> None:
    lines = UNIT.read_text().splitlines()
    words = [line.partition("=")[2] for line in lines if line.startswith("SystemCallFilter=")]
    allowed = set().union(*(calls_of(word) if word[0] == "@" else {word} for word in words))
    ours = {call.name for group in (*GROUPS, PLUGINS) for call in group.calls()}
    # Without it the daemon could not install its filter.
    newer = {"futex_waitv", "fchmodat2"}  # than the systemd of some distributions
    assert ours - allowed - newer == set()
    assert "seccomp" in allowed
