"""cli/ and what a process is told from outside: signals, descriptors, the command line."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_COMMAND = "udpoverlay/cli/daemon_command.py"
_DAEMON = "udpoverlay/daemon.py"
_ENTRY = "udpoverlay/cli/entry.py"
_FLAGS = "udpoverlay/cli/daemon_flags.py"

_SIGNALS = ("tests/cli/test_entry.py",)

MUTANTS = (
    Mutant(
        name="signal-at-the-start-kills",
        bug="SIGTERM during the start ends the daemon by the signal, not with exit status 0",
        file=_ENTRY,
        old="        signal.signal(number, _leave)\n",
        new="        pass\n",
        tests=_SIGNALS,
    ),
    Mutant(
        name="usr1-kills",
        bug="SIGUSR1, which flanneld ignores, ends the daemon",
        file=_ENTRY,
        old="        signal.signal(number, signal.SIG_IGN)\n",
        new="        pass\n",
        tests=_SIGNALS,
    ),
    Mutant(
        name="quit-shows-nothing",
        bug="SIGQUIT does not show where a daemon that hangs stands",
        file=_ENTRY,
        old="    signal.signal(signal.SIGQUIT, _quit)\n",
        new="",
        tests=_SIGNALS,
    ),
    Mutant(
        name="log-into-a-socket",
        bug="with standard error closed at start the log is written into the first socket",
        file=_ENTRY,
        old="_quit)\n    _open_standard_descriptors()\n",
        new="_quit)\n",
        tests=_SIGNALS,
    ),
    Mutant(
        name="thread-delays-the-end",
        bug="a name server that does not answer delays the end by seconds",
        file=_ENTRY,
        old="            status = status or 1\n    os._exit(status)\n",
        new="            status = status or 1\n    sys.exit(status)\n",
        tests=("tests/cli/test_entry.py::test_thread_that_never_ends_does_not_delay_the_end",),
    ),
    Mutant(
        name="lookup-cannot-be-given-up",
        bug="SIGTERM waits for a look-up that a dead name server does not answer",
        file="udpoverlay/loop.py",
        old="        return await asyncio.shield(lookup)\n",
        new="        return await super().getaddrinfo(\n"
        "            host, port, family=family, type=type, proto=proto, flags=flags\n"
        "        )\n",
        tests=("tests/netns/test_process.py::test_dead_name_server_does_not_delay_the_end",),
    ),
    Mutant(
        name="comma-too-many-is-an-endpoint",
        bug="a comma at the end of --etcd-endpoints, with which flanneld starts, is refused",
        file=_FLAGS,
        old='for item in text.split(",") if item.strip())\n',
        new='for item in text.split(","))\n',
        tests=("tests/cli/test_daemon_flags.py::test_needless_comma_between_endpoints_is_ignored",),
    ),
    Mutant(
        name="broken-endpoint-is-a-defect",
        bug="`--etcd-endpoints=http://[::1` ends as an internal error",
        file="udpoverlay/registry/etcd/client.py",
        old="        except ValueError:\n            valid = False\n",
        new="        except KeyError:\n            valid = False\n",
        tests=(
            "tests/cli/test_daemon_command.py::test_endpoint_that_is_none_is_one_line_and_exit_1",
        ),
    ),
    Mutant(
        name="loopback-is-public",
        bug="--public-ip=127.0.0.1 is accepted: every host sends its packets to itself",
        file="udpoverlay/model/public_address.py",
        old='_SPECIAL = {0: "an address of 0.0.0.0/8", 127: "a loopback address"} | ',
        new='_SPECIAL = {0: "an address of 0.0.0.0/8"} | ',
        tests=("tests/cli/test_daemon_flags.py::test_public_address_that_no_host_has_is_refused",),
    ),
    Mutant(
        name="extra-words-start-a-daemon",
        bug="`udpoverlayd status` starts a second daemon, and flags behind a word are ignored",
        file=_COMMAND,
        old="    problem = extra_words.problem(words, parsed)\n",
        new='    problem = ""\n',
        tests=(
            "tests/cli/test_daemon_command.py::test_word_after_the_flags_starts_nothing_and_is_explained",
        ),
    ),
    Mutant(
        name="rights-found-missing-late",
        bug="without CAP_NET_ADMIN the daemon waits for etcd, and only then says what is missing",
        file=_DAEMON,
        old="    check_tun()\n    subnetfile.check(",
        new="    subnetfile.check(",
        tests=(
            "tests/netns/test_process.py::test_missing_right_is_told_before_the_registry_is_waited_for",
        ),
    ),
    Mutant(
        name="waits-in-silence",
        bug="a daemon that waits for its registry says so a few times, then nothing any more",
        file="udpoverlay/log/limits.py",
        old="        if now - self._window >= self.EVERY:\n",
        new="        if now - self._window < 0:\n",
        tests=("tests/log/test_limits.py",),
    ),
    Mutant(
        name="ready-is-not-said",
        bug="no line of the log says that the daemon serves",
        file=_DAEMON,
        old='    _log.info("ready",',
        new='    _log.v(1).info("ready",',
        tests=("tests/netns/test_process.py::test_log_that_is_read_again_is_whole",),
    ),
    Mutant(
        name="forwarding-not-looked-at",
        bug="with ip_forward off no packet reaches a container, and nothing says why",
        file=_DAEMON,
        old="        _forever(look_at_forwarding(plan.backend.network, network.device)),\n",
        new="",
        tests=("tests/daemon/test_daemon.py",),
    ),
    Mutant(
        name="unused-libraries-loaded",
        bug="an etcd-only daemon loads the HTTP client of Kubernetes: 14 MB, a slower start",
        file=_DAEMON,
        old="from __future__ import annotations\n",
        new="from __future__ import annotations\n\nimport aiohttp\n",
        tests=("tests/daemon/test_imports.py",),
    ),
)
