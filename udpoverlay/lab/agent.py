"""The process that is a lab host: PID 1 of its own namespaces, obeying its parent over a socket.

    parent (lab, bench, a test) ── fork/exec ── keeper ── fork ── agent = PID 1 ── its children
                       └──────────── SOCK_SEQPACKET, one JSON object a message ──────┘

The agent has its own network, mount, PID and UTS namespace with a private /run and /proc. Nothing
outlives the parent: the kernel kills the keeper with its parent, the agent with its keeper, and
every process of the PID namespace with the agent; the network namespace goes with the last one.

    request {"id": 7, "call": "links.add_bridge", "args": [], "named": {"name": "cni0"}}   (+ fds)
    reply   {"id": 7, "result": null}  or  {"id": 7, "error": "…", "errno": 17}

A call names a function in `__all__` of a module of OFFERED (lab/actions/); it runs in a
thread of its own, so a long one blocks no other. Must not know: who asks, and why.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from udpoverlay.lab import syscalls
from udpoverlay.lab.message import HELLO, MAX_DESCRIPTORS, MAX_MESSAGE, WithDescriptors

__all__ = ["main"]

OFFERED = frozenset({"files", "links", "processes", "sockets", "web"})


def _resolve(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(".")
    if module not in OFFERED:
        raise LookupError(f"no action {name!r}")
    loaded = importlib.import_module(f"udpoverlay.lab.actions.{module}")
    if function not in loaded.__all__:
        raise LookupError(f"no action {name!r}")
    action: Callable[..., Any] = getattr(loaded, function)
    return action


class _Agent:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Tell the parent; one that is gone, or that gave us up, needs no answer."""
        data = json.dumps(message).encode()
        with self._lock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._control, [data], descriptors)

    def _answer(self, request: dict[str, Any], descriptors: list[int]) -> None:
        args, named = request["args"], request["named"]
        try:
            given = {**named, "descriptors": descriptors} if descriptors else named
            result = _resolve(request["call"])(*args, **given)
        except Exception as error:  # whatever an action raises is its caller's to judge
            # pyroute2's NetlinkError keeps its number in `code`, without a readable text.
            code = getattr(error, "errno", None) or getattr(error, "code", None) or 0
            text = os.strerror(code) if code else str(error) or type(error).__name__
            shown = [*map(repr, args), *(f"{key}={value!r}" for key, value in named.items())]
            text = f"{request['call']}({', '.join(shown)}): {text}"
            self.send({"id": request["id"], "error": text, "errno": code}, [])
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if not isinstance(result, WithDescriptors):
            result = WithDescriptors(result)
        self.send({"id": request["id"], "result": result.value}, result.descriptors)
        for descriptor in result.descriptors:
            os.close(descriptor)

    def serve(self) -> None:
        """Answer requests until the parent closes its end."""
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self._control, MAX_MESSAGE, MAX_DESCRIPTORS
                )
            except ConnectionResetError:  # it closed its end with answers unread
                return
            if not data:
                return
            threading.Thread(
                target=self._answer, args=(json.loads(data), descriptors), daemon=True
            ).start()


def _redirect(path: str) -> None:
    """Let go of our parent's stdout and stderr: a reader of them must not wait for us."""
    sink = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)


def _set_up(name: str) -> list[int]:
    """Make the namespaces fit to live in; returns the descriptor of the network namespace."""
    socket.sethostname(name)
    syscalls.mount_private()
    syscalls.mount_proc()
    syscalls.mount_tmpfs("/run")
    os.mkdir("/run/log")
    from udpoverlay.lab.actions import links  # noqa: PLC0415 - costs 0.2 s; the keeper must not pay it

    links.set_link("lo")
    _redirect("/run/log/agent.log")
    return [os.open("/proc/self/ns/net", os.O_RDONLY)]


def main(argv: list[str]) -> int:
    """Be the host `argv[1]`, controlled by the inherited descriptor `argv[0]`."""
    control = socket.socket(fileno=int(argv[0]))
    control.set_inheritable(False)
    agent = _Agent(control)
    syscalls.die_with_parent()
    try:
        syscalls.unshare(
            syscalls.CLONE_NEWNET
            | syscalls.CLONE_NEWNS
            | syscalls.CLONE_NEWPID
            | syscalls.CLONE_NEWUTS
        )
        child = os.fork()
        if child != 0:
            control.close()
            _redirect(os.devnull)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        syscalls.die_with_parent()
        netns = _set_up(argv[1])
    except OSError as error:
        text = error.strerror or str(error)
        agent.send({"id": HELLO, "error": text, "errno": error.errno or 0}, [])
        return 1
    agent.send({"id": HELLO, "result": None}, netns)
    os.close(netns[0])
    agent.serve()
    # Not by way of the interpreter's end: action threads may still be running.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
