"""`udpoverlay podcidr-controller` as a program: replicas, flags, its port, --check."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from netaddr import IPNetwork

from tests.support.etcd import free_port
from tests.support.kubecluster import Kube, until
from tests.support.podcidr import (
    CONTROLLER_RULES,
    ranges,
    served,
)

PROGRAM = [
    sys.executable,
    "-c",
    "import sys; from udpoverlay.cli.entry import udpoverlay; sys.exit(udpoverlay())",
]


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


async def test_ten_nodes_get_disjoint_ranges_while_the_leader_is_killed(
    kube: Kube,
) -> None:
    token, _ = await kube.user(CONTROLLER_RULES)
    config = kube.kubeconfig(token)
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
            leads[:] = [bool((await status_of(port)).get("nodes") is not None) for port in ports]
            return any(leads)

        await until(one_leads, "one leads")
        for index in range(5):
            await kube.node(f"n{index}")
        await served(kube, "n0")
        [dead, alive] = [one, two] if leads[0] else [two, one]
        os.kill(dead.pid, signal.SIGKILL)
        for index in range(5, 10):
            await kube.node(f"n{index}")
        found = await served(kube, *(f"n{index}" for index in range(10)))
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
async def test_a_wrong_flag_ends_it_with_one_line(flags: list[str], code: int, words: str) -> None:
    async with process(*flags) as started:
        _, err = await started.communicate()
        assert started.returncode == code
        assert words in err.decode().splitlines()[-1]


async def test_a_port_in_use_is_named(double: Kube) -> None:
    config = double.kubeconfig(double.admin_token)
    async with process(
        f"--kubeconfig={config}",
        "--cluster-cidr=10.0.0.0/16",
        "--healthz-ip=127.0.0.1",
        f"--healthz-port={double.api.port}",
    ) as started:
        _, err = await started.communicate()
        assert started.returncode == 1
        assert f"--healthz-port {double.api.port}" in err.decode()


async def test_check_prints_what_is_odd_and_fails(double: Kube, tmp_path: Path) -> None:
    await double.node("n1", "10.99.0.0/24")
    await double.node("n2")
    config = double.kubeconfig(double.admin_token)
    flags = [f"--kubeconfig={config}", "--cluster-cidr=10.244.0.0/16", "--check"]
    async with process(*flags) as started:
        out, _ = await started.communicate()
        assert started.returncode == 1
        text = out.decode()
        assert text.splitlines()[:4] == [
            "leader                 none",
            "nodes                  2",
            "without a podCIDR      n2",
            "free in 10.244.0.0/16  256",
        ]
        assert "Node n1: 10.99.0.0/24 lies outside --cluster-cidr" in text
    assert (await ranges(double))["n2"] == []
