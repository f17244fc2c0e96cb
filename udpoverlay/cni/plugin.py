"""The commands of CNI, delegated as flannel's plugin does (flannel-io/cni-plugin flannel_linux.go).

    {"type": "flannel", "delegate": {…}} + subnet.env ──► {"type": "bridge", "mtu": …, "ipam": …}
    ADD     save what the delegate gets, run it, pass its result on
    DEL     run the delegate with what was saved; nothing saved: done already
    CHECK   the same delegate with the previous result
    STATUS  is subnet.env there, are the plugins there, what does the delegate say (CNI 1.1)
    GC      DEL for what is kept of containers that are gone, then the delegate's own GC (CNI 1.1)

Owns: these commands. Must not know: how a process is run, where state lies. Two calls never share a
process, so nothing here is kept between calls.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from udpoverlay.cni import attachments, delegate
from udpoverlay.cni.errors import (
    BAD_CONFIG,
    BAD_ENVIRONMENT,
    CANNOT_DECODE,
    INTERNAL,
    NOT_AVAILABLE,
    UNSUPPORTED_VERSION,
    CniError,
)
from udpoverlay.cni.subnet_env import SubnetEnv, load_subnet_env

__all__ = ["DATA_DIR", "NEEDED", "SUBNET_FILE", "SUPPORTED", "delegate_config", "main"]

SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
_LATEST = SUPPORTED[-1]
SUBNET_FILE = "/run/flannel/subnet.env"
DATA_DIR = "/var/lib/cni/flannel"
_ADMIN_SOCKET = "/run/udpoverlay/admin.sock"
NEEDED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "STATUS": (),
    "GC": (),
    "VERSION": (),
}
_OF_A_NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
_HELP = """\
udpoverlay-cni: the CNI plugin of udpoverlay, in place of flannel's

It is started by a container runtime, which sets CNI_COMMAND. To try it:

    CNI_COMMAND=VERSION udpoverlay-cni < /dev/null
    echo '{"cniVersion": "1.1.0", "name": "cbr0", "type": "flannel"}' |
        CNI_COMMAND=STATUS CNI_PATH=/opt/cni/bin udpoverlay-cni
"""


def main() -> None:
    """Do what CNI_COMMAND says; print the result or CNI's error, exit 0 or 1."""
    environ = dict(os.environ)
    command = environ.get("CNI_COMMAND", "")
    if not command:
        sys.stderr.write(_HELP)
        sys.exit(0 if len(sys.argv) > 1 else 1)
    version = _LATEST
    try:
        if command not in NEEDED:
            raise CniError(BAD_ENVIRONMENT, f"CNI_COMMAND {command!r} is not one of {_names()}")
        config = _read_config(sys.stdin.buffer.read(), command)
        version = str(config.get("cniVersion") or version)
        for name in NEEDED[command]:
            if not environ.get(name):
                raise CniError(BAD_ENVIRONMENT, f"{name} is not set", "the runtime sets it")
        printed = _COMMANDS[command](config, environ)
    except Exception as caught:
        error = caught if isinstance(caught, CniError) else CniError(INTERNAL, repr(caught))
        shown: dict[str, object] = {
            "cniVersion": version if version in SUPPORTED else _LATEST,
            "code": error.code,
            "msg": error.what,
        }
        if error.details:
            shown["details"] = error.details
        sys.stdout.write(json.dumps(shown) + "\n")
        sys.exit(1)
    sys.stdout.write(printed)


def _names() -> str:
    return ", ".join(NEEDED)


def _read_config(raw: bytes, command: str) -> dict[str, Any]:
    if command == "VERSION" and not raw.strip():
        return {}
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CniError(
            CANNOT_DECODE,
            f"the network configuration is no JSON: {error}",
            "look in /etc/cni/net.d",
        ) from error
    if not isinstance(config, dict):
        raise CniError(CANNOT_DECODE, "the network configuration is no JSON object")
    version = config.get("cniVersion")
    if version not in (None, "", *SUPPORTED) and command != "VERSION":
        raise CniError(
            UNSUPPORTED_VERSION,
            f"cniVersion {version!r} is not supported",
            f"use one of {', '.join(SUPPORTED)}",
        )
    if command != "VERSION":
        _check_name(config.get("name"))
    for key, kind in (
        ("subnetFile", str),
        ("dataDir", str),
        ("delegate", dict),
        ("ipam", dict),
        ("runtimeConfig", dict),
    ):
        if not isinstance(config.get(key), (kind, type(None))):
            words = "a text" if kind is str else "an object"
            raise CniError(BAD_CONFIG, f"{key} in the network configuration must be {words}")
    return config


