"""deploy/kubernetes/udpoverlay.yml and the charts: flannel's names, real flags, few rights.

The charts are rendered by a real helm where PATH has one; the manifest is what the chart renders.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.daemonflags import config
from tests.support.kubecluster import Kube
from udpoverlay.cli.podcidr_controller import configure as podcidr_arguments
from udpoverlay.model.netconf import parse_netconf

DEPLOY = Path(__file__).parents[2] / "deploy"
MANIFEST = DEPLOY / "kubernetes" / "udpoverlay.yml"
CHART = DEPLOY / "helm" / "udpoverlay"
PODCIDR = DEPLOY / "helm" / "podcidr-controller"
NAMESPACE = "kube-flannel"

Object = dict[str, Any]
needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="no helm on PATH")


def helm(chart: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["helm", "template", "flannel", str(chart), "-n", NAMESPACE, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(chart: Path, *words: str) -> list[Object]:
    done = helm(chart, *words)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def manifest() -> list[Object]:
    return [each for each in yaml.safe_load_all(MANIFEST.read_text()) if each]


def of_kind(objects: list[Object], kind: str) -> Object:
    [found] = [each for each in objects if each["kind"] == kind]
    return found


def pod(objects: list[Object]) -> Object:
    spec: Object = of_kind(objects, "DaemonSet")["spec"]["template"]["spec"]
    return spec


def container(objects: list[Object]) -> Object:
    [found] = pod(objects)["containers"]
    return dict(found)


def net_conf(objects: list[Object]) -> Any:
    return parse_netconf(of_kind(objects, "ConfigMap")["data"]["net-conf.json"])


def test_container_starts_flanneld_with_flags_that_are_accepted() -> None:
    words = container(manifest())["command"]
    assert words[0] == "/opt/bin/flanneld"
    assert words[1:] == ["--ip-masq", "--kube-subnet-mgr", "--healthz-port=8081"]


def test_names_are_flannels_so_that_either_replaces_the_other() -> None:
    objects = manifest()
    names = {each["kind"]: each["metadata"]["name"] for each in objects}
    assert names == {
        "Namespace": "kube-flannel",
        "ServiceAccount": "flannel",
        "ConfigMap": "kube-flannel-cfg",
        "ClusterRole": "flannel",
        "ClusterRoleBinding": "flannel",
        "DaemonSet": "kube-flannel-ds",
    }
    daemonset = of_kind(objects, "DaemonSet")
    assert daemonset["spec"]["selector"]["matchLabels"] == {"app": "flannel"}


def test_container_has_two_capabilities_and_the_tun_device() -> None:
    found = container(manifest())
    security = found["securityContext"]
    assert security["privileged"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}
    mounts = {each["mountPath"]: each["name"] for each in found["volumeMounts"]}
    volumes = {each["name"]: each for each in pod(manifest())["volumes"]}
    assert volumes[mounts["/dev/net/tun"]]["hostPath"]["type"] == "CharDevice"


def test_every_mount_has_its_volume() -> None:
    spec = pod(manifest())
    volumes = {each["name"] for each in spec["volumes"]}
    for each in (*spec["initContainers"], *spec["containers"]):
        assert {mount["name"] for mount in each["volumeMounts"]} <= volumes


def test_probes_ask_the_health_server() -> None:
    found = container(manifest())
    port = {each["name"]: each["containerPort"] for each in found["ports"]}["healthz"]
    assert f"--healthz-port={port}" in found["command"]
    paths = {
        probe: found[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")
    }
    assert paths == {"livenessProbe": "/healthz", "readinessProbe": "/readyz"}


def test_rights_are_those_of_the_daemon() -> None:
    rules = of_kind(manifest(), "ClusterRole")["rules"]
    assert rules == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]


def test_network_configuration_can_be_read() -> None:
    conf = net_conf(manifest())
    assert (str(conf.network), conf.backend_type) == ("10.244.0.0/16", "udp")


@needs_helm
def test_manifest_is_what_the_chart_renders() -> None:
    assert manifest()[1:] == rendered(CHART)


FLANNELS_VALUES = """\
podCidr: 10.42.0.0/16
podCidrv6: 2001:cafe:42::/56
flannel:
  image: {repository: registry.example/flannel, tag: v1}
  image_cni: {repository: registry.example/cni}
  args: ["--ip-masq", "--kube-subnet-mgr", "--iface=eth1"]
  backend: udp
  backendPort: 9999
  enableNFTables: true
  cniBinDir: /var/lib/cni/bin
  cniConfDir: /var/lib/cni/net.d
  tolerations: [{operator: Exists}]
  nodeSelector: {zone: a}
  healthz: {port: 9000}
  resources: {limits: {memory: 100Mi}}
