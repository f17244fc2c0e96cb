"""The command of flannel's own manifest and chart, with ours behind its name, becomes ready.

    /opt/bin/flanneld --ip-masq --kube-subnet-mgr --healthz-port=8081

with the pod's service account, /etc/kube-flannel/net-conf.json and the probes as the manifest has
them: against a real kube-apiserver where there is one, against the API double otherwise.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import kube_apiserver
from tests.support.cluster import UDPOVERLAYD, wait_until
from tests.support.kubecluster import flannel_annotations
from tests.support.kubehosts import KubeHosts
from udpoverlay.errors import KernelError
from udpoverlay.lab.actions import files, web
from udpoverlay.lab.etcd import Etcd
from udpoverlay.lab.hosts import Fabric, Host, Process

pytestmark = [pytest.mark.root, pytest.mark.etcd]

MANIFEST = ["--ip-masq", "--kube-subnet-mgr", "--healthz-port=8081"]
POD_ENV = {
    "POD_NAME": "kube-flannel-ds-abcde",
    "POD_NAMESPACE": "kube-flannel",
    "EVENT_QUEUE_DEPTH": "5000",
    "CONT_WHEN_CACHE_NOT_READY": "false",
}
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN, PORT = "token-admin", 6443
NODE = {
    "metadata": {"name": "n1"},
    "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
}
POD = {
    "metadata": {"name": POD_ENV["POD_NAME"], "namespace": POD_ENV["POD_NAMESPACE"]},
    "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
}


def probe(host: Host, path: str) -> tuple[int, str]:
    try:
        status, body = host.call(web.request, address="127.0.0.1:8081", method="GET", path=path)
    except KernelError:  # it does not listen yet
        return 0, ""
    return status, body


def becomes_ready(host: Host, daemon: Process) -> None:
    """What the kubelet sees: alive at once, ready in the end."""

    def answers(path: str, body: str) -> bool:
        assert daemon.poll() is None, daemon.log()
        return probe(host, path) == (200, body)

    wait_until(lambda: answers("/healthz", "flanneld is running"), "liveness probe")
    wait_until(lambda: answers("/readyz", "flanneld is ready"), f"readiness: {daemon.log()}")
    env = host.call(files.read_text, path="/run/flannel/subnet.env")
    assert "FLANNEL_SUBNET=10.244.1.1/24\n" in env
    assert "FLANNEL_IPMASQ=true\n" in env
    status, rules = host.run(["iptables-save", "-t", "nat"])
    assert status == 0, rules
    assert "-A FLANNEL-POSTRTG -s 10.244.1.0/24 -d 10.244.0.0/16" in rules


@pytest.fixture
def net_conf(tmp_path: Path) -> Path:
    path = tmp_path / "net-conf.json"
    path.write_text('{"Network": "10.244.0.0/16", "Backend": {"Type": "udp"}}')
    return path


def test_manifest_command_becomes_ready_with_the_double(tmp_path: Path, net_conf: Path) -> None:
    kube = KubeHosts("n1", directory=tmp_path)
    try:
        kube.register("n1", "10.244.1.0/24")
        host = kube.fabric.hosts["n1"]
        where = [f"--net-config-path={net_conf}", f"--kubeconfig-file={kube.kubeconfig}"]
        daemon = host.popen([*UDPOVERLAYD, *MANIFEST, *where], env={**POD_ENV, "NODE_NAME": "n1"})
        becomes_ready(host, daemon)
        assert flannel_annotations(kube.node("n1"))["kube-subnet-manager"] == "true"
    finally:
        kube.fabric.close()


class RealCluster:
    """A kube-apiserver with its etcd on the switch, and the files of a pod on the host."""

    def __init__(self, directory: Path) -> None:
        self.fabric = Fabric(["n1"])
        self.host = self.fabric.hosts["n1"]
        try:
            self.api = self._start(directory)
            certificate = (directory / "certs" / "apiserver.crt").read_text()
            for name, text in (
                ("token", TOKEN),
                ("ca.crt", certificate),
                ("namespace", "kube-flannel"),
            ):
                self.host.call(files.write_text, path=f"{SERVICE_ACCOUNT}/{name}", text=text)
        except BaseException:
            self.fabric.close()
            raise

    def _start(self, directory: Path) -> Process:
        etcd = Etcd(self.fabric.switch, Fabric.GATEWAY)
        (directory / "sa.key").write_bytes(kube_apiserver.signing_key())
        (directory / "tokens.csv").write_text(f'{TOKEN},admin,0,"system:masters"\n')
        api = self.fabric.switch.popen(
            [
                kube_apiserver.find(),
                f"--etcd-servers={etcd.endpoint}",
                f"--cert-dir={directory / 'certs'}",
                f"--bind-address={Fabric.GATEWAY}",
                f"--advertise-address={Fabric.GATEWAY}",
                f"--secure-port={PORT}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={directory / 'sa.key'}",
                f"--service-account-key-file={directory / 'sa.key'}",
                "--service-cluster-ip-range=10.254.0.0/24",
                f"--token-auth-file={directory / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
            ]
        )
        self.api = api
        wait_until(lambda: self.ask("GET", "/readyz") is not None, f"the API: {api.log()}", 180)
        self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "kube-flannel"}})
        assert self.ask("POST", "/api/v1/nodes", NODE), api.log()
        assert self.ask("POST", "/api/v1/namespaces/kube-flannel/pods", POD), api.log()
        return api

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of the API; None when it refuses or does not listen yet."""
        assert self.api.poll() is None, self.api.log()
        script = (
            "import base64, ssl, sys, urllib.request as u\n"
            "method, url, body = sys.argv[1:]\n"
            f"heads = {{'Authorization': 'Bearer {TOKEN}', 'Content-Type': 'application/json'}}\n"
            "data = base64.b64decode(body) or None\n"
            "asked = u.Request(url, data, heads, method=method)\n"
            "print(u.urlopen(asked, context=ssl._create_unverified_context()).read().decode())\n"
        )
        encoded = base64.b64encode(b"" if body is None else json.dumps(body).encode()).decode()
        url = f"https://{Fabric.GATEWAY}:{PORT}{path}"
        words = [*UDPOVERLAYD[:1], "-c", script, method, url, encoded]
        status, output = self.fabric.switch.run(words, 60)
        if status != 0:
            return None
        return json.loads(output) if output.startswith("{") else output


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealCluster]:
    made = RealCluster(tmp_path)
    try:
        yield made
    finally:
        made.fabric.close()


@pytest.mark.kube
@pytest.mark.timeout(400)
def test_manifest_command_becomes_ready_in_a_pod_of_a_real_cluster(
    cluster: RealCluster, net_conf: Path
) -> None:
    """In-cluster configuration, the Node found through the Pod: as the manifest starts it."""
    service = {"KUBERNETES_SERVICE_HOST": Fabric.GATEWAY, "KUBERNETES_SERVICE_PORT": str(PORT)}
    argv = [*UDPOVERLAYD, *MANIFEST, f"--net-config-path={net_conf}"]
    daemon = cluster.host.popen(argv, env={**POD_ENV, **service})
    becomes_ready(cluster.host, daemon)
    node = cluster.ask("GET", "/api/v1/nodes/n1")
    found = flannel_annotations(node)
    assert found["public-ip"] == cluster.fabric.address("n1")
    assert found["backend-type"] == ""
    conditions = {each["type"]: each for each in node["status"].get("conditions", [])}
    assert conditions["NetworkUnavailable"]["status"] == "False"
    assert conditions["NetworkUnavailable"]["reason"] == "FlannelIsUp"
