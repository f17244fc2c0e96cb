"""doctor/checks/registry.py against a real etcd: reachable, configured, writable, untouched."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.support.aio import at_end, in_thread
from tests.support.etcd import EtcdServer, free_port, running
from tests.support.network import EtcdNetwork
from tests.support.patient import levels
from udpoverlay.doctor.base import Finding
from udpoverlay.doctor.checks.registry import CHECK
from udpoverlay.doctor.patient import Patient
from udpoverlay.doctor.runner import examine
from udpoverlay.model.config import DaemonConfig, EtcdConfig, KubeConfigSource

pytestmark = pytest.mark.etcd


async def found(network: EtcdNetwork, *endpoints: str, **config: str) -> list[Finding]:
    etcd = EtcdConfig(endpoints=endpoints or (network.server.url,), prefix=network.prefix, **config)
    return await of(DaemonConfig(etcd=etcd))


async def of(config: DaemonConfig) -> list[Finding]:
    patient = Patient(config)
    at_end(patient.aclose)
    (report,) = await examine(patient, [CHECK])
    return list(report.findings)


async def test_registry_that_is_well_is_left_as_it_was(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    network.claim("10.5.2.0/24", "192.0.2.2")
    before = server.revision()
    findings = await found(network)
    assert levels(findings) == ["ok"] * 4
    assert "10.5.0.0/16, udp on port 8285" in findings[1].fact
    assert findings[2].fact == "leases: 1"
    assert await in_thread(server.revision) == before
    assert await in_thread(network.entries) == ["10.5.2.0-24"]


async def test_no_etcd_at_all_is_a_failure(server: EtcdServer) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    findings = await found(EtcdNetwork(server), nowhere)
    assert levels(findings) == ["failure"]
    assert nowhere in findings[0].fact


async def test_one_dead_endpoint_of_two_is_a_warning(server: EtcdServer) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    findings = await found(EtcdNetwork(server), nowhere, server.url)
    assert levels(findings) == ["warning", "ok", "ok", "ok", "ok"]


async def test_missing_configuration_is_a_failure_with_the_command(server: EtcdServer) -> None:
    findings = await found(EtcdNetwork(server, prefix="/test/nothing-here"))
    assert levels(findings) == ["ok", "failure"]
    assert "etcdctl put /test/nothing-here/config" in findings[1].fix


@pytest.mark.parametrize(
    ("conf", "word"),
    [
        ({"Network": "10.5.0.0/16", "SubnetLen": 40}, "SubnetLen"),
        ({"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}, "'vxlan'"),
    ],
)
async def test_configuration_that_the_daemon_refuses_is_a_failure(
    server: EtcdServer, conf: dict[str, Any], word: str
) -> None:
    findings = await found(EtcdNetwork(server, **conf))
    assert levels(findings)[-1] == "failure"
    assert word in findings[-1].fact


async def test_entries_that_are_no_leases_are_a_warning(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    network.claim("10.5.2.0/24", "192.0.2.2")
    server.put(network.key("10.5.3.0/24"), "{")
    findings = await found(network)
    assert levels(findings) == ["ok", "ok", "warning", "ok"]
    assert findings[2].fact.startswith("1 entries")


async def test_full_etcd_is_a_failure(tmp_path: Path) -> None:
    """It takes no put, and answers everything else."""
    with running(tmp_path, flags=["--quota-backend-bytes=100000"]) as full:
        network = EtcdNetwork(full)
        with contextlib.suppress(OSError):
            for number in range(100):
                full.put(f"/filling/{number}", "x" * 50_000)
        findings = await found(network)
        assert levels(findings) == ["ok", "ok", "ok", "failure"]
        assert "disarm" in findings[3].fix


async def test_user_who_may_read_alone_is_a_failure(tmp_path: Path) -> None:
    with running(tmp_path) as secured:
        network = EtcdNetwork(secured)
        for words in (
            ("user", "add", "root:secret"),
            ("user", "grant-role", "root", "root"),
            ("role", "add", "reader"),
            ("role", "grant-permission", "reader", "read", "--prefix=true", network.prefix),
            ("role", "add", "writer"),
            ("role", "grant-permission", "writer", "readwrite", "--prefix=true", network.prefix),
            ("user", "add", "reader:secret"),
            ("user", "grant-role", "reader", "reader"),
            ("user", "add", "writer:secret"),
            ("user", "grant-role", "writer", "writer"),
            ("auth", "enable"),
        ):
            secured.etcdctl(*words)
        findings = await found(network, username="reader", password="secret")
        assert levels(findings) == ["ok", "ok", "ok", "failure"]
        assert f"{network.prefix}/subnets/10.5.1.0-24" in findings[3].fact
        assert "etcdctl role grant-permission" in findings[3].fix
        assert levels(await found(network, username="writer", password="secret")) == ["ok"] * 4
        wrong = await found(network, username="writer", password="guessed")
        assert "failure" in levels(wrong)
        assert not any("guessed" in each.fact + each.fix for each in wrong)


async def test_settings_that_cannot_be_used_are_a_failure(tmp_path: Path) -> None:
    config = DaemonConfig(etcd=EtcdConfig(endpoints=("ftp://127.0.0.1",)))
    findings = await of(config)
    assert levels(findings) == ["failure"]
    assert "etcd-endpoints" in findings[0].fact


async def test_missing_net_conf_is_a_failure(tmp_path: Path) -> None:
    kube = KubeConfigSource(
        api_url="http://127.0.0.1:1", net_config_path=str(tmp_path / "net-conf.json")
    )
    findings = await of(DaemonConfig(kube_subnet_mgr=True, kube=kube))
    assert levels(findings) == ["failure"]
    assert "net-conf.json" in findings[0].fact
