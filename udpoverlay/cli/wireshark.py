"""`udpoverlay wireshark install`: our extcap and dissector where this user's Wireshark looks.

Owns: which folders those are. Must not know: what the files do (udpoverlay/wireshark/).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

from udpoverlay.errors import OperatorError

__all__ = ["configure", "run"]

_EPILOG = """\
examples:
  udpoverlay wireshark install         for this user
  udpoverlay wireshark install --extcap-dir /usr/lib/x86_64-linux-gnu/wireshark/extcap
  udpoverlay wireshark uninstall

Wireshark then lists `udpoverlay: drops` and the points among its interfaces;
the gear beside them chooses a filter and a host to look at by ssh. The host
that is looked at needs udpoverlay, this one needs these two files alone."""

_EXTCAP, _DISSECTOR = "extcap.py", "udpoverlay.lua"
_SECONDS = 30


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "what", choices=("install", "uninstall"), help="put the files there, or away"
    )
    parser.add_argument("--extcap-dir", type=Path, metavar="DIR", help="instead of this user's")
    parser.add_argument("--plugin-dir", type=Path, metavar="DIR", help="for the Lua dissector")
    parser.add_argument("--json", action="store_true", help="print the paths as JSON")


def run(args: argparse.Namespace) -> int:
    """Copy or remove both files."""
    extcap, plugins = _folders()
    targets = {
        _EXTCAP: (args.extcap_dir or extcap) / "udpoverlay",
        _DISSECTOR: (args.plugin_dir or plugins) / _DISSECTOR,
    }
    done = []
    for name, path in targets.items():
        try:
            if args.what == "install":
                _install(name, path)
            elif not _remove(name, path):
                continue
        except OSError as error:
            raise OperatorError(
                f"cannot {args.what} {str(path)!r}: {error.strerror}",
                fix="name another folder with --extcap-dir and --plugin-dir, or use sudo",
            ) from error
        done.append(str(path))
    if args.json:
        sys.stdout.write(json.dumps({args.what: done}) + "\n")
    else:
        word = "installed" if args.what == "install" else "removed"
        sys.stdout.write("".join(f"{word} {path}\n" for path in done) or "nothing was there\n")
        if args.what == "install":
            sys.stdout.write("start Wireshark again, or: tshark -D | grep udpoverlay\n")
    return 0


def _folders() -> tuple[Path, Path]:
    """This user's folders for extcap programs and for Lua plugins, as tshark names them."""
    said = _said_by_tshark()
    plugins = said.get("Personal Lua Plugins", "~/.local/lib/wireshark/plugins")
    extcap = said.get("Personal Extcap path", "~/.local/lib/wireshark/extcap")
    if said and "Personal Extcap path" not in said:  # before Wireshark 4.2
        extcap = os.environ.get("XDG_CONFIG_HOME", "~/.config") + "/wireshark/extcap"
    return Path(extcap).expanduser(), Path(plugins).expanduser()


def _said_by_tshark() -> dict[str, str]:
    program = shutil.which("tshark")
    if program is None:
        return {}
    try:
        done = subprocess.run(
            [program, "-G", "folders"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = (line.partition(":") for line in done.stdout.splitlines())
    return {name.strip(): path.strip() for name, _, path in lines if path.strip()}


def _content(name: str) -> bytes:
    return (resources.files("udpoverlay.wireshark") / name).read_bytes()


def _install(name: str, path: Path) -> None:
    """Whole and at once: a Wireshark that starts meanwhile sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not _is_ours(path):
        raise OperatorError(
            f"{str(path)!r} is there and not ours", fix="move it away, or name another folder"
        )
    made = path.with_name(f".{path.name}.new")
    made.write_bytes(_content(name))
    made.chmod(0o755 if name == _EXTCAP else 0o644)
    made.replace(path)


def _remove(name: str, path: Path) -> bool:
    """Whether it was there; what is not ours stays."""
    if not path.exists() or not _is_ours(path):
        return False
    path.unlink()
    return True


def _is_ours(path: Path) -> bool:
    return path.is_file() and b"udpoverlay" in path.read_bytes()[:4096]
