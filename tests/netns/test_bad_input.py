"""Each mistake gets one clear line that names it, a non-zero exit, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import (
    ADMIN_SOCKET,
    NETCONF,
    PREFIX,
    SUBNET_FILE,
    UDPOVERLAYD,
    Cluster,
    Node,
    links_of,
    run_to_end,
    wait_until,
)
from udpoverlay.lab.actions import files, links

pytestmark = [pytest.mark.root, pytest.mark.etcd]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("n1") as cluster:
        host = cluster.fabric.hosts["n1"]
        host.call(links.add_bridge, name="small0", mtu=95)
        host.call(links.add_address, name="small0", address="192.0.2.1", prefix_len=24)
        yield cluster


@pytest.fixture(autouse=True)
def nothing_is_left_behind(cluster: Cluster) -> Iterator[None]:
    cluster.etcd.put(f"{PREFIX}/config", json.dumps(NETCONF))
    for key in cluster.leases():  # of a daemon that an earlier test did not refuse
        cluster.etcd.delete(f"{PREFIX}/subnets/{key}")
    yield
    host = cluster.fabric.hosts["n1"]
    assert not [name for name in links_of(host) if name.startswith("flannel")]
    assert not host.call(files.exists, path=SUBNET_FILE)
    assert not host.call(files.exists, path=ADMIN_SOCKET)


def refused(cluster: Cluster, node: Node, *words: str) -> None:
    """The daemon ends with one line that holds all `words`; no lease tells others of this host."""
    assert run_to_end(node) == 1, node.process.log()
    lines = node.errors()
    assert len(lines) == 1, node.process.log()
    assert "Traceback" not in node.process.log()
    for word in words:
        assert word in lines[0], lines[0]
    assert cluster.leases() == {}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--iface=nope0"], ["iface 'nope0'", "no interface has this name", "eth0 (198.18.0.11"]),
        (["--iface-regex=^wlan"], ["iface-regex '^wlan'", "matches no address and no name"]),
        (["--public-ip=203.0.113.1"], ["public-ip '203.0.113.1'", "no interface has the address"]),
        (["--public-ip=1.2.3", "--iface=eth0"], ["public-ip '1.2.3'", "not an IPv4 address"]),
        (["--iface-can-reach=there"], ["iface-can-reach 'there'", "is not an IP address"]),
        (["--iface=small0"], ["small0", "MTU of 95", "at least 96"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else str(value),
)
def test_an_interface_that_cannot_be_used(
    cluster: Cluster, flags: list[str], words: list[str]
) -> None:
    refused(cluster, cluster.spawn("n1", *flags), *words)


@pytest.mark.parametrize(
    ("netconf", "words"),
    [
        ({"Network": "10.5.0.0/33"}, ["Network", "10.5.0.0/33"]),
        ({"Network": "10.5.0.0/16", "SubnetLen": 31}, ["SubnetLen", "31"]),
        ({"Network": "10.5.0.0/16", "SubnetMin": "10.6.0.0"}, ["SubnetMin", "10.6.0.0"]),
        (
            {"Network": "10.5.0.0/16", "SubnetMin": "10.5.9.0", "SubnetMax": "10.5.3.0"},
            ["SubnetMin 10.5.9.0", "SubnetMax 10.5.3.0"],
        ),
        ({"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}, ["vxlan", "supports: udp"]),
        ({"Network": "10.5.0.0/16", "Backend": {}}, ["Backend.Type", "supports: udp"]),
        ({"Network": "10.5.0.0/16", "Backend": {"Type": "udp", "Port": 70000}}, ["Port", "70000"]),
        ({"Network": "10.5.0.0/16", "Backend": {"Type": "udp", "Port": "x"}}, ["Port", "x"]),
        ({"EnableIPv4": False}, ["EnableIPv4", "EnableIPv6"]),
        ("{", ["network configuration"]),
    ],
    ids=str,
)
def test_a_network_configuration_that_is_wrong(
    cluster: Cluster, netconf: dict[str, Any] | str, words: list[str]
) -> None:
    text = netconf if isinstance(netconf, str) else json.dumps(netconf)
    cluster.etcd.put(f"{PREFIX}/config", text)
    refused(cluster, cluster.spawn("n1"), *words)


def test_the_type_of_the_backend_is_read_without_regard_to_case(cluster: Cluster) -> None:
    netconf = {"network": "10.5.0.0/16", "backend": {"type": "UDP", "port": 9999}}
    cluster.etcd.put(f"{PREFIX}/config", json.dumps(netconf))
    node = cluster.start("n1")
    assert (node.status()["node"]["backend"], node.status()["node"]["port"]) == ("udp", 9999)
    assert node.process.stop() == 0
    node.host.run(["rm", SUBNET_FILE])


def test_a_port_that_is_taken(cluster: Cluster) -> None:
    with cluster.fabric.hosts["n1"].socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((cluster.fabric.address("n1"), 8285))
        refused(cluster, cluster.spawn("n1"), "8285", "Address already in use", "another process")


def test_a_port_of_the_health_server_that_is_taken(cluster: Cluster) -> None:
    with cluster.fabric.hosts["n1"].socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(("127.0.0.1", 8081))
        other.listen()
        node = cluster.spawn("n1", "--healthz-ip=127.0.0.1", "--healthz-port=8081")
        refused(cluster, node, "127.0.0.1", "8081", "healthz-port")


BROKEN = "#!/bin/sh\necho '{words}' >&2; exit 4\n"
"""A tool that is there and cannot do it, as in a container without the kernel's modules."""


