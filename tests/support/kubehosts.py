"""Hosts in namespaces with --kube-subnet-mgr, and a Kubernetes API server in their switch.

n1 ── eth0 ══ switch ══ eth0 ── n2
                └ 198.18.0.1:6443, plain HTTP: the API double, or a real kube-apiserver
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.cluster import UDPOVERLAYD, Node, start, wait_until
from tests.support.kubecluster import udp_annotations
from udpoverlay.errors import KernelError
from udpoverlay.lab.actions import web
from udpoverlay.lab.hosts import Fabric, Process

PORT = 6443
NODES = "/api/v1/nodes"


class KubeHosts:
    """Hosts joined by one switch, a Kubernetes API in it, and the daemons that were started."""

    def __init__(self, *names: str, directory: Path, real: bool = False) -> None:
        self._directory = directory
        self._real = real
        self._servers = 0
        self.fabric = Fabric(names, mtu=1500)
        self.address = f"{Fabric.GATEWAY}:{PORT}"
        kubeconfig = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://{self.address}"}}],
            "users": [{"name": "u", "user": {"token": "daemon"}}],
        }
        self.kubeconfig = directory / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(kubeconfig))
        self.net_conf = directory / "net-conf.json"
        self.net_conf.write_text('{"Network": "10.244.0.0/16", "Backend": {"Type": "udp"}}')
        try:
            self.api = self.start_api()
        except BaseException:
            self.fabric.close()
            raise

    def start_api(self) -> Process:
        """Start a server that knows nothing."""
        self._servers += 1
        argv = [sys.executable, "-m", "tests.support.kubeapi", self.address]
        if self._real:
            data = self._directory / f"server-{self._servers}"
            data.mkdir()
            argv = [sys.executable, "-m", "tests.support.kube_apiserver", self.address, str(data)]
        process = self.fabric.switch.popen(argv, log=f"api-{self._servers}.log")

        def answers() -> bool:
            assert process.poll() is None, process.log()
            try:
                return self.ask("GET", "/readyz")[0] == 200
            except KernelError:
                return False

        wait_until(answers, "the API answers", 100.0)
        return process

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        options: dict[str, Any] = {} if body is None else {"body": json.dumps(body)}
        code, text = self.fabric.switch.call(
            web.request, address=self.address, method=method, path=path, **options
        )
        return code, text

    def node(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("GET", f"{NODES}/{name}")[1])
        return found

    def register(self, name: str, *cidrs: str, public_ip: str = "") -> None:
        """A Node; with `public_ip` it looks as a daemon leaves it that runs elsewhere."""
        spec = {"podCIDR": cidrs[0], "podCIDRs": list(cidrs)} if cidrs else {}
        # As the kubelet does; flanneld panics on a Node without any annotation.
        said = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
        if public_ip:
            said |= udp_annotations(public_ip)
        meta = {"name": name, "annotations": said}
        code, text = self.ask("POST", NODES, {"metadata": meta, "spec": spec})
        assert code == 201, text

    def give(self, name: str, pod_cidr: str) -> None:
        node = self.node(name)
        node["spec"] |= {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]}
        code, text = self.ask("PUT", f"{NODES}/{name}", node)
        assert code == 200, text

    def spawn(
        self, name: str, *flags: str, program: Sequence[str] = UDPOVERLAYD, **env: str
    ) -> Node:
        argv = [
            *program,
            *flags,
            "--kube-subnet-mgr",
            f"--kubeconfig-file={self.kubeconfig}",
            f"--net-config-path={self.net_conf}",
        ]
        host = self.fabric.hosts[name]
        log = f"{name}-{time.monotonic_ns()}.log"
        return Node(name, host, host.popen(argv, env={"NODE_NAME": name, **env}, log=log))

    def start(self, name: str, *flags: str, program: Sequence[str] = UDPOVERLAYD) -> Node:
        return start(
            self.fabric.hosts[name],
            lambda notify: self.spawn(name, *flags, program=program, NOTIFY_SOCKET=notify),
        )
