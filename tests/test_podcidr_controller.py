"""The podCIDR controller against the API double and a real kube-apiserver, also as processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from netaddr import IPNetwork

from tests.support.etcd import free_port
from tests.support.kubeapi.rbac import Rule
from tests.support.kubecluster import MERGE, NODES, Cluster, Kube, until
from udpoverlay.model.config import KubeConfigSource
from udpoverlay.model.podcidr import Pool, pools_of
from udpoverlay.registry.kube_client import KubeClient
from udpoverlay.registry.kube_config import load_access
from udpoverlay.registry.kube_own import Times
from udpoverlay.registry.podcidr import PodCidrController
from udpoverlay.registry.podcidr_election import PENDING, ElectionPeriods, Leadership

CONTROLLER_RULES = (
    Rule(("get", "list", "watch", "patch"), ("nodes",)),
    Rule(("create",), ("leases",), (), ("kube-system",)),
    Rule(("get", "update"), ("leases",), ("podcidr",), ("kube-system",)),
)
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/podcidr"
PERIODS = ElectionPeriods(duration=1.0, renew_deadline=0.7, retry=0.05)
V4 = pools_of(["10.244.0.0/16"])
DUAL = pools_of(["10.244.0.0/16", "fd00:10::/48"])
PROGRAM = [
    sys.executable,
    "-c",
    "import sys; from udpoverlay.cli.main import udpoverlay; sys.exit(udpoverlay())",
]


async def source(cluster: Cluster, rules: Sequence[Rule] = CONTROLLER_RULES) -> KubeConfigSource:
    token, _ = await cluster.user(rules)
    return KubeConfigSource(kubeconfig_file=str(cluster.kubeconfig(token, f"config-{token}")))


@asynccontextmanager
async def controller(
    cluster: Cluster,
    pools: Sequence[Pool] = V4,
    *,
    identity: str = "a",
    taints: Sequence[str] = (),
    access: KubeConfigSource | None = None,
) -> AsyncIterator[PodCidrController]:
    client = KubeClient(load_access(access or await source(cluster)))
    leadership = Leadership(
        client,
        namespace="kube-system",
        name="podcidr",
        identity=identity,
        periods=PERIODS,
        times=Times(),
    )
    replica = PodCidrController(client, leadership, pools, taints, Times())
    task = asyncio.ensure_future(replica.run())
    try:
        yield replica
        assert not task.done() or task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await client.aclose()


async def ranges(cluster: Cluster) -> dict[str, list[str]]:
    nodes = (await cluster.ok("GET", NODES))["items"]
    return {node["metadata"]["name"]: node["spec"].get("podCIDRs", []) for node in nodes}


async def served(cluster: Cluster, *names: str) -> dict[str, list[str]]:
    """Wait until the Nodes `names` have a range; all ranges."""

    async def done() -> bool:
        found = await ranges(cluster)
        return all(found.get(name) for name in names)

    await until(done, f"{names} have ranges")
    found = await ranges(cluster)
    assert_disjoint(found)
    return found


def assert_disjoint(found: dict[str, list[str]]) -> None:
    networks = [IPNetwork(cidr) for cidrs in found.values() for cidr in cidrs]
    for index, one in enumerate(networks):
        for other in networks[index + 1 :]:
            assert one not in other, found
            assert other not in one, found


async def leader(replica: PodCidrController) -> None:
    await until(lambda: replica.status()["nodes"] is not None, "it leads")


def test_every_node_gets_a_range_of_its_own(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        async with controller(cluster):
            await cluster.node("n2")
            await cluster.node("n3")
            found = await served(cluster, "n1", "n2", "n3")
        assert sorted(cidr for cidrs in found.values() for cidr in cidrs) == [
            "10.244.0.0/24",
            "10.244.1.0/24",
            "10.244.2.0/24",
        ]
        assert (await cluster.get_node("n1"))["spec"]["podCIDR"] == found["n1"][0]

    kube(scenario)


def test_two_families_give_two_ranges_in_the_order_of_the_flag(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        async with controller(cluster, DUAL):
            found = await served(cluster, "n1")
        assert found == {"n1": ["10.244.0.0/24", "fd00:10::/64"]}

    kube(scenario)


def test_what_nodes_have_is_adopted(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("a", "10.244.0.0/24")
        await cluster.node("b", "10.244.1.128/25")
        await cluster.node("c", "10.99.0.0/24")
        async with controller(cluster) as replica:
            await cluster.node("d")
            found = await served(cluster, "d")
            assert found["d"] == ["10.244.2.0/24"]
            assert replica.status()["findings"] == [
                "Node c: 10.99.0.0/24 lies outside --cluster-cidr, it is kept"
            ]

    kube(scenario)


def test_a_deleted_node_frees_its_range_for_one_that_got_none(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        async with controller(cluster, pools_of(["10.9.0.0/29"], 30)) as replica:
            for name in ("n1", "n2"):
                await cluster.node(name)
            found = await served(cluster, "n1", "n2")
            await cluster.node("n3")
            await until(lambda: replica.status()["starved"] == ["n3"], "n3 gets nothing")
            await cluster.delete_node("n1")
            again = await served(cluster, "n3")
            assert again["n3"] == found["n1"]
            assert replica.status()["starved"] == []

    kube(scenario)


def test_a_restart_changes_nothing_and_goes_on(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        async with controller(cluster, identity="a"):
            before = await served(cluster, "n1")
        lease = await cluster.ok("GET", LEASE)
        assert not lease["spec"].get("holderIdentity")
        await cluster.node("n2")
        async with controller(cluster, identity="b"):
            after = await served(cluster, "n1", "n2")
        assert after["n1"] == before["n1"]

    kube(scenario)


def test_taints_are_removed_once_the_node_has_its_range(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        no_network = {"key": "example.com/no-network", "effect": "NoSchedule"}
        other = {"key": "example.com/other", "effect": "NoSchedule"}
        await cluster.node("n1", taints=[no_network, other])
        await cluster.node("n2", "10.244.7.0/24", taints=[no_network])
        full = pools_of(["10.9.0.0/30"], 30)
        async with controller(cluster, taints=["example.com/no-network"]):

            async def clean() -> bool:
                items = (await cluster.ok("GET", NODES))["items"]
                keys = [t["key"] for node in items for t in node["spec"].get("taints", [])]
                return "example.com/no-network" not in keys and "example.com/other" in keys

            await until(clean, "taints are gone")
            assert (await ranges(cluster))["n1"] == ["10.244.0.0/24"]
        for name in ("n1", "n2"):
            await cluster.delete_node(name)
        await cluster.node("n3", "10.9.0.0/30")
        async with controller(cluster, full, identity="b", taints=[no_network["key"]]) as replica:
            await leader(replica)
            await cluster.node("n4", taints=[no_network])
            await until(lambda: replica.status()["starved"] == ["n4"], "n4 gets nothing")
            node = await cluster.get_node("n4")
            assert no_network in node["spec"]["taints"]

    kube(scenario)


def test_only_one_of_two_replicas_acts(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        async with (
            controller(cluster, identity="a") as a,
            controller(cluster, identity="b") as b,
        ):
            await until(lambda: a.status()["leader"] or b.status()["leader"], "one leads")
            for index in range(5):
                await cluster.node(f"n{index}")
            await served(cluster, *(f"n{index}" for index in range(5)))
            await until(lambda: a.status()["leader"] != b.status()["leader"], "one leads alone")
            await until(lambda: a.healthy() and b.healthy(), "both are healthy")

    kube(scenario)


def test_missing_rights_are_named_and_waited_for(
    kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        rules = (
            Rule(("get", "list", "watch"), ("nodes",)),
            *CONTROLLER_RULES[1:],
        )
        token, name = await cluster.user(rules)
        access = KubeConfigSource(kubeconfig_file=str(cluster.kubeconfig(token)))
        async with controller(cluster, access=access):

            def said() -> bool:
                whys = [getattr(r, "fields", {}).get("why", "") for r in caplog.records]
                return any(
                    f"{name} may not: patch nodes" in why and "kubectl create clusterrole" in why
                    for why in whys
                )

            with caplog.at_level("INFO"):
                await until(said, "the right is named")
            await cluster.grant(name, CONTROLLER_RULES)
            await served(cluster, "n1")

    kube(scenario)


def test_a_restart_of_the_api_server_is_survived(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        async with controller(cluster):
            await cluster.node("n1")
            await served(cluster, "n1")
            await cluster.restart()
            await cluster.node("n2")
            await served(cluster, "n1", "n2")

    kube(scenario)


# ---------------------------------------------------------------------- races


def writes_of(cluster: Cluster, user: str) -> Callable[[Any], bool]:
    return lambda call: call.user == user and call.verb == "patch"


def test_a_stopped_leader_cannot_give_a_range_twice(double: Kube) -> None:
    """It promised a range and was stopped before the write; its successor keeps the promise."""

    async def scenario(cluster: Cluster) -> None:
        api = cluster.api
        old, new = await source(cluster), await source(cluster)
        stopped_write = api.faults.hold(writes_of(cluster, "tester-0"))
        async with controller(cluster, identity="old", access=old) as first:
            await cluster.node("n1")

            def promised() -> bool:
                key = ("leases", "kube-system", "podcidr")
                return "n1" in api.store.objects[key]["metadata"].get("annotations", {}).get(
                    PENDING, ""
                )

            await leader(first)
            await until(promised, "n1 is promised a range")
            stopped_all = api.faults.hold(lambda call: call.user == "tester-0")
            async with controller(cluster, identity="new", access=new) as second:
                await leader(second)
                await cluster.node("n2")
                found = await served(cluster, "n1", "n2")
                assert found["n1"] == ["10.244.0.0/24"]
                stopped_all.set()
                stopped_write.set()
                await until(lambda: not first.status()["leader"], "the old one gives up")
                await cluster.node("n3")
                await served(cluster, "n1", "n2", "n3")

    double(scenario)


def test_a_promise_to_a_node_made_anew_is_void(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        api = cluster.api
        stopped = api.faults.hold(lambda call: call.user != "admin" and call.verb == "patch")
        async with controller(cluster, identity="a") as first:
            await leader(first)
            await cluster.node("n1")
            await until(
                lambda: any(c.verb == "patch" and c.user != "admin" for c in api.calls), "a write"
            )
            await cluster.delete_node("n1")
            await cluster.node("n0", "10.244.0.0/24")
            await cluster.node("n1")
            stopped.set()
            found = await served(cluster, "n0", "n1")
            assert found["n1"] == ["10.244.1.0/24"]

    double(scenario)


def test_a_range_that_somebody_else_gave_meanwhile_is_kept(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        api = cluster.api
        stopped = api.faults.hold(lambda call: call.user != "admin" and call.verb == "patch")
        async with controller(cluster) as replica:
            await leader(replica)
            await cluster.node("n1")
            await until(
                lambda: any(c.verb == "patch" and c.user != "admin" for c in api.calls), "a write"
            )
            patch = {"spec": {"podCIDR": "10.244.9.0/24", "podCIDRs": ["10.244.9.0/24"]}}
            await cluster.ok("PATCH", f"{NODES}/n1", patch, content_type=MERGE)
            stopped.set()
            await cluster.node("n2")
            found = await served(cluster, "n1", "n2")
            assert found == {"n1": ["10.244.9.0/24"], "n2": ["10.244.1.0/24"]}

    double(scenario)


def test_a_write_whose_answer_was_lost_is_found_again(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        api = cluster.api
        async with controller(cluster) as replica:
            await leader(replica)
            api.faults.refuse(500, lambda c: c.user != "admin" and c.verb == "patch", times=2)
            await cluster.node("n1")
            await cluster.node("n2")
            await served(cluster, "n1", "n2")

    double(scenario)


def test_a_restored_api_server_gives_a_node_its_own_range_again(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        api = cluster.api
        async with controller(cluster) as replica:
            await leader(replica)
            await cluster.node("n1")
            await until(lambda: replica.status()["nodes"] == 1, "n1 is known")
            backup = api.store.backup()
            before = await served(cluster, "n1")
            api.store.revision += 1000  # a busy cluster went on after the backup
            await cluster.node("n2")
            await served(cluster, "n2")
            await api.stop()
            restored = backup.without_range("n1")
            api.store = restored
            await api.start()
            await cluster.node("n3")
            found = await served(cluster, "n1", "n3")
            assert found["n1"] == before["n1"]

    double(scenario)


def test_a_thousand_nodes_are_served_in_batches(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        pools = pools_of(["10.240.0.0/12"], 24)
        for index in range(250):
            await cluster.api.store.create(
                ("nodes", "", f"n{index}"), {"metadata": {}, "spec": {}, "status": {}}
            )
        async with controller(cluster, pools):
            await served(cluster, *(f"n{index}" for index in range(250)))
        leases = [c for c in cluster.api.calls if c.resource == "leases" and c.verb == "update"]
        promises = [c for c in leases if c.body["metadata"].get("annotations")]
        most = max(len(json.loads(c.body["metadata"]["annotations"][PENDING])) for c in promises)
        assert most == 100

    double(scenario)


# ---------------------------------------------------------------------- processes


@asynccontextmanager
async def process(*flags: str) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        *PROGRAM, "podcidr-controller", *flags, stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def status_of(port: int) -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except OSError:
            return {}

    return await asyncio.get_running_loop().run_in_executor(None, ask)


def test_ten_nodes_get_disjoint_ranges_while_the_leading_of_two_replicas_is_killed(
    kube: Kube,
) -> None:
    async def scenario(cluster: Cluster) -> None:
        token, _ = await cluster.user(CONTROLLER_RULES)
        config = cluster.kubeconfig(token)
        ports = [free_port(), free_port()]
        flags = [
            f"--kubeconfig={config}",
            "--cluster-cidr=10.244.0.0/20",
            "--lease-name=podcidr",
            "--lease-duration=3",
            "--renew-deadline=2",
            "--retry-period=0.3",
            "--healthz-ip=127.0.0.1",
        ]
        async with (
            process(*flags, f"--healthz-port={ports[0]}") as one,
            process(*flags, f"--healthz-port={ports[1]}") as two,
        ):
            leads: list[bool] = []

            async def one_leads() -> bool:
                leads[:] = [
                    bool((await status_of(port)).get("nodes") is not None) for port in ports
                ]
                return any(leads)

            await until(one_leads, "one leads")
            for index in range(5):
                await cluster.node(f"n{index}")
            await served(cluster, "n0")
            [dead, alive] = [one, two] if leads[0] else [two, one]
            os.kill(dead.pid, signal.SIGKILL)
            for index in range(5, 10):
                await cluster.node(f"n{index}")
            found = await served(cluster, *(f"n{index}" for index in range(10)))
            assert len(found) == 10
            assert {str(IPNetwork(cidrs[0]).supernet(20)[0]) for cidrs in found.values()} == {
                "10.244.0.0/20"
            }
            alive.send_signal(signal.SIGTERM)
            assert await alive.wait() == 0
        # One that starts now finds all as it is, and says so.
        async with process(*flags, "--check", "--json") as checking:
            out, _ = await checking.communicate()
            facts = json.loads(out)
            assert checking.returncode == 0
            assert facts["free"] == {"10.244.0.0/20": 6}
            assert facts["without_pod_cidr"] == []

    kube(scenario)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        ([], 1, "--cluster-cidr is missing"),
        (["--cluster-cidr=10.0.0.0/16", "--kubeconfig=/nowhere"], 1, "kubeconfig /nowhere"),
        (["--cluster-cidr=10.0.0.0/16", "--retry-period=20"], 1, "--retry-period 20"),
        (["--cluster-cidr=10.0.0.0/16", "--node-cidr-mask-size=x"], 2, "invalid int value"),
        (["--cluster-cidr=10.0.0.0/16", "--healthz-port=70000"], 1, "--healthz-port 70000"),
        (["--nonsense"], 2, "unrecognized arguments"),
    ],
)
def test_a_wrong_flag_ends_it_with_one_line(flags: list[str], code: int, words: str) -> None:
    async def scenario() -> None:
        async with process(*flags) as started:
            _, err = await started.communicate()
            assert started.returncode == code
            assert words in err.decode().splitlines()[-1]

    asyncio.run(scenario())


def test_a_port_in_use_is_named(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        config = cluster.kubeconfig(cluster.admin_token)
        async with process(
            f"--kubeconfig={config}",
            "--cluster-cidr=10.0.0.0/16",
            "--healthz-ip=127.0.0.1",
            f"--healthz-port={cluster.api.port}",
        ) as started:
            _, err = await started.communicate()
            assert started.returncode == 1
            assert f"--healthz-port {cluster.api.port}" in err.decode()

    double(scenario)


def test_check_prints_what_is_odd_and_fails(double: Kube, tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.99.0.0/24")
        await cluster.node("n2")
        config = cluster.kubeconfig(cluster.admin_token)
        flags = [f"--kubeconfig={config}", "--cluster-cidr=10.244.0.0/16", "--check"]
        async with process(*flags) as started:
            out, _ = await started.communicate()
            assert started.returncode == 1
            text = out.decode()
            assert "without a podCIDR   n2" in text
            assert "Node n1: 10.99.0.0/24 lies outside --cluster-cidr" in text
        assert (await ranges(cluster))["n2"] == []

    double(scenario)
