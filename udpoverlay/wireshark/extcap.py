#!/usr/bin/env python3
"""An extcap for Wireshark: packets of an overlay live, from this host or by ssh from another.

One file, standard library alone: `udpoverlay wireshark install` copies it. It runs
`udpoverlay trace -w -`, here or behind a command such as ssh, and hands on the blocks of the point
that was chosen.
How Wireshark talks to it: extcap(4), doc/extcap_example.py of Wireshark.

    Wireshark ── --extcap-interfaces, --extcap-config, --extcap-dlts ──► answers on standard output
              ── --capture --fifo F ──► udpoverlay trace -w - FILTER ──► blocks ──► F
              ── control pipe: another filter or reason ──► the trace begins again with it
"""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, BinaryIO

VERSION = "1.0"
PREFIX = "udpoverlay"
INTERFACES = {
    PREFIX: "udpoverlay: all points",
    f"{PREFIX}-tun-in": "udpoverlay: tun-in (packets that this host sends into the overlay)",
    f"{PREFIX}-udp-out": "udpoverlay: udp-out (datagrams to peers)",
    f"{PREFIX}-udp-in": "udpoverlay: udp-in (datagrams from peers)",
    f"{PREFIX}-tun-out": "udpoverlay: tun-out (packets that are delivered to this host)",
    f"{PREFIX}-drops": "udpoverlay: drops (what was dropped, with the reason)",
}
REASONS = (
    "too_short",
    "wrong_version",
    "bad_header",
    "bad_length",
    "bad_offload",
    "own_datagram",
    "no_route",
    "ttl_expired",
    "too_big",
    "impaired",
    "impair_full",
    "queue_full",
    "unreachable",
    "forbidden",
    "underlay_too_big",
    "send_failed",
    "oversize",
    "unknown_sender",
    "not_ip",
    "martian_destination",
    "foreign_destination",
    "martian_source",
    "foreign_source",
    "device_down",
    "write_failed",
)
"""Words behind `reason` of the filter language; a test compares them with the daemon's."""
DLT_RAW = 101
_SECTION, _INTERFACE, _ENHANCED = 0x0A0D0D0A, 1, 6
_IF_NAME = 2
_MOST_BLOCK = 1 << 20
_FILTER, _REASON = 0, 1
"""Numbers of the controls of the toolbar."""
_SET, _WARNING = 1, 8
"""Commands of the control pipes (extcap(4))."""
_GRACE_SECONDS = 2.0


