"""What a running daemon may do, as the kernel has it, and that this is enough for all it does."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.calls_made import REFUSED_ON_PURPOSE, listed, lived
from tests.support.cluster import (
    ADMIN_SOCKET,
    NETCONF,
    SUBNET_FILE,
    UDPOVERLAYD,
    Cluster,
    Node,
    wait_until,
)
from tests.support.wire import ping, transfer
from udpoverlay.lab.actions import files

pytestmark = [pytest.mark.root, pytest.mark.etcd]

ORDINARY = 65534
KEPT = f"{1 << 12 | 1 << 13:016x}"
"""NET_ADMIN, NET_RAW."""
UNCHECKED = "--no-br-netfilter-check"
AS_ORDINARY = [
    *("setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"),
    *("--inh-caps=+net_admin,+net_raw", "--ambient-caps=+net_admin,+net_raw"),
    "--bounding-set=+net_admin,+net_raw",
]
ASK = """
import socket, sys, os
os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as asked:
    try:
        asked.connect(sys.argv[1])
    except PermissionError:
        print("no way in"); sys.exit()
    asked.sendall(b"GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    print(asked.recv(4096).decode().splitlines()[0])
"""


@pytest.fixture(params=[False, True], ids=["iptables", "nftables"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with Cluster("n1", "n2", netconf={**NETCONF, "EnableNFTables": request.param}) as cluster:
        yield cluster


def tasks(node: Node) -> list[dict[str, str]]:
    """What the kernel says of every thread of a daemon."""
    script = f"cat /proc/{node.status()['pid']}/task/*/status"
    code, text = node.host.run(["sh", "-c", script])
    assert code == 0, text
    fields = r"^(CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp):\s*(\w+)$"
    found: list[dict[str, str]] = []
    for task in text.split("Name:")[1:]:
        found.append(dict(re.findall(fields, task, re.MULTILINE)))
    return found


def wait_for_few_rights(node: Node, *, bounding: bool = True) -> None:
    """Until every thread has two capabilities; one that wrote the log before may yet end."""
    wanted = {"CapPrm": KEPT, "CapEff": KEPT, "NoNewPrivs": "1", "Seccomp": "2"}
    if bounding:
        wanted["CapBnd"] = KEPT

    def few() -> bool:
        every = tasks(node)
        return len(every) > 1 and all(wanted.items() <= task.items() for task in every)

    wait_until(few, f"every thread has {wanted}: {tasks(node)}")


def privileges(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = node.status()["privileges"]
    return found


def flush_rules(node: Node) -> None:
    for words in (
        ["nft", "flush", "ruleset"],
        ["iptables", "-F"],
        ["iptables", "-t", "nat", "-F"],
    ):
        node.host.run(words)


def lives(n1: Node, n2: Node) -> None:
    """Packets pass, and what is taken away comes back."""
    assert ping(n1.host, n1.address, n2.address) is not None
    sent, came = transfer((n1.host, n1.address), (n2.host, n2.address), 1 << 20)
    assert sent == came
    assert n1.host.run(["ip", "link", "del", "flannel0"]) == (0, "")
    wait_until(lambda: n1.status()["network"]["rebuilds"] == 1, "the device is there again")
    wait_until(lambda: ping(n1.host, n1.address, n2.address) is not None, "packets pass again")
    flush_rules(n1)
    wait_until(lambda: n1.status()["firewall"]["repairs"] >= 1, "the rules are there again")
    assert n1.status()["firewall"]["error"] == ""
    n1.host.run(["ip", "link", "set", "eth0", "mtu", "1400"])
    wait_until(
        lambda: "FLANNEL_MTU=1372\n" in n1.host.call(files.read_text, path=SUBNET_FILE),
        "the subnet file is written again",
    )
    n1.host.run(["kill", "-USR1", str(n1.status()["pid"])])
    wait_until(lambda: bool(n1.lines("packets dumped")), "a dump is written")
    # The socket of the test's service manager is gone once the daemon was ready.
    assert [line for line in n1.errors() if "NOTIFY_SOCKET" not in line] == []


def test_root_keeps_two_capabilities_and_does_all_it_must(cluster: Cluster) -> None:
    n1 = cluster.start("n1", "--ip-masq", "--iptables-resync=1", UNCHECKED)
    n2 = cluster.start("n2", UNCHECKED)
    cluster.wait_for_peers(n1, n2)
    wait_for_few_rights(n1)
    lives(n1, n2)
    wait_for_few_rights(n1)  # the new workers, too
    assert privileges(n1) == {
        "uid": 0,
        "capabilities": ["NET_ADMIN", "NET_RAW"],
        "dropping": "on",
        "kept_for": {},
        "no_new_privs": True,
        "seccomp": "on",
        "threads_with_more": [],
    }
    code, shown = n1.host.run([sys.executable, "-m", "udpoverlay.cli", "status"])
    assert code == 0
    assert "NET_ADMIN NET_RAW; no_new_privs; seccomp on" in shown
    descriptors = n1.host.run(["ls", "-l", f"/proc/{n1.status()['pid']}/fd"])[1]
    assert "io_uring" not in descriptors
    assert n1.process.stop() == 0
    assert not n1.host.call(files.exists, path=ADMIN_SOCKET)


def test_ordinary_user_with_two_capabilities_does_all_it_must(cluster: Cluster) -> None:
    host = cluster.fabric.hosts["n1"]
    for folder in ("/run/flannel", "/run/udpoverlay"):
        assert host.run(["mkdir", "-p", folder]) == (0, "")
        assert host.run(["chown", str(ORDINARY), folder]) == (0, "")
    host.run(["sh", "-c", f"touch /run/xtables.lock; chown {ORDINARY} /run/xtables.lock"])
    flags = ("--ip-masq", "--iptables-resync=1", UNCHECKED)
    n1 = cluster.start("n1", *flags, program=[*AS_ORDINARY, *UDPOVERLAYD])
    n2 = cluster.start("n2", UNCHECKED)
    cluster.wait_for_peers(n1, n2)
    wait_for_few_rights(n1, bounding=False)
    assert privileges(n1)["uid"] == ORDINARY
    lives(n1, n2)
    assert n1.process.stop() == 0


def test_daemon_that_keeps_its_rights_has_them() -> None:
    with Cluster("n1") as cluster:
        n1 = cluster.start("n1", "--keep-capabilities", "--seccomp=off", UNCHECKED)
        for task in tasks(n1):
            assert int(task["CapEff"], 16) > int(KEPT, 16)
            assert (task["NoNewPrivs"], task["Seccomp"]) == ("0", "0")
        assert privileges(n1)["seccomp"] == "off (--seccomp=off)"


def test_folder_of_another_user_keeps_a_capability_and_is_written_to() -> None:
    with Cluster("n1") as cluster:
        host = cluster.fabric.hosts["n1"]
        assert host.run(["mkdir", "-p", "/run/flannel"]) == (0, "")
        assert host.run(["chown", str(ORDINARY), "/run/flannel"]) == (0, "")
        n1 = cluster.start("n1", UNCHECKED)
        assert privileges(n1)["capabilities"] == ["DAC_OVERRIDE", "NET_ADMIN", "NET_RAW"]
        assert n1.lines("DAC_OVERRIDE", "/run/flannel belongs to another user")
        host.run(["ip", "link", "set", "eth0", "mtu", "1400"])
        wait_until(
            lambda: "FLANNEL_MTU=1372\n" in host.call(files.read_text, path=SUBNET_FILE),
            "the subnet file is written again",
        )


def test_host_without_a_device_node_makes_one_again() -> None:
    """As a pod of flannel's own manifest, which does not mount /dev/net/tun."""
    with Cluster("n1", "n2") as cluster:
        hidden = cluster.fabric.hosts["n1"].run(["mount", "-t", "tmpfs", "none", "/dev/net"])
        assert hidden == (0, "")
        n1, n2 = cluster.start("n1", UNCHECKED), cluster.start("n2", UNCHECKED)
        cluster.wait_for_peers(n1, n2)
        assert privileges(n1)["capabilities"] == ["NET_ADMIN", "NET_RAW", "MKNOD"]
        assert n1.host.run(["ip", "link", "del", "flannel0"]) == (0, "")
        wait_until(lambda: n1.status()["network"]["rebuilds"] == 1, "the device is there again")
        wait_until(lambda: ping(n1.host, n1.address, n2.address) is not None, "packets pass")


def test_admin_socket_lets_no_other_user_in() -> None:
    with Cluster("n1") as cluster:
        n1 = cluster.start("n1", UNCHECKED)
        ask = [sys.executable, "-c", ASK, ADMIN_SOCKET]
        assert n1.host.run(ask) == (0, "no way in\n")
        assert n1.host.run(["chmod", "666", ADMIN_SOCKET]) == (0, "")  # as a careless mount
        assert n1.host.run(ask) == (0, "HTTP/1.1 403 Forbidden\n")


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace on PATH")
@pytest.mark.parametrize("nftables", [False, True], ids=["iptables", "nftables"])
def test_list_has_every_call_that_a_daemon_makes(nftables: bool) -> None:
    found = lived(nftables)
    assert {"sendmmsg", "execve", "epoll_pwait"} <= found  # the measurement works
    assert found - listed() - REFUSED_ON_PURPOSE == set()
