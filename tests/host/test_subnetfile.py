"""host/subnetfile.py on a real file system."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from udpoverlay.errors import OperatorError
from udpoverlay.host.subnetfile import read_text, write_text

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


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "subnet.env"
    path.mkdir()  # a name that rename(2) cannot replace
    with pytest.raises(OperatorError, match=r"cannot write subnet-file '.*': Is a directory"):
        write_text(str(path), TEXT)
    assert [entry.name for entry in tmp_path.iterdir()] == ["subnet.env"]


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
    with pytest.raises(OperatorError, match=r"cannot read subnet-file .*: Is a directory"):
        read_text(str(tmp_path))


def test_a_file_that_is_far_too_long_is_refused(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 70000)
    with pytest.raises(OperatorError, match="not a subnet file"):
        read_text(str(tmp_path / "big"))
