"""The daemon's command line: flanneld's table, the environment, refusals, exit codes."""

from __future__ import annotations

import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from tests.support.daemonflags import config
from udpoverlay.cli.daemon_flags import ALL_FLAGS, FLANNEL_FLAGS
from udpoverlay.errors import OperatorError
from udpoverlay.model.config import (
    DaemonConfig,
    EtcdConfig,
    FirewallSettings,
    HealthSettings,
    KubeConfigSource,
    LogSettings,
)
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.privileges import PrivilegeSettings

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "flags.md"

FLANNELD = {
    "etcd-endpoints": "http://127.0.0.1:4001,http://127.0.0.1:2379",
    "etcd-prefix": "/coreos.com/network",
    "etcd-keyfile": "",
    "etcd-certfile": "",
    "etcd-cafile": "",
    "etcd-username": "",
    "etcd-password": "",
    "iface": (),
    "iface-regex": (),
    "iface-can-reach": "",
    "subnet-file": "/run/flannel/subnet.env",
    "public-ip": "",
    "public-ipv6": "",
    "subnet-lease-renew-margin": 60,
    "ip-masq": False,
    "ip-masq-fully-random-disable": False,
    "kube-subnet-mgr": False,
    "kube-api-url": "",
    "kube-annotation-prefix": "flannel.alpha.coreos.com",
    "kubeconfig-file": "",
    "version": False,
    "healthz-ip": "0.0.0.0",
    "healthz-port": 0,
    "iptables-resync": 5,
    "iptables-forward-rules": True,
    "ip-blackhole-route": False,
    "net-config-path": "/etc/kube-flannel/net-conf.json",
    "set-node-network-unavailable": True,
    "v": 0,
    "vmodule": "",
    "log_backtrace_at": "",
}


def test_every_flag_of_flanneld_exists_with_its_default() -> None:
    assert {flag.name: flag.default for flag in FLANNEL_FLAGS} == FLANNELD


def test_without_flags_the_settings_are_the_documented_defaults() -> None:
    assert config() == DaemonConfig()


def test_flags_become_settings() -> None:
    found = config(
        "--etcd-endpoints=https://a:2379, https://b:2379",
        "--etcd-prefix=/x",
        "--etcd-username=u",
        "--etcd-password=hunter2",
        "--iface=eth1",
        "--iface=eth0",
        "--iface-regex=^eth",
        "-public-ip",
        "192.0.2.1",
        "-iptables-forward-rules=false",
        "-iptables-resync=0",
        "-kube-subnet-mgr",
        "-kube-api-url=https://k",
        "-v=3",
        "--admin-socket=",
        "--workers=2",
        "--busy-poll-us=50",
        "--offload-off=uso",
        "--offload-off=udp-gro",
        "--per-packet",
    )
    assert found.etcd.endpoints == ("https://a:2379", "https://b:2379")
    assert (found.etcd.prefix, found.etcd.username, found.etcd.password) == ("/x", "u", "hunter2")
    assert found.iface == ("eth1", "eth0")
    assert found.iface_regex == ("^eth",)
    assert found.public_ip == "192.0.2.1"
    assert found.firewall.forward is False
    assert found.firewall.resync_seconds == 1
    assert found.kube_subnet_mgr
    assert found.kube.api_url == "https://k"
    assert found.log.verbosity == 3
    assert (found.admin_socket, found.dataplane.workers) == ("", "2")
    assert found.dataplane.busy_poll_us == 50
    assert found.dataplane.offloads_off == {"uso", "udp-gro"}
    assert found.dataplane.per_packet


FROM_KUBERNETES = {
    "kube.node_name",
    "kube.pod_name",
    "kube.pod_namespace",
    "kube.continue_when_cache_not_ready",
    "kube.environment",
}
"""Fields that variables set which belong to no flag."""


