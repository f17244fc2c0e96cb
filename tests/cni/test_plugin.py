"""cni/: what the delegate gets, what a runtime is told, bad input. No root needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from udpoverlay.cni.errors import CniError
from udpoverlay.cni.plugin import delegate_config
from udpoverlay.cni.subnet_env import load_subnet_env, parse_cidr

ENV = """\
FLANNEL_NETWORK=10.5.0.0/16
FLANNEL_SUBNET=10.5.72.1/24
FLANNEL_MTU=1472
FLANNEL_IPMASQ=true
"""
DELEGATE = """\
#!/bin/sh
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $(cat)" >> "$0.log"
[ -e "$0.fails" ] && cat "$0.fails" && exit 1
echo '{"cniVersion": "1.0.0", "ips": []}'
"""


class Runtime:
    """A folder of plugins, a subnet file, and calls as a runtime makes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("bridge", "host-local"):
            self.plugin(name)
        self.subnet_file = folder / "subnet.env"
        self.subnet_file.write_text(ENV)
        self.data = folder / "data"
        self.config: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": "cbr0",
            "type": "flannel",
            "subnetFile": str(self.subnet_file),
            "dataDir": str(self.data),
        }

    def plugin(self, name: str) -> Path:
        path = self.bin / name
        path.write_text(DELEGATE)
        path.chmod(0o755)
        return path

    def calls(self, plugin: str = "bridge") -> list[tuple[str, dict[str, Any]]]:
        """What the delegate was asked: words and configuration."""
        log = self.bin / f"{plugin}.log"
        found = []
        for line in log.read_text().splitlines() if log.exists() else ():
            words, brace, config = line.partition("{")
            found.append((words.strip(), json.loads(brace + config)))
        return found

    def call(self, command: str, given: Any = None, **environ: str) -> tuple[int, Any]:
        """Exit status, and what was printed as JSON (None for nothing)."""
        text = given if isinstance(given, str) else json.dumps(given or self.config)
        done = subprocess.run(
            [sys.executable, "-c", "from udpoverlay.cni.plugin import main; main()"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "CNI_COMMAND": command,
                "CNI_PATH": f"/nowhere:{self.bin}",
                "CNI_CONTAINERID": "c1",
                "CNI_NETNS": "/var/run/netns/c1",
                "CNI_IFNAME": "eth0",
                **environ,
            },
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else None


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def test_add_delegates_what_flannel_would(runtime: Runtime) -> None:
    status, result = runtime.call("ADD")
    assert (status, result) == (0, {"cniVersion": "1.0.0", "ips": []})
    ((words, config),) = runtime.calls()
    assert words == "ADD c1 eth0"
    assert config == {
        "cniVersion": "1.0.0",
        "name": "cbr0",
        "type": "bridge",
        "ipMasq": False,
        "mtu": 1472,
        "isGateway": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.5.72.0/24"}]],
            "routes": [{"dst": "10.5.0.0/16"}],
        },
    }


def test_delegate_keys_pass_through(runtime: Runtime) -> None:
    keys = {
        "type": "ptp",
        "bridge": "mynet0",
        "forceAddress": True,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipMasq": True,
        "mtu": 1400,
    }
    env = load_subnet_env(str(runtime.subnet_file))
    runtime_config = {"portMappings": [{"hostPort": 80}]}
    made = delegate_config({"name": "n", "delegate": keys, "runtimeConfig": runtime_config}, env)
    assert {**made, **keys} == made
    assert made["runtimeConfig"] == runtime_config
    assert "isGateway" not in made


def test_ipam_is_completed_not_replaced(runtime: Runtime) -> None:
    env = load_subnet_env(str(runtime.subnet_file))
    ipam = {"type": "other", "dataDir": "/x", "routes": [{"dst": "10.96.0.0/12"}]}
    made = delegate_config({"name": "n", "ipam": ipam}, env)["ipam"]
    assert made["type"] == "other"
    assert made["dataDir"] == "/x"
    assert made["routes"] == [{"dst": "10.96.0.0/12"}, {"dst": "10.5.0.0/16"}]


def test_dual_stack_gives_a_range_and_a_route_for_each_family(runtime: Runtime) -> None:
    text = "FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:72::1/64\n"
    runtime.subnet_file.write_text(ENV + text)
    made = delegate_config({"name": "n"}, load_subnet_env(str(runtime.subnet_file)))["ipam"]
    assert made["ranges"] == [[{"subnet": "10.5.72.0/24"}], [{"subnet": "fd00:5:0:72::/64"}]]
    assert made["routes"] == [{"dst": "10.5.0.0/16"}, {"dst": "fd00:5::/48"}]


