"""The daemon's flags: one table of names, defaults, meanings and the settings they become.

Owns: every flag of flanneld (main.go) and our own, their environment variables, and which of them
this release refuses. Must not know: what carries a setting out. Described for people in
docs/reference/flags.md, which a test compares with this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from netaddr import IPAddress

from udpoverlay.dataplane.config import LEVERS, MAX_BUSY_POLL_US, MAX_WORKERS, DataplaneConfig
from udpoverlay.errors import OperatorError
from udpoverlay.gocompat import flags as goflags
from udpoverlay.gocompat.flags import Flag, Parsed
from udpoverlay.log import parse_backtrace_at, parse_vmodule
from udpoverlay.model.config import DaemonConfig, EtcdConfig, KubeConfigSource

__all__ = ["FLANNEL_FLAGS", "FLANNEL_PREFIX", "OWN_FLAGS", "OWN_PREFIX", "Options", "read"]

FLANNEL_PREFIX = "FLANNELD"
OWN_PREFIX = "UDPOVERLAY"

_DEFAULT = DaemonConfig()


def _checked(check: Callable[[str], object]) -> Callable[[str], str]:
    """Return a parser that keeps the text but refuses what `check` refuses."""

    def parse(text: str) -> str:
        check(text)
        return text

    return parse


FLANNEL_FLAGS: tuple[Flag, ...] = (
    Flag("etcd-endpoints", "comma-separated etcd endpoints", ",".join(_DEFAULT.etcd.endpoints)),
    Flag("etcd-prefix", "key prefix of the network in etcd", _DEFAULT.etcd.prefix),
    Flag("etcd-keyfile", "private key file for TLS with etcd"),
    Flag("etcd-certfile", "client certificate file for TLS with etcd"),
    Flag("etcd-cafile", "certificate authority file to verify etcd with"),
    Flag("etcd-username", "user name for basic authentication with etcd"),
    Flag("etcd-password", "password for basic authentication with etcd"),
    Flag(
        "iface",
        "interface for traffic between hosts, by name or IP address; may be repeated,"
        " the first that matches is taken",
        (),
        repeatable=True,
    ),
    Flag(
        "iface-regex",
        "regular expression over the addresses, then the names of interfaces; may be repeated,"
        " tried after every -iface",
        (),
        repeatable=True,
    ),
    Flag(
        "iface-can-reach",
        "take the interface by which this address is reached; tried after -iface-regex",
    ),
    Flag("subnet-file", "file to write subnet, MTU and so on to", _DEFAULT.subnet_file),
    Flag("public-ip", "IPv4 address at which other hosts reach this one"),
    Flag("public-ipv6", "IPv6 address at which other hosts reach this one"),
    Flag(
        "subnet-lease-renew-margin",
        "minutes before its end at which the lease is renewed, 1 to 1439",
        _DEFAULT.subnet_lease_renew_margin,
        goflags.parse_int,
    ),
    Flag("ip-masq", "masquerade traffic that leaves the overlay", False, goflags.parse_bool),
    Flag(
        "ip-masq-fully-random-disable",
        "never use fully random ports for masquerading",
        False,
        goflags.parse_bool,
    ),
    Flag(
        "kube-subnet-mgr",
        "take subnets from the Kubernetes API instead of etcd",
        False,
        goflags.parse_bool,
    ),
    Flag("kube-api-url", "URL of the Kubernetes API; not needed inside a pod"),
    Flag(
        "kube-annotation-prefix",
        "prefix of the annotations on nodes; may hold one slash",
        _DEFAULT.kube.annotation_prefix,
    ),
    Flag("kubeconfig-file", "kubeconfig file; not needed inside a pod"),
    Flag("version", "print the version on standard error and exit", False, goflags.parse_bool),
    Flag("healthz-ip", "address of the health server", _DEFAULT.healthz_ip),
    Flag("healthz-port", "port of the health server, 0 for none", 0, goflags.parse_int),
    Flag(
        "iptables-resync",
        "seconds between two checks of packet filter rules",
        _DEFAULT.iptables_resync,
        goflags.parse_int,
    ),
    Flag(
        "iptables-forward-rules",
        "accept forwarded traffic of the overlay in the packet filter",
        True,
        goflags.parse_bool,
    ),
    Flag(
        "ip-blackhole-route",
        "blackhole route for the subnet of this host",
        False,
        goflags.parse_bool,
    ),
    Flag(
        "net-config-path",
        "network configuration file, with -kube-subnet-mgr",
        _DEFAULT.kube.net_config_path,
    ),
    Flag(
        "set-node-network-unavailable",
        "clear the node's NetworkUnavailable condition once ready",
        True,
        goflags.parse_bool,
    ),
    Flag("v", "detail of the log, 0 (little) to 5", 0, goflags.parse_int32),
    Flag(
        "vmodule",
        "detail of single modules: comma-separated list of file=N",
        parse=_checked(parse_vmodule),
    ),
    Flag(
        "log_backtrace_at",
        "log the call stack at this place: file.py:N",
        parse=_checked(parse_backtrace_at),
    ),
)
"""Name, default and meaning as in flannel's main.go."""