def main(words: list[str] | None = None) -> int:
    """Answer Wireshark; the exit status."""
    args, _ = _parser().parse_known_args(words)
    if args.extcap_interfaces:
        print("\n".join(_interfaces()))
        return 0
    if args.extcap_interface not in INTERFACES:
        wrong = f"there is no interface {args.extcap_interface!r}"
    elif args.extcap_dlts:
        print(f"dlt {{number={DLT_RAW}}}{{name=RAW}}{{display=IP packets}}")
        return 0
    elif args.extcap_config:
        print("\n".join(_config()))
        return 0
    elif args.capture and args.fifo:
        try:
            return Capture(args).run()
        except ValueError as error:
            wrong = str(error)
    else:
        wrong = "run `udpoverlay wireshark install`; Wireshark then starts this file"
    print(wrong, file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("interfaces", "dlts", "config"):
        parser.add_argument(f"--extcap-{name}", action="store_true")
    parser.add_argument("--extcap-interface", default="")
    parser.add_argument("--extcap-version")
    parser.add_argument("--extcap-capture-filter", default="")
    parser.add_argument("--extcap-control-in")
    parser.add_argument("--extcap-control-out")
    parser.add_argument("--capture", action="store_true")
    parser.add_argument("--fifo")
    for option in _OPTIONS:
        if option.kind == "boolflag":
            parser.add_argument(option.call, action="store_true")
        else:
            parser.add_argument(option.call, default="")
    return parser


class _Option:
    """One setting of the capture dialog."""

    def __init__(self, call: str, display: str, tooltip: str, kind: str = "string") -> None:
        self.call, self.display, self.tooltip, self.kind = call, display, tooltip, kind


_OPTIONS = (
    _Option("--filter", "Filter", "udpoverlay trace's words, such as: peer 192.0.2.2 and drops"),
    _Option("--ssh", "Host", "[user@]host to look at by ssh with a key; empty: this host"),
    _Option("--via", "Command in front", "instead of ssh: kubectl -n kube-flannel exec POD --"),
    _Option("--program", "Program", "udpoverlay there; sudo -n udpoverlay for a plain user"),
    _Option("--admin-socket", "Admin socket", "of the daemon, where several run on one host"),
    _Option("--node", "Lab node", "a node of `udpoverlay lab --keep`, such as n1"),
    _Option("--each", "Each segment", "not the first of a run alone; costs CPU", "boolflag"),
)


def _interfaces() -> Iterator[str]:
    yield f"extcap {{version={VERSION}}}"
    for value, display in INTERFACES.items():
        yield f"interface {{value={value}}}{{display={display}}}"
    yield (
        f"control {{number={_FILTER}}}{{type=string}}{{display=Filter}}"
        "{tooltip=Words of udpoverlay trace}{placeholder=peer 192.0.2.2 and port 80}"
    )
    yield (
        f"control {{number={_REASON}}}{{type=selector}}{{display=Reason}}"
        "{tooltip=Only packets that were dropped for it}"
    )
    yield f"value {{control={_REASON}}}{{value=}}{{display=any}}{{default=true}}"
    for reason in REASONS:
        display = reason.replace("_", " ")
        yield f"value {{control={_REASON}}}{{value={reason}}}{{display={display}}}"


def _config() -> Iterator[str]:
    for number, option in enumerate(_OPTIONS):
        group = "{group=Where}" if option.call not in {"--filter", "--each"} else "{group=What}"
        yield (
            f"arg {{number={number}}}{{call={option.call}}}{{display={option.display}}}"
            f"{{type={option.kind}}}{{tooltip={option.tooltip}}}{group}"
        )


# --- the command ---------------------------------------------------------------------------------


def command(args: argparse.Namespace, text: str) -> list[str]:
    """What is run for the filter `text`. Raises ValueError for a host that is none."""
    trace = [*(shlex.split(args.program) or ["udpoverlay"]), "trace", "-w", "-"]
    trace += ["--each"] if args.each else []
    trace += ["--admin-socket", args.admin_socket] if args.admin_socket else []
    trace += ["--node", args.node] if args.node else []
    trace += ["--", text] if text else []
    if args.via:
        return [*shlex.split(args.via), *trace]
    if not args.ssh:
        return trace
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@:%\[\]-]*", args.ssh):
        raise ValueError(f"{args.ssh!r} is no [user@]host")
    # The other side's shell sees one line; there is no terminal to type a password on.
    return ["ssh", "-o", "BatchMode=yes", "--", args.ssh, shlex.join(trace)]


def filter_of(text: str, interface: str, reason: str) -> str:
    """All that narrows the packets, in the filter's words."""
    parts = [f"({text})"] if text.strip() else []
    parts += [f"reason {reason}"] if reason else []
    parts += ["drops"] if interface == f"{PREFIX}-drops" and not reason else []
    return " and ".join(parts)


# --- the capture ---------------------------------------------------------------------------------


