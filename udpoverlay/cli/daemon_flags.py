"""The daemon's flags: one table of names, defaults, meanings and the settings they become.

Owns: every flag of flanneld (main.go) and our own, and their environment variables. A flag names
the field that it sets, so that adding one is one entry here and one field there. Must not know:
what carries a setting out. Described for people in docs/reference/flags.md, which a test compares
with this table.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from udpoverlay.errors import OperatorError
from udpoverlay.gocompat import flags as goflags
from udpoverlay.gocompat.flags import Flag, Parsed
from udpoverlay.log import parse_backtrace_at, parse_vmodule
from udpoverlay.model.config import (
    DaemonConfig,
    EtcdConfig,
    FirewallSettings,
    HealthSettings,
    KubeConfigSource,
    LogSettings,
)
from udpoverlay.model.dataplane import (
    MAX_BUSY_POLL_US,
    MAX_FLIGHT_RECORDER,
    MAX_WORKERS,
    MIN_FLIGHT_RECORDER,
    OFFLOADS,
    DataplaneSettings,
)
from udpoverlay.model.privileges import PrivilegeSettings
from udpoverlay.model.public_address import public_address

__all__ = [
    "ALL_FLAGS",
    "FLANNEL_FLAGS",
    "FLANNEL_PREFIX",
    "OWN_FLAGS",
    "OWN_PREFIX",
    "Options",
    "Setting",
    "read",
]

FLANNEL_PREFIX = "FLANNELD"
OWN_PREFIX = "UDPOVERLAY"
"""Of the environment variables."""

_DEFAULT = DaemonConfig()
_MOST_MARGIN = 24 * 60 - 1
"""A lease's term is 24 hours."""
_MOST_PORT = 65535


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Setting(Flag):
    """A flag of the daemon and the field that it sets."""

    sets: str = ""
    """Path below DaemonConfig, like "etcd.prefix"; only -version has none."""
    convert: Callable[[Any], Any] = _as_it_is
    """From the flag's value to the field's. Raises OperatorError for a value that cannot work."""


def _checked(check: Callable[[str], object]) -> Callable[[str], str]:
    """Return a parser that keeps the text but refuses what `check` refuses."""

    def parse(text: str) -> str:
        check(text)
        return text

    return parse


def _endpoints(text: str) -> tuple[str, ...]:
    # flanneld lives with a comma too many, before, after or between.
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _renew_margin(minutes: int) -> int:
    if not 1 <= minutes <= _MOST_MARGIN:
        raise OperatorError(
            f"subnet-lease-renew-margin {minutes} is out of range",
            fix=f"use 1 to {_MOST_MARGIN} minutes",
        )
    return minutes


def _public(name: str, version: int) -> Callable[[str], str]:
    def convert(text: str) -> str:
        public_address(name, text, version)
        return text

    return convert


