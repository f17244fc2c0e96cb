"""Tunnels that others made, between the two hosts of a bench: tinc, nebula, wireguard-go.

Each is set up as its own documentation says, with the device MTU that its overhead leaves of 1,500
bytes, and with files in the hosts' private /run. Owns: their configuration. Must not know: tests,
results.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

from udpoverlay.errors import LabError
from udpoverlay.lab.actions import files, links, sockets
from udpoverlay.lab.bench.testbed import Duo, Ready
from udpoverlay.lab.etcd import Etcd
from udpoverlay.lab.hosts import Host, Process
from udpoverlay.lab.traffic import End, Pair, icmp_trips

__all__ = ["nebula", "tinc", "wireguard"]

NETWORK_LEN = 24
ADDRESSES = ("10.244.0.1", "10.244.0.2")
INNER_MTU = 1440
"""Nebula (16 bytes of header, 16 of tag) and WireGuard (the same) over IPv4 and UDP (28)."""
_WIREGUARD_SOCKET = "/run/wireguard/wg0.sock"
_READY_SECONDS = 20.0
_POLL_SECONDS = 0.05


def _await(what: str, daemon: Process, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not condition():
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise LabError(f"{what} does not get ready", details=daemon.log(2000))
        time.sleep(_POLL_SECONDS)


def _has_link(host: Host, name: str) -> bool:
    return any(link["name"] == name for link in host.call(links.links))


def _has_file(host: Host, path: str) -> bool:
    return bool(host.call(files.exists, path=path))


def _answers(pair: Pair) -> bool:
    try:
        return icmp_trips(pair, size=56, count=1, pause=0)["answered"] == 1
    except OSError:  # the address or the route is not there yet
        return False


def _finish(duo: Duo, daemons: tuple[Process, ...], version: str) -> Ready:
    """The runner may start when an echo came through."""
    pair = Pair(End(duo.a, ADDRESSES[0]), End(duo.b, ADDRESSES[1]))
    _await(duo.name, daemons[0], partial(_answers, pair))
    return Ready(pair, daemons, version)


def _first_line(host: Host, *argv: str) -> str:
    _, said = host.run(argv)
    return said.strip().partition("\n")[0]


def tinc(duo: Duo, _etcd: Etcd) -> Ready:
    """A router-mode tinc without cipher and digest (tinc.conf(5))."""
    names = ("a", "b")
    keys = []
    for own, (host, address) in enumerate(duo.both()):
        conf = f"Name = {names[own]}\nInterface = tinc0\nConnectTo = {names[1 - own]}\n"
        public = (
            f"Address = {address}\nSubnet = {ADDRESSES[own]}/32\n"
            "Cipher = none\nDigest = none\nCompression = 0\n"
        )
        public_path = f"/run/tinc/hosts/{names[own]}"
        host.call(files.write_text, path="/run/tinc/tinc.conf", text=conf)
        host.call(files.write_text, path=public_path, text=public)
        status, said = host.run(["tincd", "-c", "/run/tinc", "-K", "2048"])
        if status != 0:
            raise LabError("tincd cannot make its keys", details=said)
        keys.append(host.call(files.read_text, path=public_path))
    daemons = []
    for own, (host, _) in enumerate(duo.both()):
        host.call(files.write_text, path=f"/run/tinc/hosts/{names[1 - own]}", text=keys[1 - own])
        daemon = host.popen(["tincd", "-c", "/run/tinc", "-D", "--pidfile=/run/tinc/pid"])
        _await("tinc", daemon, partial(_has_link, host, "tinc0"))
        _address(host, "tinc0", own)
        daemons.append(daemon)
    return _finish(duo, tuple(daemons), _first_line(duo.a, "tincd", "--version"))


def _address(host: Host, link: str, own: int, mtu: int | None = None) -> None:
    host.call(links.add_address, name=link, address=ADDRESSES[own], prefix_len=NETWORK_LEN)
    host.call(links.set_link, name=link, mtu=mtu)


_NEBULA = """\
pki: {{ca: /run/nebula/ca.crt, cert: /run/nebula/host.crt, key: /run/nebula/host.key}}
static_host_map: {{"{peer}": ["{remote}:4242"]}}
lighthouse: {{am_lighthouse: false, hosts: []}}
listen: {{host: 0.0.0.0, port: 4242}}
cipher: aes
tun: {{dev: nebula1, mtu: {mtu}}}
firewall:
  outbound: [{{port: any, proto: any, host: any}}]
  inbound: [{{port: any, proto: any, host: any}}]
