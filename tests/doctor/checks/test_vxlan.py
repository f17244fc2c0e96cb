"""doctor/checks/vxlan.py: whether the kernel has it, and a card that is known to break it."""

from __future__ import annotations

import fcntl
import platform
import socket
import struct
import subprocess
from ctypes import addressof, create_string_buffer
from pathlib import Path

import pytest

from tests.support.namespace import in_new_namespace
from tests.support.patient import LINK, levels, look, patient
from udpoverlay.doctor.checks import vxlan
from udpoverlay.doctor.checks.vxlan import CHECK, checksums_offloaded

IN_USE = {"/sys/class/net/flannel.1/uevent": "DEVTYPE=vxlan\nINTERFACE=flannel.1\n"}
MODULES = f"/lib/modules/{platform.release()}"
ETHTOOL_STXCSUM = 0x17


def card(root: Path, driver: str) -> None:
    """eth0 of a driver."""
    folder = root / "sys/class/net/eth0/device"
    folder.mkdir(parents=True)
    (folder / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({}, "no VXLAN"),
        ({"/sys/module/vxlan/version": ""}, "has VXLAN"),
        ({f"{MODULES}/modules.dep": "kernel/drivers/net/vxlan/vxlan.ko.xz:\n"}, "as a module"),
        ({f"{MODULES}/modules.builtin": "kernel/drivers/net/vxlan/vxlan.ko\n"}, "as a module"),
        (IN_USE, "in use: flannel.1"),
    ],
)
async def test_presence(tmp_path: Path, files: dict[str, str], word: str) -> None:
    findings = await look(CHECK, patient(tmp_path, files))
    assert levels(findings) == ["ok", "ok"]
    assert word in findings[0].fact


@pytest.mark.parametrize(
    ("driver", "offloaded", "files", "expected"),
    [
        ("vmxnet3", True, IN_USE, "warning"),
        ("vmxnet3", True, {}, "ok"),
        ("vmxnet3", False, IN_USE, "ok"),
        ("virtio_net", True, IN_USE, "ok"),
    ],
)
async def test_card(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    driver: str,
    offloaded: bool,
    files: dict[str, str],
    expected: str,
) -> None:
    card(tmp_path, driver)
    monkeypatch.setattr(vxlan, "checksums_offloaded", lambda _: offloaded)
    finding = (await look(CHECK, patient(tmp_path, files)))[1]
    assert finding.level.value == expected
    if expected == "warning":
        assert "ethtool -K eth0 tx off" in finding.fix


async def test_without_an_interface_the_card_is_not_known(tmp_path: Path) -> None:
    assert levels(await look(CHECK, patient(tmp_path, choice=None))) == ["ok", "skipped"]


def set_checksums(name: str, on: int) -> None:
    value = create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, on), 8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8946, struct.pack("16sP16x", name.encode(), addressof(value)))


@pytest.mark.root
def test_offload_of_checksums_is_what_the_kernel_says() -> None:
    def scenario() -> tuple[bool, bool]:
        subprocess.run(["sh", "-ec", LINK], check=True)
        before = checksums_offloaded("eth0")
        set_checksums("eth0", 0)
        return before, checksums_offloaded("eth0")

    assert in_new_namespace(scenario) == (True, False)


def test_device_that_does_not_tell_counts_as_offloading() -> None:
    assert checksums_offloaded("no-such")
