"""host/capturefile.py: what is written over, and what a full disk leaves."""

from __future__ import annotations

import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from udpoverlay.errors import OperatorError
from udpoverlay.host.capturefile import CaptureFile, write_whole


def grow(path: str) -> None:
    file = CaptureFile(path)
    try:
        file.write(b"he")
        file.write(b"llo")
    finally:
        file.close()


def whole(path: str) -> None:
    write_whole(path, [b"he", b"llo"])


@pytest.fixture(params=[grow, whole], ids=["growing", "whole"])
def write(request: pytest.FixtureRequest) -> Callable[[str], None]:
    chosen: Callable[[str], None] = request.param
    return chosen


def test_file_is_its_owners_alone_and_replaces_a_longer_one(
    tmp_path: Path, write: Callable[[str], None]
) -> None:
    file = tmp_path / "f"
    write(str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(bytes(100))
    write(str(file))
    assert file.read_bytes() == b"hello"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("kind", ["directory", "link", "dangling link", "fifo", "socket", "device"])
def test_what_is_no_regular_file_is_refused_and_left(
    tmp_path: Path, write: Callable[[str], None], kind: str
) -> None:
    path = tmp_path / "f"
    target = tmp_path / "target"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "device":
        path = Path("/dev/null")
    else:
        path.symlink_to(target)
        if kind == "link":
            target.write_bytes(b"others'")
    before = path.lstat()
    with pytest.raises(OperatorError, match="is not written over"):
        write(str(path))
    assert os.path.samestat(path.lstat(), before)
    assert not target.exists() or target.read_bytes() == b"others'"


@pytest.mark.parametrize("path", ["", "/nowhere/f"])
def test_path_that_cannot_be_is_an_error_of_the_operator(
    write: Callable[[str], None], path: str
) -> None:
    with pytest.raises(OperatorError, match="cannot write"):
        write(path)


def test_no_room_names_the_file_and_leaves_the_one_before(tmp_path: Path) -> None:
    """A limit stands for the disk."""
    file = tmp_path / "f"
    file.write_bytes(b"before")
    script = (
        "import sys\n"
        "from udpoverlay.errors import OperatorError\n"
        "from udpoverlay.host.capturefile import write_whole\n"
        "try:\n"
        "    write_whole(sys.argv[1], [bytes(8192)])\n"
        "except OperatorError as error:\n"
        "    print(error)\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    argv = [sys.executable, "-B", "-c", script, str(file)]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True, timeout=60, preexec_fn=limit
    )
    assert f"cannot write {str(file)!r}" in done.stdout
    assert "make room" in done.stdout
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]