OWN_FLAGS: tuple[Flag, ...] = (
    Flag(
        "admin-socket",
        "Unix socket of the admin interface, empty for none",
        _DEFAULT.admin_socket,
    ),
    Flag("driver", "what moves the packets: auto, threads or loop", _DEFAULT.driver),
    Flag(
        "workers",
        f"worker threads: auto, 0 (in the event loop) or a number up to {MAX_WORKERS}",
        _DEFAULT.workers,
    ),
    Flag(
        "busy-poll-us",
        "microseconds to spin after the last packet before sleeping, 0 for never, -1 for the"
        f" measured default, at most {MAX_BUSY_POLL_US}",
        _DEFAULT.busy_poll_us,
        goflags.parse_int,
    ),
    Flag(
        "offload-off",
        f"switch one lever of the fast path off; may be repeated; one of {', '.join(LEVERS)}",
        (),
        repeatable=True,
    ),
    Flag(
        "per-packet",
        "no lever at all: one packet a system call, as flannel's own proxy works",
        False,
        goflags.parse_bool,
    ),
)
"""What flanneld does not have; their variables are UDPOVERLAY_*."""


@dataclass(frozen=True, slots=True)
class Options:
    """All that the command line and the environment said."""

    values: dict[str, Any]
    """By flag name."""
    complaints: list[str]
    """Variables that could not be read; their flags have the default."""

    def config(self, environ: Mapping[str, str]) -> DaemonConfig:
        """Turn the options into settings. Raises OperatorError for what cannot work."""
        values = self.values
        margin = values["subnet-lease-renew-margin"]
        if not 1 <= margin < 24 * 60:
            raise OperatorError(
                f"subnet-lease-renew-margin {margin} is out of range",
                fix="use 1 to 1439 minutes",
            )
        for name, refused, why, fix in _NOT_YET:
            if refused(values[name]):
                shown = "" if values[name] is True else f" {values[name]}"
                raise OperatorError(f"--{name}{shown}: not yet: {why}", fix=fix)
        config = DaemonConfig(
            etcd=EtcdConfig(
                endpoints=tuple(values["etcd-endpoints"].split(",")),
                prefix=values["etcd-prefix"],
                keyfile=values["etcd-keyfile"],
                certfile=values["etcd-certfile"],
                cafile=values["etcd-cafile"],
                username=values["etcd-username"],
                password=values["etcd-password"],
            ),
            kube_subnet_mgr=values["kube-subnet-mgr"],
            kube=_kube(values, environ),
            iface=values["iface"],
            iface_regex=values["iface-regex"],
            iface_can_reach=values["iface-can-reach"],
            public_ip=values["public-ip"],
            public_ipv6=values["public-ipv6"],
            subnet_file=values["subnet-file"],
            subnet_lease_renew_margin=margin,
            ip_masq=values["ip-masq"],
            ip_masq_fully_random_disable=values["ip-masq-fully-random-disable"],
            healthz_ip=values["healthz-ip"],
            healthz_port=values["healthz-port"],
            iptables_resync=max(1, values["iptables-resync"]),
            iptables_forward_rules=values["iptables-forward-rules"],
            ip_blackhole_route=values["ip-blackhole-route"],
            verbosity=values["v"],
            vmodule=values["vmodule"],
            log_backtrace_at=values["log_backtrace_at"],
            admin_socket=values["admin-socket"],
            driver=values["driver"],
            workers=values["workers"],
            busy_poll_us=values["busy-poll-us"],
            offloads_off=frozenset(values["offload-off"]),
            per_packet=values["per-packet"],
        )
        _check_dataplane(config)
        return config


