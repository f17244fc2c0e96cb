"""Which commands `udpoverlay` has: name → module and one line of help, in the order shown."""

from __future__ import annotations

__all__ = ["COMMANDS", "DAEMON", "DOCTOR", "GO_FLAGS"]

DAEMON = "daemon"
DOCTOR = "doctor"
GO_FLAGS = frozenset({DAEMON, DOCTOR})
"""Commands with flanneld's syntax of flags; their modules have `run(words, environ, program)`."""

COMMANDS: dict[str, tuple[str, str]] = {
    DAEMON: ("udpoverlay.cli.daemon_command", "run the overlay on this host (= udpoverlayd)"),
    DOCTOR: ("udpoverlay.cli.doctor", "check this host, the registry and the way to peers"),
    "status": ("udpoverlay.cli.admin.status", "what the daemon knows and does, on one screen"),
    "peers": ("udpoverlay.cli.admin.peers", "the other hosts, and who was refused"),
    "routes": ("udpoverlay.cli.admin.routes", "where packets into the overlay go"),
    "top": ("udpoverlay.cli.admin.top", "what flows and what is dropped right now, by peer"),
    "explain": ("udpoverlay.cli.admin.explain", "what would happen to a packet from here"),
    "trace": ("udpoverlay.cli.admin.trace", "packets as they pass, with their verdicts"),
    "record": ("udpoverlay.cli.admin.record", "the last packets that the daemon remembers"),
    "impair": ("udpoverlay.cli.admin.impair", "lose, delay, change packets to a peer, for a test"),
    "ping": ("udpoverlay.cli.admin.ping", "round trip, loss and the largest size to a peer"),
    "where": ("udpoverlay.cli.admin.where", "where a flow ends, seen from both of its hosts"),
    "traceroute": ("udpoverlay.cli.admin.traceroute", "every hop to an address in the overlay"),
    "web": ("udpoverlay.cli.admin.web", "a live page: hosts, rates, drops, and every packet"),
    "decode": ("udpoverlay.cli.decode", "take captured packets apart and name what is wrong"),
    "wireshark": ("udpoverlay.cli.wireshark", "give Wireshark our interfaces and dissector"),
    "lab": ("udpoverlay.cli.lab", "prove the overlay on hosts in namespaces of this machine"),
    "podcidr-controller": (
        "udpoverlay.cli.podcidr_controller",
        "give Kubernetes Nodes a podCIDR where no controller-manager does",
    ),
    "bench": ("udpoverlay.cli.bench", "measure the overlay against other paths, side by side"),
    "docker-opts": ("udpoverlay.cli.docker_opts", "turn the subnet file into options for Docker"),
    "install-conf": ("udpoverlay.cli.install_conf", "copy a CNI configuration into place"),
    "version": ("udpoverlay.cli.version", "print the version"),
}
