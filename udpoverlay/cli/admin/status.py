"""`udpoverlay status`: what the daemon knows and does, on one screen.

Exit status 0 when all is well, 3 when something is wrong (it is printed in red and named), 1 when
the daemon cannot be asked.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from udpoverlay import _fastpath as fp
from udpoverlay.cli.admin import ask
from udpoverlay.lab.tables import table
from udpoverlay.model.kernel_drops import KERNEL_DROPS

__all__ = ["configure", "run"]

_WRONG = 3
_UNACCOUNTED = "taken, and no verdict: must be 0"

_EPILOG = """\
examples:
  udpoverlay status
  udpoverlay status --json | jq .lease
  udpoverlay status --node n1          a node of `udpoverlay lab --keep`

Exit status 0: all is well; 3: something is wrong, and the last lines say what; 1: no answer."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    ask.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask and show."""
    code = ask.in_node(args, "status")
    if code is not None:
        return code
    document = ask.client(args).get("/v1/status")
    wrong = list(troubles(document))
    if args.json:
        ask.print_json({**document, "troubles": wrong})
    else:
        _show(ask.console(), document, wrong)
    return _WRONG if wrong else 0


def troubles(document: dict[str, Any]) -> Iterator[str]:
    """Each thing in a status document that is not as it should be, in a sentence."""
    for part, trouble in document["network"]["troubles"].items():
        yield f"{part}: {trouble}: packets cannot flow"
    for part, trouble in document["registry"]["troubles"].items():
        yield f"{part}: {trouble}"
    if not document["node"]["subnet_file_written"]:
        yield f"{document['node']['subnet_file']} could not be written: no CNI plugin finds it"
    if document["firewall"].get("error"):
        yield f"packet rules: {document['firewall']['error']}"
    for each in document["dataplane"]["impairments"]:
        yield (
            f"packets to {each['peer']} are made worse on purpose: {each['what']}, for another "
            f"{ask.duration(each['left_seconds'])}; `udpoverlay impair {each['peer']} off` ends it"
        )
    control = document["control"]
    if control.get("foreign_renewals"):
        yield (
            "another daemon renews our lease: two hosts publish one public IP, or flanneld runs "
            "beside us; --iface or --public-ip sets them apart"
        )
    refused = control["leases_refused"] + control["leases_waiting"]
    if refused:
        yield f"leases without a route: {refused}; `udpoverlay peers` says why"
    if document["log_lines_lost"]:
        yield f"log lines that standard error did not take: {document['log_lines_lost']}"


def _show(out: Console, document: dict[str, Any], wrong: list[str]) -> None:
    node, lease, plane = document["node"], document["lease"], document["dataplane"]
    for label, text in (
        ("daemon", f"udpoverlayd {document['version']}, pid {document['pid']}, "
                   f"up {ask.duration(document['uptime_seconds'])}"),
        ("node", f"{node['public_ip']} on {node['interface']} (MTU {node['interface_mtu']}), "
                 f"{node['backend']} port {node['port']}, source check {node['source_check']}"),
        ("subnet", f"{lease['subnet']} of {node['network']}, leased for "
                   f"{ask.duration(lease['expires_in_seconds'])}"),
        ("device", f"{node['tun']} {node['tun_address']}, MTU {node['mtu']}"),
        ("registry", f"{document['registry']['kind']}, {ask.count(document['peers'], 'peer')}, "
                     f"{ask.count(plane['routes'], 'route')}, {_age(document['registry'])}"),
        ("offloads", _offloads(plane["features"])),
        ("workers", _workers(plane["workers"])),
        ("rights", _rights(document.get("privileges") or {})),
    ):  # fmt: skip
        ask.sentence(out, label, text)
    out.print()
    _packets(out, plane)
    for trouble in wrong or ["nothing is wrong"]:
        ask.sentence(out, "trouble" if wrong else "", trouble, wrong=bool(wrong))


def _age(registry: dict[str, Any]) -> str:
    age = registry["watch_age_seconds"]
    return "not heard yet" if age is None else f"heard {ask.duration(age)} ago"


def _rights(rights: dict[str, Any]) -> str:
    """Of the process; a daemon of an earlier version does not say."""
    if not rights:
        return "not told"
    parts = [
        " ".join(rights["capabilities"]) or "no capability",
        "no_new_privs" if rights["no_new_privs"] else "programs may gain rights",
        f"seccomp {rights['seccomp']}",
    ]
    if rights["dropping"] not in ("on", "as started with"):
        parts.append(f"capabilities {rights['dropping']}")
    parts += [f"{name} because {why}" for name, why in rights["kept_for"].items()]
    return "; ".join(parts)


def _workers(workers: list[dict[str, float]]) -> str:
    if not workers:
        return "none"
    share = [f"{100 * each['working_seconds'] / max(each['total_seconds'], 1e-3):.1f} %"
             for each in workers]  # fmt: skip
    return f"{len(workers)}, with packets {', '.join(share)} of the time"


def _offloads(features: dict[str, str]) -> str:
    on = [name for name, state in features.items() if state == "on"]
    others = [f"{name} {state}" for name, state in features.items() if state != "on"]
    return "; ".join([" ".join(on) + " on" if on else "none on", *others])


def _packets(out: Console, plane: dict[str, Any]) -> None:
    counters = plane["counters"]
    shown = table("")
    shown.title = None
    shown.add_column("packets", no_wrap=True)
    shown.add_column("", justify="right", no_wrap=True)
    shown.add_column("")
    for name, direction, kind, text in fp.VERDICTS:
        count = counters.get(name, 0)
        if count or (kind == "ok" and name != "inbound_probe"):
            style = "" if kind == "ok" else "yellow"
            shown.add_row(f"{direction} {_short(name, direction)}", f"{count:,}", text, style=style)
    for name, text in KERNEL_DROPS.items():
        if count := counters.get(name, 0):
            direction = name.partition("_")[0]
            shown.add_row(
                f"{direction} {_short(name, direction)}", f"{count:,}", text, style="yellow"
            )
    for direction, count in plane["unaccounted"].items():
        style = "red" if count else ""
        shown.add_row(f"{direction} unaccounted", f"{count:,}", _UNACCOUNTED, style=style)
    out.print(shown)
    out.print()


def _short(name: str, direction: str) -> str:
    return name.removeprefix(f"{direction}_").replace("_", " ")
