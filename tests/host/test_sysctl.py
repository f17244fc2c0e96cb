"""host/sysctl.py: which setting is in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from udpoverlay.errors import KernelError
from udpoverlay.host.sysctl import check_bridge_netfilter, forwarding_off


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "net/ipv4/conf/flannel0").mkdir(parents=True)
    (tmp_path / "net/bridge").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("host", "device", "told"),
    [
        ("1", "1", ""),
        ("0", "0", "net.ipv4.ip_forward"),
        ("1", "0", "net.ipv4.conf.flannel0.forwarding"),
    ],
)
def test_setting_that_keeps_packets_from_passing(
    root: Path, host: str, device: str, told: str
) -> None:
    (root / "net/ipv4/ip_forward").write_text(f"{host}\n")
    (root / "net/ipv4/conf/flannel0/forwarding").write_text(f"{device}\n")
    assert forwarding_off("flannel0", root) == told


def test_unreadable_setting_counts_as_on(root: Path) -> None:
    assert forwarding_off("flannel0", root) == ""


def test_missing_bridge_netfilter_is_named(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "net/bridge/bridge-nf-call-iptables").write_text("0\n")
    check_bridge_netfilter(ipv4=True, ipv6=False, fatal=True, root=root)
    check_bridge_netfilter(ipv4=True, ipv6=True, fatal=False, root=root)
    (told,) = caplog.messages
    assert "bridge-nf-call-ip6tables does not exist" in told
    with pytest.raises(KernelError, match="modprobe br_netfilter"):
        check_bridge_netfilter(ipv4=True, ipv6=True, fatal=True, root=root)