def _kube(values: Mapping[str, Any], environ: Mapping[str, str]) -> KubeConfigSource:
    depth = KubeConfigSource().event_queue_depth
    text = environ.get("EVENT_QUEUE_DEPTH", "")
    if text and values["kube-subnet-mgr"]:
        try:
            given = goflags.parse_int32(text)
        except ValueError as error:
            raise OperatorError(
                f"EVENT_QUEUE_DEPTH {text!r} is not a number ({error})",
                fix="use a number like 5000, or unset it",
            ) from None
        depth = given if given > 0 else depth
    return KubeConfigSource(
        api_url=values["kube-api-url"],
        kubeconfig_file=values["kubeconfig-file"],
        annotation_prefix=values["kube-annotation-prefix"],
        net_config_path=values["net-config-path"],
        set_node_network_unavailable=values["set-node-network-unavailable"],
        node_name=environ.get("NODE_NAME", ""),
        pod_name=environ.get("POD_NAME", ""),
        pod_namespace=environ.get("POD_NAMESPACE", ""),
        event_queue_depth=depth,
        continue_when_cache_not_ready=environ.get("CONT_WHEN_CACHE_NOT_READY", "") == "true",
        environment=dict(environ),
    )


def _check_dataplane(config: DaemonConfig) -> None:
    """Let the data plane refuse its switches now, before a lease is taken."""
    DataplaneConfig(
        mtu=1472,
        tun_address=IPAddress(0, version=4),
        bind=("127.0.0.1", 8285),
        driver=config.driver,
        workers=config.workers,
        busy_poll_us=config.busy_poll_us,
        offloads_off=config.offloads_off,
        per_packet=config.per_packet,
    )


# Flag, value that is refused, why ignoring it would be wrong, what to do instead.
_NOT_YET: tuple[tuple[str, Callable[[Any], bool], str, str], ...] = (
    (
        "ip-masq",
        bool,
        "this release installs no masquerade rules, so containers would lose the outside world",
        "leave it out: FLANNEL_IPMASQ=false in the subnet file then makes Docker or the CNI plugin"
        " masquerade itself",
    ),
    (
        "ip-blackhole-route",
        bool,
        "this release installs no blackhole route",
        "leave it out",
    ),
    (
        "healthz-port",
        lambda port: bool(port > 0),
        "this release has no health server, so probes of that port would fail",
        "leave it out and watch for READY=1 (systemd Type=notify) or the subnet file instead",
    ),
)


def read(words: list[str], environ: Mapping[str, str]) -> tuple[Parsed, Options]:
    """Read command line, then environment. Raises goflags.FlagError, goflags.HelpRequested."""
    parsed = goflags.parse((*FLANNEL_FLAGS, *OWN_FLAGS), words)
    values, complaints = dict(parsed.values), []
    for flags, prefix in ((FLANNEL_FLAGS, FLANNEL_PREFIX), (OWN_FLAGS, OWN_PREFIX)):
        found, bad = goflags.from_environment(flags, parsed, environ, prefix)
        values.update(found)
        complaints += bad
    return parsed, Options(values, complaints)
