"""Writes man pages and shell completions from the programs' own tables; deploy/install.sh runs it.

    python deploy/manual.py SHARE DOC

SHARE (PREFIX/share) gets man/man1, man/man8, bash-completion/completions, zsh/site-functions and
fish/vendor_completions.d. Nothing in them is written by hand but the texts below: a flag that is
added is in all of them (docs/adr/0017). DOC is the folder of documents that the pages name.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import shtab
from argparse_manpage.manpage import Manpage

from udpoverlay._version import VERSION
from udpoverlay.cli.commands import COMMANDS, DAEMON
from udpoverlay.cli.daemon_flags import ALL_FLAGS, FLANNEL_FLAGS, FLANNEL_PREFIX, OWN_PREFIX
from udpoverlay.cni import errors as cni_errors
from udpoverlay.cni import plugin as cni
from udpoverlay.gocompat.flags import Flag
from udpoverlay.model.config import DaemonConfig
from udpoverlay.model.dataplane import OFFLOADS, SOURCE_CHECKS

SHELLS = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}
"""Where each shell looks below a share folder of its search path."""

_FILES = ("-file", "keyfile", "certfile", "cafile", "-path", "-socket")
_WORDS = {"source-check": SOURCE_CHECKS, "offload-off": tuple(OFFLOADS)}
_PAGES = ("udpoverlayd(8)", "udpoverlay(1)", "udpoverlay-cni(8)")
_SEE = "docs/reference in {doc}"
_EXIT = [
    ("0", "asked to stop by SIGINT or SIGTERM; the lease was deleted from outside; -version; -h"),
    ("1", "something that a person must fix; one line on standard error says what and how"),
    ("2", "a wrong command line, or a defect of ours, with its traceback in the log"),
]


def _add_flags(
    parser: argparse.ArgumentParser, flags: Iterable[Flag], dashes: tuple[str, ...]
) -> None:
    """The daemon's flags as argparse knows flags: for what is read by people and shells alone."""
    for flag in flags:
        text = flag.help.replace("%", "%%")
        if flag.default not in ("", False, 0, ()):
            shown = str(flag.default).lower() if flag.is_bool else str(flag.default)
            text += f" (default {shown})"
        names = [f"{dash}{flag.name}" for dash in dashes]
        if flag.is_bool:
            parser.add_argument(*names, action="store_true", help=text)
            continue
        made = parser.add_argument(
            *names, help=text, metavar=flag.kind.upper(), choices=_WORDS.get(flag.name)
        )
        if flag.name.endswith(_FILES):
            made.complete = shtab.FILE  # type: ignore[attr-defined]


def daemon_parser(dashes: tuple[str, ...]) -> argparse.ArgumentParser:
    """The daemon's command line; a flag is written with each of `dashes`."""
    parser = argparse.ArgumentParser(
        prog="udpoverlayd",
        usage="udpoverlayd [FLAG]...",
        description=(
            "The daemon of one host: it takes a subnet from etcd or Kubernetes, tells other hosts"
            " of it, and carries IP packets between the hosts' subnets in UDP datagrams, on the"
            " wire of flannel's udp backend. One dash or two; a value follows after = or as the"
            " next word."
        ),
    )
    _add_flags(parser, ALL_FLAGS, dashes)
    return parser


