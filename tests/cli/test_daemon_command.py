"""cli/daemon_command.py and cli/main.py: what a command line prints, logs and exits with."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.daemonflags import config
from udpoverlay.cli import daemon_command, entry, main
from udpoverlay.cli.commands import COMMANDS
from udpoverlay.cli.daemon_flags import FLANNEL_FLAGS, OWN_FLAGS
from udpoverlay.errors import KernelError
from udpoverlay.host.notify import ServiceManager
from udpoverlay.model.config import DaemonConfig

# The command.


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[DaemonConfig]:
    """Let the daemon do nothing; return what it was given."""
    configs: list[DaemonConfig] = []

    def run(config: DaemonConfig, manager: ServiceManager) -> int:
        assert manager.watchdog_seconds == 1.0
        configs.append(config)
        return 0

    monkeypatch.setattr(daemon_command, "_run_daemon", run)
    return configs


@pytest.fixture(autouse=True, scope="module")
def rights() -> Iterator[None]:
    """Those of this process are needed by later tests: a daemon that runs in it keeps them."""
    with pytest.MonkeyPatch.context() as patch:
        for step in ("before_the_loop", "give_up"):
            patch.setattr(f"udpoverlay.host.privileges.process.Privileges.{step}", lambda *_: None)
        yield


def run(*words: str, **environ: str) -> int:
    return daemon_command.run(
        list(words), {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000", **environ}, "udpoverlayd"
    )


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
    assert started[0].firewall.masquerade is False
    assert 'invalid value "yes" for FLANNELD_IP_MASQ' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("lab",),
            "'lab' (word 1 of the command line) is no flag: udpoverlayd is the daemon",
        ),
        (("lab",), "the command is: udpoverlay lab"),
        (("statis", "--json"), "so the flag behind it would be ignored"),
        (("versoin",), "if a command is meant, run: udpoverlay version"),
        (("-ip-masq", "false", "-v=2"), "write -ip-masq=false"),
        (("-v", "1", "-kube-subnet-mgr", "true", "-v=2", "-iface=x"), "so the 2 flags behind it"),
        (("iface=eth1",), "'iface=' (word 1 of the command line) is no flag"),
        (("iface=eth1",), "write it with a dash: -iface=VALUE"),
        (("etcd-password=hunter2",), "write it with a dash: -etcd-password=VALUE"),
        (("-v=1", "", "-v=2"), "an empty word (word 2 of the command line) is no flag"),
        (("--", "lab"), "'lab' (word 2 of the command line)"),
        (("--etcd-password=correct", "hunter2"), "a value with spaces in quotes"),
        (("etcd-password:hunter2",), "a word (word 1 of the command line) is no flag"),
    ],
)
def test_word_after_the_flags_starts_nothing_and_is_explained(
    words: tuple[str, ...],
    message: str,
    started: list[DaemonConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(*words) == 2
    assert started == []
    error = capsys.readouterr().err
    assert error.startswith("udpoverlayd: ")
    assert message in error
    assert error.endswith("\nudpoverlayd -h lists the flags\n")
    assert "hunter2" not in error


@pytest.mark.parametrize("words", [("-v=3", "--"), ("-v=3", ""), ("-v=3", "", "")])
def test_nothing_after_the_flags_is_fine(
    words: tuple[str, ...], started: list[DaemonConfig]
) -> None:
    assert run(*words) == 0
    assert started[0].log.verbosity == 3


@given(
    st.text(st.sampled_from("/?#@:[]{}<>%&=+,;!$'\"\\|^`~ \tx9é"), max_size=6),
    st.sampled_from(["--etcd-endpoints=", "--kube-api-url=", "--etcd-endpoints=http://h:1,"]),
)
@settings(deadline=None, max_examples=50)
def test_refused_url_is_shown_without_its_password(odd: str, flag: str) -> None:
    """From the command line to the last line, with the real registries' own checks."""
    words = [f"{flag}http://root:{odd}hunter2@", "-subnet-file=/proc/nothing/here"]
    if "kube" in flag:
        words.append("-kube-subnet-mgr")
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        assert daemon_command.run(words, {}, "udpoverlayd") == 1
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize("endpoints", ["http://[::1", "http://[::1]:x", "http://u:12/3@h:1", ","])
def test_endpoint_that_is_none_is_one_line_and_exit_1(
    endpoints: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert daemon_command.run([f"--etcd-endpoints={endpoints}"], {}, "udpoverlayd") == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert re.match(r"E\d{4} .*\] etcd-endpoints", line)
    assert "write http://HOST:2379" in line


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
    assert run("--etcd-pasword:hunter2") == 2
    error = capsys.readouterr().err
    assert error.endswith("not defined: -etcd-pasword… (did you mean -etcd-password=VALUE?)\n")
    assert "hunter2" not in error


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
    assert run("-healthz-port=65536") == 1
    assert started == []
    *_, line = capsys.readouterr().err.splitlines()
    assert re.match(r"E\d{4} .*\] healthz-port 65536 is no port: use 0 to 65535", line)


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
    for name in COMMANDS:
        assert f"  {name}" in usage
        with contextlib.suppress(SystemExit):  # argparse leaves this way
            program(monkeypatch, name, "-h")
        help_text = "".join(capsys.readouterr()).lower()
        assert "example" in help_text


def test_the_two_ways_to_start_the_daemon_are_one(
    started: list[DaemonConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/n")
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    assert program(monkeypatch, "daemon", "-v=2") == 0
    monkeypatch.setattr(sys, "argv", ["/usr/bin/udpoverlayd", "-v=2"])
    monkeypatch.setattr(entry, "_end", sys.exit)
    monkeypatch.setattr(entry, "_begin", lambda: None)
    with pytest.raises(SystemExit, match="0"):
        entry.udpoverlayd()
    assert started[0].log.verbosity == started[1].log.verbosity == 2


def test_an_unknown_command_exits_2_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program(monkeypatch, "versoin") == 2
    assert "did you mean version?" in capsys.readouterr().err
    assert program(monkeypatch) == 2


def test_wrong_argument_of_a_command_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "http://root:hun/ter2@k:1"
    with pytest.raises(SystemExit):
        program(
            monkeypatch, "version", "--tokn=a", f"--server={url}", "--password=ter2", "\x1b[31m"
        )
    error = capsys.readouterr().err
    assert "--server=http://***@k:1 --password=*** \\x1b[31m" in error
    assert program(monkeypatch, "podcidr-controller", f"--cluster-cidr={url}") == 1
    assert "http://***@k:1" in capsys.readouterr().err


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