class Capture:
    """One capture, until Wireshark closes the pipe or ends us."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._text, self._reason = args.filter or args.extcap_capture_filter, ""
        self._point = args.extcap_interface.removeprefix(f"{PREFIX}-")
        if args.extcap_interface == PREFIX or self._point == "drops":
            self._point = ""
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._again = False
        self._ended = False

    def run(self) -> int:
        """Hand blocks on; the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._end())
        if self._args.extcap_control_in:
            threading.Thread(target=self._listen, daemon=True).start()
        began = False
        try:
            with open(self._args.fifo, "wb", buffering=0) as fifo:
                while True:
                    status, blocks = self._trace(fifo, began)
                    began = began or blocks
                    if self._ended or not self._again:
                        return 0 if self._ended else status
        except BrokenPipeError:
            return 0  # Wireshark stopped
        finally:
            self._end()

    def _trace(self, fifo: BinaryIO, began: bool) -> tuple[int, bool]:
        """One run of the trace: (exit status, whether there was a block)."""
        with self._lock:
            self._again = False
            text = filter_of(self._text, self._args.extcap_interface, self._reason)
        argv = command(self._args, text)
        try:
            child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as error:
            print(f"cannot run {argv[0]!r}: {error.strerror}", file=sys.stderr)
            return 1, False
        with self._lock:
            self._child = child
            if self._again or self._ended:
                child.terminate()
        assert child.stdout is not None
        assert child.stderr is not None
        said = _Tail(child.stderr)
        blocks = False
        for block in chosen(child.stdout, self._point):
            if not (began and _kind(block) in {_SECTION, _INTERFACE}):
                fifo.write(block)
            blocks = True
        status = child.wait()
        message = said.text()
        if status and not self._again and not self._ended:
            print(message or f"{argv[0]} ended with status {status}", file=sys.stderr)
            if began:  # a filter of the toolbar: go on without it
                self._warn(message)
                self._text = self._reason = ""
                self._again = True
        return (1 if status else 0), blocks

    def _end(self) -> None:
        self._ended = True
        self._stop_child()

    def _stop_child(self) -> None:
        with self._lock:
            if self._child is not None and self._child.poll() is None:
                self._child.terminate()

    def _listen(self) -> None:
        """What is set in the toolbar. The values that it begins with change nothing."""
        with open(self._args.extcap_control_in, "rb", buffering=0) as pipe:
            for number, what, value in messages(pipe):
                if what != _SET or number not in {_FILTER, _REASON}:
                    continue
                with self._lock:
                    before = self._text, self._reason
                    if number == _FILTER:
                        self._text = value
                    else:
                        self._reason = value if value in REASONS else ""
                    changed = before != (self._text, self._reason)
                    self._again = self._again or changed
                if changed:
                    self._stop_child()

    def _warn(self, text: str) -> None:
        if not self._args.extcap_control_out:
            return
        data = bytes((_FILTER, _WARNING)) + text.encode()[:4096]
        with open(self._args.extcap_control_out, "wb", buffering=0) as pipe:
            pipe.write(b"T" + len(data).to_bytes(3, "big") + data)


class _Tail:
    """The last lines that a child says on its standard error, read beside its output."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._lines = [*self._lines[-4:], line.decode(errors="replace").rstrip()]

    def text(self) -> str:
        """When the child has ended."""
        self._thread.join(_GRACE_SECONDS)
        return "\n".join(self._lines)


# --- blocks of pcapng, messages of the control pipe ----------------------------------------------


def _kind(block: bytes) -> int:
    return int.from_bytes(block[:4], "little")


def blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """Each block of a little-endian pcapng; a damaged or cut one is the end."""
    while len(head := stream.read(8)) == 8:
        size = int.from_bytes(head[4:], "little")
        if size < 12 or size % 4 or size > _MOST_BLOCK:
            return
        rest = stream.read(size - 8)
        if len(rest) < size - 8:
            return
        yield head + rest


def chosen(stream: IO[bytes], point: str) -> Iterator[bytes]:
    """The blocks of the interface with that name, and all that are no packets; "": all."""
    names: list[str] = []
    for block in blocks(stream):
        if _kind(block) == _INTERFACE:
            names.append(_name(block))
        if _kind(block) == _ENHANCED and point:
            number = int.from_bytes(block[8:12], "little")
            if number >= len(names) or names[number] != point:
                continue
        yield block


def _name(block: bytes) -> str:
    """if_name of an interface's block."""
    at = 16
    while at + 4 <= len(block) - 4:
        option, size = struct.unpack_from("<HH", block, at)
        if option == _IF_NAME:
            return block[at + 4 : at + 4 + size].decode(errors="replace")
        if option == 0:
            break
        at += 4 + size + -size % 4
    return ""


def messages(pipe: BinaryIO) -> Iterator[tuple[int, int, str]]:
    """(number of the control, command, text) of each message; a damaged one is the end."""
    while len(head := _exactly(pipe, 6)) == 6 and head[:1] == b"T":
        size = int.from_bytes(head[1:4], "big")
        if size < 2:
            return
        text = _exactly(pipe, size - 2)
        yield head[4], head[5], text.decode(errors="replace")


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := pipe.read(size - len(data))):
        data += more
    return data


if __name__ == "__main__":
    # Wireshark closes its end of a pipe to stop us.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.exit(main())
