"""The daemon's configuration: one frozen dataclass, one docstring a field.

Owns: names, types and defaults of settings. Must not know: how a flag or an environment variable is
spelled (cli/) or what carries a setting out. Defaults are flanneld's (flannel main.go).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.privileges import PrivilegeSettings

__all__ = [
    "DaemonConfig",
    "EtcdConfig",
    "FirewallSettings",
    "HealthSettings",
    "KubeConfigSource",
    "LogSettings",
    "MasqueradeOrder",
]

MasqueradeOrder = Literal["flannel", "corrected"]


@dataclass(frozen=True, slots=True)
class EtcdConfig:
    """How to reach etcd and where in it our network lives."""

    endpoints: tuple[str, ...] = ("http://127.0.0.1:4001", "http://127.0.0.1:2379")
    prefix: str = "/coreos.com/network"
    keyfile: str = ""
    certfile: str = ""
    cafile: str = ""
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class KubeConfigSource:
    """How to reach the Kubernetes API and who we are in it (flannel pkg/subnet/kube/kube.go)."""

    api_url: str = ""
    kubeconfig_file: str = ""
    annotation_prefix: str = "flannel.alpha.coreos.com"
    net_config_path: str = "/etc/kube-flannel/net-conf.json"
    set_node_network_unavailable: bool = True
    node_name: str = ""
    """NODE_NAME; empty: looked up through pod_name and pod_namespace."""
    pod_name: str = ""
    pod_namespace: str = ""
    continue_when_cache_not_ready: bool = False
    """CONT_WHEN_CACHE_NOT_READY."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """The process's environment: where client-go looks for the cluster it runs in
    (KUBERNETES_SERVICE_HOST and _PORT) and for KUBECONFIG and HOME, and what a credential plugin
    inherits."""


@dataclass(frozen=True, slots=True)
class FirewallSettings:
    """Which packet rules this host gets."""

    masquerade: bool = False
    """--ip-masq"""
    forward: bool = True
    """--iptables-forward-rules"""
    random_fully: bool = True
    """Choose masqueraded ports at random where kernel and tool can; off with
    --ip-masq-fully-random-disable."""
    resync_seconds: int = 5
    """--iptables-resync: seconds between two looks at the rules, at least 1."""
    nft_order: MasqueradeOrder = "flannel"
    """--nft-masq-order: the fourth rule as in flannel's nftables or its iptables mode."""
    bridge_check: bool = True
    """Refuse iptables mode without br_netfilter; --no-br-netfilter-check turns it off."""
    blackhole_route: bool = False
    """--ip-blackhole-route"""


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """Where probes are answered."""

    ip: str = "0.0.0.0"  # noqa: S104 - flanneld's default
    port: int = 0
    """0: nowhere."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How much is logged (glog's flags)."""

    verbosity: int = 0
    """-v"""
    vmodule: str = ""
    """Detail of single modules: file=N, comma-separated."""
    backtrace_at: str = ""
    """file:N: log the call stack there."""


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """All settings of `udpoverlayd` after flags and environment were merged."""

    etcd: EtcdConfig = field(default_factory=EtcdConfig)
    kube_subnet_mgr: bool = False
    kube: KubeConfigSource = field(default_factory=KubeConfigSource)
    iface: tuple[str, ...] = ()
    iface_regex: tuple[str, ...] = ()
    iface_can_reach: str = ""
    public_ip: str = ""
    public_ipv6: str = ""
    subnet_file: str = "/run/flannel/subnet.env"
    subnet_lease_renew_margin: int = 60
    """Minutes before expiry at which the lease is renewed; 1..1439."""
    firewall: FirewallSettings = field(default_factory=FirewallSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    dataplane: DataplaneSettings = field(default_factory=DataplaneSettings)
    log: LogSettings = field(default_factory=LogSettings)
    privileges: PrivilegeSettings = field(default_factory=PrivilegeSettings)

    # udpoverlay's own; flanneld has none of these.
    replace: bool = False
    """--replace: take over from the daemon that has the admin socket."""
    admin_socket: str = "/run/udpoverlay/admin.sock"
    """"" turns it off."""
