"""make dist and make install in scratch folders: what they make runs where the unit expects it.

Minutes of compiling, and the packages come from the index: INSTALL=1 runs it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support import need

pytestmark = [
    pytest.mark.skipif(os.environ.get("INSTALL") != "1", reason="minutes long: INSTALL=1 runs it"),
    pytest.mark.timeout(900),
]

ROOT = Path(__file__).parents[2]
VENV = Path(sys.prefix)
COMMANDS = ("udpoverlay", "udpoverlayd", "udpoverlay-cni")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git knows or would add, with nothing that was built beside it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    target = tmp_path_factory.mktemp("checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def make(checkout: Path, *words: str) -> str:
    """`make` with the tools of the environment that runs us, which it must not set up again."""
    done = subprocess.run(
        ["make", "-o", f"{VENV}/.built", "-o", f"{VENV}/.installed", f"VENV={VENV}", *words],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def version_of(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).removeprefix("udpoverlay ")


@pytest.fixture(scope="module")
def dist(checkout: Path) -> Path:
    make(checkout, "dist")
    return checkout / "dist"


def test_source_distribution_holds_every_tracked_file(checkout: Path, dist: Path) -> None:
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    tracked = {
        str(path.relative_to(checkout))
        for path in checkout.rglob("*")
        if path.is_file() and not {"dist", "build"} & set(path.relative_to(checkout).parts)
    }
    built = {name for name in tracked if name.endswith(".so") or ".egg-info" in name}
    generated = {name for name in tracked if re.fullmatch(r"ext/_\w+\.c", name)}
    assert tracked - built - generated <= names


def test_wheel_holds_the_program_alone(dist: Path) -> None:
    (archive,) = dist.glob("*.whl")
    with zipfile.ZipFile(archive) as opened:
        tops = {name.partition("/")[0] for name in opened.namelist()}
    assert {re.sub(r"-.*\.dist-info", ".dist-info", top) for top in tops} == {
        "udpoverlay",
        "udpoverlay.dist-info",
    }


def test_wheel_has_no_traffic_generator_and_lab_says_so(dist: Path, tmp_path: Path) -> None:
    (archive,) = dist.glob("*.whl")
    with zipfile.ZipFile(archive) as opened:
        compiled = {
            Path(name).name.partition(".")[0] for name in opened.namelist() if ".so" in name
        }
        opened.extractall(tmp_path)
    assert compiled == {"_fastpath"}
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "sys.meta_path = [each for each in sys.meta_path if 'editable' not in repr(each)]\n"
        "from udpoverlay.cli.entry import udpoverlay\n"
        "sys.argv = ['udpoverlay', *sys.argv[2:]]\n"
        "sys.exit(udpoverlay())"
    )
    argv = [f"{VENV}/bin/python", "-c", program, str(tmp_path)]
    for command in ("lab", "bench"):
        done = subprocess.run(
            [*argv, command], capture_output=True, text=True, check=False, cwd="/"
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "UDPOVERLAY_LAB=1" in done.stderr
    done = subprocess.run([*argv, "version"], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0


def test_source_distribution_builds_the_same_wheel(dist: Path, tmp_path: Path) -> None:
    (archive,) = dist.glob("*.tar.gz")
    (wheel,) = dist.glob("*.whl")
    done = subprocess.run(
        [f"{VENV}/bin/pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", archive],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(tmp_path / wheel.name) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


def test_install_over_an_older_one_and_uninstall_keep_the_settings(
    checkout: Path, tmp_path: Path
) -> None:
    prefix, etc = tmp_path / "prefix", tmp_path / "etc"
    words = (f"PREFIX={prefix}", f"SYSCONFDIR={etc}")
    home = prefix / "lib" / "udpoverlay"
    (home / "lib").mkdir(parents=True)
    (home / "lib" / "stale.py").write_text("")
    output = make(checkout, "install", *words)
    assert f"settings: {etc}/default/udpoverlayd" in output
    assert not (home / "lib" / "stale.py").exists()
    versions = {version_of(str(prefix / "bin" / "udpoverlay"), "version")}
    versions |= {version_of(str(prefix / "bin" / "udpoverlayd"), "-version")}
    assert len(versions) == 1
    settings = etc / "default" / "udpoverlayd"
    settings.write_text("FLANNELD_V=7\n")
    unit = (prefix / "lib/systemd/system/udpoverlayd.service").read_text()
    assert f"ExecStart={prefix}/bin/udpoverlayd\n" in unit
    assert f"EnvironmentFile=-{settings}\n" in unit
    man = (prefix / "share/man/man8/udpoverlayd.8").read_text()
    assert f"docs/reference in {prefix}/share/doc/udpoverlay" in man.replace("\\-", "-")
    assert (prefix / "share/bash-completion/completions/udpoverlayd").exists()
    make(checkout, "install", *words)
    assert settings.read_text() == "FLANNELD_V=7\n"
    make(checkout, "uninstall", *words)
    left = [path for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()]
    assert left == [settings]


@pytest.mark.root
def test_commands_of_a_staged_root_run_where_the_shipped_unit_expects_them(
    checkout: Path, tmp_path: Path
) -> None:
    assert need.root() is None
    root = tmp_path / "root"
    make(checkout, "install", f"DESTDIR={root}")
    units = root / "usr/local/lib/systemd/system"
    shipped = (ROOT / "deploy/systemd/udpoverlayd.service").read_text()
    installed = (units / "udpoverlayd.service").read_text()
    (command,) = re.findall("^ExecStart=(.*)$", shipped, re.MULTILINE)
    assert f"\nExecStart={command}\n" in installed
    (path,) = re.findall("^Documentation=file:(.*)$", installed, re.MULTILINE)
    assert (root / path.lstrip("/") / "docs" / "reference" / "flags.md").exists()
    assert (root / "etc/default/udpoverlayd").read_text() == (
        ROOT / "deploy/systemd/udpoverlayd.default"
    ).read_text()
    for file in (root / "usr/local/lib/udpoverlay").rglob("*"):
        if file.is_file() and not file.is_symlink():
            assert str(tmp_path).encode() not in file.read_bytes(), file
    # In a mount namespace of its own, the staged root stands where a package would put it.
    script = f"mount --bind {root}/usr/local /usr/local && exec {command} -version"
    assert version_of("unshare", "--mount", "sh", "-c", script)
    for name in COMMANDS:
        assert os.readlink(root / "usr/local/bin" / name) == f"../lib/udpoverlay/bin/{name}"
