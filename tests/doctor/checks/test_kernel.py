"""doctor/checks/kernel.py: releases that are known to be bad, and what this kernel has."""

from __future__ import annotations

import platform
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.patient import STATUS, levels, look, patient
from udpoverlay.doctor.checks import kernel
from udpoverlay.doctor.checks.kernel import CHECK, judge
from udpoverlay.model.dataplane import OFFLOADS
from udpoverlay.model.kernel_faults import FAULTS


@pytest.mark.parametrize(
    ("release", "offload"),
    [
        ("7.0.0", "udp-segment"),
        ("7.0.0-12-generic", "udp-segment"),
        ("7.1.4", "udp-segment"),
        ("7.1.5", ""),
        ("6.19.3", ""),
        ("5.10.0-28-amd64", "udp-gro"),
        ("5.11.22", "udp-gro"),
        ("5.12.0", ""),
        ("4.19.0", ""),  # has no UDP_GRO
        ("6.1.0-18-amd64", ""),
        ("6.8.4", "coalesce-udp"),
        ("6.2.0", "coalesce-udp"),
        ("6.8.5", ""),
    ],
)
def test_bad_release_is_a_warning_until_the_offload_is_off(release: str, offload: str) -> None:
    findings = judge(release, tunnels=["flannel.1"])
    if not offload:
        assert levels(findings) == ["ok"]
        return
    assert levels(findings) == ["warning"]
    assert f"{offload} is not used" in findings[0].fact
    assert "update to Linux" in findings[0].fix
    assert levels(judge(release, off={offload}, tunnels=["flannel.1"])) == ["ok"]


def test_coalesced_udp_is_no_trouble_without_a_tunnel_behind() -> None:
    assert levels(judge("6.8.4")) == ["ok"]


def test_release_without_a_version_is_not_judged() -> None:
    assert levels(judge("linux")) == ["skipped"]


def test_faults_name_offloads_that_exist() -> None:
    assert {fault.offload for fault in FAULTS} <= OFFLOADS.keys()


@pytest.mark.root
async def test_this_kernel_is_probed() -> None:
    findings = await look(CHECK, patient(Path("/")))
    facts = [finding.fact for finding in findings]
    assert any(platform.release() in fact for fact in facts)
    for word in ("UDP_SEGMENT", "UDP_GRO", "virtio header", "UDP segmentation offload of the TUN"):
        assert any(word in fact for fact in facts), word


async def test_missing_socket_options_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_OPTIONS", (("UDP_FUTURE", 4711, "99.1"),))
    findings = await look(CHECK, patient(tmp_path))
    found = [each for each in findings if "UDP_FUTURE" in each.fact]
    assert levels(found) == ["warning"]
    assert "Linux 99.1" in found[0].fix
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(OSError, match="92"),
    ):
        sock.getsockopt(socket.IPPROTO_UDP, 4711)


async def test_offload_that_fell_back_is_a_warning(tmp_path: Path) -> None:
    features = {"udp-segment": "on, fallen back towards 1 peer: EIO", "uso": "off (switch)"}
    status: dict[str, Any] = {**STATUS, "dataplane": {"features": features}}
    facts = [each.fact for each in await look(CHECK, patient(tmp_path, status=status))]
    assert any("udp-segment" in fact and "EIO" in fact for fact in facts)
    assert not any("off (switch)" in fact for fact in facts)
