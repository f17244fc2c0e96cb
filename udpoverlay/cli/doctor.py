"""`udpoverlay doctor`: flags in, the checks run, a line for each finding, an exit code out.

Owns: its flags beside the daemon's, how findings are printed, the exit codes: 0 all is well, or
warnings alone; 1 a failure; 2 a wrong command line. Must not know: what is checked.
"""

from __future__ import annotations

import difflib
import io
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from udpoverlay import log as log_module
from udpoverlay.cli.daemon_flags import ALL_FLAGS, Options, read
from udpoverlay.cli.findings import WIDTH, lines, shown
from udpoverlay.errors import OperatorError
from udpoverlay.gocompat import flags as goflags
from udpoverlay.gocompat.flags import Flag
from udpoverlay.gocompat.net import parse_ip4

if TYPE_CHECKING:
    from udpoverlay.doctor.base import Check
    from udpoverlay.doctor.runner import Report
    from udpoverlay.model.config import DaemonConfig

__all__ = ["run"]

SCHEMA = 1
_LISTEN_SECONDS = 120
_MOST_SECONDS = 3600


def _peer(text: str) -> str:
    if parse_ip4(text) is None:
        raise ValueError("not an IPv4 address")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _seconds(text: str) -> int:
    value = goflags.parse_int(text)
    if not 1 <= value <= _MOST_SECONDS:
        raise ValueError(f"not from 1 to {_MOST_SECONDS}")
    return value


OWN_FLAGS: tuple[Flag, ...] = (
    Flag("peer", "also check the way to this host: its public address or one in its subnet; may be"
         " repeated", (), _peer, repeatable=True),
    Flag("only", "run these checks alone: names with commas between; may be repeated", (), _names,
         repeatable=True),
    Flag("json", "print JSON", False, goflags.parse_bool),
    Flag("list", "list the checks and run none", False, goflags.parse_bool),
    Flag("listen", "be the far side of another host's -peer: answer its questions on the UDP ports"
         " of the tunnel and of VXLAN that are free", False, goflags.parse_bool),
    Flag("listen-seconds", "for so long", _LISTEN_SECONDS, _seconds),
)  # fmt: skip

_EXAMPLE = """\
Each line says ok, skipped, warning or failure; below a warning or a failure
stands what fixes it. Nothing on this host is changed, nothing is written to the
registry. Exit status: 0 all is well or there are warnings alone, 1 a failure,
2 a wrong command line. docs/reference/doctor.md describes the checks.

examples:
  sudo udpoverlay doctor --etcd-endpoints=http://192.0.2.1:2379 --iface=eth1
  sudo udpoverlay doctor --only registry,mtu --json
  sudo udpoverlay doctor --peer 192.0.2.8   # there: udpoverlay doctor --listen
"""


def run(words: list[str], environ: Mapping[str, str], program: str) -> int:
    """Run the checks; return the exit code. Raises OperatorError for settings that cannot work."""
    try:
        parsed, options = read(words, environ, OWN_FLAGS)
    except goflags.HelpRequested:
        sys.stdout.write(_usage(program))
        return 0
    except goflags.FlagError as error:
        return _wrong(program, str(error))
    if any(parsed.rest):
        return _wrong(program, "a word that is no flag is in the way: write --NAME=VALUE")
    values = options.values
    # What the checks' parts would log is the findings' business; -v shows it.
    log_module.configure(
        values["v"],
        values["vmodule"],
        values["log_backtrace_at"],
        None if values["v"] > 0 else io.StringIO(),
    )
    try:
        return _run(options, environ, program)
    finally:
        log_module.flush()


def _run(options: Options, environ: Mapping[str, str], program: str) -> int:
    # Late: -h and a wrong flag must not wait for the event loop and the C code to load.
    from udpoverlay import loop  # noqa: PLC0415 - late
    from udpoverlay.doctor.checks import ALL  # noqa: PLC0415 - late

    values = options.values
    if values["list"]:
        sys.stdout.writelines(f"{check.name:<14}{check.title}\n" for check in ALL)
        return 0
    if values["listen"]:
        return _listen(values["listen-seconds"])
    only = [name for names in values["only"] for name in names]
    names = [check.name for check in ALL]
    for name in only:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else "--list shows them"
            return _wrong(program, f"there is no check {name!r}: {hint}")
    try:
        config = options.config(environ)
    except OperatorError as error:
        return _wrong(program, str(error))
    for complaint in options.complaints:
        sys.stderr.write(f"{program}: {shown(complaint)}\n")
    checks = [check for check in ALL if not only or check.name in only]
    return loop.run(_examine(config, values["peer"], checks, as_json=values["json"]))


