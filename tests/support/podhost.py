"""A lab host as a pod of a DaemonSet sees it: our commands, a ConfigMap's files, few rights."""

from __future__ import annotations

from typing import Any

from tests.support.layers import checked, our_names, own_layer
from udpoverlay.errors import KernelError
from udpoverlay.lab.actions import files, web
from udpoverlay.lab.hosts import Host, Process

RUNTIMES_CAPABILITIES = (
    *("chown", "dac_override", "fsetid", "fowner", "mknod", "net_raw", "setgid", "setuid"),
    *("setfcap", "setpcap", "net_bind_service", "sys_chroot", "kill", "audit_write"),
)
"""What containerd and CRI-O give to a container that names none."""

Object = dict[str, Any]


class PodHost:
    """The pod of one DaemonSet on one host."""

    def __init__(self, host: Host, objects: list[Object]) -> None:
        self.host = host
        [spec] = [each["spec"] for each in objects if each["kind"] == "DaemonSet"]
        self.pod: Object = spec["template"]["spec"]
        [self.container] = self.pod["containers"]
        for folder in ("/opt", "/etc"):
            own_layer(host, folder)
        our_names(host, "/opt/bin")
        [config] = [each["data"] for each in objects if each["kind"] == "ConfigMap"]
        self.config: dict[str, str] = config
        for name, text in config.items():
            host.call(files.write_text, path=f"/etc/kube-flannel/{name}", text=text)

    def install_conf(self) -> str:
        """Run the init container that is of our image; the CNI configuration that it left."""
        [init] = [each for each in self.pod["initContainers"] if each["name"] == "install-cni"]
        checked(self.host, "mkdir", "-p", "/etc/cni/net.d")
        words = _words(init)
        checked(self.host, *words)
        return self.host.call(files.read_text, path=words[-1])

    def start(self, pod: str, namespace: str, **env: str) -> Process:
        """Start the container, with its manifest's rights, and /dev/net/tun only where mounted."""
        security = self.container["securityContext"]
        assert not security.get("privileged")
        rights = [name.lower() for name in security["capabilities"]["add"]]
        if "drop" not in security["capabilities"]:
            rights += RUNTIMES_CAPABILITIES
        bounds = ",".join(["-all", *(f"+{name}" for name in dict.fromkeys(rights))])
        mounts = {each["mountPath"] for each in self.container["volumeMounts"]}
        if "/dev/net/tun" not in mounts:
            checked(self.host, "mount", "-t", "tmpfs", "none", "/dev/net")
        argv = ["setpriv", f"--bounding-set={bounds}", *_words(self.container)]
        own = {
            "metadata.name": pod,
            "metadata.namespace": namespace,
            "spec.nodeName": self.host.name,
        }
        given = {
            each["name"]: each["value"]
            if "value" in each
            else own[each["valueFrom"]["fieldRef"]["fieldPath"]]
            for each in self.container["env"]
        }
        return self.host.popen(argv, env={**given, **env})

    def probe(self, name: str) -> tuple[int, str]:
        """What the kubelet gets; (0, "") while nothing listens."""
        asked = self.container[name]["httpGet"]
        ports = {each["name"]: each["containerPort"] for each in self.container["ports"]}
        address = f"127.0.0.1:{ports.get(asked['port'], asked['port'])}"
        try:
            status, body = self.host.call(
                web.request, address=address, method="GET", path=asked["path"]
            )
        except KernelError:
            return 0, ""
        return status, body


def _words(container: Object) -> list[str]:
    return [*container.get("command", []), *container.get("args", [])]
