"""The lab as people run it: it proves the overlay, says what failed, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.leftovers import adopted, eventually
from udpoverlay.errors import LabError
from udpoverlay.lab.actions import links
from udpoverlay.lab.cluster import Cluster
from udpoverlay.lab.hosts import Host
from udpoverlay.lab.node import Program, udpoverlayd
from udpoverlay.lab.proof import prove

pytestmark = [pytest.mark.root, pytest.mark.etcd, pytest.mark.timeout(300)]

LAB = [sys.executable, "-m", "udpoverlay.cli", "lab"]
ROOT = Path(__file__).parents[2]


def lab(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAB, *words], cwd=ROOT, capture_output=True, text=True, timeout=250, check=False
    )


def test_the_lab_proves_every_ordered_pair() -> None:
    done = lab("--nodes=3", "--seconds=0.3", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["passed"]
    assert [node["mtu"] for node in result["nodes"]] == [1472] * 3
    assert {(pair["source"], pair["target"]) for pair in result["pairs"]} == {
        (source, target) for source in ("n1", "n2", "n3") for target in ("n1", "n2", "n3")
    } - {(name, name) for name in ("n1", "n2", "n3")}
    for pair in result["pairs"]:
        assert pair["passed"]
        assert pair["tcp_bytes"] > 0
        assert pair["udp_datagrams"] > 0
        assert pair["rtt_p50_us"] > 0
        assert 0 <= pair["fast_sent"] <= 1


def test_the_table_names_nodes_and_pairs() -> None:
    done = lab("--nodes=2", "--seconds=0.1", "--link=plain")
    assert done.returncode == 0, done.stderr
    for text in ("198.18.0.11", "198.18.0.12", "1472", "n1 → n2", "n2 → n1", "Gbit/s", "ok"):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--nodes=1"], "2 to 100"),
        (["--nodes=x"], "2 to 100"),
        (["--seconds=0"], "seconds"),
        (["--backend=gre"], "gre"),
        (["--backend=vxlan"], "choose from"),
        (["exec", "n1"], "needs a command"),
    ],
)
def test_a_wrong_argument_is_named(words: list[str], text: str) -> None:
    done = lab(*words)
    assert done.returncode != 0
    assert text in done.stderr


def test_a_daemon_that_ends_is_reported_with_its_last_lines() -> None:
    program = Program("broken", ("sh", "-c", "echo no such luck; exit 3"), True)
    with (
        Cluster("n1", "n2") as cluster,
        pytest.raises(LabError, match="broken ended with status 3") as caught,
    ):
        cluster.overlay(program)
    assert caught.value.details == "no such luck"


@pytest.mark.parametrize("most", [0, 2, 4])
def test_lab_without_enough_namespaces_says_so_and_nothing_else(nest: Host, most: int) -> None:
    """The limit is that of a user namespace in the nest; the machine's is not touched."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from udpoverlay.lab import syscalls\n"
        "syscalls.unshare(syscalls.CLONE_NEWUSER)\n"
        "Path('/proc/self/setgroups').write_text('deny')\n"
        "for name in ('uid_map', 'gid_map'):\n"
        "    Path('/proc/self', name).write_text('0 0 1')\n"
        f"Path('/proc/sys/user/max_net_namespaces').write_text('{most}')\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    status, output = nest.run([sys.executable, "-c", script, *LAB, "--nodes=6"], 60)
    first, last = output.splitlines()
    assert (status, first) == (1, "… hosts and links")
    assert re.fullmatch(
        r"udpoverlay lab: \w+: unshare: No space left on device: as root: sysctl -w user\..*", last
    )


def test_a_pair_whose_daemon_died_does_not_pass_and_the_others_do() -> None:
    with Cluster("n1", "n2", "n3") as cluster:
        overlay = cluster.overlay(udpoverlayd())
        overlay.nodes["n3"].process.signal(signal.SIGKILL)
        results = prove(overlay, seconds=0.1)
    passed = {(each.source, each.target) for each in results if each.passed}
    assert passed == {("n1", "n2"), ("n2", "n1")}
    for each in results:
        assert (
            each.passed
            or each.failure == "no answer to ping; the daemon of n3 ended with status -9"
        )


def test_daemons_stop_when_asked_and_remove_what_they_made() -> None:
    with Cluster("n1", "n2") as cluster:
        overlay = cluster.overlay(udpoverlayd())
        overlay.stop()
        for node in overlay.nodes.values():
            assert node.process.poll() == 0, node.last_lines()
            names = [link["name"] for link in node.host.call(links.links)]
            assert names == ["lo", "eth0", "cni0"]


