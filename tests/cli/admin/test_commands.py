"""cli/admin: status, peers and routes against a real admin socket with documents of our making."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin import SENDER, Command, Documents, daemon


def test_status_of_a_healthy_daemon_fits_one_screen(found: Documents, command: Command) -> None:
    assert command("status") == 0
    for words in (
        "udpoverlayd 1.2.3, pid 77, up 3 h 12 min",
        "192.0.2.1 on eth0 (MTU 1500), udp port 8285, source check enforce",
        "10.5.72.0/24 of 10.5.0.0/16, leased for 23 h 59 min",
        "flannel0 10.5.72.0, MTU 1472",
        "etcd, 3 peers, 2 routes",
        "uso unavailable: needs Linux 6.2",
        "NET_ADMIN NET_RAW; no_new_privs; seccomp on",
        "1,234,567",
        "nothing is wrong",
    ):
        assert words in command.out
    lines = command.out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_status_names_rights_that_are_kept_and_why(found: Documents, command: Command) -> None:
    status: Any = found["/v1/status"]
    status["privileges"].update(
        no_new_privs=False,
        dropping="kept (--keep-capabilities)",
        seccomp="off (--seccomp=off)",
        kept_for={"MKNOD": "there is no node"},
    )
    assert command("status") == 0
    words = " ".join(command.out.split())
    assert "programs may gain rights; seccomp off (--seccomp=off)" in words
    assert "capabilities kept (--keep-capabilities); MKNOD because there is no node" in words
    del status["privileges"]
    assert command("status") == 0  # a daemon of an earlier version
    assert "rights" in command.out


def test_status_names_reasons_of_drops_alone(found: Documents, command: Command) -> None:
    command("status")
    assert "outbound no route" in command.out
    assert "ttl expired" not in command.out  # it has not happened


IMPAIRED = {"peer": "192.0.2.2", "what": "loss 5 %", "left_seconds": 41.5}
TROUBLES: dict[str, tuple[str, object, str]] = {
    "registry": ("registry.troubles", {"leases": "etcd does not answer"}, "etcd does not answer"),
    "subnet file": ("node.subnet_file_written", False, "/run/flannel/subnet.env"),
    "rules": ("firewall.error", "nft: Operation not permitted", "nft: Operation not permitted"),
    "foreign renewal": ("control.foreign_renewals", 1, "--public-ip"),
    "refused leases": ("control.leases_refused", 2, "udpoverlay peers"),
    "waiting leases": ("control.leases_waiting", 1, "udpoverlay peers"),
    "log": ("log_lines_lost", 9, "log lines"),
    "impairment": ("dataplane.impairments", [IMPAIRED], "udpoverlay impair 192.0.2.2 off"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_status_names_what_is_wrong_and_ends_with_3(
    found: Documents, command: Command, name: str
) -> None:
    key, value, words = TROUBLES[name]
    part: Any = found["/v1/status"]
    *above, last = key.split(".")
    for each in above:
        part = part[each]
    part[last] = value
    assert command("status") == 3
    assert words in " ".join(command.out.split())
    assert "nothing is wrong" not in command.out
    assert any(words in trouble for trouble in command.json("status")["troubles"])


def test_json_is_the_daemons_document(found: Documents, command: Command) -> None:
    sent = json.loads(json.dumps(found))
    assert command.json("status") == {**sent["/v1/status"], "troubles": []}
    # Whose tunnel this is cannot be asked from here: no address of ours.
    for peer in sent["/v1/peers"]["peers"]:
        peer["rtt_ms"] = None
    assert command.json("peers") == sent["/v1/peers"]
    assert command.json("routes") == sent["/v1/routes"]


def test_peers_shows_each_with_what_is_odd(found: Documents, command: Command) -> None:
    assert command("peers") == 0
    shown = " ".join(command.out.split())
    assert "also sends from 203.0.113.7" in shown
    assert "ICMP port unreachable from 192.0.2.3, 12 times, 3 s ago" in shown
    assert "udp-segment off for 1 min 30 s" in shown
    assert "no route: too wide" in shown
    assert "203.0.113.9" in shown
    assert "1,003" in shown
    assert max(map(len, command.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("address", "subnets"),
    [
        ("192.0.2.3", ["10.5.74.0/24"]),
        ("203.0.113.7", ["10.5.73.0/24"]),
        ("10.5.74.9", ["10.5.74.0/24", "10.0.0.0/8"]),
        ("203.0.113.9", []),  # a refused sender alone
    ],
)
def test_peers_of_an_address(
    found: Documents, command: Command, address: str, subnets: list[str]
) -> None:
    document = command.json("peers", address)
    assert [peer["subnet"] for peer in document["peers"]] == subnets
    assert bool(document["refused_senders"]) == (address == SENDER.address)


def test_round_trips_that_cannot_be_measured_are_an_error_where_they_are_asked_for(
    found: Documents, command: Command
) -> None:
    assert found
    assert command("peers", "--rtt") == 1
    assert "round trips cannot be measured: cannot send from 10.5.72.0" in command.err
    assert command("peers", "--no-rtt") == 0


def test_peers_of_an_unknown_address_ends_with_1(found: Documents, command: Command) -> None:
    assert command("peers", "198.51.100.1") == 1


def test_routes_of_an_address_is_the_longest_that_holds_it(
    found: Documents, command: Command
) -> None:
    routes: Any = found["/v1/routes"]["routes"]
    routes.append({"destination": "10.5.74.0/28", "endpoint": "192.0.2.8:8285", "device": "x"})
    found_route = command.json("routes", "10.5.74.3")["routes"]
    assert [route["endpoint"] for route in found_route] == ["192.0.2.8:8285"]


def test_address_without_route_ends_with_1(found: Documents, command: Command) -> None:
    assert command("routes", "10.5.99.1") == 1
    assert "net unreachable" in command.out


@pytest.mark.parametrize("name", ["peers", "routes"])
def test_word_that_is_no_address_is_refused(command: Command, name: str) -> None:
    assert command(name, "10.5.74") == 1
    assert "'10.5.74' is not an IP address" in command.err


def test_no_socket_says_how_to_get_one(command: Command) -> None:
    assert command("status") == 1
    assert "start udpoverlayd" in command.err
    assert command.err.count("\n") == 1


def test_socket_that_a_dead_daemon_left_is_named(path: Path, command: Command) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    assert command("status") == 1
    assert "its daemon is gone" in command.err


def test_daemon_with_another_schema_is_refused(found: Documents, command: Command) -> None:
    found["/v1/status"]["schema"] = 2
    assert command("status") == 1
    assert "version 2 of the admin schema" in command.err


def test_older_daemon_without_the_document_is_named(path: Path, command: Command) -> None:
    with daemon(path, {"/v1/status": {}}):
        assert command("routes") == 1
    assert "older than this command" in command.err


@pytest.mark.parametrize(
    "answer", [b"", b"\x00\xff garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"]
)
def test_answer_of_another_program_is_one_line(path: Path, command: Command, answer: bytes) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(answer)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert command("status") == 1
    thread.join()
    listener.close()
    assert str(path) in command.err
    assert command.err.count("\n") == 1


def test_daemon_that_hangs_is_named(path: Path, command: Command) -> None:
    from udpoverlay.cli.admin import ask  # noqa: PLC0415
    from udpoverlay.observe.client import AdminClient  # noqa: PLC0415

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.bind(str(path))
        deaf.listen()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ask, "client", lambda _: AdminClient(str(path), seconds=0.1))
            assert command("status") == 1
    assert "did not answer within 0.1 seconds" in command.err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_is_told_to_be_root(found: Documents, path: Path) -> None:
    path.parent.chmod(0o755)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setuid(65534)
            from udpoverlay.errors import OperatorError  # noqa: PLC0415
            from udpoverlay.observe.client import AdminClient  # noqa: PLC0415

            try:
                AdminClient(str(path)).get("/v1/status")
            except OperatorError as error:
                status = 0 if "only root" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
