"""`udpoverlay decode`: takes captured packets of a tunnel apart and names what is wrong.

Exit status 0 when nothing is wrong, 3 when something is, 1 when the input cannot be read.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rich.console import Console

from udpoverlay.cli.admin import ask
from udpoverlay.cli.numbers import between
from udpoverlay.decode.capture import read_capture
from udpoverlay.decode.document import document
from udpoverlay.decode.frame import Frame
from udpoverlay.decode.hexdump import frames_of_hex, looks_like_hex
from udpoverlay.decode.ip import Ip
from udpoverlay.decode.leases import KnownLease, lease_problems
from udpoverlay.decode.line import ends
from udpoverlay.decode.tunnel import PORTS, Dissected, dissect
from udpoverlay.errors import OperatorError
from udpoverlay.log import escape
from udpoverlay.observe.client import DEFAULT_SOCKET, AdminClient

__all__ = ["configure", "run"]

_WRONG = 3
_STDIN = "-"

_EPILOG = """\
examples:
  tcpdump -i eth0 -w t.pcap udp port 8285; udpoverlay decode t.pcap
  udpoverlay decode --wrong --registry t.pcap    also who may send what, by the leases
  udpoverlay decode 4500 0038 ...                the bytes of one packet
  tcpdump -x -c 1 ... | udpoverlay decode -
  udpoverlay decode --json t.pcap | jq -c 'select(.problems != [])'

Exit status 0: nothing is wrong; 3: something is; 1: the input cannot be read."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "input",
        nargs="+",
        metavar="FILE|HEX",
        help="a pcap or pcapng file, the hex digits of a packet, or - for standard input",
    )
    parser.add_argument("--all", action="store_true", help="show packets in no tunnel, too")
    parser.add_argument("--wrong", action="store_true", help="show those alone that are wrong")
    port = between(1, 65535, int)
    for kind, known in (("udp", "8285"), ("vxlan", "8472 and 4789")):
        parser.add_argument(
            f"--{kind}-port",
            action="append",
            type=port,
            default=[],
            metavar="PORT",
            help=f"another port of a {kind} tunnel, beside {known}",
        )
    parser.add_argument(
        "--mtu", type=between(68, 65535, int), metavar="BYTES", help="of the underlay"
    )
    parser.add_argument(
        "--lease",
        action="append",
        type=_lease,
        default=[],
        metavar="SUBNET=IP",
        help="who has a subnet, for example 10.5.72.0/24=192.0.2.1",
    )
    parser.add_argument(
        "--registry", action="store_true", help="take the leases that this host's daemon knows"
    )
    parser.add_argument("--admin-socket", default=DEFAULT_SOCKET, metavar="PATH", help="its socket")
    parser.add_argument("--json", action="store_true", help="print an object in each line")


def run(args: argparse.Namespace) -> int:
    """Read and show."""
    leases = [*args.lease, *(_leases_of_daemon(args.admin_socket) if args.registry else ())]
    ports = {
        **PORTS,
        **dict.fromkeys(args.udp_port, "udp"),
        **dict.fromkeys(args.vxlan_port, "vxlan"),
    }
    shown = _Shown(ask.console(), as_json=args.json)
    with contextlib.ExitStack() as stack:
        frames, is_capture = _frames(args.input, stack)
        try:
            for frame in frames:
                found = dissect(frame, ports, mtu=args.mtu)
                if leases:
                    found.problems += lease_problems(found, leases)
                wanted = found.problems if args.wrong else args.all or not is_capture
                shown.packet(found, wanted=bool(wanted or (found.tunnel and not args.wrong)))
        finally:
            shown.summary()
    return _WRONG if shown.wrong else 0


def _frames(words: list[str], stack: contextlib.ExitStack) -> tuple[Iterator[Frame], bool]:
    """The packets, and whether they come from a capture."""
    if words == [_STDIN]:
        return _frames_of_stdin()
    if len(words) == 1 and (Path(words[0]).exists() or not looks_like_hex(words[0])):
        try:
            stream = stack.enter_context(Path(words[0]).open("rb"))  # noqa: SIM115 - entered
        except OSError as error:
            raise OperatorError(
                f"cannot read {words[0]!r}: {error.strerror}",
                fix="name a capture file, or give the hex digits of a packet",
            ) from error
        return read_capture(stream, words[0]), True
    return frames_of_hex(" ".join(words)), False


