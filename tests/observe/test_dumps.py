"""observe/dumps.py: where dumps go, how many stay, and what is refused."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from tests.support.pumprig import received, rig, to_peer
from tests.support.records import ORIGIN
from udpoverlay.dataplane.recorder import Recorder
from udpoverlay.decode.capture import read_capture
from udpoverlay.observe.dumps import MOST_DUMPS, Dumps


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder(1, 64)
    with rig(recorder=recorder.rings) as r:
        for _ in range(3):
            r.device.send(to_peer())
            r.step()
            received(r.peer)
    return recorder


def dumps_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_dump_has_the_packets_and_is_root_s_alone(tmp_path: Path, recorder: Recorder) -> None:
    folder = tmp_path / "run" / "dumps"
    Dumps(str(folder), recorder, lambda: ORIGIN).write("sigusr1")
    [file] = dumps_in(folder)
    assert file.name.endswith(f"-{os.getpid()}-sigusr1.pcapng")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with file.open("rb") as stream:
        frames = list(read_capture(stream, str(file)))
    assert [frame.comment.partition(":")[0] for frame in frames] == ["", "outbound_sent"] * 3


def test_oldest_dumps_go_and_other_files_stay(tmp_path: Path, recorder: Recorder) -> None:
    folder = tmp_path / "dumps"
    folder.mkdir(0o700)
    (folder / "notes.pcapng").touch()
    old = [f"udpoverlay-2020010{n}T000000.000Z-1-sigusr1.pcapng" for n in range(1, 10)]
    for name in old:
        (folder / name).touch()
    Dumps(str(folder), recorder, lambda: ORIGIN).write("crash")
    names = [file.name for file in dumps_in(folder)]
    assert names[0] == "notes.pcapng"
    assert len(names) == 1 + MOST_DUMPS
    assert names[1:MOST_DUMPS] == old[-(MOST_DUMPS - 1) :]


def test_folder_that_is_a_link_is_refused(
    tmp_path: Path, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "dumps").symlink_to(elsewhere)
    Dumps(str(tmp_path / "dumps"), recorder, lambda: ORIGIN).write("sigusr1")
    assert dumps_in(elsewhere) == []
    assert "cannot write a dump of packets" in caplog.text


def test_folder_that_others_may_write_to_is_refused(
    tmp_path: Path, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "dumps"
    folder.mkdir()
    folder.chmod(0o777)
    Dumps(str(folder), recorder, lambda: ORIGIN).write("sigusr1")
    assert dumps_in(folder) == []
    assert "others may write there" in str(caplog.records[-1].__dict__["fields"])


def test_daemon_without_a_recorder_logs_that(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    Dumps(str(tmp_path / "dumps"), None, lambda: ORIGIN).write("sigusr1")
    assert "there is no flight recorder" in caplog.text
    assert not (tmp_path / "dumps").exists()


def test_daemon_without_an_admin_socket_logs_that(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    Dumps("", recorder, lambda: ORIGIN).write("sigusr1")
    assert "it would stand beside the admin socket" in caplog.text


async def test_two_requests_at_once_are_one_dump(tmp_path: Path, recorder: Recorder) -> None:
    dumps = Dumps(str(tmp_path / "dumps"), recorder, lambda: ORIGIN)
    dumps.request()
    dumps.request()
    await dumps.finish()
    assert len(dumps_in(tmp_path / "dumps")) == 1
