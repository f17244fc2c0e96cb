"""deploy/container: what the Containerfile copies and runs; CONTAINER=1 runs its steps.

No container engine is needed: the steps are scripts, and a root folder made by debootstrap stands
for the base image.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "deploy" / "container"
SCRIPTS = sorted(CONTAINER.glob("*.sh"))
LOCAL_CAS = Path("/usr/local/share/ca-certificates")


def run(*words: str, seconds: float = 600.0) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds)
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_executable_and_has_no_syntax_error(script: Path) -> None:
    assert os.access(script, os.X_OK)
    run("sh", "-n", str(script))


def test_containerfile_runs_the_scripts_and_starts_flanneld() -> None:
    text = (CONTAINER / "Containerfile").read_text()
    named = set(re.findall(r"deploy/container/([\w.]+\.sh)", text))
    for script in SCRIPTS:
        named |= set(re.findall(r"\$0\"\)/([\w.]+\.sh)", script.read_text()))
    assert named == {script.name for script in SCRIPTS}
    assert 'ENTRYPOINT ["/opt/bin/flanneld"]' in text


@contextmanager
def mounted_proc(root: Path) -> Iterator[None]:
    run("mount", "-t", "proc", "proc", str(root / "proc"))
    try:
        yield
    finally:
        run("umount", "-l", str(root / "proc"))


def base_image(root: Path) -> None:
    run("debootstrap", "--variant=minbase", "bookworm", str(root))
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    if LOCAL_CAS.is_dir():  # a network whose registries are behind a CA of its own
        shutil.copytree(LOCAL_CAS, root / LOCAL_CAS.relative_to("/"), dirs_exist_ok=True)


@pytest.mark.root
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.environ.get("CONTAINER") != "1", reason="minutes long: CONTAINER=1 runs it")
def test_image_has_flannels_commands_at_flannels_paths(tmp_path: Path) -> None:
    if shutil.which("debootstrap") is None:
        pytest.skip("no debootstrap on PATH")
    build, image = tmp_path / "build", tmp_path / "image"
    base_image(build)
    run("cp", "-a", str(build), str(image))
    (build / "src").mkdir()
    tracked = run("git", "-C", str(ROOT), "ls-files", "-z").rstrip("\0").split("\0")
    for name in tracked:
        target = build / "src" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, target)
    with mounted_proc(build):
        run("chroot", str(build), "/src/deploy/container/build.sh", "/src", "/opt/udpoverlay")
    shutil.copy2(CONTAINER / "runtime.sh", image / "tmp/runtime.sh")
    with mounted_proc(image):
        run("chroot", str(image), "/tmp/runtime.sh")
        run("cp", "-a", str(build / "opt/udpoverlay"), str(build / "opt/bin"), str(image / "opt"))
        source, target = image / "tmp/conf", image / "tmp/target.conflist"
        source.write_text("{}")
        plain = ("chroot", str(image), "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
        run(*plain, "/opt/bin/flanneld", "--version")
        run(*plain, "/opt/bin/install-conf", "/tmp/conf", "/tmp/target.conflist")
        assert target.read_text() == "{}"
        assert "subnet file" in run(*plain, "/opt/bin/mk-docker-opts.sh", "-h")
        for tool in ("nft", "iptables-nft-save", "iptables-legacy-save"):
            run(*plain, "sh", "-c", f"command -v {tool}")
        absent = run(*plain, "sh", "-c", "command -v gcc pip || echo none").strip()
        assert absent == "none"
