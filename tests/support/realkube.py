"""A real kube-apiserver with its etcd in the switch of a lab, one Node, one Pod on it, one host.

The host has the files of the pod's service account where every pod has them.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from tests.support import kube_apiserver
from tests.support.cluster import UDPOVERLAYD, wait_until
from udpoverlay.lab.actions import files
from udpoverlay.lab.etcd import Etcd
from udpoverlay.lab.hosts import Fabric, Process

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN, PORT = "token-admin", 6443
NODE = {
    "metadata": {"name": "n1"},
    "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
}


class RealCluster:
    """A kube-apiserver with its etcd on the switch, and the files of a pod on the host."""

    def __init__(self, directory: Path, *, pod: str, namespace: str) -> None:
        self._pod, self._namespace = pod, namespace
        self.fabric = Fabric(["n1"])
        self.host = self.fabric.hosts["n1"]
        try:
            self.api = self._start(directory)
            certificate = (directory / "certs" / "apiserver.crt").read_text()
            for name, text in (
                ("token", TOKEN),
                ("ca.crt", certificate),
                ("namespace", namespace),
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
        pod = {
            "metadata": {"name": self._pod, "namespace": self._namespace},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
        }
        self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": self._namespace}})
        assert self.ask("POST", "/api/v1/nodes", NODE), api.log()
        assert self.ask("POST", f"/api/v1/namespaces/{self._namespace}/pods", pod), api.log()
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
