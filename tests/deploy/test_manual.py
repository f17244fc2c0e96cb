"""Man pages and completions: all that a program knows is in them, and their readers take them."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from udpoverlay.cli.commands import COMMANDS
from udpoverlay.cli.daemon_flags import ALL_FLAGS
from udpoverlay.cni.plugin import NEEDED

DEPLOY = Path(__file__).parents[2] / "deploy"
MANUAL = DEPLOY / "manual.py"


def manual() -> ModuleType:
    spec = importlib.util.spec_from_file_location("manual", MANUAL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("share")
    manual().main(folder, "/usr/share/doc/udpoverlay")
    return folder


def page(share: Path, name: str) -> str:
    return (share / "man" / name).read_text().replace("\\-", "-")


def test_page_of_the_daemon_has_every_flag_with_its_meaning(share: Path) -> None:
    text = page(share, "man8/udpoverlayd.8")
    for flag in ALL_FLAGS:
        assert f"--{flag.name}\\fR" in text, flag.name
        assert flag.help.replace("\\", "\\e")[:40] in text.replace("\\(aq", "'"), flag.name
    for heading in ("ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"):
        assert f".SH {heading}" in text


def test_page_of_the_commands_has_each(share: Path) -> None:
    text = page(share, "man1/udpoverlay.1")
    for name, (_, summary) in COMMANDS.items():
        assert f"udpoverlay {name}" in text
        assert summary in text
    assert "--node-cidr-mask-size" in text


def test_page_of_the_plugin_has_every_command_and_variable(share: Path) -> None:
    text = page(share, "man8/udpoverlay-cni.8")
    assert ", ".join(NEEDED) in text
    for names in NEEDED.values():
        for name in names:
            assert f".B {name}\n" in text


@pytest.mark.skipif(shutil.which("man") is None, reason="no man on PATH")
@pytest.mark.parametrize(
    "name", ["man8/udpoverlayd.8", "man1/udpoverlay.1", "man8/udpoverlay-cni.8"]
)
def test_man_shows_a_page_without_a_warning(share: Path, name: str) -> None:
    command = ["man", "--warnings", "-E", "UTF-8", "-l", str(share / "man" / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "SEE ALSO" in done.stdout


SHELLS = {"bash": "bash-completion", "zsh": "zsh", "fish": "fish"}


@pytest.mark.parametrize("shell", SHELLS)
def test_shell_reads_its_script(share: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on PATH")
    scripts = [path for path in (share / SHELLS[shell]).rglob("*") if path.is_file()]
    assert len(scripts) == 2
    for script in scripts:
        subprocess.run([shell, "-n", str(script)], check=True)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["udpoverlayd", "--ip-m"], {"--ip-masq", "--ip-masq-fully-random-disable"}),
        (["udpoverlayd", "-source-check", ""], {"enforce", "warn", "off"}),
        (["udpoverlay", "dae"], {"daemon"}),
        (["udpoverlay", "daemon", "--healthz"], {"--healthz-ip", "--healthz-port"}),
        (["udpoverlay", "lab", "--link", ""], {"offload", "plain"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bash_completes(share: Path, words: list[str], offered: set[str]) -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash on PATH")
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9\n'
        'name=$(complete -p "$1" | sed "s/.* -F \\([^ ]*\\).*/\\1/")\n'
        '"$name" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    source = str(share / "bash-completion/completions" / words[0])
    done = subprocess.run(
        ["bash", "-c", script, "bash", source, *words], capture_output=True, text=True, check=True
    )
    assert {word.strip() for word in done.stdout.splitlines()} >= offered, done.stderr
    assert all(word.startswith(words[-1]) for word in done.stdout.splitlines())


def test_uninstall_knows_all_that_was_written(share: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    shutil.copytree(share, prefix / "share")
    environment = {
        "PREFIX": str(prefix),
        "SYSCONFDIR": str(tmp_path / "etc"),
        "PATH": "/usr/bin:/bin",
    }
    uninstall = [str(DEPLOY / "install.sh"), "--uninstall"]
    subprocess.run(uninstall, env=environment, check=True, capture_output=True)
    assert [path for path in prefix.rglob("*") if path.is_file()] == []


def test_texts_are_valid_groff_requests_only(share: Path) -> None:
    """A line of text that begins with a dot would vanish."""
    known = re.compile(r"\.(TH|SH|SS|TP|B|I|nf|fi|PP|RS|RE|U[RE]|br|sp)\b")
    for path in (share / "man").rglob("*.*"):
        for line in path.read_text().splitlines():
            assert not line.startswith("'"), line
            assert not line.startswith(".") or known.match(line), line