global:
  imagePullSecrets: [{name: secret}]
"""


@needs_helm
def test_values_of_flannels_chart_are_taken(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(FLANNELS_VALUES)
    objects = rendered(CHART, "-f", str(values))
    spec, found = pod(objects), container(objects)
    assert found["image"] == "registry.example/flannel:v1"
    assert spec["initContainers"][0]["image"].startswith("registry.example/cni:")
    assert found["command"][-2:] == ["--iface=eth1", "--healthz-port=9000"]
    assert found["livenessProbe"]["periodSeconds"] == 30
    assert found["resources"] == {
        "limits": {"memory": "100Mi"},
        "requests": {"cpu": "100m", "memory": "50Mi"},
    }
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["nodeSelector"] == {"zone": "a"}
    assert spec["imagePullSecrets"] == [{"name": "secret"}]
    paths = {each["name"]: each.get("hostPath", {}).get("path") for each in spec["volumes"]}
    assert (paths["cni-plugin"], paths["cni"]) == ("/var/lib/cni/bin", "/var/lib/cni/net.d")
    conf = net_conf(objects)
    assert (str(conf.network), str(conf.ipv6_network)) == ("10.42.0.0/16", "2001:cafe:42::/56")
    assert conf.enable_ipv6
    assert conf.enable_nftables
    assert conf.backend_int("Port", 8285, 1, 65535) == 9999


@needs_helm
def test_health_off_leaves_flag_and_probes_out() -> None:
    found = container(rendered(CHART, "--set", "flannel.healthz.port=0"))
    assert found["command"] == ["/opt/bin/flanneld", "--ip-masq", "--kube-subnet-mgr"]
    assert not {"livenessProbe", "readinessProbe", "ports"} & set(found)


@needs_helm
def test_skipped_cni_configuration_installs_none() -> None:
    spec = pod(rendered(CHART, "--set", "flannel.skipCNIConfigInstallation=true"))
    assert [each["name"] for each in spec["initContainers"]] == ["install-cni-plugin"]


@needs_helm
@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("flannel.backend=wireguard", "flannel.backend"),
        ("netpol.enabled=true", "netpol.enabled"),
        ("podCidr=", "podCidr is empty"),
    ],
)
def test_value_that_cannot_work_is_refused_at_once(value: str, why: str) -> None:
    done = helm(CHART, "--set", value)
    assert done.returncode != 0
    assert why in done.stderr


@needs_helm
def test_podcidr_chart_takes_the_values_of_the_field() -> None:
    words = ["--set", "clusterCIDR=10.244.0.0/16", "--set", "nodeCIDRMaskSize=25"]
    words += ["--set", "removeTaints={example.com/a,example.com/b}"]
    words += ["--set", "tolerations[0].operator=Exists"]
    deployment = of_kind(rendered(PODCIDR, *words), "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    parser = argparse.ArgumentParser()
    podcidr_arguments(parser)
    args = parser.parse_args(spec["containers"][0]["args"])
    assert args.lease_namespace == NAMESPACE
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert "--remove-taints=example.com/a,example.com/b" in spec["containers"][0]["args"]


@needs_helm
def test_podcidr_chart_without_a_range_is_refused() -> None:
    done = helm(PODCIDR)
    assert done.returncode != 0
    assert "clusterCIDR is empty" in done.stderr


_PATHS = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
}


@pytest.mark.kube
@pytest.mark.parametrize("kube", ["real"], indirect=True)
@pytest.mark.parametrize("what", ["manifest", "chart", "podcidr"])
async def test_real_api_server_accepts_every_object(kube: Kube, what: str) -> None:
    """A dry run with strict field validation: a misspelt field is an error."""
    if what != "manifest" and shutil.which("helm") is None:
        pytest.skip("no helm on PATH")
    if what == "manifest":
        objects = manifest()
    elif what == "chart":
        objects = rendered(CHART, "--set", "flannel.nodeSelector.zone=a")
    else:
        objects = rendered(PODCIDR, "--set", "clusterCIDR=10.244.0.0/16")

    await kube.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    for each in objects:
        if each["kind"] == "Namespace":
            continue
        path = _PATHS[each["kind"]].format(each["metadata"].get("namespace"))
        await kube.ok("POST", f"{path}?dryRun=All&fieldValidation=Strict", each)


def test_flags_of_the_manifest_are_the_daemons() -> None:
    given = config(*container(manifest())["command"][1:])
    assert given.firewall.masquerade
    assert given.health.port == 8081
