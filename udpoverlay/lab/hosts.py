"""Hosts on this machine: `Host`, a `Process` in it, and `Fabric`, the switch that joins hosts.

    with Fabric(["n1", "n2"]) as fabric:                 198.18.0.0/24, RFC 2544's range
        n1 = fabric.hosts["n1"]                          eth0 198.18.0.11, default route 198.18.0.1
        daemon = n1.popen(["udpoverlayd", "--ip-masq=false"])
        n1.call(links.add_bridge, name="cni0")         any action of the agent
        n1.run(["cat", "/run/flannel/subnet.env"])       its own /run
        raw = n1.socket(AF_PACKET, SOCK_RAW, 0)          a socket of its namespace, here
        daemon.stop()

            n1 eth0 ──┐
            n2 eth0 ──┤ br0 198.18.0.1   `fabric.switch`: a host too; the registry runs there
            n3 eth0 ──┘

Everything ends with `close()`, with this process, and with the *thread* that made the host (the
kernel's parent-death signal is per thread): make hosts in a thread that lives long enough. Calls
may come from any thread; `start_call` returns a future, also fit for `asyncio.wrap_future`.

Owns: life and death of hosts. Must not know: daemons, registries, traffic.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from udpoverlay.errors import KernelError, LabError
from udpoverlay.lab.actions import links, processes, sockets
from udpoverlay.lab.message import HELLO, MAX_DESCRIPTORS, MAX_MESSAGE

__all__ = ["Fabric", "Host", "Process"]

_START_SECONDS = 30.0
_CALL_SECONDS = 60.0
_NO_NAMESPACE = {
    errno.EPERM: "run it as root",
    errno.ENOSPC: "as root: sysctl -w user.max_net_namespaces=10000 user.max_mnt_namespaces=10000 "
    "user.max_pid_namespaces=10000 user.max_uts_namespaces=10000",
}
"""What makes unshare(2) refuse, and the way out."""
_FOREIGN = ("FLANNELD_", "UDPOVERLAY_", "ETCD_", "INVOCATION_ID", "FDSTORE", "LISTEN_")

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _name(action: Callable[..., Any]) -> str:
    """How a request names a function of lab/actions/: module.function."""
    return f"{action.__module__.rpartition('.')[2]}.{action.__name__}"


class Process:
    """A process in a host; it ends with the host at the latest."""

    def __init__(self, host: Host, argv: Sequence[str], pid: int, log: str) -> None:
        self.host = host
        self.argv = tuple(argv)
        self.pid = pid
        """Inside the host's PID namespace."""
        self._log = log

    def poll(self) -> int | None:
        """Exit status (negative: signal number), None while it runs."""
        return self.host.call(processes.poll, pid=self.pid)

    def wait(self, seconds: float) -> int | None:
        """Wait for its end; None when it still runs after `seconds`."""
        limit = seconds + _CALL_SECONDS
        return self.host.call_within(limit, processes.wait, pid=self.pid, seconds=seconds)

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.host.call(processes.send_signal, pid=self.pid, number=int(number))

    def stop(self, seconds: float = 10.0) -> int:
        """SIGTERM, then SIGKILL if it has not ended within `seconds`; returns its exit status."""
        self.signal(signal.SIGTERM)
        status = self.wait(seconds)
        if status is None:
            self.signal(signal.SIGKILL)
            status = self.wait(_CALL_SECONDS)
        if status is None:
            raise LabError(f"{self.argv[0]} in {self.host.name} cannot be killed")
        return status

    def log(self, last_bytes: int = 65536) -> str:
        """The end of what it wrote to stdout and stderr."""
        return self.host.call(processes.read_log, log=self._log, last_bytes=last_bytes)

    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far."""
        return self.host.call(processes.cpu_seconds, pid=self.pid)

    def run_on(self, cpus: Iterable[int]) -> None:
        """Keep all its threads, and those it starts later, on these CPUs."""
        self.host.call(processes.run_on, pid=self.pid, cpus=sorted(cpus))


class Host:
    """A host: an agent process in its own network, mount, PID and UTS namespaces.

    Comes up in the background; the first call waits for it. Raises KernelError when the kernel
    refuses a namespace, LabError when the agent dies.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self._lock = threading.Lock()
        self._ids = itertools.count(HELLO + 1)
        self._hello: Future[Any] = Future()
        self._waiting: dict[int, Future[Any]] = {HELLO: self._hello}
        self._netns_fd = -1
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_MESSAGE)
            # What the person set for his own daemons is not meant for ours.
            environment = {
                key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)
            }
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "udpoverlay.lab.agent", str(theirs.fileno()), name],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name=f"host-{name}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self._socket, MAX_MESSAGE, MAX_DESCRIPTORS
                )
            except ConnectionResetError:
                # It ended with requests of ours unread. That comes once, and before the answers
                # that it sent (unix_release_sock, __skb_try_recv_datagram): they are read next.
                continue
            except OSError:
                data, descriptors = b"", []
            if not data:
                break
            reply = json.loads(data)
            with self._lock:
                future = self._waiting.pop(reply["id"])
            if future is self._hello and descriptors:
                self._netns_fd = descriptors[0]
            if "error" in reply:
                text = f"{self.name}: {reply['error']}"
                code = reply["errno"]
                fix = _NO_NAMESPACE.get(code, "") if future is self._hello else ""
                future.set_exception(
                    KernelError(text, fix=fix, errno=code) if code else LabError(text, fix=fix)
                )
            else:
                future.set_result((reply["result"], descriptors))
        with self._lock:
            abandoned = list(self._waiting.values())
            self._waiting.clear()
        for future in abandoned:
            future.set_exception(LabError(f"host {self.name} is gone"))

    def _start(
        self,
        action: Callable[..., Any],
        descriptors: Sequence[int],
        args: Sequence[Any],
        named: Mapping[str, Any],
    ) -> Future[Any]:
        future: Future[Any] = Future()
        number = next(self._ids)
        request = {"id": number, "call": _name(action), "args": args, "named": named}
        data = json.dumps(request).encode()
        with self._lock:
            self._waiting[number] = future
        try:
            socket.send_fds(self._socket, [data], list(descriptors))
        except OSError:
            with self._lock:
                self._waiting.pop(number, None)
            # A host that never came up has said why.
            with contextlib.suppress(FutureTimeout):
                self._hello.result(_START_SECONDS)
            raise LabError(f"host {self.name} is gone") from None
        return future

    def _result(
        self, future: Future[Any], what: str, timeout: float = _CALL_SECONDS
    ) -> tuple[Any, list[int]]:
        try:
            self._hello.result(_START_SECONDS)
            value, descriptors = future.result(timeout)
        except FutureTimeout:
            raise LabError(f"{self.name}: no answer to {what} within {timeout:g} s") from None
        return value, descriptors

    def start_call(
        self, action: Callable[_P, _T], /, *args: _P.args, **named: _P.kwargs
    ) -> Future[_T]:
        """Start an action; the future yields its result."""
        outer: Future[_T] = Future()

        def done(inner: Future[Any]) -> None:
            error = inner.exception()
            if error is not None:
                outer.set_exception(error)
            else:
                outer.set_result(inner.result()[0])

        self._start(action, (), args, named).add_done_callback(done)
        return outer

    def call(self, action: Callable[_P, _T], /, *args: _P.args, **named: _P.kwargs) -> _T:
        """Run a function of lab/actions/ in the host; returns its result (a tuple as a list).

        An OSError there is a KernelError here (with errno), any other error a LabError.
        """
        return self.call_within(_CALL_SECONDS, action, *args, **named)

    def call_within(
        self, seconds: float, action: Callable[_P, _T], /, *args: _P.args, **named: _P.kwargs
    ) -> _T:
        """The same for an action that may take up to `seconds`."""
        future = self._start(action, (), args, named)
        value: _T = self._result(future, _name(action), seconds)[0]
        return value

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: str | None = None,
        stdio: tuple[int, int, int] | None = None,
        cwd: str | None = None,
    ) -> Process:
        """Start a program in the host, its output in a log or its stdio on our descriptors."""
        name = log or f"{os.path.basename(argv[0])}.log"
        named = {"argv": list(argv), "env": dict(env or {}), "log": name, "cwd": cwd}
        future = self._start(processes.spawn, stdio or (), (), named)
        pid, _ = self._result(future, f"start of {argv[0]}")
        return Process(self, argv, pid, name)

    def run(self, argv: Sequence[str], seconds: float = 30.0) -> tuple[int, str]:
        """Run a program to its end; returns exit status and output."""
        limit = seconds + _CALL_SECONDS
        status, output = self.call_within(limit, processes.run, list(argv), seconds)
        return status, output

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in the host's network namespace, usable here."""
        args = (int(family), int(kind), protocol)
        _, descriptors = self._result(self._start(sockets.open_socket, (), args, {}), "socket")
        return socket.socket(fileno=descriptors[0])

    def folder(self, path: str) -> int:
        """A descriptor (O_PATH) of a folder as the host sees it; the caller's. Raises OSError."""
        self._result(self._hello, "start", _START_SECONDS)
        return os.open(f"/proc/{self._agent.pid}/root{path}", os.O_PATH | os.O_DIRECTORY)

    def netns_fd(self) -> int:
        """A descriptor of the host's network namespace; ours to close, not the caller's."""
        self._result(self._hello, "start", _START_SECONDS)
        return self._netns_fd

    def add_veth(self, name: str, peer: Host, peer_name: str, mtu: int = 1500) -> None:
        """Join this host and `peer` by a veth pair; both ends come up without an address."""
        named = {"name": name, "peer": peer_name, "mtu": mtu}
        self._result(self._start(links.add_veth, (peer.netns_fd(),), (), named), "add_veth")
        self.call(links.set_link, name=name)
        peer.call(links.set_link, name=peer_name)

    def close(self) -> None:
        """End the host and everything in it; idempotent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._agent.wait()
        self._reader.join()
        self._socket.close()
        if self._netns_fd >= 0:
            os.close(self._netns_fd)
            self._netns_fd = -1

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Fabric:
    """Hosts joined by one switch; see the drawing on top.

    `mtu` is that of every link, `link` its name on a host's side. `offload=False` makes the links
    like network cards that cannot segment UDP. Ends, also half-made, with `close()`.
    """

    NETWORK_LEN = 24
    GATEWAY = "198.18.0.1"

    def __init__(
        self,
        names: Iterable[str],
        *,
        mtu: int = 1500,
        offload: bool = True,
        link: str = "eth0",
    ) -> None:
        self.hosts: dict[str, Host] = {}
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self.switch = self._stack.enter_context(Host("switch"))
            for name in names:
                self.hosts[name] = self._stack.enter_context(Host(name))
            self.switch.call(links.add_bridge, name="br0", mtu=mtu)
            self.switch.call(
                links.add_address,
                name="br0",
                address=self.GATEWAY,
                prefix_len=self.NETWORK_LEN,
            )
            for name in self.hosts:
                self._join(name, link, mtu, offload)
            undo.pop_all()

    def _join(self, name: str, link: str, mtu: int, offload: bool) -> None:
        host = self.hosts[name]
        port = f"port{list(self.hosts).index(name)}"
        host.add_veth(link, self.switch, port, mtu)
        self.switch.call(links.set_link, name=port, master="br0")
        host.call(
            links.add_address,
            name=link,
            address=self.address(name),
            prefix_len=self.NETWORK_LEN,
        )
        host.call(links.add_route, destination="default", via=self.GATEWAY)
        if not offload:
            host.call(links.set_segmentation, name=link, on=False)
            self.switch.call(links.set_segmentation, name=port, on=False)

    def address(self, name: str) -> str:
        """The address of a host on its eth0."""
        return f"198.18.0.{11 + list(self.hosts).index(name)}"

    def close(self) -> None:
        """End all hosts and the switch; idempotent."""
        self._stack.close()

    def __enter__(self) -> Fabric:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