def test_every_setting_is_set_by_exactly_one_flag() -> None:
    groups = {
        "dataplane": DataplaneSettings,
        "etcd": EtcdConfig,
        "firewall": FirewallSettings,
        "health": HealthSettings,
        "kube": KubeConfigSource,
        "log": LogSettings,
        "privileges": PrivilegeSettings,
    }
    paths = {field.name for field in fields(DaemonConfig)} - groups.keys()
    paths |= {f"{name}.{field.name}" for name, group in groups.items() for field in fields(group)}
    assert sorted(flag.sets for flag in ALL_FLAGS if flag.sets) == sorted(paths - FROM_KUBERNETES)
    assert [flag.name for flag in ALL_FLAGS if not flag.sets] == ["version"]


@pytest.mark.parametrize("text", ["http://a:1,", ",http://a:1", "http://a:1,,", " http://a:1 , "])
def test_needless_comma_between_endpoints_is_ignored(text: str) -> None:
    assert config(f"--etcd-endpoints={text}").etcd.endpoints == ("http://a:1",)


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ("--public-ip=127.0.0.1", "a loopback address"),
        ("--public-ip=127.255.255.254", "a loopback address"),
        ("--public-ip=224.0.0.1", "a multicast address"),
        ("--public-ip=239.255.255.255", "a multicast address"),
        ("--public-ip=0.0.0.0", "the unspecified address"),
        ("--public-ip=0.1.2.3", "an address of 0.0.0.0/8"),
        ("--public-ip=255.255.255.255", "the broadcast address"),
        ("--public-ip=2001:db8::1", "not an IPv4 address"),
        ("--public-ip=host.example.com", "not an IPv4 address"),
        ("--public-ipv6=::1", "a loopback address"),
        ("--public-ipv6=::", "the unspecified address"),
        ("--public-ipv6=ff02::1", "a multicast address"),
        ("--public-ipv6=192.0.2.1", "not an IPv6 address"),
    ],
)
def test_public_address_that_no_host_has_is_refused(flag: str, why: str) -> None:
    with pytest.raises(OperatorError, match=why) as caught:
        config(flag)
    assert flag.partition("=")[2] in str(caught.value)
    assert "or leave it out" in caught.value.fix


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.1.1", "192.0.2.255", "240.0.0.1"])
def test_public_address_that_a_host_may_have_is_accepted(address: str) -> None:
    assert config(f"--public-ip={address}").public_ip == address


def test_the_environment_counts_where_the_line_is_silent() -> None:
    environ = {
        "FLANNELD_ETCD_ENDPOINTS": "http://e:1",
        "FLANNELD_IFACE": "eth1,eth2",
        "FLANNELD_V": "2",
        "FLANNELD_VERSION": "true",
        "FLANNELD_PUBLIC_IP": "",
        "UDPOVERLAY_WORKERS": "3",
        "FLANNELD_WORKERS": "2",
        "UDPOVERLAY_V": "9",
    }
    found = config("-v=4", **environ)
    assert found.etcd.endpoints == ("http://e:1",)
    assert found.iface == ("eth1,eth2",)
    assert found.log.verbosity == 4
    assert found.dataplane.workers == "3"


def test_kubernetes_variables_reach_the_settings() -> None:
    found = config(
        "-kube-subnet-mgr",
        NODE_NAME="n1",
        POD_NAME="p",
        POD_NAMESPACE="ns",
        CONT_WHEN_CACHE_NOT_READY="true",
    ).kube
    assert (found.node_name, found.pod_name, found.pod_namespace) == ("n1", "p", "ns")
    assert found.continue_when_cache_not_ready


@pytest.mark.parametrize("text", ["0", "-3", "", "7"])
def test_any_number_is_taken_as_queue_depth(text: str) -> None:
    assert config("-kube-subnet-mgr", EVENT_QUEUE_DEPTH=text).kube_subnet_mgr


def test_a_queue_depth_that_is_no_number_is_refused_in_kubernetes_mode_only() -> None:
    with pytest.raises(OperatorError, match="EVENT_QUEUE_DEPTH 'many'"):
        config("-kube-subnet-mgr", EVENT_QUEUE_DEPTH="many")
    config(EVENT_QUEUE_DEPTH="many")


@pytest.mark.parametrize("margin", ["0", "-1", "1440"])
def test_a_renew_margin_outside_the_term_is_refused(margin: str) -> None:
    with pytest.raises(OperatorError, match=f"subnet-lease-renew-margin {margin}"):
        config(f"-subnet-lease-renew-margin={margin}")


