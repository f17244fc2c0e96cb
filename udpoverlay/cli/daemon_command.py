"""`udpoverlayd` and `udpoverlay daemon`: flags in, the daemon run, an exit code out.

Owns: the order of flanneld's main before anything starts (flags, -version, environment, log,
checks) and the exit codes: 0 asked to stop, version or help; 1 something that a person must fix;
2 a wrong command line or a defect of ours. Must not know: what the daemon does.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Mapping

from udpoverlay import log as log_module
from udpoverlay._version import VERSION
from udpoverlay.cli import daemon_flags, entry, extra_words
from udpoverlay.cli.daemon_flags import Options
from udpoverlay.errors import UdpOverlayError
from udpoverlay.gocompat import flags as goflags
from udpoverlay.host.notify import ServiceManager, kept_descriptors
from udpoverlay.log import get_logger
from udpoverlay.model.config import DaemonConfig
from udpoverlay.redact import redact

__all__ = ["run"]

log = get_logger(__name__)

_EXAMPLE = """
Flags given as -name or --name, also as environment variables FLANNELD_NAME (UDPOVERLAY_NAME for
admin-socket, workers, busy-poll-us, offload-off and per-packet). Example:

  etcdctl put /coreos.com/network/config '{"Network": "10.244.0.0/16", "Backend": {"Type": "udp"}}'
  {program} --etcd-endpoints=http://192.0.2.1:2379 --iface=eth1
"""


def _usage(program: str) -> str:
    example = _EXAMPLE.replace("{program}", program)
    return f"Usage: {program} [OPTION]...\n{goflags.format_flags(daemon_flags.ALL_FLAGS)}{example}"


def _hint(error: goflags.FlagError) -> str:
    names = [flag.name for flag in daemon_flags.ALL_FLAGS]
    close = difflib.get_close_matches(error.flag, names, n=1)
    if not close or (error.flag == close[0] and "…" not in str(error)):
        return ""
    value = "=VALUE" if "…" in str(error) else ""
    return f" (did you mean -{close[0]}{value}?)"


def run(words: list[str], environ: Mapping[str, str], program: str) -> int:
    """Run the daemon with a command line and an environment; return the exit code."""
    try:
        parsed, options = daemon_flags.read(words, environ)
    except goflags.HelpRequested:
        sys.stderr.write(_usage(program))
        return 0
    except goflags.FlagError as error:
        text = log_module.escape(redact(str(error)))
        sys.stderr.write(f"{text}\n{_usage(program)}{program}: {text}{_hint(error)}\n")
        return 2
    if parsed.values["version"]:
        sys.stderr.write(f"{VERSION}\n")
        return 0
    problem = extra_words.problem(words, parsed)
    if problem:
        sys.stderr.write(f"{program}: {problem}\n{program} -h lists the flags\n")
        return 2
    try:
        return _start(options, environ)
    finally:
        # The line that says why is the last one, and a thread writes it.
        log_module.flush()


def _start(options: Options, environ: Mapping[str, str]) -> int:
    values = options.values
    log_module.configure(values["v"], values["vmodule"], values["log_backtrace_at"])
    entry.at_end(log_module.flush)
    for complaint in options.complaints:
        log.error(complaint)
    log.info(
        "starting",
        version=VERSION,
        **{name.replace("-", "_"): value for name, value in values.items() if name != "version"},
    )
    try:
        config = options.config(environ)
        manager = ServiceManager(
            environ.get("NOTIFY_SOCKET", ""),
            environ.get("WATCHDOG_USEC", ""),
            kept_descriptors(environ, os.getpid()),
            # systemd sets one or both; others that listen for READY=1, neither.
            keeps=bool(environ.get("FDSTORE") or environ.get("INVOCATION_ID")),
        )
        return _run_daemon(config, manager)
    except UdpOverlayError as error:
        log.error(str(error))
        return 1
    except Exception as error:
        log.exception("internal error; please report it", error=error)
        return 2


def _run_daemon(config: DaemonConfig, manager: ServiceManager) -> int:
    # Late: -h, -version and a wrong flag must not wait for the event loop and the C code to load.
    daemon = importlib.import_module("udpoverlay.daemon")
    code: int = daemon.run(config, manager)
    return code
