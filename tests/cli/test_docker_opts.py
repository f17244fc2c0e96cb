"""cli/docker_opts.py and install_conf.py against what flannel's own tools write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from udpoverlay.cli import main
from udpoverlay.host.routes import gateway_routes

ENV = """\
FLANNEL_NETWORK=10.1.0.0/16
FLANNEL_SUBNET=10.1.74.1/24
FLANNEL_MTU=1472
FLANNEL_IPMASQ=false
"""
BIP, MASQ, MTU = "--bip=10.1.74.1/24", "--ip-masq=true", "--mtu=1472"
EACH = f'DOCKER_OPT_BIP="{BIP}"\nDOCKER_OPT_IPMASQ="{MASQ}"\nDOCKER_OPT_MTU="{MTU}"\n'
ALL = f'" {BIP} {MASQ} {MTU}"\n'


@pytest.fixture
def subnet_file(tmp_path: Path) -> Path:
    path = tmp_path / "subnet.env"
    path.write_text(ENV)
    return path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["udpoverlay", *words])
    return main.udpoverlay()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), f"{EACH}DOCKER_OPTS={ALL}"),
        (("-i",), EACH),
        (("-c",), f"DOCKER_OPTS={ALL}"),
        (("-k", "CUSTOM_KEY"), f"{EACH}CUSTOM_KEY={ALL}"),
        (
            ("-m",),
            f'DOCKER_OPT_BIP="{BIP}"\nDOCKER_OPT_MTU="{MTU}"\nDOCKER_OPTS=" {BIP} {MTU}"\n',
        ),
    ],
)
def test_file_is_what_mk_docker_opts_writes(
    subnet_file: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], text: str
) -> None:
    out = subnet_file.with_name("docker_opts.env")
    assert run(monkeypatch, "docker-opts", "-f", str(subnet_file), "-d", str(out), *words) == 0
    assert out.read_text() == text


def test_masquerading_daemon_leaves_docker_none(
    subnet_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subnet_file.write_text(ENV.replace("false", "true"))
    assert run(monkeypatch, "docker-opts", "-f", str(subnet_file), "--json") == 0
    assert json.loads(capsys.readouterr().out)["DOCKER_OPT_IPMASQ"] == "--ip-masq=false"


@pytest.mark.parametrize(
    ("text", "words", "why"),
    [
        (None, (), "does not exist"),
        (ENV.replace("=false", "=maybe"), (), "FLANNEL_IPMASQ is 'maybe'"),
        (ENV, ("-k", "a b"), "-k 'a b'"),
    ],
)
def test_bad_input_is_one_line_with_the_fix_and_writes_nothing(  # noqa: PLR0917 - fixtures
    subnet_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    words: tuple[str, ...],
    why: str,
) -> None:
    subnet_file.unlink()
    if text is not None:
        subnet_file.write_text(text)
    out = subnet_file.with_name("docker_opts.env")
    assert run(monkeypatch, "docker-opts", "-f", str(subnet_file), "-d", str(out), *words) == 1
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_subnet_behind_a_gateway_is_refused(
    subnet_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = subnet_file.with_name("route")
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    table.write_text(f"{head}eth0\t004A010A\t010010AC\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n")
    [(network, device)] = gateway_routes(str(table))
    assert (str(network), device) == ("10.1.74.0/24", "eth0")
    monkeypatch.setattr(
        "udpoverlay.cli.docker_opts.gateway_routes", lambda: gateway_routes(str(table))
    )
    assert run(monkeypatch, "docker-opts", "-f", str(subnet_file), "-d", "-") == 1
    assert "ip route del 10.1.74.0/24" in capsys.readouterr().err


def test_install_conf_replaces_a_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "cni-conf.json", tmp_path / "net.d" / "10-flannel.conflist"
    source.write_text('{"name": "cbr0"}')
    for _ in range(2):
        assert run(monkeypatch, "install-conf", str(source), str(target)) == 0
        assert target.read_text() == source.read_text()
    assert [path.name for path in target.parent.iterdir()] == ["10-flannel.conflist"]
    assert target.stat().st_mode & 0o777 == 0o644


def test_install_conf_without_source_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "install-conf", str(tmp_path / "no"), str(tmp_path / "x")) == 1
    assert "No such file" in capsys.readouterr().err