def _frames_of_stdin() -> tuple[Iterator[Frame], bool]:
    stream: BinaryIO = sys.stdin.buffer
    begin = stream.peek(4)[:4] if hasattr(stream, "peek") else b""
    if any(byte >= 0x80 or byte < 0x09 for byte in begin) or begin == b"\x0a\x0d\x0d\x0a":
        return read_capture(stream, "standard input"), True
    return frames_of_hex(stream.read().decode(errors="replace")), False


def _lease(text: str) -> KnownLease:
    subnet, _, public_ip = text.partition("=")
    try:
        return KnownLease(ipaddress.ip_network(subnet), str(ipaddress.ip_address(public_ip)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not SUBNET=IP, as in 10.5.72.0/24=192.0.2.1: {error}"
        ) from error


def _leases_of_daemon(path: str) -> Iterator[KnownLease]:
    client = AdminClient(path)
    status = client.get("/v1/status")
    yield KnownLease(ipaddress.ip_network(status["lease"]["subnet"]), status["node"]["public_ip"])
    for peer in client.get("/v1/peers")["peers"]:
        if not peer["refused"]:
            yield KnownLease(
                ipaddress.ip_network(peer["subnet"]),
                peer["public_ip"],
                tuple(peer["also_sends_from"]),
            )


class _Shown:
    """Prints packets, and counts them."""

    def __init__(self, out: Console, *, as_json: bool) -> None:
        self.wrong = 0
        self._out = out
        self._as_json = as_json
        self._packets = self._tunnelled = 0
        self._kinds: Counter[str] = Counter()
        self._first: float | None = None

    def packet(self, found: Dissected, *, wanted: bool) -> None:
        """Count `found`, and print it where it is wanted."""
        self._packets += 1
        self._tunnelled += bool(found.tunnel)
        self.wrong += bool(found.problems)
        self._kinds.update({f"{each.where.value} {each.word.value}" for each in found.problems})
        if not wanted:
            return
        if self._as_json:
            sys.stdout.write(json.dumps(document(found)) + "\n")
        else:
            self._print(found)

    def summary(self) -> None:
        """The last line."""
        if self._as_json:
            return
        text = f"{ask.count(self._packets, 'packet')}, {self._tunnelled:,} in a tunnel, "
        text += f"{self.wrong:,} with something wrong" if self.wrong else "nothing is wrong"
        if self.wrong:
            kinds = (f"{kind.replace('_', ' ')} {n:,}" for kind, n in self._kinds.most_common())
            text += f": {', '.join(kinds)}"
        self._out.print(text, markup=False)

    def _print(self, found: Dissected) -> None:
        self._line(f"#{found.frame.number:,}", self._head(found))
        for packet in found.inner:
            self._line("   inner", _packet(packet))
        if found.frame.comment:
            self._line("   comment", escape(found.frame.comment))
        for each in found.problems:
            self._line("   WRONG", f"{each.where.value}: {each.text}", wrong=True)

    def _head(self, found: Dissected) -> str:
        frame = found.frame
        parts = []
        if frame.seconds is not None:
            self._first = frame.seconds if self._first is None else self._first
            parts.append(f"{frame.seconds - self._first:.6f} s")
        if found.outer is not None:
            parts.append(_packet(found.outer))
        if found.tunnel:
            vni = "" if found.vni is None else f", VNI {found.vni}"
            parts.append(f"{found.tunnel} tunnel{vni}")
        if len(found.inner) > 1:
            parts.append(f"{len(found.inner)} inner packets, not segmented yet or merged")
        if found.other:
            parts.append(found.other)
        if len(frame.data) < frame.length:
            parts.append(f"{len(frame.data):,} of {frame.length:,} bytes captured")
        return ", ".join(parts)

    def _line(self, label: str, text: str, *, wrong: bool = False) -> None:
        ask.sentence(self._out, label, text, wrong=wrong)


def _packet(packet: Ip) -> str:
    return f"{ends(packet)}, TTL {packet.ttl}, {packet.length:,} bytes"