def test_the_renew_margins_at_the_edges_are_accepted() -> None:
    assert config("-subnet-lease-renew-margin=1").subnet_lease_renew_margin == 1
    assert config("-subnet-lease-renew-margin=1439").subnet_lease_renew_margin == 1439


def test_flags_of_flannels_manifest_become_settings() -> None:
    found = config("--ip-masq", "--kube-subnet-mgr", "--healthz-port=8081")
    assert found.firewall.masquerade
    assert found.firewall.random_fully
    assert found.kube_subnet_mgr
    assert (found.health.ip, found.health.port) == ("0.0.0.0", 8081)


def test_flags_and_variables_of_rke2s_canal_become_settings() -> None:
    """rke2-charts, packages/rke2-canal: values.yaml and templates/daemonset.yaml."""
    found = config(
        *("--ip-masq", "--kube-subnet-mgr", "--iptables-forward-rules=false"),
        "--ip-blackhole-route",
        FLANNELD_IFACE="",
        FLANNELD_IFACE_REGEX="",
        FLANNELD_IP_MASQ="true",
    )
    assert (found.iface, found.iface_regex) == ((), ())
    assert found.firewall.masquerade
    assert not found.firewall.forward
    assert found.firewall.blackhole_route


def test_packet_rules_can_be_chosen() -> None:
    found = config(
        "-ip-masq-fully-random-disable",
        "-nft-masq-order=corrected",
        "-no-br-netfilter-check",
        "-ip-blackhole-route",
    ).firewall
    assert not found.random_fully
    assert found.nft_order == "corrected"
    assert not found.bridge_check
    assert found.blackhole_route


@pytest.mark.parametrize(
    ("flag", "fix"),
    [
        ("-nft-masq-order=mine", "use flannel or corrected"),
        ("-healthz-port=65536", "use 0 to 65535"),
        ("-healthz-port=-1", "use 0 to 65535"),
    ],
)
def test_value_that_cannot_work_is_refused_with_the_fix(flag: str, fix: str) -> None:
    with pytest.raises(OperatorError, match=fix):
        config(flag)


@pytest.mark.parametrize(
    "flag",
    [
        "-ip-masq=false",
        "-ip-masq-fully-random-disable",
        "-healthz-port=0",
        "-healthz-ip=127.0.0.1",
        "-iptables-resync=60",
        "-iptables-forward-rules=true",
    ],
)
def test_what_is_harmless_to_ignore_is_accepted(flag: str) -> None:
    config(flag)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--workers=0", "workers is '0'"),
        ("--workers=many", "workers is 'many'"),
        ("--busy-poll-us=-2", "busy-poll-us is -2"),
        ("--offload-off=warp", "offload 'warp'"),
    ],
)
def test_a_wrong_switch_of_the_data_plane_is_refused_before_anything_starts(
    flag: str, message: str
) -> None:
    with pytest.raises(OperatorError, match=message):
        config(flag)


@pytest.mark.flanneld
def test_the_real_flanneld_has_the_same_flags() -> None:
    done = subprocess.run(["flanneld", "-h"], capture_output=True, text=True, check=True)
    theirs = set(re.findall(r"^  -([a-z0-9_-]+)", done.stderr, re.MULTILINE))
    assert theirs == {flag.name for flag in FLANNEL_FLAGS}


# The page.


def test_the_reference_page_has_every_flag_with_its_default() -> None:
    page = DOCS.read_text()
    rows = {
        match[1]: match[2]
        for match in re.finditer(r"^\| `([a-z_0-9-]+)` \| (.*?) \|", page, re.MULTILINE)
    }
    for flag in ALL_FLAGS:
        default = flag.default
        if isinstance(default, bool):
            wanted = f"`{str(default).lower()}`"
        elif default in ("", ()):
            wanted = ""
        else:
            wanted = f"`{default}`"
        assert rows.get(flag.name) == wanted, flag.name
    assert set(rows) == {flag.name for flag in ALL_FLAGS}