def test_no_masquerading_daemon_makes_the_bridge_masquerade(runtime: Runtime) -> None:
    for word, masquerades in ("true", False), ("false", True), ("TRUE", True), ('"true"', True):
        runtime.subnet_file.write_text(ENV.replace("IPMASQ=true", f"IPMASQ={word}"))
        env = load_subnet_env(str(runtime.subnet_file))
        assert delegate_config({"name": "n"}, env)["ipMasq"] is masquerades


def test_del_gives_the_delegate_what_add_gave(runtime: Runtime) -> None:
    runtime.call("ADD")
    runtime.subnet_file.unlink()
    assert runtime.call("DEL") == (0, None)
    (_, added), (words, removed) = runtime.calls()
    assert words == "DEL c1 eth0"
    assert removed == added
    assert not list(runtime.data.iterdir())
    assert runtime.call("DEL") == (0, None)
    assert len(runtime.calls()) == 2


def test_del_of_what_flannels_plugin_added(runtime: Runtime) -> None:
    runtime.data.mkdir()
    kept = {"name": "cbr0", "type": "bridge", "ipam": {"type": "host-local"}}
    (runtime.data / "c1").write_text(json.dumps(kept))
    assert runtime.call("DEL") == (0, None)
    assert runtime.calls() == [("DEL c1 eth0", kept)]


def test_del_that_fails_can_be_tried_again(runtime: Runtime) -> None:
    runtime.call("ADD")
    fails = runtime.bin / "bridge.fails"
    fails.write_text('{"code": 11, "msg": "busy", "details": "later"}')
    status, error = runtime.call("DEL")
    assert (status, error["code"], error["details"]) == (1, 11, "later")
    assert error["msg"] == "plugin 'bridge': busy"
    fails.unlink()
    assert runtime.call("DEL") == (0, None)
    assert [words for words, _ in runtime.calls()] == ["ADD c1 eth0", *["DEL c1 eth0"] * 2]


def test_check_passes_the_previous_result_on(runtime: Runtime) -> None:
    runtime.call("ADD")
    previous = {"cniVersion": "1.0.0", "ips": [{"address": "10.5.72.9/24"}]}
    assert runtime.call("CHECK", {**runtime.config, "prevResult": previous})[0] == 0
    words, config = runtime.calls()[-1]
    assert words == "CHECK c1 eth0"
    assert config["prevResult"] == previous


def test_check_of_an_unknown_container_is_an_error(runtime: Runtime) -> None:
    status, error = runtime.call("CHECK")
    assert (status, error["code"]) == (1, 7)
    assert "c1" in error["msg"]


def test_gc_removes_what_is_gone_and_keeps_what_lives(runtime: Runtime) -> None:
    for container, name in ("c1", "eth0"), ("c2", "net1"), ("c3", "eth0"):
        runtime.call("ADD", CNI_CONTAINERID=container, CNI_IFNAME=name)
    other = {**runtime.config, "name": "othernet"}
    runtime.call("ADD", other, CNI_CONTAINERID="c4")
    valid = [{"containerID": "c1", "ifname": "eth0"}]
    asked = {**runtime.config, "cniVersion": "1.1.0", "cni.dev/valid-attachments": valid}
    assert runtime.call("GC", asked) == (0, None)
    words = [words for words, _ in runtime.calls()[4:]]
    assert words == ["DEL c2 net1", "DEL c3 eth0", "GC c1 eth0"]
    assert runtime.calls()[-1][1]["cni.dev/valid-attachments"] == valid
    assert sorted(path.name for path in runtime.data.iterdir()) == ["c1", "c4"]


def test_status_is_silent_when_all_is_well(runtime: Runtime) -> None:
    assert runtime.call("STATUS", {**runtime.config, "cniVersion": "1.1.0"}) == (0, None)


def test_status_says_that_the_subnet_file_is_missing(runtime: Runtime) -> None:
    runtime.subnet_file.unlink()
    status, error = runtime.call("STATUS")
    assert (status, error["code"]) == (1, 50)
    assert "subnet.env does not exist" in error["msg"]
    assert "log of udpoverlayd" in error["details"]


def test_status_says_which_plugin_is_missing(runtime: Runtime) -> None:
    (runtime.bin / "host-local").unlink()
    status, error = runtime.call("STATUS")
    assert (status, error["code"]) == (1, 50)
    assert "'host-local'" in error["msg"]