"""


def nebula(duo: Duo, _etcd: Etcd) -> Ready:
    """Nebula with static hosts and AES (nebula's examples/config.yml)."""

    def certify(*words: str) -> None:
        status, said = duo.a.run(["nebula-cert", *words])
        if status != 0:
            raise LabError(f"nebula-cert {words[0]} failed", details=said)

    duo.a.call(files.write_text, path="/run/nebula/made", text="")
    ca = ("-ca-crt", "/run/nebula/ca.crt", "-ca-key", "/run/nebula/ca.key")
    certify("ca", "-name", "bench", "-out-crt", ca[1], "-out-key", ca[3])
    daemons = []
    for own, (host, _) in enumerate(duo.both()):
        stem = f"/run/nebula/{own}"
        out = ("-out-crt", f"{stem}.crt", "-out-key", f"{stem}.key")
        ip = f"{ADDRESSES[own]}/{NETWORK_LEN}"
        certify("sign", *ca, "-name", str(own), "-ip", ip, *out)
        for source, target in (
            (ca[1], "ca.crt"),
            (f"{stem}.crt", "host.crt"),
            (f"{stem}.key", "host.key"),
        ):
            text = duo.a.call(files.read_text, path=source)
            host.call(files.write_text, path=f"/run/nebula/{target}", text=text)
        config = _NEBULA.format(
            peer=ADDRESSES[1 - own], remote=duo.both()[1 - own][1], mtu=INNER_MTU
        )
        host.call(files.write_text, path="/run/nebula/config.yml", text=config)
        daemons.append(host.popen(["nebula", "-config", "/run/nebula/config.yml"]))
    return _finish(duo, tuple(daemons), _first_line(duo.a, "nebula", "-version"))


def wireguard(duo: Duo, _etcd: Etcd) -> Ready:
    """wireguard-go, configured over its socket (wireguard.com/xplatform)."""
    secrets = [os.urandom(32), os.urandom(32)]
    daemons = []
    for own, (host, _) in enumerate(duo.both()):
        daemon = host.popen(["wireguard-go", "-f", "wg0"])
        _await(
            "wireguard-go",
            daemon,
            partial(_has_file, host, _WIREGUARD_SOCKET),
        )
        remote = duo.both()[1 - own][1]
        answer = host.call(
            sockets.ask_unix,
            path=_WIREGUARD_SOCKET,
            text=(
                f"set=1\nprivate_key={secrets[own].hex()}\nlisten_port=51820\n"
                f"public_key={_x25519_public(secrets[1 - own]).hex()}\n"
                f"endpoint={remote}:51820\nallowed_ip={ADDRESSES[1 - own]}/32\n\n"
            ),
        )
        if "errno=0" not in answer:
            raise LabError("wireguard-go refuses its settings", details=answer)
        _address(host, "wg0", own, INNER_MTU)
        daemons.append(daemon)
    return _finish(duo, tuple(daemons), _first_line(duo.a, "wireguard-go", "--version"))


def _x25519_public(secret: bytes) -> bytes:
    """The public key of a secret (RFC 7748 §5), plain and slow: two keys a bench.

    Not for a secret worth anything: its time depends on it.
    """
    prime = 2**255 - 19
    scalar = int.from_bytes(secret, "little") & ~7 & ~(1 << 255) | 1 << 254
    x1, x2, z2, x3, z3, swap = 9, 1, 0, 9, 1, 0
    for t in range(254, -1, -1):
        bit = scalar >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b = x2 + z2, x2 - z2
        aa, bb = a * a % prime, b * b % prime
        e = aa - bb
        da, cb = (x3 - z3) * a % prime, (x3 + z3) * b % prime
        x3 = (da + cb) ** 2 % prime
        z3 = x1 * (da - cb) ** 2 % prime
        x2 = aa * bb % prime
        z2 = e * (aa + 121665 * e) % prime
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, prime - 2, prime) % prime).to_bytes(32, "little")
