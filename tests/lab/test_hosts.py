"""Lab hosts: what they isolate, what they hand over, and that nothing of them stays."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.leftovers import eventually
from udpoverlay.errors import KernelError, LabError
from udpoverlay.lab import cpus
from udpoverlay.lab.actions import files, links, processes
from udpoverlay.lab.etcd import Etcd
from udpoverlay.lab.hosts import Fabric, Host

pytestmark = pytest.mark.root

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def pids_with(marker: str) -> list[int]:
    """Processes of the machine whose command line holds `marker`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.fixture
def host() -> Iterator[Host]:
    with Host("alone") as made:
        yield made


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    with Fabric(["n1", "n2"], mtu=1400, offload=False) as made:
        yield made


def test_a_host_has_its_own_network_mounts_processes_and_name(host: Host) -> None:
    assert [link["name"] for link in host.call(links.links)] == ["lo"]
    host.call(files.write_text, path="/run/flannel/subnet.env", text="x")
    assert not Path("/run/flannel/subnet.env").exists()
    status, output = host.call(processes.run, argv=["hostname"], seconds=60)
    assert (status, output) == (0, "alone\n")
    status, listing = host.run(["ls", "/proc"])
    assert status == 0
    assert str(os.getpid()) not in listing.split() or os.getpid() < 20


def test_hosts_of_a_fabric_reach_each_other_and_the_switch(fabric: Fabric) -> None:
    listener = fabric.hosts["n2"].socket(socket.AF_INET, socket.SOCK_STREAM)
    client = fabric.hosts["n1"].socket(socket.AF_INET, socket.SOCK_STREAM)
    with listener, client:
        listener.bind(("", 7))
        listener.listen()
        client.settimeout(60)
        client.connect((fabric.address("n2"), 7))
        accepted, (peer, _) = listener.accept()
        accepted.close()
    assert peer == fabric.address("n1") == "198.18.0.11"


def test_links_have_the_mtu_and_the_offloads_asked_for(fabric: Fabric) -> None:
    n1 = fabric.hosts["n1"]
    eth0 = next(link for link in n1.call(links.links) if link["name"] == "eth0")
    assert (eth0["mtu"], eth0["up"]) == (1400, True)
    assert not any(n1.call(links.segmentation, name="eth0").values())
    n1.call(links.set_segmentation, name="eth0", on=True)
    assert all(n1.call(links.segmentation, name="eth0").values())


def test_a_process_has_a_log_a_cpu_clock_and_an_exit_status(host: Host) -> None:
    process = host.popen(SLEEP, log="sleep.log")
    eventually(lambda: process.log() == "up\n")
    assert process.poll() is None
    assert 0 < process.cpu_seconds() < 60
    assert process.stop() == -signal.SIGTERM


def test_a_process_can_be_kept_on_some_cpus(host: Host) -> None:
    process = host.popen(SLEEP)
    last = max(os.sched_getaffinity(0))
    process.run_on({last})
    status = str(host.call(files.read_text, path=f"/proc/{process.pid}/status"))
    assert f"Cpus_allowed_list:\t{last}\n" in status


def test_a_process_that_ignores_sigterm_is_killed(host: Host) -> None:
    process = host.popen(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"])
    eventually(lambda: process.log() == "up\n")
    assert process.stop(seconds=0.1) == -signal.SIGKILL


def test_stdio_can_be_ours(host: Host) -> None:
    reader, writer = os.pipe()
    with open(os.devnull) as nothing:
        process = host.popen(["echo", "through"], stdio=(nothing.fileno(), writer, writer))
    os.close(writer)
    with os.fdopen(reader) as output:
        assert output.read() == "through\n"
    assert process.wait(10) == 0


def test_a_refusal_of_the_kernel_names_the_host_and_keeps_its_errno(host: Host) -> None:
    host.call(links.add_bridge, name="cni0")
    with pytest.raises(KernelError, match=r"alone.*exists") as caught:
        host.call(links.add_bridge, name="cni0")
    assert caught.value.errno == 17


@pytest.mark.parametrize("action", [os.system, links._index, cpus.sides, Host])
def test_only_offered_actions_can_be_called(host: Host, action: Callable[..., Any]) -> None:
    with pytest.raises(LabError, match="no action"):
        host.call(action)


def test_a_long_action_does_not_hold_up_others(host: Host) -> None:
    process = host.popen(SLEEP)
    slow = host.start_call(processes.wait, pid=process.pid, seconds=60)
    assert host.call(files.exists, path="/run/log")
    assert not slow.done()
    process.signal(signal.SIGKILL)
    assert slow.result(30) == -signal.SIGKILL


def test_closing_a_host_ends_what_runs_in_it_and_fails_what_waits() -> None:
    marker = f"marker-{os.getpid()}-close"
    host = Host("closing")
    host.popen([*SLEEP, marker])
    # A session and a parent of its own do not save a process from its namespace's end.
    sleeper = f"{sys.executable} -c 'import time; time.sleep(600)' {marker}"
    host.run(["sh", "-c", f"setsid {sleeper} >/dev/null 2>&1 &"])
    eventually(lambda: len(pids_with(marker)) >= 2)
    waiting = host.start_call(processes.wait, pid=2, seconds=60)
    host.close()
    host.close()
    assert pids_with(marker) == []
    with pytest.raises(LabError):
        waiting.result(10)
    with pytest.raises(LabError, match="gone"):
        host.call(files.exists, path="/")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_survives_the_process_that_made_a_host(number: signal.Signals) -> None:
    marker = f"marker-{os.getpid()}-{number.name}"
    script = (
        "import signal, sys\n"
        "from udpoverlay.lab.hosts import Fabric\n"
        "fabric = Fabric(['n1', 'n2'])\n"
        f"fabric.hosts['n1'].popen({SLEEP!r} + [{marker!r}])\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == b"ready\n"
    eventually(lambda: len(pids_with(marker)) >= 1)
    parent.send_signal(number)
    parent.wait(30)
    eventually(lambda: pids_with(marker) == [])


@pytest.mark.etcd
def test_an_etcd_keeps_its_keys_over_a_restart(fabric: Fabric) -> None:
    etcd = Etcd(fabric.switch, Fabric.GATEWAY)
    etcd.put("/coreos.com/network/config", '{"Network": "10.244.0.0/16"}')
    etcd.put("/coreos.com/network/subnets/a", "1")
    etcd.delete("/coreos.com/network/subnets/a")
    etcd.stop()
    etcd.start()
    assert etcd.read("/coreos.com/network/") == {
        "/coreos.com/network/config": '{"Network": "10.244.0.0/16"}'
    }
    etcd.stop()


def test_daemon_settings_of_the_shell_do_not_reach_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = ("FLANNELD_IFACE", "UDPOVERLAY_PER_PACKET", "ETCD_NAME")
    for name in (*foreign, "LAB_TEST_KEPT"):
        monkeypatch.setenv(name, "set")
    with Host("clean") as host:
        _, output = host.run(["env"])
    names = {line.partition("=")[0] for line in output.splitlines()}
    assert not names & set(foreign)
    assert "LAB_TEST_KEPT" in names


def test_bridge_keeps_its_address_when_a_lower_port_joins(host: Host) -> None:
    def address() -> str:
        return str(next(link["mac"] for link in host.call(links.links) if link["name"] == "br0"))

    host.call(links.add_bridge, name="br0")
    before = address()
    lower = ["address", "02:00:00:00:00:01"]
    assert host.run(["ip", "link", "add", "low0", *lower, "type", "veth"]) == (0, "")
    host.call(links.set_link, name="low0", master="br0")
    assert address() == before > "02:00:00:00:00:01"