def _one_of(name: str, *words: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in words:
            raise OperatorError(f"{name} is {text!r}", fix=f"use {' or '.join(words)}")
        return text

    return convert


def _port(number: int) -> int:
    if not 0 <= number <= _MOST_PORT:
        raise OperatorError(f"healthz-port {number} is no port", fix=f"use 0 to {_MOST_PORT}")
    return number


def _switch(
    name: str,
    help_text: str,
    default: bool = False,
    *,
    sets: str = "",
    convert: Callable[[bool], bool] = _as_it_is,
) -> Setting:
    return Setting(name, help_text, default, goflags.parse_bool, sets=sets, convert=convert)


def _number(
    name: str,
    help_text: str,
    default: int,
    *,
    sets: str,
    convert: Callable[[int], int] = _as_it_is,
) -> Setting:
    return Setting(name, help_text, default, goflags.parse_int, sets=sets, convert=convert)


FLANNEL_FLAGS: tuple[Setting, ...] = (
    Setting(
        "etcd-endpoints",
        "comma-separated etcd endpoints",
        ",".join(_DEFAULT.etcd.endpoints),
        sets="etcd.endpoints",
        convert=_endpoints,
    ),
    Setting(
        "etcd-prefix",
        "key prefix of the network in etcd",
        _DEFAULT.etcd.prefix,
        sets="etcd.prefix",
    ),
    Setting("etcd-keyfile", "private key file for TLS with etcd", sets="etcd.keyfile"),
    Setting("etcd-certfile", "client certificate file for TLS with etcd", sets="etcd.certfile"),
    Setting("etcd-cafile", "certificate authority file to verify etcd with", sets="etcd.cafile"),
    Setting("etcd-username", "user name for basic authentication with etcd", sets="etcd.username"),
    Setting(
        "etcd-password",
        "password for basic authentication with etcd",
        secret=True,
        sets="etcd.password",
    ),
    Setting(
        "iface",
        "interface for traffic between hosts, by name or IP address; may be repeated,"
        " the first that matches is taken",
        (),
        repeatable=True,
        sets="iface",
    ),
    Setting(
        "iface-regex",
        "regular expression over the addresses, then the names of interfaces; may be repeated,"
        " tried after every -iface",
        (),
        repeatable=True,
        sets="iface_regex",
    ),
    Setting(
        "iface-can-reach",
        "take the interface by which this address is reached; tried after -iface-regex",
        sets="iface_can_reach",
    ),
    Setting(
        "subnet-file",
        "file to write subnet, MTU and so on to",
        _DEFAULT.subnet_file,
        sets="subnet_file",
    ),
    Setting(
        "public-ip",
        "IPv4 address at which other hosts reach this one",
        sets="public_ip",
        convert=_public("public-ip", 4),
    ),
    Setting(
        "public-ipv6",
        "IPv6 address at which other hosts reach this one",
        sets="public_ipv6",
        convert=_public("public-ipv6", 6),
    ),
    _number(
        "subnet-lease-renew-margin",
        f"minutes before its end at which the lease is renewed, 1 to {_MOST_MARGIN}",
        _DEFAULT.subnet_lease_renew_margin,
        sets="subnet_lease_renew_margin",
        convert=_renew_margin,
    ),
    _switch(
        "ip-masq",
        "masquerade traffic that leaves the overlay",
        sets="firewall.masquerade",
    ),
    _switch(
        "ip-masq-fully-random-disable",
        "never use fully random ports for masquerading",
        sets="firewall.random_fully",
        convert=operator.not_,
    ),
    _switch(
        "kube-subnet-mgr",
        "take subnets from the Kubernetes API instead of etcd",
        sets="kube_subnet_mgr",
    ),
    Setting(
        "kube-api-url", "URL of the Kubernetes API; not needed inside a pod", sets="kube.api_url"
    ),
    Setting(
        "kube-annotation-prefix",
        "prefix of the annotations on nodes; may hold one slash",
        _DEFAULT.kube.annotation_prefix,
        sets="kube.annotation_prefix",
    ),
    Setting(
        "kubeconfig-file",
        "kubeconfig file; not needed inside a pod",
        sets="kube.kubeconfig_file",
    ),
    _switch("version", "print the version on standard error and exit"),
    Setting("healthz-ip", "address of the health server", _DEFAULT.health.ip, sets="health.ip"),
    _number(
        "healthz-port",
        "port of the health server, 0 for none",
        0,
        sets="health.port",
        convert=_port,
    ),
    _number(
        "iptables-resync",
        "seconds between two checks of packet filter rules",
        _DEFAULT.firewall.resync_seconds,
        sets="firewall.resync_seconds",
        convert=lambda seconds: max(1, seconds),
    ),
    _switch(
        "iptables-forward-rules",
        "accept forwarded traffic of the overlay in the packet filter",
        True,
        sets="firewall.forward",
    ),
    _switch(
        "ip-blackhole-route",
        "blackhole route for the subnet of this host",
        sets="firewall.blackhole_route",
    ),
    Setting(
        "net-config-path",
        "network configuration file, with -kube-subnet-mgr",
        _DEFAULT.kube.net_config_path,
        sets="kube.net_config_path",
    ),
    _switch(
        "set-node-network-unavailable",
        "clear the node's NetworkUnavailable condition once ready",
        True,
        sets="kube.set_node_network_unavailable",
    ),
    Setting(
        "v", "detail of the log, 0 (little) to 5", 0, goflags.parse_int32, sets="log.verbosity"
    ),
    Setting(
        "vmodule",
        "detail of single modules: comma-separated list of file=N",
        parse=_checked(parse_vmodule),
        sets="log.vmodule",
    ),
    Setting(
        "log_backtrace_at",
        "log the call stack at this place: file.py:N",
        parse=_checked(parse_backtrace_at),
        sets="log.backtrace_at",
    ),
)
"""Name, default and meaning as in flannel's main.go; their variables are FLANNELD_*."""


OWN_FLAGS: tuple[Setting, ...] = (
    Setting(
        "admin-socket",
        "Unix socket of the admin interface, empty for none",
        _DEFAULT.admin_socket,
        sets="admin_socket",
    ),
    _switch(
        "replace",
        "go on with the tunnel of the daemon that has the admin socket, which ends once this one"
        " is able: no packet is lost",
        sets="replace",
    ),
    Setting(
        "workers",
        f"worker threads that move packets: auto or a number up to {MAX_WORKERS}",
        _DEFAULT.dataplane.workers,
        sets="dataplane.workers",
    ),
    _number(
        "busy-poll-us",
        "microseconds to spin after the last packet before sleeping, 0 for never, -1 for the"
        f" measured default, at most {MAX_BUSY_POLL_US}",
        _DEFAULT.dataplane.busy_poll_us,
        sets="dataplane.busy_poll_us",
    ),
    _number(
        "flight-recorder",
        "packets that each worker remembers, with their verdicts,"
        f" {MIN_FLIGHT_RECORDER} to {MAX_FLIGHT_RECORDER}, 0 for none",
        _DEFAULT.dataplane.flight_recorder,
        sets="dataplane.flight_recorder",
    ),
    Setting(
        "source-check",
        "datagrams that are not from a peer's own addresses: enforce (drop them), warn (count and"
        " deliver them) or off",
        _DEFAULT.dataplane.source_check,
        sets="dataplane.source_check",
    ),
    Setting(
        "offload-off",
        f"switch one offload of the fast path off; may be repeated; one of {', '.join(OFFLOADS)}",
        (),
        repeatable=True,
        sets="dataplane.offloads_off",
        convert=frozenset,
    ),
    Setting(
        "nft-masq-order",
        "order of the masquerade rules in nftables mode: flannel, or corrected, which also"
        " masquerades what the host itself sends to pods of other hosts",
        _DEFAULT.firewall.nft_order,
        sets="firewall.nft_order",
        convert=_one_of("nft-masq-order", "flannel", "corrected"),
    ),
    _switch(
        "no-br-netfilter-check",
        "start without br_netfilter, for containers that cannot see it",
        sets="firewall.bridge_check",
        convert=operator.not_,
    ),
    Setting(
        "seccomp",
        "system calls that the daemon does not need, once it is set up: enforce (refuse them), warn"
        " (have the kernel log them) or off",
        _DEFAULT.privileges.seccomp,
        sets="privileges.seccomp",
        convert=_one_of("seccomp", "enforce", "warn", "off"),
    ),
    _switch(
        "keep-capabilities",
        "keep all capabilities after set-up, instead of those that the daemon needs",
        sets="privileges.keep_capabilities",
    ),
    _switch(
        "per-packet",
        "no offload at all: one packet a system call, as flannel's own proxy works",
        sets="dataplane.per_packet",
    ),
    _switch(
        "allow-impair",
        "let `udpoverlay impair` lose, delay, reorder, duplicate, corrupt or slow down packets to a"
        " peer, for tests",
        sets="dataplane.allow_impair",
    ),
)
"""What flanneld does not have; their variables are UDPOVERLAY_*."""

ALL_FLAGS = (*FLANNEL_FLAGS, *OWN_FLAGS)


_GROUPS: dict[str, Callable[..., Any]] = {
    "dataplane": DataplaneSettings,
    "etcd": EtcdConfig,
    "firewall": FirewallSettings,
    "health": HealthSettings,
    "log": LogSettings,
    "privileges": PrivilegeSettings,
}
"""Settings that stand together below DaemonConfig."""


@dataclass(frozen=True, slots=True)
class Options:
    """All that the command line and the environment said."""

    values: dict[str, Any]
    """By flag name."""
    complaints: list[str]
    """Variables that could not be read; their flags have the default."""

    def config(self, environ: Mapping[str, str]) -> DaemonConfig:
        """Turn the options into settings. Raises OperatorError for what cannot work."""
        fields: dict[str, dict[str, Any]] = {group: {} for group in ("", *_GROUPS, "kube")}
        for flag in ALL_FLAGS:
            if flag.sets:
                group, _, field = flag.sets.rpartition(".")
                fields[group][field] = flag.convert(self.values[flag.name])
        kube = {**fields["kube"], **_from_kubernetes(environ, fields[""]["kube_subnet_mgr"])}
        return DaemonConfig(
            kube=KubeConfigSource(**kube),
            **{group: make(**fields[group]) for group, make in _GROUPS.items()},
            **fields[""],
        )


def _from_kubernetes(environ: Mapping[str, str], used: bool) -> dict[str, Any]:
    """The settings that Kubernetes gives a pod in variables (flannel pkg/subnet/kube/kube.go)."""
    text = environ.get("EVENT_QUEUE_DEPTH", "")
    if text and used:
        try:
            goflags.parse_int32(text)  # of no use to us: events are coalesced, nothing overflows
        except ValueError as error:
            raise OperatorError(
                f"EVENT_QUEUE_DEPTH {text!r} is not a number ({error})",
                fix="use a number like 5000, or unset it",
            ) from None
    return {
        "node_name": environ.get("NODE_NAME", ""),
        "pod_name": environ.get("POD_NAME", ""),
        "pod_namespace": environ.get("POD_NAMESPACE", ""),
        "continue_when_cache_not_ready": environ.get("CONT_WHEN_CACHE_NOT_READY", "") == "true",
        "environment": dict(environ),
    }


def read(
    words: list[str], environ: Mapping[str, str], more: Iterable[Flag] = ()
) -> tuple[Parsed, Options]:
    """Read command line, then environment. Raises goflags.FlagError, goflags.HelpRequested.

    `more` are flags of another command that takes the daemon's, too; no variable sets them.
    """
    parsed = goflags.parse((*ALL_FLAGS, *more), words)
    values, complaints = dict(parsed.values), []
    for flags, prefix in ((FLANNEL_FLAGS, FLANNEL_PREFIX), (OWN_FLAGS, OWN_PREFIX)):
        found, bad = goflags.from_environment(flags, parsed, environ, prefix)
        values.update(found)
        complaints += bad
    return parsed, Options(values, complaints)
