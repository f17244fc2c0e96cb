"""handover/statefile.py: whole or not at all, and only what is our own is believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from udpoverlay.handover.statefile import StateFile


def test_what_was_written_is_read_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = StateFile.beside(str(tmp_path / "run" / "admin.sock"))
    assert file.read() is None
    file.write(b"one")
    file.write(b"two")
    assert file.read() == b"two"
    assert os.stat(file.path).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "run") == ["handover.json"]
    file.remove()
    assert file.read() is None
    file.remove()


def test_without_an_admin_socket_there_is_no_file() -> None:
    file = StateFile.beside("")
    file.write(b"one")
    assert file.read() is None


def test_file_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    file = StateFile(str(tmp_path / "handover.json"))
    file.write(b"one")
    os.chmod(file.path, 0o666)
    assert file.read() is None


def test_link_and_pipe_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"secret")
    link, pipe = StateFile(str(tmp_path / "link")), StateFile(str(tmp_path / "pipe"))
    os.symlink(tmp_path / "target", link.path)
    with pytest.raises(OSError, match="symbolic link"):
        link.read()
    os.mkfifo(pipe.path)
    assert pipe.read() is None
    link.write(b"one")  # takes the link's place
    assert (tmp_path / "target").read_bytes() == b"secret"
    assert link.read() == b"one"


def test_folder_that_cannot_be_written_leaves_the_old_text(tmp_path: Path) -> None:
    file = StateFile(str(tmp_path / "handover.json"))
    file.write(b"one")
    (tmp_path / "file").write_bytes(b"")
    broken = StateFile(str(tmp_path / "file" / "handover.json"))
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        broken.write(b"two")
    assert file.read() == b"one"
