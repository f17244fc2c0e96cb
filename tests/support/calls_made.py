"""Which system calls the running daemon makes, and what host/privileges/calls.py lacks of them.

    python -m tests.support.calls_made      both kinds of packet rules; needs root, strace, etcd

A daemon lives under strace: routes, a look at every document, a device that is deleted, rules that
are flushed, a dump, an etcd that was away, the end. Only what comes after it has given up its
rights counts, its children included. Nothing is refused meanwhile (--seccomp=off): a program that
is refused a call may not come to the next one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.cluster import NETCONF, PREFIX, UDPOVERLAYD, Cluster, Node, wait_until
from tests.support.wire import ping
from udpoverlay.host.privileges import bpf
from udpoverlay.host.privileges.calls import GROUPS

__all__ = ["BY_ARGUMENT", "listed", "lived", "made"]

BY_ARGUMENT = {"socket", "clone", "ioctl", "clone3", "rt_sigreturn"}
"""Allowed by bpf.py for some arguments; clone3 is answered with ENOSYS, and clone is called."""
REFUSED_ON_PURPOSE = {"io_uring_setup", "io_uring_enter"}
"""Refused before the event loop begins; with --seccomp=off it makes a ring."""
MARK = "rights given up"


def made(trace: str) -> set[str]:
    """The calls in a log of strace -f that come after the daemon gave up its rights."""
    text = Path(trace).read_text(encoding="utf-8", errors="replace")
    assert MARK in text
    after = text[text.index(MARK) :]
    return set(re.findall(r"^\d+ +(\w+)\(", after, re.MULTILINE))


def listed() -> set[str]:
    """The calls that a daemon with etcd may make."""
    return {call.name for group in GROUPS for call in group.calls()} | BY_ARGUMENT


def lived(nftables: bool) -> set[str]:
    """The calls of a daemon's life with one kind of packet rules."""
    netconf = {**NETCONF, "EnableNFTables": nftables}
    # /tmp is a host's own; the working directory is not.
    with tempfile.TemporaryDirectory(dir=os.getcwd(), prefix=".calls-") as folder:
        trace = f"{folder}/trace"
        strace = ["strace", "-f", "-qq", "-s", "400", "-o", trace, *UDPOVERLAYD]
        flags = ("--ip-masq", "--iptables-resync=1", "--ip-blackhole-route", "--seccomp=off")
        probes = ("--healthz-ip=127.0.0.1", "--healthz-port=8081", "--no-br-netfilter-check")
        with Cluster("n1", "n2", netconf=netconf) as cluster:
            n2 = cluster.start("n2", "--no-br-netfilter-check")
            n1 = cluster.start("n1", *flags, *probes, program=strace)
            cluster.wait_for_peers(n1, n2)
            _live(cluster, n1, n2, nftables)
        return made(trace)


def _live(cluster: Cluster, n1: Node, n2: Node, nftables: bool) -> None:
    pid = str(n1.status()["pid"])

    def number(*path: str) -> Any:
        found: Any = n1.status()
        for key in path:
            found = found[key]
        return found

    def until(condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what, 60)

    assert ping(n1.host, n1.address, n2.address) is not None
    for document in ("peers", "routes", "counters"):
        n1.ask(f"/v1/{document}")
    n1.host.run(["ip", "link", "del", "flannel0"])
    until(lambda: number("network", "rebuilds") == 1, "the device is there again")
    until(lambda: ping(n1.host, n1.address, n2.address) is not None, "packets pass again")
    n1.host.run(["ip", "link", "set", "eth0", "mtu", "1400"])
    until(lambda: number("node", "mtu") == 1372, "the subnet file is written again")
    for words in (["nft", "flush", "ruleset"], ["iptables", "-F"], ["iptables", "-t", "nat", "-F"]):
        n1.host.run(words)
    until(lambda: number("firewall", "repairs") >= 1, "the rules are there again")
    n1.host.run(["kill", "-USR1", pid])
    until(lambda: bool(n1.lines("packets dumped")), "a dump is written")
    script = "import urllib.request as u; u.urlopen('http://127.0.0.1:8081/metrics').read()"
    n1.host.run([sys.executable, "-c", script])
    cluster.etcd.stop()
    cluster.etcd.start()
    cluster.etcd.put(f"{PREFIX}/subnets/10.5.250.0-24", '{"PublicIP": "198.18.0.99"}')
    until(lambda: number("peers") == 2, "it follows etcd again")
    n1.host.run(["kill", f"-{signal.SIGTERM.value}", pid])
    assert n1.process.wait(30) == 0


def main() -> int:
    """Print the calls, and those that the list lacks."""
    if shutil.which("strace") is None:
        sys.stderr.write("no strace on PATH\n")
        return 1
    found = lived(nftables=False) | lived(nftables=True)
    lacking = found - listed() - REFUSED_ON_PURPOSE
    print("made:   ", *sorted(found))
    print("lacking:", *sorted(lacking))
    print("of", len(listed()), "on", ", ".join(bpf.MACHINES))
    return bool(lacking)


if __name__ == "__main__":
    sys.exit(main())
