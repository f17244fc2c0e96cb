"""docs/tutorial/first-overlay.md, line by line on two lab hosts: every command is one that works.

A prompt says where a command runs: `a#`, `b#`, `a,b#`. What installs and loads modules is left out,
a command that ends with & goes on beside the others, and one whose effect takes a moment is tried
until it works.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import wait_until
from udpoverlay.lab.hosts import Fabric, Host, Process

pytestmark = [pytest.mark.root, pytest.mark.etcd]

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-overlay.md"
BIN = Path(sys.executable).parent
LEFT_OUT = ("modprobe ", "make ")
AGAIN = ("cat ", "udpoverlay peers", "etcdctl ", "ip netns exec c1 ping")
PING = """\
#!{python}
import os, socket, sys
words = sys.argv[1:]
size = int(words[words.index("-s") + 1]) if "-s" in words else 56
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
    sock.settimeout(2)
    if "-M" in words:
        sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
    head = bytes([8, 0, 0, 0]) + os.urandom(4)
    body = head + bytes(size)
    total = sum(body[i] << 8 | body[i + 1] for i in range(0, len(body), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    sum_ = 0xFFFF ^ total
    sock.sendto(body[:2] + bytes([sum_ >> 8, sum_ & 255]) + body[4:], (words[-1], 0))
    while True:
        reply = sock.recv(65536)[20:]
        if reply[0] == 0 and reply[4:8] == head[4:8] and len(reply) == size + 8:
            break
"""
"""Stands for ping where the machine has none: one echo, as large as asked, not to be fragmented."""


def commands() -> list[tuple[str, str]]:
    """Hosts ("a", "b" or "a,b") and a command, in the page's order."""
    text = PAGE.read_text()
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [
        (match[1], match[2])
        for block in blocks
        for match in re.finditer(r"^([ab,]+)# (.*)$", block, re.MULTILINE)
    ]


class Hosts:
    """The two hosts, with the commands that the page has installed by then."""

    def __init__(self, tools: Path) -> None:
        self.fabric = Fabric(["a", "b"])
        self.path = f"{tools}:{BIN}:/usr/sbin:/usr/bin:/sbin:/bin"
        self.running: list[tuple[Process, str]] = []

    def written(self, command: str) -> str:
        """The page's command with the lab's addresses."""
        for number, name in ((11, "a"), (12, "b")):
            command = command.replace(f"192.0.2.{number}", self.fabric.address(name))
        return command.replace("10.5.44.2", self.container_of_b())

    def container_of_b(self) -> str:
        status, text = self.fabric.hosts["b"].run(["cat", "/run/flannel/subnet.env"])
        found = re.search(r"FLANNEL_SUBNET=(\S+)\.1/24", text)
        return f"{found[1]}.2" if status == 0 and found else "10.5.44.2"

    def run(self, name: str, command: str) -> str:
        host = self.fabric.hosts[name]
        shell = ["env", f"PATH={self.path}", "ETCD_UNSUPPORTED_ARCH=arm64", "sh", "-c"]
        if command.endswith("&"):
            own = f"exec {command.rstrip('& ')}"
            process = host.popen([*shell, own], log=f"{name}-{len(self.running)}.log")
            self.running.append((process, command))
            return ""
        status, output = self.once(host, shell, command)
        if command.startswith(AGAIN):

            def works() -> bool:
                nonlocal status, output
                if status != 0:
                    status, output = self.once(host, shell, command)
                return status == 0

            wait_until(works, f"{name}# {command}: {output}")
        assert status == 0, f"{name}# {command}: {output}"
        return output

    def once(self, host: Host, shell: list[str], command: str) -> tuple[int, str]:
        return host.run([*shell, self.written(command)])


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    if shutil.which("ping") is None:
        (tmp_path / "ping").write_text(PING.format(python=sys.executable))
        (tmp_path / "ping").chmod(0o755)
    if shutil.which("etcd") is None and not (BIN / "etcd").exists():
        pytest.skip("no etcd on PATH")
    made = Hosts(tmp_path)
    try:
        yield made
    finally:
        made.fabric.close()


def test_every_command_of_the_page_works(hosts: Hosts) -> None:
    seen = []
    for names, command in commands():
        if command.startswith(LEFT_OUT):
            continue
        for name in names.split(","):
            output = hosts.run(name, hosts.written(command))
            seen.append(command)
            if command == "udpoverlay peers":
                wait_until(
                    lambda name=name, command=command: (  # type: ignore[misc]
                        " ok" in hosts.run(name, hosts.written(command))
                    ),
                    f"{name} knows the other: {output}",
                )
    assert any("ping -c 3 -M do" in command for command in seen)
    for process, command in hosts.running:
        assert process.wait(20.0) is not None, f"{command} still runs"
    for host in hosts.fabric.hosts.values():
        status, links = host.run(["ip", "-br", "link"])
        assert status == 0
        assert "flannel0" not in links
        assert "cni0" not in links