def _check_name(name: object) -> None:
    """As libcni's plugins do it (containernetworking/cni pkg/utils ValidateNetworkName).

    host-local keeps its addresses in a folder of this name.
    """
    if name is None or name == "":
        raise CniError(
            BAD_CONFIG, "the network configuration has no name", 'add one, such as "cbr0"'
        )
    text = name if isinstance(name, str) else ""
    if not text.isascii() or not text[:1].isalnum() or text.strip(_OF_A_NAME):
        raise CniError(
            BAD_CONFIG,
            f"the name {name!r} of the network configuration cannot be used",
            "use letters, digits, _, . and -, a letter or a digit first",
        )


def _subnet_file(config: Mapping[str, Any]) -> str:
    return config.get("subnetFile") or SUBNET_FILE


def _data_dir(config: Mapping[str, Any]) -> str:
    return config.get("dataDir") or DATA_DIR


def delegate_config(config: Mapping[str, Any], env: SubnetEnv) -> dict[str, Any]:
    """What the delegate gets: `delegate` as given, completed from subnet.env. Raises CniError."""
    given = dict(config.get("delegate") or {})
    for key in ("name", "ipam"):
        if key in given:
            raise CniError(
                BAD_CONFIG, f"'delegate' must not have {key!r}", "remove it: this plugin sets it"
            )
    if not isinstance(given.get("type", ""), str):
        raise CniError(BAD_CONFIG, "the type in 'delegate' must be a text", 'such as "bridge"')
    if config.get("runtimeConfig") is not None:
        given["runtimeConfig"] = config["runtimeConfig"]
    given["name"] = config.get("name", "")
    given.setdefault("type", "bridge")
    # Where the daemon does not masquerade, the bridge has to.
    given.setdefault("ipMasq", not env.ip_masq)
    given.setdefault("mtu", env.mtu)
    if given["type"] == "bridge":
        given.setdefault("isGateway", True)
    if config.get("cniVersion"):
        given["cniVersion"] = config["cniVersion"]
    given["ipam"] = _ipam(config.get("ipam") or {}, env)
    return given


def _ipam(given: Mapping[str, Any], env: SubnetEnv) -> dict[str, Any]:
    ipam = dict(given)
    ipam.setdefault("type", "host-local")
    ipam["ranges"] = [[{"subnet": subnet}] for subnet in env.subnets]
    routes = [] if ipam.get("routes") is None else ipam["routes"]
    if not isinstance(routes, list):
        raise CniError(BAD_CONFIG, "ipam.routes in the network configuration must be a list")
    ipam["routes"] = [*routes, *({"dst": network} for network in env.networks)]
    return ipam


def _add(config: dict[str, Any], environ: dict[str, str]) -> str:
    passed = delegate_config(config, load_subnet_env(_subnet_file(config)))
    delegate.find(passed["type"], environ)
    kept = {**passed, attachments.IFNAME_KEY: environ["CNI_IFNAME"]}
    attachments.save(_data_dir(config), environ["CNI_CONTAINERID"], kept)
    return delegate.run(passed["type"], passed, environ)


def _kept(config: Mapping[str, Any], container: str) -> dict[str, Any] | None:
    kept = attachments.load(_data_dir(config), container)
    if kept is None or not isinstance(kept.get("type"), str):
        return None
    kept.pop(attachments.IFNAME_KEY, None)
    return kept


def _del(config: dict[str, Any], environ: dict[str, str]) -> str:
    container = environ["CNI_CONTAINERID"]
    kept = _kept(config, container)
    if kept is not None:
        delegate.run(kept["type"], kept, environ)
        attachments.forget(_data_dir(config), container)
    return ""


def _check(config: dict[str, Any], environ: dict[str, str]) -> str:
    kept = _kept(config, environ["CNI_CONTAINERID"])
    if kept is None:
        raise CniError(
            BAD_CONFIG,
            f"nothing is known of container {environ['CNI_CONTAINERID']}",
            "ADD comes before CHECK",
        )
    for key in ("prevResult", "runtimeConfig", "cniVersion"):
        if key in config:
            kept[key] = config[key]
    if isinstance(kept.get("prevResult"), dict):
        kept["prevResult"] = _with_gateways(kept["prevResult"])
    return delegate.run(kept["type"], kept, environ)


