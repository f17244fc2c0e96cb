"""The probe in the extension, as tracers find it. What it tells them: tests/c/test_usdt.c."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess

import pytest

from udpoverlay import _fastpath as fp


@pytest.mark.skipif(
    platform.machine() not in {"x86_64", "aarch64"}, reason="no probe on this CPU (usdt.h)"
)
@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf on PATH")
def test_extension_lists_the_probe_once_with_five_arguments_and_a_semaphore() -> None:
    notes = subprocess.run(
        ["readelf", "-n", "-W", fp.__file__],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout
    assert re.findall(r"Provider: (\S+)\s+Name: (\S+)", notes) == [("udpoverlay", "packet")]
    arguments = re.findall(r"Arguments: (.*)", notes)
    assert [len(each.split()) for each in arguments] == [5]
    (semaphore,) = re.findall(r"Semaphore: (0x[0-9a-f]+)", notes)
    assert int(semaphore, 16) > 0