@pytest.mark.parametrize(
    ("nftables", "broken", "words"),
    [
        (False, "iptables-restore", ["iptables-restore", "it cannot", "iptables -t nat -S"]),
        (False, "iptables-save", ["iptables-save", "it cannot", "modprobe iptable_"]),
        (False, "iptables", ["iptables --version", "it cannot", "EnableNFTables"]),
        (True, "nft", ["nft refuses", "it cannot", "nft list ruleset"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_masquerade_rules_that_cannot_be_set(
    cluster: Cluster, nftables: bool, broken: str, words: list[str]
) -> None:
    cluster.etcd.put(f"{PREFIX}/config", json.dumps({**NETCONF, "EnableNFTables": nftables}))
    host = cluster.fabric.hosts["n1"]
    host.run(["rm", "-rf", "/run/broken"])
    tool = f"/run/broken/{broken}"
    host.call(files.write_text, path=tool, text=BROKEN.format(words="it cannot"))
    host.run(["chmod", "+x", tool])
    refused(
        cluster,
        cluster.spawn("n1", "--ip-masq", PATH=f"/run/broken:{os.environ['PATH']}"),
        *words,
    )


def test_no_tool_for_masquerade_rules(cluster: Cluster) -> None:
    node = cluster.spawn("n1", "--ip-masq", PATH="/nowhere")
    refused(cluster, node, "iptables is not on PATH", "install iptables")


HIDE_TUN = (
    "import ctypes, os, sys\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "assert libc.unshare(0x00020000) == 0\n"  # CLONE_NEWNS
    "assert libc.mount(b'none', b'/dev/net', b'tmpfs', 0, None) == 0\n"
)
GO_ON = "os.execv(sys.argv[1], sys.argv[1:])\n"
NO_MKNOD = "assert libc.prctl(24, 27, 0, 0, 0) == 0\n"  # PR_CAPBSET_DROP, CAP_MKNOD


def test_no_tun_device_and_no_right_to_make_its_node(cluster: Cluster) -> None:
    program = [sys.executable, "-c", HIDE_TUN + NO_MKNOD + GO_ON, *UDPOVERLAYD]
    refused(cluster, cluster.spawn("n1", program=program), "TUN", "/dev/net/tun")


def test_container_without_the_tun_node_makes_a_private_one(cluster: Cluster) -> None:
    """flannel's own manifest does not mount /dev/net/tun."""
    program = [sys.executable, "-c", HIDE_TUN + GO_ON, *UDPOVERLAYD]
    node = cluster.start("n1", program=program)
    assert node.env["FLANNEL_MTU"] == "1472"
    assert "flannel0" in links_of(node.host)
    assert node.process.stop() == 0
    node.host.run(["rm", SUBNET_FILE])


def test_no_privilege(cluster: Cluster) -> None:
    drop = (
        "import ctypes, os, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.prctl(24, 12, 0, 0, 0) == 0\n"  # PR_CAPBSET_DROP, CAP_NET_ADMIN
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    program = [sys.executable, "-c", drop, *UDPOVERLAYD]
    refused(cluster, cluster.spawn("n1", program=program), "CAP_NET_ADMIN")


def test_subnet_file_that_cannot_be_written_is_seen_in_the_status(
    cluster: Cluster,
) -> None:
    node = cluster.spawn("n1", "--subnet-file=/proc/nowhere/subnet.env")
    wait_until(lambda: node.host.call(files.exists, path=ADMIN_SOCKET), "it runs")
    assert node.status()["node"]["subnet_file_written"] is False
    told = ("subnet file is not written", "/proc/nowhere/subnet.env")
    wait_until(lambda: len(node.lines(*told)) == 1, "it is told")
    assert node.process.stop() == 0


def test_an_admin_socket_that_cannot_be_had_is_a_warning(cluster: Cluster) -> None:
    node = cluster.start("n1", "--admin-socket=/proc/nowhere.sock")
    # The log is written beside the program, not before it goes on.
    wait_until(lambda: len(node.lines("no admin socket", "/proc/nowhere.sock")) == 1, "it is told")
    assert node.process.stop() == 0
    node.host.run(["rm", SUBNET_FILE])


@pytest.mark.parametrize(
    ("make", "kind"),
    [("mkfifo", "a FIFO"), ("mkdir", "a directory"), ("mknod -m 666", "a character device")],
)
def test_subnet_file_that_is_no_regular_file_is_refused_before_etcd_is_asked(
    cluster: Cluster, make: str, kind: str
) -> None:
    host = cluster.fabric.hosts["n1"]
    path = f"/run/odd-{make.partition(' ')[0]}"
    device = " c 1 3" if "mknod" in make else ""
    assert host.run(["sh", "-c", f"{make} {path}{device}"])[0] == 0
    _, before = host.run(["stat", "-c", "%F %a %i", path])
    silent = "--etcd-endpoints=http://192.0.2.77:2379"
    refused(
        cluster,
        cluster.spawn("n1", f"--subnet-file={path}", silent),
        f"subnet-file '{path}' is {kind}",
        "name a regular file",
    )
    assert host.run(["stat", "-c", "%F %a %i", path])[1] == before
