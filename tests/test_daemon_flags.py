"""The daemon's command line: flanneld's table, the environment, refusals, exit codes."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from udpoverlay.cli import daemon_command, daemon_flags, main
from udpoverlay.cli.daemon_flags import FLANNEL_FLAGS, OWN_FLAGS
from udpoverlay.errors import KernelError, OperatorError
from udpoverlay.model.config import DaemonConfig

DOCS = Path(__file__).parent.parent / "docs" / "reference" / "flags.md"

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


def config(*words: str, **environ: str) -> DaemonConfig:
    _, options = daemon_flags.read(list(words), environ)
    assert options.complaints == []
    return options.config(environ)


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
        "--driver=threads",
        "--workers=2",
        "--busy-poll-us=50",
        "--offload-off=uso",
        "--offload-off=udp-gro",
        "--per-packet",
    )
    assert found.etcd.endpoints == ("https://a:2379", " https://b:2379")
    assert (found.etcd.prefix, found.etcd.username, found.etcd.password) == ("/x", "u", "hunter2")
    assert found.iface == ("eth1", "eth0")
    assert found.iface_regex == ("^eth",)
    assert found.public_ip == "192.0.2.1"
    assert found.iptables_forward_rules is False
    assert found.iptables_resync == 1
    assert found.kube_subnet_mgr
    assert found.kube.api_url == "https://k"
    assert found.verbosity == 3
    assert (found.admin_socket, found.driver, found.workers) == ("", "threads", "2")
    assert found.busy_poll_us == 50
    assert found.offloads_off == {"uso", "udp-gro"}
    assert found.per_packet


def test_the_environment_counts_where_the_line_is_silent() -> None:
    environ = {
        "FLANNELD_ETCD_ENDPOINTS": "http://e:1",
        "FLANNELD_IFACE": "eth1,eth2",
        "FLANNELD_V": "2",
        "FLANNELD_VERSION": "true",
        "FLANNELD_PUBLIC_IP": "",
        "UDPOVERLAY_DRIVER": "loop",
        "FLANNELD_DRIVER": "threads",
        "UDPOVERLAY_V": "9",
    }
    found = config("-v=4", **environ)
    assert found.etcd.endpoints == ("http://e:1",)
    assert found.iface == ("eth1,eth2",)
    assert found.verbosity == 4
    assert found.driver == "loop"


def test_kubernetes_variables_reach_the_settings() -> None:
    found = config(
        "-kube-subnet-mgr",
        NODE_NAME="n1",
        POD_NAME="p",
        POD_NAMESPACE="ns",
        EVENT_QUEUE_DEPTH="100",
        CONT_WHEN_CACHE_NOT_READY="true",
    ).kube
    assert (found.node_name, found.pod_name, found.pod_namespace) == ("n1", "p", "ns")
    assert found.event_queue_depth == 100
    assert found.continue_when_cache_not_ready


@pytest.mark.parametrize(("text", "depth"), [("0", 5000), ("-3", 5000), ("", 5000), ("7", 7)])
def test_a_queue_depth_that_is_not_positive_means_the_default(text: str, depth: int) -> None:
    found = config("-kube-subnet-mgr", EVENT_QUEUE_DEPTH=text)
    assert found.kube.event_queue_depth == depth


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


@pytest.mark.parametrize("flag", ["-ip-masq", "-ip-blackhole-route", "-healthz-port=8081"])
def test_what_would_be_wrong_to_ignore_is_refused_with_a_way_out(flag: str) -> None:
    with pytest.raises(OperatorError, match="not yet") as caught:
        config(flag)
    assert flag.partition("=")[0].lstrip("-") in caught.value.what
    assert caught.value.fix


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
        ("--driver=magic", "driver 'magic'"),
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


# The command.


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[DaemonConfig]:
    """Let the daemon do nothing; return what it was given."""
    configs: list[DaemonConfig] = []

    def run(config: DaemonConfig, notify_socket: str) -> int:
        assert notify_socket == "/n"
        configs.append(config)
        return 0

    monkeypatch.setattr(daemon_command, "_run_daemon", run)
    return configs


def run(*words: str, **environ: str) -> int:
    return daemon_command.run(list(words), {"NOTIFY_SOCKET": "/n", **environ}, "udpoverlayd")


def test_a_start_logs_all_options_without_the_password(
    started: list[DaemonConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-etcd-password=hunter2", "-etcd-endpoints=http://u:hunter2@e:1", "-v=1") == 0
    (config,) = started
    assert config.etcd.password == "hunter2"
    text = capsys.readouterr().err
    assert "hunter2" not in text
    assert re.search(r"\] starting version=\S+ etcd_endpoints=http://\*\*\*@e:1 ", text)
    assert " etcd_password=*** " in text
    assert " v=1 " in text


def test_the_password_is_not_in_the_text_of_the_settings() -> None:
    assert "hunter2" not in repr(config("-etcd-password=hunter2"))


def test_a_variable_that_cannot_be_read_is_logged_and_the_start_goes_on(
    started: list[DaemonConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(FLANNELD_IP_MASQ="yes") == 0
    assert started[0].ip_masq is False
    assert 'invalid value "yes" for FLANNELD_IP_MASQ' in capsys.readouterr().err


def test_missing_forward_rules_are_one_warning_unless_unwanted(
    started: list[DaemonConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    assert capsys.readouterr().err.count("forward rules are not installed") == 1
    run("-iptables-forward-rules=false")
    assert "forward rules" not in capsys.readouterr().err
    assert len(started) == 2


def test_left_over_words_are_ignored_but_mentioned(
    started: list[DaemonConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("extra", "-v=9") == 0
    assert started[0].verbosity == 0
    assert 'words="extra,-v=9"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--logtostderr",), "flag provided but not defined: -logtostderr"),
        (("-v", "x"), 'invalid value "x" for flag -v: parse error'),
        (("-vmodule=x",), "expect a comma-separated list of filename=N"),
        (("-log_backtrace_at=x",), "expect file.py:234"),
        (("-iface",), "flag needs an argument: -iface"),
    ],
)
def test_a_wrong_flag_explains_itself_and_exits_2(
    words: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert problem in lines[0]
    assert lines[1] == "Usage: udpoverlayd [OPTION]..."
    assert lines[-1].startswith("udpoverlayd: ")
    assert problem in lines[-1]


def test_a_mistyped_flag_is_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--etcd-endpoint=x") == 2
    assert capsys.readouterr().err.endswith("(did you mean -etcd-endpoints?)\n")


def test_help_goes_to_standard_error_with_an_example_and_exits_0(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("-h") == 0
    out, err = capsys.readouterr()
    assert out == ""
    for flag in (*FLANNEL_FLAGS, *OWN_FLAGS):
        assert f"\n  -{flag.name}" in err
    assert "--etcd-endpoints=http://192.0.2.1:2379 --iface=eth1" in err


def test_version_is_printed_before_the_environment_is_looked_at(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("-version", FLANNELD_V="x") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", err)


def test_a_refusal_is_one_line_and_exits_1(
    started: list[DaemonConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-ip-masq") == 1
    assert started == []
    *_, line = capsys.readouterr().err.splitlines()
    assert re.match(r"E\d{4} .*\] --ip-masq: not yet: ", line)


@pytest.mark.parametrize(
    ("error", "code"),
    [(KernelError("no /dev/net/tun", fix="load tun"), 1), (RuntimeError("a\ndefect"), 2)],
)
def test_an_error_that_ends_the_daemon_is_one_line(
    error: Exception,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(config: DaemonConfig, notify_socket: str) -> int:
        raise error

    monkeypatch.setattr(daemon_command, "_run_daemon", fail)
    assert run("-iptables-forward-rules=false") == code
    _starting, line = capsys.readouterr().err.splitlines()
    assert str(error).replace("\n", "\\n") in line


# The program `udpoverlay`.


def program(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/udpoverlay", *words])
    return main.udpoverlay()


def test_every_listed_command_exists_and_shows_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program(monkeypatch, "-h") == 0
    usage = capsys.readouterr().out
    for name in main.COMMANDS:
        assert f"  {name}" in usage
        with contextlib.suppress(SystemExit):  # argparse leaves this way
            program(monkeypatch, name, "-h")
        help_text = "".join(capsys.readouterr()).lower()
        assert "example" in help_text


def test_the_two_ways_to_start_the_daemon_are_one(
    started: list[DaemonConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/n")
    assert program(monkeypatch, "daemon", "-v=2") == 0
    monkeypatch.setattr(sys, "argv", ["/usr/bin/udpoverlayd", "-v=2"])
    assert main.udpoverlayd() == 0
    assert started[0].verbosity == started[1].verbosity == 2


def test_an_unknown_command_exits_2_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program(monkeypatch, "versoin") == 2
    assert "did you mean version?" in capsys.readouterr().err
    assert program(monkeypatch) == 2


def test_the_version_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program(monkeypatch, "version") == 0
    assert capsys.readouterr().out.startswith("udpoverlay ")
    assert program(monkeypatch, "--version") == 0


def test_looking_at_flags_loads_neither_the_event_loop_nor_netlink() -> None:
    script = (
        "import sys; from udpoverlay.cli.daemon_command import run\n"
        "assert run(['-version'], {}, 'x') == 0\n"
        "heavy = {'uvloop', 'aiohttp', 'pyroute2', 'udpoverlay._fastpath'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.flanneld
def test_the_real_flanneld_has_the_same_flags() -> None:
    done = subprocess.run(["flanneld", "-h"], capture_output=True, text=True, check=True)
    theirs = set(re.findall(r"^  -([a-z0-9_-]+)", done.stderr, re.MULTILINE))
    assert theirs == {flag.name for flag in FLANNEL_FLAGS}


# The page.


def test_the_reference_page_has_every_flag_with_its_default() -> None:
    page, _, _ = DOCS.read_text().partition("\n## Refused")
    rows = {
        match[1]: match[2]
        for match in re.finditer(r"^\| `([a-z_0-9-]+)` \| (.*?) \|", page, re.MULTILINE)
    }
    for flag in (*FLANNEL_FLAGS, *OWN_FLAGS):
        default = flag.default
        if isinstance(default, bool):
            wanted = f"`{str(default).lower()}`"
        elif default in ("", ()):
            wanted = ""
        else:
            wanted = f"`{default}`"
        assert rows.get(flag.name) == wanted, flag.name
    assert set(rows) == {flag.name for flag in (*FLANNEL_FLAGS, *OWN_FLAGS)}
