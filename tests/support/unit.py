"""Runs a systemd service's unit in a lab host, as far as the units of flanneld need it.

Understands line continuations, Environment=, EnvironmentFile= (with its dash), ExecStart= and
ExecStartPost= with $NAME (words) and ${NAME} (in place), Type=notify: systemd.exec(5) and
systemd.service(5).
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping

from tests.support.cluster import Readiness, wait_until
from tests.support.layers import checked
from udpoverlay.lab.actions import files
from udpoverlay.lab.hosts import Host, Process

Settings = list[tuple[str, str]]


def parse(text: str, section: str) -> Settings:
    """The settings of one section, in order."""
    found: Settings = []
    current = ""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            current = stripped
        elif "=" in stripped and stripped[0] not in "#;" and current == f"[{section}]":
            key, _, value = stripped.partition("=")
            found.append((key.strip(), value.strip()))
    return found


def expand(command: str, environment: Mapping[str, str]) -> list[str]:
    """The words of a command line, as systemd makes them."""
    words: list[str] = []
    for word in shlex.split(command):
        if re.fullmatch(r"\$\w+", word):
            words += environment.get(word[1:], "").split()
        else:
            words.append(re.sub(r"\$\{(\w+)\}", lambda found: environment.get(found[1], ""), word))
    return words


class Service:
    """One service of a host; `files_of_host` are its environment files, by path."""

    def __init__(self, host: Host, unit: str, files_of_host: Mapping[str, str]) -> None:
        self.host = host
        self._settings = parse(unit, "Service")
        for path, text in files_of_host.items():
            host.call(files.write_text, path=path, text=text)
        self.environment = self._read_environment(files_of_host)
        assert dict(self._settings)["Type"] == "notify"
        self._manager = Readiness(host, f"manager-{time.monotonic_ns()}")
        self.process: Process

    def _read_environment(self, known: Mapping[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for key, value in self._settings:
            if key == "Environment":
                found |= dict(word.split("=", 1) for word in shlex.split(value))
            elif key == "EnvironmentFile":
                if value.lstrip("-") not in known:
                    assert value.startswith("-"), f"{value} does not exist"
                    continue
                lines = shlex.split(known[value.lstrip("-")], comments=True)
                found |= dict(line.split("=", 1) for line in lines)
        return found

    def _commands(self, key: str) -> list[list[str]]:
        return [expand(value, self.environment) for name, value in self._settings if name == key]

    def start(self) -> None:
        """systemctl start: until READY=1 has come and ExecStartPost= has run."""
        [argv] = self._commands("ExecStart")
        environment = {**self.environment, "NOTIFY_SOCKET": self._manager.address}
        self.process = self.host.popen(argv, env=environment)

        def come() -> bool:
            assert self.process.poll() is None, self.process.log()
            return self._manager.come()

        wait_until(come, f"READY=1: {self.process.log()}")
        for command in self._commands("ExecStartPost"):
            checked(self.host, *command)

    def stop(self) -> int:
        """systemctl stop; the exit status."""
        return self.process.stop()

    def told(self) -> list[str]:
        """All lines that the service has sent."""
        self._manager.come()
        return [line.decode() for line in self._manager.messages]

    def close(self) -> None:
        self._manager.close()