async def _examine(
    config: DaemonConfig, peers: tuple[str, ...], checks: Sequence[Check], *, as_json: bool
) -> int:
    from udpoverlay.doctor.base import Level  # noqa: PLC0415 - late
    from udpoverlay.doctor.patient import Patient  # noqa: PLC0415 - late
    from udpoverlay.doctor.runner import examine, worst  # noqa: PLC0415 - late

    patient = Patient(config, peers=peers)
    try:
        reports = await examine(patient, checks, (lambda _: None) if as_json else _print)
    finally:
        await patient.aclose()
    failed = worst(reports) is Level.FAILURE
    if as_json:
        document = {
            "schema": SCHEMA,
            "worst": worst(reports).value,
            "checks": [_document(report) for report in reports],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        counts = {level: 0 for level in Level}
        for report in reports:
            for finding in report.findings:
                counts[finding.level] += 1
        sys.stdout.write(", ".join(f"{level.value}: {n}" for level, n in counts.items()) + "\n")
    return 1 if failed else 0


def _document(report: Report) -> dict[str, object]:
    return {
        "name": report.check.name,
        "title": report.check.title,
        "seconds": round(report.seconds, 3),
        "findings": [
            {
                "level": finding.level.value,
                "fact": shown(finding.fact),
                "fix": shown(finding.fix),
            }
            for finding in report.findings
        ],
    }


def _print(report: Report) -> None:
    for finding in report.findings:
        sys.stdout.write(lines(finding.level.value, report.check.name, finding.fact, finding.fix))
    sys.stdout.flush()


def _listen(seconds: int) -> int:
    from udpoverlay import loop  # noqa: PLC0415 - late
    from udpoverlay.backend.udp import DEFAULT_PORT  # noqa: PLC0415 - late
    from udpoverlay.doctor.facts.shapes import VXLAN_PORTS  # noqa: PLC0415 - late
    from udpoverlay.doctor.listen import listen  # noqa: PLC0415 - late

    def ready(ports: Sequence[int], taken: Sequence[int]) -> None:
        sys.stdout.write(f"answering on UDP {', '.join(map(str, ports))} for {seconds} s\n")
        if taken:
            sys.stdout.write(f"taken by others: UDP {', '.join(map(str, taken))}\n")
        sys.stdout.flush()

    def asked(address: str, port: int) -> None:
        sys.stdout.write(f"{address} asks on UDP {port}\n")
        sys.stdout.flush()

    loop.run(listen((DEFAULT_PORT, *VXLAN_PORTS), seconds, ready, asked))
    return 0


def _wrong(program: str, text: str) -> int:
    sys.stderr.write(f"{program}: {shown(text)}\n{program} -h explains the flags\n")
    return 2


def _usage(program: str) -> str:
    fill = partial(textwrap.fill, width=WIDTH, break_on_hyphens=False, break_long_words=False)
    parts = [f"Usage: {program} [OPTION]...", ""]
    for flag in OWN_FLAGS:
        default = f" (default {flag.default})" if flag.default else ""
        parts.append(f"  -{flag.name} {flag.kind}".rstrip())
        parts.append(fill(flag.help + default, initial_indent=" " * 8, subsequent_indent=" " * 8))
    names = ", ".join(f"-{flag.name}" for flag in ALL_FLAGS if flag.name != "version")
    parts += [
        "",
        fill(
            "The settings that are checked are udpoverlayd's own, by flag or by environment"
            " variable (udpoverlayd -h explains them):"
        ),
        fill(names, initial_indent="  ", subsequent_indent="  "),
        "",
        _EXAMPLE,
    ]
    return "\n".join(parts)