def command_parser(dashes: tuple[str, ...] = ()) -> argparse.ArgumentParser:
    """`udpoverlay` with all its commands; the daemon's flags with each of `dashes`."""
    parser = argparse.ArgumentParser(
        prog="udpoverlay",
        description="Commands around the overlay; the daemon itself is udpoverlayd(8).",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        # Only what a shell completes and a page lists: a command explains itself with -h.
        made = commands.add_parser(name, help=summary, description=f"{summary}.")
        if name == DAEMON:
            made.usage = "udpoverlay daemon [FLAG]..."
            _add_flags(made, ALL_FLAGS if dashes else (), dashes)
        else:
            _configure(made, importlib.import_module(module), dashes)
            made.epilog = None
    return parser


def _configure(
    parser: argparse.ArgumentParser, module: ModuleType, dashes: tuple[str, ...]
) -> None:
    """A command has argparse's options, or the daemon's flags and some of its own."""
    if hasattr(module, "configure"):
        module.configure(parser)
    else:
        _add_flags(parser, module.OWN_FLAGS, dashes or ("--",))
        _add_flags(parser, ALL_FLAGS if dashes else (), dashes)


def cni_parser() -> argparse.ArgumentParser:
    """The CNI plugin, which takes no words."""
    return argparse.ArgumentParser(
        prog="udpoverlay-cni",
        usage="CNI_COMMAND=COMMAND udpoverlay-cni < CONFIGURATION",
        add_help=False,
        description=(
            "Gives a container an address of its host's subnet: reads the subnet file, completes"
            " the network configuration and runs another plugin, bridge unless told otherwise. A"
            " container runtime starts it. It stands in for flannel's plugin."
        ),
    )


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def _list(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f".TP\n.B {_escaped(term)}\n{_escaped(text)}" for term, text in rows)


def _lines(text: str) -> str:
    return "\n".join([".nf", *map(_escaped, text.splitlines()), ".fi"])


def _page(
    parser: argparse.ArgumentParser, section: int, name: str, extra: dict[str, str], doc: str
) -> str:
    made = Manpage(parser)
    made.section, made.source, made.manual = section, f"udpoverlay {VERSION}", "udpoverlay"
    made.description = name
    also = [page for page in _PAGES if page != f"{parser.prog}({section})"]
    extra = {**extra, "SEE ALSO": _escaped(", ".join([*also, _SEE.format(doc=doc)]))}
    for heading, content in extra.items():
        made.add_section(heading, ">", content)
    return str(made)


def pages(doc: str) -> dict[str, str]:
    """Path below man/ → text; `doc` is where the documents are."""
    own = {flag.name for flag in ALL_FLAGS} - {flag.name for flag in FLANNEL_FLAGS}
    defaults = DaemonConfig()
    daemon = {
        "ENVIRONMENT": _list(
            (
                f"{OWN_PREFIX if flag.name in own else FLANNEL_PREFIX}"
                f"_{flag.name.upper().replace('-', '_')}",
                f"as --{flag.name}, where that is not given",
            )
            for flag in ALL_FLAGS
            if flag.name != "version"
        ),
        "FILES": _list(
            [
                (defaults.subnet_file, "the subnet, for CNI and Docker; outlives the daemon"),
                (defaults.admin_socket, "HTTP and JSON for root: status, peers, counters"),
                (defaults.kube.net_config_path, "network configuration, with --kube-subnet-mgr"),
                ("/etc/default/udpoverlayd", "variables of the systemd unit"),
            ]
        ),
        "EXIT STATUS": _list(_EXIT),
        "EXAMPLES": _lines(
            'etcdctl put /coreos.com/network/config \'{"Network": "10.244.0.0/16"}\'\n'
            "udpoverlayd --etcd-endpoints=http://192.0.2.1:2379 --iface=eth1 --ip-masq"
        ),
    }
    codes = {
        str(value): name.lower().replace("_", " ")
        for name, value in vars(cni_errors).items()
        if name.isupper() and isinstance(value, int)
    }
    plugin = {
        "ENVIRONMENT": _list(
            [
                ("CNI_COMMAND", f"one of {', '.join(cni.NEEDED)}"),
                ("CNI_PATH", "folders with the plugins that it runs"),
                *(
                    (
                        name,
                        f"needed for {', '.join(c for c in cni.NEEDED if name in cni.NEEDED[c])}",
                    )
                    for name in dict.fromkeys(n for names in cni.NEEDED.values() for n in names)
                ),
            ]
        ),
        "FILES": _list(
            [
                (cni.SUBNET_FILE, "subnetFile: what the daemon wrote"),
                (cni.DATA_DIR, "dataDir: what each container's delegate was given"),
            ]
        ),
        "EXIT STATUS": _list(
            [
                ("0", "done; the result is on standard output"),
                ("1", "an error, as CNI's JSON on standard output"),
            ]
        ),
        "ERROR CODES": _list(sorted(codes.items(), key=lambda row: int(row[0]))),
        "EXAMPLES": _lines(
            'echo \'{"cniVersion": "1.1.0", "name": "cbr0", "type": "flannel"}\' |\n'
            "    CNI_COMMAND=STATUS CNI_PATH=/opt/cni/bin udpoverlay-cni"
        ),
    }
    return {
        "man8/udpoverlayd.8": _page(
            daemon_parser(("--",)),
            8,
            "container network between hosts, in flannel's place",
            daemon,
            doc,
        ),
        "man1/udpoverlay.1": _page(
            command_parser(),
            1,
            "commands around an overlay network",
            {"EXAMPLES": _lines("udpoverlay lab\nudpoverlay COMMAND -h")},
            doc,
        ),
        "man8/udpoverlay-cni.8": _page(
            cni_parser(), 8, "CNI plugin of udpoverlay, in flannel's place", plugin, doc
        ),
    }


def completions() -> dict[str, str]:
    """Path below a share folder → script. The plugin takes no words, so it has none."""
    return {
        path.format(parser.prog): shtab.complete(parser, shell=shell)
        for parser in (daemon_parser(("-", "--")), command_parser(("-", "--")))
        for shell, path in SHELLS.items()
    }


def main(share: Path, doc: str) -> None:
    """Write everything below `share`."""
    written = {f"man/{path}": text for path, text in pages(doc).items()}
    for path, text in {**written, **completions()}.items():
        target = share / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
