"""doctor/patient.py: what is read is bounded, what is learned is learned once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from netaddr import IPNetwork

from tests.support.aio import at_end
from tests.support.patient import NETCONF, STATUS, UNKNOWN, patient
from udpoverlay.doctor import patient as patient_module
from udpoverlay.doctor.patient import Patient
from udpoverlay.errors import RegistryUnavailable
from udpoverlay.model.config import DaemonConfig
from udpoverlay.model.netconf import NetConf
from udpoverlay.observe.admin import AdminServer


class Registry:
    """Answers with a configuration, or never; counts how often it is asked."""

    def __init__(self, *, answers: bool = True) -> None:
        self.asked = 0
        self.answers = answers

    async def netconf(self) -> NetConf:
        self.asked += 1
        if not self.answers:
            await asyncio.Event().wait()
        return NETCONF


async def test_registry_is_asked_once(tmp_path: Path) -> None:
    registry = Registry()
    here = Patient(DaemonConfig(), tmp_path, learned={"side": registry})
    for _ in range(3):
        assert await here.netconf() is NETCONF
    assert registry.asked == 1


async def test_registry_that_hangs_costs_its_time_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient_module, "LEARN_SECONDS", 0.05)
    registry = Registry(answers=False)
    here = Patient(DaemonConfig(), tmp_path, learned={"side": registry})
    for _ in range(2):
        with pytest.raises(RegistryUnavailable, match=r"0\.05 s"):
            await here.netconf()
    assert await here.known(here.netconf) is None
    assert registry.asked == 1


async def test_network_comes_from_configuration_daemon_or_subnet_file(tmp_path: Path) -> None:
    file = {"/run/flannel/subnet.env": "FLANNEL_NETWORK=10.7.0.0/16\n"}
    status = {**STATUS, "node": {**STATUS["node"], "network": "10.6.0.0/16"}}
    assert await patient(tmp_path, file, status=status).network() == NETCONF.network
    assert await patient(tmp_path, netconf=None, status=status).network() == IPNetwork(
        "10.6.0.0/16"
    )
    assert await patient(tmp_path, netconf=None).network() == IPNetwork("10.7.0.0/16")
    assert await patient(tmp_path / "empty", netconf=None).network() is None


@pytest.mark.parametrize(("status", "port"), [(None, 8285), ({"node": {"port": 9999}}, 9999)])
async def test_port_of_the_daemon_counts_without_a_configuration(
    tmp_path: Path, status: dict[str, object] | None, port: int
) -> None:
    assert await patient(tmp_path, netconf=None, status=status).port() == port


async def test_daemon_tells_its_status_and_peers(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    server = AdminServer(
        path,
        {
            "/v1/status": lambda: STATUS,
            "/v1/peers": lambda: {"schema": 1, "peers": [{"subnet": "10.5.2.0/24"}]},
        },
    )
    await server.start()
    at_end(server.stop)
    here = Patient(DaemonConfig(admin_socket=path))
    assert await here.status() == STATUS
    assert await here.daemon_peers() == [{"subnet": "10.5.2.0/24"}]
    assert await here.tunnel() == "flannel0"


async def test_no_daemon_is_no_error(tmp_path: Path) -> None:
    for path in ("", str(tmp_path / "none.sock"), str(tmp_path)):
        here = Patient(DaemonConfig(admin_socket=path))
        assert await here.status() is None
        assert await here.daemon_peers() == ()


async def test_socket_of_something_else_is_no_daemon(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    said = [b"", b"HTTP/1.1 403 Forbidden\r\n\r\n{}", b"HTTP/1.1 200 OK\r\n\r\n[]", b"\xff" * 99]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said.pop())
        writer.close()

    async with await asyncio.start_unix_server(answer, path):
        for _ in range(len(said)):
            assert await Patient(DaemonConfig(admin_socket=path)).status() is None


def test_files_are_read_whole_and_settings_too(tmp_path: Path) -> None:
    """The kernel refuses to make 4 MB of a setting at once; an index of modules has a megabyte."""
    (tmp_path / "large").write_text("x" * 3_000_000 + "end")
    here = Patient(DaemonConfig(), tmp_path)
    assert (here.read("/large") or "").endswith("xend")
    assert here.read("/nothing") is None
    assert Patient(DaemonConfig()).sysctl("net/ipv4/ip_forward") in {"0", "1"}
    assert here.names("/nothing") == []


def test_devices_are_told_apart_by_kind(tmp_path: Path) -> None:
    files = {
        "/sys/class/net/flannel.1/uevent": "DEVTYPE=vxlan\nINTERFACE=flannel.1\n",
        "/sys/class/net/vxlan9/uevent": "INTERFACE=vxlan9\n",
        "/sys/class/net/eth0/mtu": "1500\n",
    }
    here = patient(tmp_path, files)
    assert here.devices("vxlan") == ["flannel.1"]
    assert here.devices() == ["eth0", "flannel.1", "vxlan9"]
    assert here.mtu("eth0") == 1500
    assert here.mtu("eth9") is None


async def test_program_that_hangs_or_fails_prints_nothing(tmp_path: Path) -> None:
    here = patient(tmp_path, netconf=UNKNOWN)
    assert await here.output(["echo", "yes"]) == "yes\n"
    assert await here.output(["false"]) is None
    assert await here.output(["sleep", "100"], seconds=0.05) is None
    assert await here.output(["/nothing/here"]) is None
