"""A service manager with a descriptor store, as systemd's: a program to be run in a host.

    python -m tests.support.manager ARGV…
    SIGHUP: SIGTERM, then start again · SIGUSR2: SIGKILL, then start again · SIGTERM: end it

Descriptors that the daemon sends with FDSTORE=1 are kept, and passed to the next start as
sd_listen_fds(3) says. Prints "ready N" at the N-th READY=1, "ended STATUS" when the daemon ends.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence

ADDRESS = f"manager-{os.getpid()}"
FIRST = 3


class Manager:
    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.store: list[tuple[str, int]] = []
        self.child = 0
        self.ready = 0
        self.again = False
        self.done = False
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind("\0" + ADDRESS)
        self.notices.setblocking(False)

    def start(self) -> None:
        self.child = os.fork()
        if self.child:
            return
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for place, (_, fd) in enumerate(self.store):
            os.dup2(fd, FIRST + place, inheritable=True)
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": f"@{ADDRESS}",
            "INVOCATION_ID": "0123456789abcdef",
            "FDSTORE": "64",
        }
        if self.store:
            environment |= {
                "LISTEN_PID": str(os.getpid()),
                "LISTEN_FDS": str(len(self.store)),
                "LISTEN_FDNAMES": ":".join(name for name, _ in self.store),
            }
        os.execvpe(self.argv[0], self.argv, environment)

    def read(self) -> None:
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self.notices, 4096, 64)
            except BlockingIOError:
                return
            fields = dict(line.split("=", 1) for line in data.decode().splitlines() if line)
            name = fields.get("FDNAME", "stored")
            if fields.get("FDSTOREREMOVE") == "1":
                for kept, fd in [each for each in self.store if each[0] == name]:
                    os.close(fd)
                    self.store.remove((kept, fd))
            if fields.get("FDSTORE") == "1":
                self.store += [(name, _raised(fd)) for fd in descriptors]
            if fields.get("READY") == "1":
                self.ready += 1
                print(f"ready {self.ready}", flush=True)

    def kill(self, number: int, *, again: bool) -> None:
        self.again = again
        self.done = not again
        os.kill(self.child, number)

    def run(self) -> int:
        asked, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(asked, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self.start()
        while True:
            select.select([self.notices.fileno(), asked], [], [], 1.0)
            self.read()
            try:
                signals = os.read(asked, 64)
            except BlockingIOError:
                signals = b""
            for code in signals:
                if code == signal.SIGHUP:
                    self.kill(signal.SIGTERM, again=True)
                elif code == signal.SIGUSR2:
                    self.kill(signal.SIGKILL, again=True)
                elif code == signal.SIGTERM:
                    self.kill(signal.SIGTERM, again=False)
            pid, status = os.waitpid(self.child, os.WNOHANG)
            if pid:
                self.read()
                print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)
                if self.done or not self.again:
                    return 0
                self.start()


def _raised(fd: int) -> int:
    """A copy with a number that no start hands out."""
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)
    os.close(fd)
    return copy


if __name__ == "__main__":
    sys.exit(Manager(sys.argv[1:]).run())
