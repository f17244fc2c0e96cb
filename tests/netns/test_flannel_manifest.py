"""flannel's own manifest and chart, with our image in place of flannel's, become ready.

The container's command, rights, environment, probes and ConfigMap are what the files say; our
image's commands stand at flannel's paths. Against a real kube-apiserver where there is one, and
against the API double. FLANNEL_SOURCE names a checkout of flannel, for its manifest and its chart;
our own manifest has the same command.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import need
from tests.support.cluster import wait_until
from tests.support.kubecluster import flannel_annotations
from tests.support.kubehosts import KubeHosts
from tests.support.podhost import Object, PodHost
from tests.support.realkube import PORT, RealCluster
from udpoverlay.lab.actions import files
from udpoverlay.lab.hosts import Fabric, Process

pytestmark = [pytest.mark.root, pytest.mark.etcd]

POD, NAMESPACE = "kube-flannel-ds-abcde", "kube-flannel"
OURS = Path(__file__).parents[2] / "deploy"
IMAGE = "registry.example/udpoverlay"
COMMAND = [
    "/opt/bin/flanneld",
    "--ip-masq",
    "--kube-subnet-mgr",
    "--healthz-port=8081",
]
"""Of flannel's manifest and chart, 0.28.9."""


def of_yaml(text: str) -> list[Object]:
    return [each for each in yaml.safe_load_all(text) if each]


def flannels(*parts: str) -> Path:
    source = need.flannel_source()
    if source is None:
        pytest.skip("no flannel checkout: FLANNEL_SOURCE names none")
    return source.joinpath(*parts)


def of_flannels_manifest() -> list[Object]:
    """As downloaded, `set image` done, and the backend set to udp in the ConfigMap."""
    objects = of_yaml(flannels("Documentation", "kube-flannel.yml").read_text())
    [config] = [each["data"] for each in objects if each["kind"] == "ConfigMap"]
    conf = json.loads(config["net-conf.json"])
    config["net-conf.json"] = json.dumps({**conf, "Backend": {"Type": "udp"}})
    return objects


def rendered(chart: Path, *values: str) -> list[Object]:
    if shutil.which("helm") is None:
        pytest.skip("no helm on PATH")
    words = ["helm", "template", "flannel", str(chart), "-n", NAMESPACE]
    words += [word for value in values for word in ("--set", value)]
    return of_yaml(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def of_flannels_chart() -> list[Object]:
    chart = flannels("chart", "kube-flannel")
    objects = rendered(chart, f"flannel.image.repository={IMAGE}", "flannel.backend=udp")
    [pod] = [x["spec"]["template"]["spec"] for x in objects if x["kind"] == "DaemonSet"]
    images = {each["name"]: each["image"] for each in (*pod["initContainers"], *pod["containers"])}
    assert images["kube-flannel"].startswith(f"{IMAGE}:")
    assert images["install-cni"].startswith(f"{IMAGE}:")
    assert not images["install-cni-plugin"].startswith(IMAGE)
    return objects


def of_our_manifest() -> list[Object]:
    return of_yaml((OURS / "kubernetes" / "udpoverlay.yml").read_text())


SOURCES = {
    "flannels-manifest": of_flannels_manifest,
    "flannels-chart": of_flannels_chart,
    "ours": of_our_manifest,
}


@pytest.fixture(params=SOURCES)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    made = SOURCES[request.param]()
    [pod] = [x["spec"]["template"]["spec"] for x in made if x["kind"] == "DaemonSet"]
    [container] = pod["containers"]
    assert [*container["command"], *container.get("args", [])] == COMMAND
    return made


def becomes_ready(pod: PodHost, daemon: Process) -> None:
    """What the kubelet sees: alive at once, ready in the end."""

    def answers(probe: str, body: str) -> bool:
        assert daemon.poll() is None, daemon.log()
        return pod.probe(probe) == (200, body)

    wait_until(lambda: answers("livenessProbe", "flanneld is running"), "liveness probe")
    wait_until(lambda: answers("readinessProbe", "flanneld is ready"), f"ready: {daemon.log()}")
    env = pod.host.call(files.read_text, path="/run/flannel/subnet.env")
    assert "FLANNEL_SUBNET=10.244.1.1/24\n" in env
    assert "FLANNEL_IPMASQ=true\n" in env
    status, rules = pod.host.run(["iptables-save", "-t", "nat"])
    assert status == 0, rules
    assert "-A FLANNEL-POSTRTG -s 10.244.1.0/24 -d 10.244.0.0/16" in rules
    assert pod.install_conf() == pod.config["cni-conf.json"]


def test_container_becomes_ready_with_the_double(tmp_path: Path, objects: list[Object]) -> None:
    kube = KubeHosts("n1", directory=tmp_path)
    try:
        kube.register("n1", "10.244.1.0/24")
        pod = PodHost(kube.fabric.hosts["n1"], objects)
        where = {"KUBECONFIG": str(kube.kubeconfig), "NODE_NAME": "n1"}
        becomes_ready(pod, pod.start(POD, NAMESPACE, **where))
        assert flannel_annotations(kube.node("n1"))["kube-subnet-manager"] == "true"
    finally:
        kube.fabric.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealCluster]:
    made = RealCluster(tmp_path, pod=POD, namespace=NAMESPACE)
    try:
        yield made
    finally:
        made.fabric.close()


@pytest.mark.kube
@pytest.mark.timeout(400)
def test_container_becomes_ready_in_a_pod_of_a_real_cluster(
    cluster: RealCluster, objects: list[Object]
) -> None:
    """In-cluster configuration, the Node found through the Pod: as the manifest starts it."""
    service = {"KUBERNETES_SERVICE_HOST": Fabric.GATEWAY, "KUBERNETES_SERVICE_PORT": str(PORT)}
    pod = PodHost(cluster.host, objects)
    becomes_ready(pod, pod.start(POD, NAMESPACE, **service))
    node: Any = cluster.ask("GET", "/api/v1/nodes/n1")
    found = flannel_annotations(node)
    assert found["public-ip"] == cluster.fabric.address("n1")
    assert found["backend-type"] == ""
    conditions = {each["type"]: each for each in node["status"].get("conditions", [])}
    assert conditions["NetworkUnavailable"]["status"] == "False"
    assert conditions["NetworkUnavailable"]["reason"] == "FlannelIsUp"
