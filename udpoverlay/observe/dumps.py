"""Dumps that a daemon writes by itself: upon SIGUSR1, and when a defect ends it.

Owns: their folder, their names, how many there are. Must not know: what a record is.

    dumps/udpoverlay-20261127T074102.123Z-4711-sigusr1.pcapng

The folder is root's alone (0700), as are the files (0600). Anything else in its place, a symbolic
link above all, is refused: a daemon that runs as root must not write where others lead it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
import time
from collections.abc import Callable

from udpoverlay.errors import OperatorError
from udpoverlay.log import get_logger
from udpoverlay.model.packet_record import PacketRecord
from udpoverlay.observe.trace import Reader, held
from udpoverlay.trace.origin import Origin
from udpoverlay.trace.pcapng import capture

__all__ = ["MOST_DUMPS", "Dumps"]

_log = get_logger(__name__)

MOST_DUMPS = 8
"""The oldest goes when there are more."""
_DIRECTORY_MODE, _FILE_MODE = 0o700, 0o600
_NAME = re.compile(r"udpoverlay-\d{8}T\d{6}\.\d{3}Z-\d+-[a-z0-9]+\.pcapng(?:\.part)?")


class Dumps:
    """Writes what `recorder` holds into `directory`, unless there is none of one of them."""

    def __init__(
        self, directory: str, recorder: Reader | None, origin: Callable[[], Origin]
    ) -> None:
        self._directory = directory
        self._recorder = recorder
        self._origin = origin
        self._running: asyncio.Task[None] | None = None

    def request(self) -> None:
        """Write a dump soon, beside the event loop; one that is being written is enough."""
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(asyncio.to_thread(self.write, "sigusr1"))

    async def finish(self) -> None:
        """Wait for a dump that was requested."""
        if self._running is not None:
            await self._running

    def write(self, reason: str) -> None:
        """Write a dump now, and log where; whatever is wrong is logged as well."""
        if self._recorder is None:
            _log.warning("no dump of packets: there is no flight recorder")
            return
        if not self._directory:
            _log.warning("no dump of packets: it would stand beside the admin socket")
            return
        try:
            records, lost = _all(self._recorder)
            path = self._write(capture(self._origin(), records, lost), reason)
        except (OSError, OperatorError) as error:
            text = getattr(error, "strerror", None) or str(error)
            _log.warning("cannot write a dump of packets", directory=self._directory, reason=text)
            return
        _log.info("packets dumped", path=path, records=len(records), reason=reason)

    def _write(self, data: bytes, reason: str) -> str:
        moment = time.time()
        clock = time.strftime("%Y%m%dT%H%M%S", time.gmtime(moment))
        name = f"udpoverlay-{clock}.{int(moment * 1000) % 1000:03}Z-{os.getpid()}-{reason}.pcapng"
        directory = _open_directory(self._directory)
        try:
            self._remove_old(directory)
            part = f"{name}.part"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(part, flags, _FILE_MODE, dir_fd=directory)
            try:
                with open(descriptor, "wb") as file:
                    file.write(data)
                os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(part, dir_fd=directory)
                raise
        finally:
            os.close(directory)
        return os.path.join(self._directory, name)

    @staticmethod
    def _remove_old(directory: int) -> None:
        """Make room for one more."""
        ours = sorted(name for name in os.listdir(directory) if _NAME.fullmatch(name))
        for name in ours[: max(0, len(ours) - MOST_DUMPS + 1)]:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory)


def _all(recorder: Reader) -> tuple[list[PacketRecord], int]:
    """All records by their time, and how many were lost while they were read."""
    records: list[PacketRecord] = []
    lost = 0
    for reading in held(recorder):
        records += reading.records
        lost += reading.lost
    records.sort(key=lambda record: record.time_ns)
    return records, lost


def _open_directory(path: str) -> int:
    """A descriptor of the folder, made where it is missing. Raises OSError, OperatorError."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, _DIRECTORY_MODE)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    info = os.fstat(descriptor)
    if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o022:
        os.close(descriptor)
        raise OperatorError(f"{path!r} belongs to another user, or others may write there")
    return descriptor