# ---- nothing stays ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("lines", range(1, 7))
def test_a_signal_at_any_moment_leaves_no_process_and_so_no_namespace(
    lines: int, number: signal.Signals
) -> None:
    with adopted() as left:
        running = subprocess.Popen(
            [*LAB, "--nodes=2", "--seconds=5"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert running.stderr is not None
        with running.stderr:
            for _ in range(lines):
                assert running.stderr.readline().startswith("…")
            running.send_signal(number)
            status = running.wait(60)
        assert status == (130 if number == signal.SIGINT else -number)
        eventually(lambda: not left())


# ---- a kept lab: inside a host, so that it does not meet one kept outside ------------------


@pytest.fixture
def nest() -> Iterator[Host]:
    with Host("nest") as made:
        yield made


def test_a_kept_lab_can_be_entered_and_brought_down(nest: Host) -> None:
    status, output = nest.run([*LAB, "--keep", "--nodes=2", "--seconds=0.1"], 120)
    assert status == 0, output
    assert "n1 → n2" in output
    assert nest.run([*LAB, "exec", "n2", "sh", "-c", "hostname; exit 7"]) == (7, "n2\n")
    assert nest.run([*LAB, "exec", "n2", "sh", "-c", "kill -9 $$"])[0] == 137
    status, output = nest.run([*LAB, "exec", "n3", "true"])
    assert (status, "one of n1, n2" in output) == (1, True)
    status, output = nest.run([*LAB, "exec", "n1", "no-such-program"])
    assert (status, "No such file" in output) == (1, True)
    status, output = nest.run([*LAB, "--keep"])
    assert (status, "kept already" in output) == (1, True)
    assert nest.run([*LAB, "down"]) == (0, "")
    status, output = nest.run([*LAB, "down"])
    assert (status, "no lab is being kept" in output) == (1, True)
    # Its agents have their node's name as the last word of their command line.
    assert "\0n1\0" not in nest.run(["sh", "-c", "cat /proc/[0-9]*/cmdline"])[1]


def test_an_interrupt_reaches_a_command_in_a_kept_lab(nest: Host) -> None:
    assert nest.run([*LAB, "--keep", "--nodes=2", "--seconds=0.1"], 120)[0] == 0
    trap = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    client = nest.popen([*LAB, "exec", "n1", "sh", "-c", trap], log="client.log")
    eventually(lambda: client.log() == "ready\n")
    client.signal(signal.SIGINT)
    assert client.wait(30) == 5
    assert client.log() == "ready\ncaught\n"


# ---- without root ------------------------------------------------------------------------------

# A number that owns nothing here.
AS_NOBODY = (
    "import os, sys; os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
# In the private mounts of a host: every user may read what leads to our interpreter and sources,
# which may lie in a user's home, and /dev/net/tun has the mode that distributions give it.
OPEN_UP = """
import ctypes, os, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
def mount(source, target, kind, flags, data=None):
    if libc.mount(source.encode(), target.encode(), kind, ctypes.c_ulong(flags), data) != 0:
        raise OSError(ctypes.get_errno(), target)
BIND, count = 4096, 0
for path in sys.argv[2:]:
    parts = os.path.realpath(path).split("/")
    for end in range(2, len(parts)):
        parent, child = "/".join(parts[:end]), "/".join(parts[: end + 1])
        if os.stat(parent).st_mode & stat.S_IXOTH:
            continue
        count += 1
        aside = f"/run/aside{count}"
        os.mkdir(aside)
        mount(child, aside, None, BIND)
        mount("tmpfs", parent, b"tmpfs", 0, b"mode=0755")
        os.mkdir(child)
        mount(aside, child, None, BIND)
mount("tmpfs", "/dev/net", b"tmpfs", 0, b"mode=0755")
os.mknod("/dev/net/tun", stat.S_IFCHR | 0o600, os.makedev(10, 200))
os.chmod("/dev/net/tun", int(sys.argv[1], 8))
"""


def as_nobody(nest: Host, tun_mode: str, *words: str) -> tuple[int, str]:
    paths = [sys.base_prefix, sys.prefix, str(ROOT)]
    status, output = nest.run([sys.executable, "-c", OPEN_UP, tun_mode, *paths])
    assert status == 0, output
    return nest.run([sys.executable, "-c", AS_NOBODY, *LAB, *words], 200)


def test_without_root_the_lab_runs_in_a_user_namespace(nest: Host) -> None:
    status, output = as_nobody(nest, "0666", "--nodes=2", "--seconds=0.1")
    assert status == 0, output
    assert "not root" in output
    assert "n2 → n1" in output


def test_a_kept_lab_without_root_can_be_entered(nest: Host) -> None:
    status, output = as_nobody(nest, "0666", "--keep", "--nodes=2", "--seconds=0.1")
    assert status == 0, output
    command = [sys.executable, "-c", AS_NOBODY, *LAB]
    assert nest.run([*command, "exec", "n1", "cat", "/run/flannel/subnet.env"])[0] == 0
    assert nest.run([*command, "down"]) == (0, "")


def test_without_root_and_without_a_usable_tun_the_fix_is_said(nest: Host) -> None:
    status, output = as_nobody(nest, "0600")
    assert status == 1
    assert "/dev/net/tun" in output
    assert "as root: chmod 0666 /dev/net/tun" in output


def test_without_root_and_user_namespaces_the_fix_is_said(nest: Host) -> None:
    # The limit is the user namespace's own; in the machine's it must not be touched.
    script = (
        "import subprocess, sys\n"
        "from udpoverlay.lab import syscalls\n"
        "from pathlib import Path\n"
        "syscalls.unshare(syscalls.CLONE_NEWUSER)\n"
        "Path('/proc/self/setgroups').write_text('deny')\n"
        "Path('/proc/self/uid_map').write_text('65534 65534 1')\n"
        "Path('/proc/self/gid_map').write_text('65534 65534 1')\n"
        "Path('/proc/sys/user/max_user_namespaces').write_text('0')\n"
        "import os; os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    paths = [sys.base_prefix, sys.prefix, str(ROOT)]
    assert nest.run([sys.executable, "-c", OPEN_UP, "0666", *paths])[0] == 0
    status, output = nest.run(
        [sys.executable, "-c", AS_NOBODY, sys.executable, "-c", script, *LAB, "--nodes=2"]
    )
    assert status == 1
    assert "as root: sysctl user.max_user_namespaces=" in output
