"""host/subnetfile.py on a real file system."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from udpoverlay.errors import OperatorError
from udpoverlay.host.subnetfile import check, read_text, write_text

TEXT = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\n"


@pytest.fixture(params=[0o000, 0o022, 0o077])
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("any_umask")
def test_modes_are_exact_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "run" / "flannel" / "subnet.env"
    write_text(str(path), TEXT)
    assert path.read_text() == TEXT
    assert (mode(path), mode(path.parent), mode(path.parent.parent)) == (0o644, 0o755, 0o755)


def test_a_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    write_text(str(tmp_path / "subnet.env"), TEXT)
    assert mode(tmp_path) == 0o700


def test_a_reader_that_has_the_old_file_open_keeps_the_whole_old_text(tmp_path: Path) -> None:
    path = tmp_path / "subnet.env"
    write_text(str(path), "old" * 1000)
    with path.open() as reader:
        write_text(str(path), TEXT)
        assert reader.read() == "old" * 1000
    assert path.read_text() == TEXT


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (make_fifo, "a FIFO"),
        pytest.param(make_device, "a character device", marks=pytest.mark.root),
        (make_socket, "a socket"),
        (Path.mkdir, "a directory"),
    ],
)
def test_what_is_no_regular_file_is_refused_and_stays(
    make: Callable[[Path], None], kind: str, linked: bool, tmp_path: Path
) -> None:
    real, path = tmp_path / "real", tmp_path / "subnet.env"
    make(real if linked else path)
    if linked:
        path.symlink_to("real")
    before = path.lstat()
    for act in (check, read_text, lambda name: write_text(name, TEXT)):
        with pytest.raises(OperatorError, match=rf"subnet-file '.*' is {kind}: name a regular"):
            act(str(path))
    assert path.lstat() == before
    assert {entry.name for entry in tmp_path.iterdir()} <= {"subnet.env", "real"}


def test_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    """As flanneld does (tests/interop/test_subnetfile.py)."""
    target, path = tmp_path / "target", tmp_path / "subnet.env"
    path.symlink_to("target")
    write_text(str(path), TEXT)  # a dangling one
    assert not path.is_symlink()
    assert not target.exists()
    path.unlink()
    path.symlink_to("target")
    target.write_text("old")
    target.chmod(0o600)
    assert read_text(str(path)) == "old"
    write_text(str(path), TEXT)
    assert (path.is_symlink(), path.read_text(), mode(path)) == (False, TEXT, 0o644)
    assert target.read_text() == "old"


@pytest.mark.usefixtures("any_umask")
def test_file_that_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    """As flanneld does (tests/interop/test_subnetfile.py)."""
    path = tmp_path / "subnet.env"
    path.write_text("old")
    path.chmod(0o4640)
    write_text(str(path), TEXT)
    assert mode(path) == 0o640


def test_own_output_is_refused(tmp_path: Path) -> None:
    script = (
        "import sys; from udpoverlay.host.subnetfile import write_text\n"
        "write_text(sys.argv[1], 'x')"
    )
    log, path = tmp_path / "log", tmp_path / "stdout"
    path.symlink_to("/proc/self/fd/1")
    with log.open("w") as out:
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert "is this program's own input or output" in done.stderr
    assert path.is_symlink()


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "subnet.env"
    path.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OperatorError, match=r"cannot write subnet-file '.*': Read-only"):
        write_text(str(path), TEXT)
    assert [entry.name for entry in tmp_path.iterdir()] == ["subnet.env"]
    assert path.read_text() == "old"


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match="cannot write subnet-file"):
        write_text(str(tmp_path / "file" / "subnet.env"), TEXT)


def test_a_missing_file_is_no_error_and_has_no_text(tmp_path: Path) -> None:
    assert read_text(str(tmp_path / "subnet.env")) is None


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write_text(str(tmp_path / "subnet.env"), TEXT)
    assert read_text(str(tmp_path / "subnet.env")) == TEXT


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    path.symlink_to("loop")
    with pytest.raises(OperatorError, match=r"cannot read subnet-file .*: Too many levels"):
        read_text(str(path))


def test_a_file_that_is_far_too_long_is_refused(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 70000)
    with pytest.raises(OperatorError, match="not a subnet file"):
        read_text(str(tmp_path / "big"))