def _with_gateways(result: dict[str, Any]) -> dict[str, Any]:
    """The result, each route with the gateway that it was added with.

    bridge and ptp take the gateway of the address for a route that names none, but their CHECK
    looks for the route without one (containernetworking/plugins pkg/ip/utils_linux.go).
    """
    try:
        gateways = {
            ":" in ip["address"]: ip["gateway"] for ip in result["ips"] if ip.get("gateway")
        }
        routes = [
            {**route, "gw": route.get("gw") or gateways[":" in route["dst"]]}
            for route in result["routes"]
        ]
    except (KeyError, TypeError, AttributeError):
        return result  # not the shape that this is about: the delegate judges it
    return {**result, "routes": routes}


def _status(config: dict[str, Any], environ: dict[str, str]) -> str:
    try:
        passed = delegate_config(config, load_subnet_env(_subnet_file(config)))
        _daemon_runs()
        for kind in (passed["type"], passed["ipam"]["type"]):
            delegate.find(kind, environ)
    except CniError as error:
        raise CniError(NOT_AVAILABLE, error.what, error.details) from error
    _ask(passed, environ)
    return ""


def _daemon_runs() -> None:
    """A daemon of ours that was here and is gone leaves a socket that refuses."""
    import socket  # noqa: PLC0415 - STATUS alone needs it

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(_ADMIN_SOCKET)
        except ConnectionRefusedError as error:
            raise CniError(
                NOT_AVAILABLE,
                "udpoverlayd does not run on this node",
                "start it; its last words are in its log (journalctl -u udpoverlayd)",
            ) from error
        except OSError:
            return  # flanneld, another path, or no right to ask: not ours to judge


def _ask(passed: Mapping[str, Any], environ: dict[str, str]) -> None:
    """The delegate's own word; one from before CNI 1.1 has none."""
    try:
        delegate.run(str(passed["type"]), passed, environ)
    except delegate.DelegateError as error:
        if error.code not in (UNSUPPORTED_VERSION, delegate.UNKNOWN_COMMAND):
            raise


def _gc(config: dict[str, Any], environ: dict[str, str]) -> str:
    valid = config.get("cni.dev/valid-attachments", config.get("cni.dev/attachments"))
    if not isinstance(valid, list):
        raise CniError(
            BAD_CONFIG,
            "GC needs cni.dev/valid-attachments, a list of containerID and ifname",
            "the runtime sends it",
        )
    alive = {str(each.get("containerID")) for each in valid if isinstance(each, dict)}
    first: CniError | None = None
    for container in attachments.known(_data_dir(config)):
        if container in alive:
            continue
        try:
            _collect(config, container, environ)
        except CniError as error:
            first = first or error  # the others are tried all the same
    if first is not None:
        raise first
    passed = dict(config.get("delegate") or {})
    passed.setdefault("type", "bridge")
    passed["name"] = config.get("name", "")
    passed["ipam"] = {"type": "host-local", **(config.get("ipam") or {})}
    for key in ("cniVersion", "cni.dev/valid-attachments", "cni.dev/attachments"):
        if key in config:
            passed[key] = config[key]
    _ask(passed, environ)
    return ""


def _collect(config: Mapping[str, Any], container: str, environ: Mapping[str, str]) -> None:
    kept = attachments.load(_data_dir(config), container)
    if kept is None or kept.get("name") != config.get("name"):
        return  # another network's, or not ours
    ifname = str(kept.pop(attachments.IFNAME_KEY, "eth0"))
    gone = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": container, "CNI_IFNAME": ifname}
    delegate.run(str(kept.get("type")), kept, {**environ, **gone, "CNI_NETNS": ""})
    attachments.forget(_data_dir(config), container)


def _version(config: dict[str, Any], _environ: dict[str, str]) -> str:
    asked = config.get("cniVersion")
    shown = {
        "cniVersion": asked if asked in SUPPORTED else _LATEST,
        "supportedVersions": list(SUPPORTED),
    }
    return json.dumps(shown) + "\n"


_COMMANDS = {
    "ADD": _add,
    "DEL": _del,
    "CHECK": _check,
    "STATUS": _status,
    "GC": _gc,
    "VERSION": _version,
}
