"""host/privileges/needs.py: one capability more, where the host asks for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from udpoverlay.host.privileges.needs import Needs


def test_nothing_more_is_needed_where_all_is_roots(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("")
    key.chmod(0o600)
    reads = (str(key), "", str(tmp_path / "missing"))
    needs = Needs(8285, reads, (str(tmp_path / "run" / "deep"), ""), "/dev/null")
    assert needs.kept() == {}


def test_port_below_1024_is_bound_again() -> None:
    assert list(Needs(port=1023).kept()) == ["NET_BIND_SERVICE"]
    assert Needs(port=1024).kept() == {}


def test_missing_device_node_is_made_again(tmp_path: Path) -> None:
    needs = Needs(device_node=str(tmp_path / "tun"))
    assert list(needs.kept()) == ["MKNOD"]
    assert needs.makes_device_node


@pytest.mark.root
@pytest.mark.parametrize("folder", ["open", "closed"])
def test_key_of_another_user_is_read_again(tmp_path: Path, folder: str) -> None:
    place = tmp_path / folder
    place.mkdir(mode=0o755)
    key = place / "key.pem"
    key.write_text("")
    key.chmod(0o600)
    os.chown(key, 65534, 65534)
    if folder == "closed":
        os.chown(place, 65534, 65534)
        place.chmod(0o700)
    assert Needs(reads=(str(key),)).kept() == {"DAC_READ_SEARCH": f"{key} belongs to another user"}


@pytest.mark.root
def test_folder_of_another_user_is_written_to_again(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    tmp_path.chmod(0o755)
    needs = Needs(writes=(str(tmp_path / "flannel"),))
    assert needs.kept() == {"DAC_OVERRIDE": f"{tmp_path} belongs to another user"}
