"""Units of flanneld as they stand in the field start our daemon under flanneld's name, unchanged.

Three ways in which they are written: flags from an environment file's words, the TLS trio on the
line, and FLANNELD_ variables alone. etcd asks for client certificates; the underlay is eth1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.cluster import NETCONF, PREFIX
from tests.support.layers import checked, our_names, own_layer
from tests.support.unit import Service, expand, parse
from udpoverlay.lab.actions import files
from udpoverlay.lab.etcd import Etcd
from udpoverlay.lab.hosts import Fabric, Host

pytestmark = [pytest.mark.root, pytest.mark.etcd]

WORDS = """\
[Unit]
Description=flanneld, the overlay's agent
After=network-online.target etcd.service
Before=docker.service

[Service]
Type=notify
EnvironmentFile=/etc/sysconfig/flanneld
EnvironmentFile=-/etc/sysconfig/docker-network
ExecStart=/usr/local/bin/flanneld -etcd-endpoints=${FLANNEL_ETCD_ENDPOINTS} \\
    -etcd-prefix=${FLANNEL_ETCD_PREFIX} $FLANNEL_OPTIONS
ExecStartPost=/opt/flannel/mk-docker-opts.sh -k DOCKER_NETWORK_OPTIONS -d /run/flannel/docker
Restart=on-failure

[Install]
WantedBy=multi-user.target
RequiredBy=docker.service
"""
WORDS_FILE = """\
# etcd, comma-separated
FLANNEL_ETCD_ENDPOINTS="https://198.18.0.1:2379"
FLANNEL_ETCD_PREFIX="/coreos.com/network"
FLANNEL_OPTIONS="--iface eth1 --ip-masq -etcd-cafile=CA -etcd-certfile=CERT -etcd-keyfile=KEY"
"""
TRIO = """\
[Unit]
Before=containerd.service

[Service]
Type=notify
ExecStart=/usr/local/bin/flanneld \\
  -etcd-cafile=CA \\
  -etcd-certfile=CERT \\
  -etcd-keyfile=KEY \\
  -etcd-endpoints=https://198.18.0.1:2379 \\
  -etcd-prefix=/coreos.com/network \\
  -iface=eth1 \\
  -ip-masq
Restart=always
RestartSec=5

[Install]
RequiredBy=containerd.service
"""
VARIABLES = """\
[Service]
Type=notify
Environment="FLANNELD_IFACE=eth1" FLANNELD_IP_MASQ=true
EnvironmentFile=/etc/flannel/options.env
ExecStart=/opt/bin/flanneld
"""
VARIABLES_FILE = """\
FLANNELD_ETCD_ENDPOINTS=https://198.18.0.1:2379
FLANNELD_ETCD_CAFILE=CA
FLANNELD_ETCD_CERTFILE=CERT
FLANNELD_ETCD_KEYFILE=KEY
"""
UNITS: dict[str, tuple[str, dict[str, str]]] = {
    "words": (WORDS, {"/etc/sysconfig/flanneld": WORDS_FILE}),
    "trio": (TRIO, {}),
    "variables": (VARIABLES, {"/etc/flannel/options.env": VARIABLES_FILE}),
}


class SecuredEtcd(Etcd):
    """Hosts need a certificate; the switch itself may ask without one."""

    def __init__(self, host: Host, authority: Authority) -> None:
        pair = authority.issue("etcd", hosts=[Fabric.GATEWAY, "127.0.0.1"])
        self._secured = [
            f"--listen-client-urls=http://127.0.0.1:2379,https://{Fabric.GATEWAY}:2379",
            "--client-cert-auth",
            f"--trusted-ca-file={authority.cert}",
            f"--cert-file={pair.cert}",
            f"--key-file={pair.key}",
        ]
        super().__init__(host, "127.0.0.1")

    def start(self) -> None:
        self._argv += self._secured
        super().start()


class World:
    """One host on eth1 whose etcd asks for certificates."""

    def __init__(self, directory: Path) -> None:
        self.fabric = Fabric(["n1"], link="eth1")
        try:
            self.host = self.fabric.hosts["n1"]
            authority = Authority(directory)
            self._files = {"CA": authority.cert}
            pair = authority.issue("flanneld")
            self._files |= {"CERT": pair.cert, "KEY": pair.key}
            self.etcd = SecuredEtcd(self.fabric.switch, authority)
            self.etcd.put(f"{PREFIX}/config", json.dumps(NETCONF))
            for folder in ("/opt", "/etc", "/usr/local"):
                own_layer(self.host, folder)
            for folder in ("/opt/bin", "/usr/local/bin", "/opt/flannel"):
                our_names(self.host, folder)
        except BaseException:
            self.fabric.close()
            raise

    def filled(self, text: str) -> str:
        for name, path in self._files.items():
            text = text.replace(f"={name}", f"={path}")
        return text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("certificates"))
    try:
        yield made
    finally:
        made.fabric.close()


@pytest.mark.parametrize("name", UNITS)
def test_unit_starts_is_ready_and_stops(world: World, name: str) -> None:
    unit, given = UNITS[name]
    named = {path: world.filled(text) for path, text in given.items()}
    service = Service(world.host, world.filled(unit), named)
    try:
        service.start()
        env = world.host.call(files.read_text, path="/run/flannel/subnet.env")
        assert "FLANNEL_IPMASQ=true\n" in env
        [key] = world.etcd.read(f"{PREFIX}/subnets/")
        subnet = key.rpartition("/")[2].replace("-", "/")
        assert f"FLANNEL_SUBNET={subnet.replace('.0/', '.1/')}\n" in env
        assert f"-s {subnet} -d 10.5.0.0/16" in checked(world.host, "iptables-save", "-t", "nat")
        assert service.stop() == 0
        assert any(line.startswith("STATUS=subnet ") for line in service.told())
        assert "STOPPING=1" in service.told()
        if name == "words":
            options = world.host.call(files.read_text, path="/run/flannel/docker")
            bip = subnet.replace(".0/", ".1/")
            wanted = f'DOCKER_NETWORK_OPTIONS=" --bip={bip} --ip-masq=false --mtu=1472"'
            assert wanted in options.splitlines()
    finally:
        service.close()


def test_unit_reader_expands_as_systemd_does() -> None:
    """The reader is no stand-in for what it is asked about: it must not be kinder than systemd."""
    environment = {"A": "one two", "EMPTY": ""}
    assert expand("p $A ${A} x${A}y $EMPTY ${EMPTY} $NONE 'q r'", environment) == [
        *("p", "one", "two", "one two", "xone twoy", "", "q r"),
    ]
    assert parse("[Service]\n# c\nA=1\nB=x \\\n  y\n[Install]\nA=2\n", "Service") == [
        ("A", "1"),
        ("B", "x    y"),
    ]
