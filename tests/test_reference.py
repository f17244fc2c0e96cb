"""The reference pages say what the code does: variables, annotations, exit codes, files.

Flags and their page: tests/cli/test_daemon_flags.py.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from netaddr import IPNetwork

from udpoverlay.cni import errors as cni_errors
from udpoverlay.cni.plugin import DATA_DIR, NEEDED, SUBNET_FILE
from udpoverlay.model.config import DaemonConfig
from udpoverlay.model.lease import Subnet
from udpoverlay.model.netconf import parse_netconf
from udpoverlay.model.subnetenv import format_subnet_env
from udpoverlay.registry.kubernetes.annotations import AnnotationNames

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
MODULES = {
    "udpoverlayd": "from udpoverlay.cli.entry import udpoverlayd as main",
    "udpoverlay": "from udpoverlay.cli.entry import udpoverlay as main",
    "udpoverlay-cni": "from udpoverlay.cni.plugin import main",
}


def rows(page: str) -> list[list[str]]:
    """The cells of every row of every table."""
    text = (REFERENCE / page).read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def test_page_of_annotations_has_each_and_no_other() -> None:
    prefix = DaemonConfig().kube.annotation_prefix
    names = {full.removeprefix(f"{prefix}/") for full in AnnotationNames.from_prefix(prefix).all()}
    assert {found for cells in rows("annotations.md") for found in named(cells[0])} == names


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_page_of_variables_has_each_that_is_read() -> None:
    """A variable is what is looked up by name in an environment, whatever that is called."""
    read = set()
    for path in (ROOT / "udpoverlay").rglob("*.py"):
        if "lab" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            found = None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr == "get" and "environ" in ast.unparse(node.func.value):
                    found = node.args[0]
            elif isinstance(node, ast.Subscript) and "environ" in ast.unparse(node.value):
                found = node.slice
            if isinstance(found, ast.Constant) and isinstance(found.value, str):
                read.add(found.value)
    page = (REFERENCE / "variables.md").read_text()
    assert {"NODE_NAME", "NOTIFY_SOCKET", "CNI_COMMAND"} <= read
    assert {name for name in read if f"`{name}`" not in page} == set()


def test_page_of_variables_has_those_of_the_plugin() -> None:
    page = (REFERENCE / "variables.md").read_text()
    for names in NEEDED.values():
        assert all(f"`{name}`" in page for name in names)


def test_page_of_files_has_the_defaults() -> None:
    paths = {found for cells in rows("files.md") for found in named(cells[0])}
    defaults = DaemonConfig()
    wanted = {defaults.subnet_file, defaults.admin_socket, defaults.kube.net_config_path}
    assert {*wanted, SUBNET_FILE, DATA_DIR} <= paths


def test_page_of_files_shows_the_subnet_file_in_its_order() -> None:
    conf = parse_netconf(
        '{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48"}'
    )
    subnet = Subnet(IPNetwork("10.5.72.0/24"), IPNetwork("fd00:5:0:1::/64"))
    written = format_subnet_env(conf, subnet, 1472, True)
    keys = [line.split("=")[0] for line in written.splitlines()]
    page = (REFERENCE / "files.md").read_text()
    assert re.findall(r"^(FLANNEL_\w+)=", page, re.MULTILINE) == keys


@pytest.mark.parametrize(
    ("program", "words", "code"),
    [
        ("udpoverlayd", ["-version"], 0),
        ("udpoverlayd", ["-h"], 0),
        ("udpoverlayd", ["--subnet-lease-renew-margin=0"], 1),
        ("udpoverlayd", ["--nope"], 2),
        ("udpoverlayd", ["status"], 2),
        ("udpoverlay", ["version"], 0),
        ("udpoverlay", ["docker-opts", "-f", "/nowhere"], 1),
        ("udpoverlay", ["docker-opts", "--nope"], 2),
        ("udpoverlay", ["nope"], 2),
        ("udpoverlay-cni", [], 1),
    ],
)
def test_exit_code_is_the_pages(program: str, words: list[str], code: int) -> None:
    argv = [sys.executable, "-c", f"import sys; {MODULES[program]}; sys.exit(main())", *words]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CNI_")}
    done = subprocess.run(argv, capture_output=True, check=False, env=environment, timeout=60)
    assert done.returncode == code, done.stderr
    text = (REFERENCE / "exit-codes.md").read_text()
    own = {"udpoverlayd": 0, "udpoverlay": 1, "udpoverlay-cni": 2}
    chapter = text.split("\n## ")[1 + own[program]]
    assert f"\n| {code} |" in chapter


def test_page_has_the_error_codes_of_the_plugin() -> None:
    codes = {
        value
        for name, value in vars(cni_errors).items()
        if name.isupper() and isinstance(value, int)
    }
    chapter = (REFERENCE / "exit-codes.md").read_text().partition("| error code |")[2]
    assert {int(found) for found in re.findall(r"^\| (\d+) \|", chapter, re.MULTILINE)} == codes
