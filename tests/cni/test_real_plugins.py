"""The plugin with the real bridge and host-local, pods in network namespaces of their own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from netaddr import IPNetwork

from tests.support.engines import Host
from udpoverlay.model.lease import Subnet
from udpoverlay.model.netconf import parse_netconf
from udpoverlay.model.subnetenv import format_subnet_env

FOLDER = next(
    (path for path in ("/opt/cni/bin", "/usr/lib/cni") if Path(path, "bridge").exists()), ""
)
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not FOLDER, reason="no CNI plugins in /opt/cni/bin or /usr/lib/cni"),
]


OURS = [sys.executable, "-c", "from udpoverlay.cni.plugin import main; main()"]
FLANNELS = shutil.which("flannel", path=f"{os.environ['PATH']}:/opt/cni/bin:/usr/lib/cni")


class Node:
    """A host with a subnet file, and a runtime that adds pods to it."""

    def __init__(self, folder: Path, plugin: list[str]) -> None:
        self.plugin = plugin
        self.host = Host(1)
        self.pods = [Host(11), Host(12)]
        subnet_file = folder / "subnet.env"
        conf = parse_netconf('{"Network": "10.5.0.0/16"}')
        subnet = Subnet(IPNetwork("10.5.1.0/24"))
        subnet_file.write_text(format_subnet_env(conf, subnet, 1472, ip_masq=True))
        self.config: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": "cbr0",
            "type": "flannel",
            "subnetFile": str(subnet_file),
            "dataDir": str(folder / "flannel"),
            "delegate": {"bridge": "cni9", "hairpinMode": True, "isDefaultGateway": True},
            "ipam": {"dataDir": str(folder / "networks")},
        }
        self.networks = folder / "networks" / "cbr0"

    def call(self, command: str, pod: Host, **config: Any) -> Any:
        """What the plugin printed; it must succeed."""
        name = f"pod{pod.number}"

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                self.plugin,
                input=json.dumps({**self.config, **config}),
                capture_output=True,
                text=True,
                check=False,
                env={
                    "PATH": os.environ["PATH"],
                    "CNI_COMMAND": command,
                    "CNI_PATH": FOLDER,
                    "CNI_CONTAINERID": name,
                    "CNI_NETNS": f"/proc/{os.getpid()}/fd/{pod.namespace}",
                    "CNI_IFNAME": "eth0",
                },
            )

        done = self.host.call(run)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout) if done.stdout else None

    def allocated(self) -> set[str]:
        return {path.name for path in self.networks.iterdir() if path.name.startswith("10.")}

    def close(self) -> None:
        for host in (self.host, *self.pods):
            host.close()


@contextmanager
def node_with(folder: Path, plugin: list[str]) -> Iterator[Node]:
    made = Node(folder, plugin)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with node_with(tmp_path, OURS) as made:
        yield made


def reaches(pod: Host, address: str) -> bool:
    """Whether `address` answers: a closed port of it refuses a datagram."""

    def ask() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(10)
            asking.connect((address, 9))
            asking.send(b"?")
            try:
                asking.recv(1)
            except ConnectionRefusedError:
                return True
            except TimeoutError:
                return False
        return False

    return pod.call(ask)


def address_of(result: Any) -> str:
    text: str = result["ips"][0]["address"]
    return text


def test_pods_get_addresses_of_our_subnet_and_reach_each_other(node: Node) -> None:
    results = [node.call("ADD", pod) for pod in node.pods]
    addresses = [address_of(result) for result in results]
    assert all(text.startswith("10.5.1.") and text.endswith("/24") for text in addresses)
    first, second = (text.partition("/")[0] for text in addresses)
    assert reaches(node.pods[0], second)
    assert reaches(node.pods[0], "10.5.1.1")
    routes = node.pods[0].call(lambda: Path("/proc/thread-self/net/route").read_text())
    assert "0000050A" in routes  # 10.5.0.0, bytes as they lie in memory
    assert node.allocated() == {first, second}
    node.call("CHECK", node.pods[0], prevResult=results[0])
    for pod in node.pods:
        node.call("DEL", pod)
        node.call("DEL", pod)
    assert node.allocated() == set()


def test_gc_frees_the_address_of_a_pod_that_vanished(node: Node) -> None:
    first, _ = (address_of(node.call("ADD", pod)).partition("/")[0] for pod in node.pods)
    # Debian's bridge is from before GC: what is kept here is collected all the same.
    valid = [{"containerID": "pod11", "ifname": "eth0"}]
    node.call("GC", node.pods[0], **{"cni.dev/valid-attachments": valid})
    assert node.allocated() == {first}
    assert reaches(node.pods[0], "10.5.1.1")


def test_status_of_a_ready_node_is_silent(node: Node) -> None:
    assert node.call("STATUS", node.pods[0]) is None


@pytest.mark.skipif(FLANNELS is None, reason="flannel's own CNI plugin is not here")
def test_flannels_own_plugin_reads_our_subnet_file(tmp_path: Path) -> None:
    with node_with(tmp_path, [str(FLANNELS)]) as node:
        addresses = [address_of(node.call("ADD", pod)).partition("/")[0] for pod in node.pods]
        assert all(address.startswith("10.5.1.") for address in addresses)
        assert node.allocated() == set(addresses)
        assert reaches(node.pods[0], addresses[1])
        assert reaches(node.pods[0], "10.5.1.1")
        for pod in node.pods:
            node.call("DEL", pod)
        assert node.allocated() == set()