def test_status_of_a_delegate_from_before_it_counts_as_well(runtime: Runtime) -> None:
    fails = runtime.bin / "bridge.fails"
    fails.write_text('{"code": 4, "msg": "unknown CNI_COMMAND: STATUS"}')
    assert runtime.call("STATUS") == (0, None)
    fails.write_text('{"code": 50, "msg": "no room"}')
    assert runtime.call("STATUS")[1]["msg"] == "plugin 'bridge': no room"


def test_version_lists_what_is_supported(runtime: Runtime) -> None:
    status, shown = runtime.call("VERSION", {"cniVersion": "0.3.1"})
    assert status == 0
    assert shown["cniVersion"] == "0.3.1"
    assert {"0.3.1", "0.4.0", "1.0.0", "1.1.0"} <= set(shown["supportedVersions"])


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        ({"cniVersion": "9.0.0"}, 1, "9.0.0"),
        ({"delegate": []}, 7, "delegate"),
        ({"delegate": {"name": "x"}}, 7, "name"),
        ({"delegate": {"ipam": {}}}, 7, "ipam"),
        ({"delegate": {"type": 5}}, 7, "type"),
        ({"delegate": {"type": "../bridge"}}, 7, "../bridge"),
        ({"delegate": {"type": "nothere"}}, 4, "nothere"),
        ({"ipam": {"routes": {}}}, 7, "ipam.routes"),
        ({"name": ""}, 7, "has no name"),
        ({"name": None}, 7, "has no name"),
        ({"name": "../cbr0"}, 7, "../cbr0"),
        ({"name": "a b"}, 7, "a b"),
        ({"name": 5}, 7, "the name 5"),
        ({"subnetFile": 5}, 7, "subnetFile"),
        ({"subnetFile": "/nowhere/subnet.env"}, 11, "/nowhere/subnet.env"),
        ({"dataDir": "/dev/null/x"}, 5, "/dev/null/x"),
    ],
)
def test_bad_configuration_is_cnis_error(
    runtime: Runtime, change: dict[str, Any], code: int, word: str
) -> None:
    status, error = runtime.call("ADD", {**runtime.config, **change})
    assert status == 1
    assert error["code"] == code, error
    assert word in error["msg"]
    assert runtime.calls() == []
    assert not runtime.data.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "5", "[" * 100_000])
def test_configuration_that_is_no_object_cannot_be_decoded(runtime: Runtime, text: str) -> None:
    status, error = runtime.call("ADD", text or " ")
    assert (status, error["code"]) == (1, 6)


@pytest.mark.parametrize("name", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"])
def test_missing_variable_is_named(runtime: Runtime, name: str) -> None:
    status, error = runtime.call("ADD", **{name: ""})
    assert (status, error["code"]) == (1, 4)
    assert name in error["msg"]
    assert not runtime.data.exists()


def test_configuration_without_a_name_is_refused_but_for_version(
    runtime: Runtime,
) -> None:
    del runtime.config["name"]
    for command in ("ADD", "DEL", "CHECK", "STATUS", "GC"):
        status, error = runtime.call(command)
        assert (status, error["code"]) == (1, 7), command
        assert error["details"] == 'add one, such as "cbr0"'
    assert runtime.call("VERSION")[0] == 0
    assert runtime.calls() == []


@pytest.mark.parametrize("container", ["../x", "a/b", ".", ".."])
def test_container_id_never_leaves_its_folder(runtime: Runtime, container: str) -> None:
    assert runtime.call("ADD", CNI_CONTAINERID=container)[1]["code"] == 4


@pytest.mark.parametrize(
    "key", ["FLANNEL_NETWORK", "FLANNEL_SUBNET", "FLANNEL_MTU", "FLANNEL_IPMASQ"]
)
def test_missing_key_of_the_subnet_file_is_named(runtime: Runtime, key: str) -> None:
    lines = [line for line in ENV.splitlines() if not line.startswith(key)]
    runtime.subnet_file.write_text("\n".join(lines))
    with pytest.raises(CniError, match=key):
        load_subnet_env(str(runtime.subnet_file))


def test_cidrs_are_read_as_go_reads_them() -> None:
    assert parse_cidr("10.5.72.1/24") == "10.5.72.0/24"
    assert parse_cidr("fd00::1/64") == "fd00::/64"
    for wrong in (
        "10.5.72.1",
        "10.5.72/24",
        "10.5.72.1/33",
        "x/24",
        "10.5.72.1/-1",
        "::1/129",
        "/8",
    ):
        with pytest.raises(ValueError, match=wrong):
            parse_cidr(wrong)
