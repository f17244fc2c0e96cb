"""host/privileges/: a process that gives up its rights, seen from inside and by the kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.root

NET_ADMIN_AND_RAW = 1 << 12 | 1 << 13
SCRIPT = """
import ctypes, json, os, re, subprocess, sys, threading
from pathlib import Path
from udpoverlay import log
from udpoverlay.host.privileges.needs import Needs
from udpoverlay.host.privileges.process import Privileges
from udpoverlay.model.privileges import PrivilegeSettings

asked = json.loads(sys.argv[1])
exec(asked["before"])
log.configure()
libc = ctypes.CDLL(None, use_errno=True)
resting = threading.Event()
early = threading.Thread(target=resting.wait, name="early", daemon=True)
early.start()
privileges = Privileges(PrivilegeSettings(**asked["settings"]))
privileges.before_the_loop()
privileges.give_up(Needs(**asked["needs"]))
threading.Thread(target=resting.wait, name="late", daemon=True).start()

def call(number, *arguments):
    ctypes.set_errno(0)
    libc.syscall(number, *(ctypes.c_long(each) for each in arguments))
    return ctypes.get_errno()

def rights(text):
    return dict(re.findall(r"^(Cap...|NoNewPrivs|Seccomp):\\t(.*)$", text, re.M))

log.flush()
child = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True)
tasks = {
    task.name.replace(str(early.native_id), "early"): rights((task / "status").read_text())
    for task in Path("/proc/self/task").iterdir()
}
print(json.dumps({"facts": privileges.facts(), "tasks": tasks, "child": rights(child.stdout),
                  "ran": eval(asked["run"])}))
"""


def process(
    run: str = "None",
    *,
    before: str = "",
    settings: dict[str, Any] | None = None,
    needs: dict[str, Any] | None = None,
    by: tuple[str, ...] = (),
) -> dict[str, Any]:
    """What such a process is and sees; `run` is evaluated in it, with call(number, argument, …)."""
    asked = {"before": before, "run": run, "settings": settings or {}, "needs": needs or {}}
    argv = [*by, sys.executable, "-c", SCRIPT, json.dumps(asked)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    found["log"] = done.stderr
    return found


def test_two_capabilities_are_left_in_threads_that_were_not_there_before() -> None:
    found = process()
    kept = f"{NET_ADMIN_AND_RAW:016x}"
    assert found["facts"]["capabilities"] == ["NET_ADMIN", "NET_RAW"]
    assert found["facts"]["no_new_privs"] is True
    assert len(found["tasks"]) == 4
    for name, task in found["tasks"].items():
        assert (task["NoNewPrivs"], task["Seccomp"]) == ("1", "2"), name  # also of the early one
        if name != "early":
            assert [task[each] for each in ("CapEff", "CapPrm", "CapBnd")] == [kept] * 3, task
    assert [found["child"][each] for each in ("CapEff", "CapPrm", "CapBnd")] == [kept] * 3


def test_thread_that_keeps_more_is_told() -> None:
    assert process()["facts"]["threads_with_more"] == ["early"]


def test_calls_that_are_not_needed_are_refused() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("numbers of x86-64")
    run = "[call(101), call(272, 0x10000000), call(165), call(321), call(425, 1), call(435),"
    run += " call(41, 17, 3, 0), call(41, 2, 2, 0), call(56, 0x10000011)]"
    assert process(run)["ran"] == [1, 1, 1, 1, 38, 38, 97, 0, 1]  # EPERM, ENOSYS, EAFNOSUPPORT


def test_where_it_warns_a_call_passes_and_the_rings_do_not() -> None:
    found = process("[call(317, 99), call(425, 1)]", settings={"seccomp": "warn"})
    assert found["ran"] == [22, 38]  # seccomp(99) is wrong, not forbidden
    assert found["facts"]["seccomp"].startswith("warn")


def test_switched_off_leaves_a_process_as_it_was() -> None:
    found = process(settings={"seccomp": "off", "keep_capabilities": True})
    for task in found["tasks"].values():
        assert (task["NoNewPrivs"], task["Seccomp"]) == ("0", "0")
        assert int(task["CapEff"], 16) & 1 << 21  # SYS_ADMIN
    assert found["facts"]["seccomp"] == "off (--seccomp=off)"
    assert found["facts"]["dropping"] == "kept (--keep-capabilities)"


def test_kernel_that_refuses_a_filter_is_no_error() -> None:
    before = (
        "from udpoverlay import _fastpath as fp; from udpoverlay.host.privileges import bpf;"
        "fp.set_no_new_privileges(); fp.filter_system_calls(bpf.refuse([317]))"
    )
    found = process(before=before)
    assert found["facts"]["seccomp"].startswith("unavailable: this kernel or a filter around")
    assert found["facts"]["capabilities"] == ["NET_ADMIN", "NET_RAW"]
    assert found["log"].count("] rights given up") == 1
    assert found["log"].startswith("W")


def test_architecture_without_a_list_gets_no_filter_and_says_so() -> None:
    before = "import os, types;os.uname = lambda: types.SimpleNamespace(machine='s390x')"
    facts = process(before=before)["facts"]
    why = "there is no list of calls for this architecture (s390x)"
    assert facts["seccomp"] == f"unavailable: {why}"


ORDINARY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
BOTH = "+net_admin,+net_raw"


def test_ordinary_user_passes_its_capabilities_on_to_tools() -> None:
    by = (*ORDINARY, f"--inh-caps={BOTH}", f"--ambient-caps={BOTH}")
    found = process(by=by)
    assert found["facts"]["uid"] == 65534
    assert found["facts"]["capabilities"] == ["NET_ADMIN", "NET_RAW"]
    assert int(found["child"]["CapEff"], 16) == NET_ADMIN_AND_RAW
    assert found["facts"]["seccomp"] == "on"


def test_capability_that_the_process_does_not_have_is_not_invented() -> None:
    found = process(by=ORDINARY, needs={"port": 53})
    assert found["facts"]["capabilities"] == []
    assert found["facts"]["kept_for"] == {}
