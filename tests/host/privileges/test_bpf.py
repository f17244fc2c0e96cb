"""host/privileges/bpf.py: what the program answers, by a slow, obvious machine for it."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from udpoverlay.host.privileges import bpf
from udpoverlay.host.privileges.calls import DEVICE_NODE, GROUPS, NEW_CALLS, PLUGINS, Group

ALLOW, LOG, ERRNO = 0x7FFF0000, 0x7FFC0000, 0x00050000
NEWUSER = 0x10000000
EVERY = [*GROUPS, PLUGINS, DEVICE_NODE]
I386 = 0x40000003
DANGEROUS = {
    "x86_64": {"ptrace": 101, "mount": 165, "init_module": 175, "unshare": 272, "setns": 308,
               "bpf": 321, "keyctl": 250, "perf_event_open": 298, "userfaultfd": 323,
               "kexec_load": 246, "reboot": 169, "settimeofday": 164, "process_vm_writev": 311,
               "personality": 135, "open_by_handle_at": 304, "pivot_root": 155, "setuid": 105,
               "seccomp": 317, "mknod": 133},
    "aarch64": {"ptrace": 117, "mount": 40, "init_module": 105, "unshare": 97, "setns": 268,
                "bpf": 280, "keyctl": 219, "perf_event_open": 241, "userfaultfd": 282,
                "kexec_load": 104, "reboot": 142, "settimeofday": 170, "process_vm_writev": 271,
                "personality": 92, "open_by_handle_at": 265, "pivot_root": 41, "setuid": 146,
                "seccomp": 277, "mknodat": 33},
}  # fmt: skip
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "generic": Path("/usr/include/asm-generic/unistd.h"),
}
RENAMED = {"fstatat": "newfstatat"}
"""In the common table, by a macro."""


def answer(program: bytes, number: int, *arguments: int, machine: int) -> int:
    """What the kernel would be told, by the rules of classic BPF."""
    data = struct.pack("=IIQ6Q", number, machine, 0, *[*arguments, 0, 0, 0, 0, 0, 0][:6])
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = 0
    while True:
        code, if_true, if_false, operand = instructions[at]
        at += 1
        if code == 0x20:
            [accumulator] = struct.unpack_from("=I", data, operand)
        elif code == 0x06:
            return int(operand)
        elif code == 0x05:
            at += operand
        else:
            true = {
                0x15: accumulator == operand,
                0x35: accumulator >= operand,
                0x45: bool(accumulator & operand),
            }[code]
            at += if_true if true else if_false


@pytest.mark.parametrize("name", bpf.MACHINES)
@pytest.mark.parametrize("groups", [GROUPS, EVERY, ()], ids=["daemon", "all", "none"])
def test_every_number_gets_what_the_list_says(name: str, groups: list[Group]) -> None:
    machine = bpf.MACHINES[name]
    program = bpf.system_call_filter(machine, groups)
    assert len(program) // 8 < 4096  # the kernel takes no more
    allowed = bpf.numbers(groups, machine) | {machine.clone, machine.ioctl}
    for number in [*range(600), 0x40000000, 0x40000001, 2**32 - 1]:
        found = answer(program, number, machine=machine.audit)
        if number == machine.socket:
            assert found == ERRNO | errno.EAFNOSUPPORT
        elif number in allowed:
            assert found == ALLOW, number
        else:
            code = errno.ENOSYS if number >= NEW_CALLS else errno.EPERM
            assert found == ERRNO | code, number


@pytest.mark.parametrize("name", DANGEROUS)
def test_dangerous_call_is_refused_with_every_group_but_a_device_nodes(name: str) -> None:
    machine = bpf.MACHINES[name]
    program = bpf.system_call_filter(machine, [*GROUPS, PLUGINS])
    for call, number in DANGEROUS[name].items():
        assert answer(program, number, machine=machine.audit) == ERRNO | errno.EPERM, call
    for number in (*bpf.IO_URING, 435):  # and clone3, whose flags no filter can see
        assert answer(program, number, machine=machine.audit) == ERRNO | errno.ENOSYS


@pytest.mark.parametrize("name", bpf.MACHINES)
def test_arguments_decide_about_sockets_clones_and_ioctls(name: str) -> None:
    machine = bpf.MACHINES[name]
    program = bpf.system_call_filter(machine, GROUPS)

    def ask(number: int, *arguments: int) -> int:
        return answer(program, number, *arguments, machine=machine.audit)

    taken = {family for family in range(64) if ask(machine.socket, family) == ALLOW}
    assert taken == {1, 2, 10, 16}  # Unix, IPv4, IPv6, netlink: not AF_PACKET, AF_ALG, AF_VSOCK
    assert ask(machine.clone, 0x11) == ALLOW  # fork
    assert ask(machine.clone, 0x3D0F00) == ALLOW  # a thread
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, NEWUSER, 0x20000000, 0x40000000):
        assert ask(machine.clone, 0x11 | bit) == ERRNO | errno.EPERM
    assert ask(machine.ioctl, 3, 0x5401) == ALLOW
    assert ask(machine.ioctl, 0, 0x5412) == ERRNO | errno.EPERM


def test_call_of_another_architecture_is_refused() -> None:
    program = bpf.system_call_filter(bpf.MACHINES["x86_64"], EVERY)
    assert answer(program, 3, machine=I386) == ERRNO | errno.EPERM


def test_where_it_only_warns_nothing_is_refused() -> None:
    machine = bpf.MACHINES["x86_64"]
    program = bpf.system_call_filter(machine, GROUPS, refusing=False)
    for number in (101, 435, 500):
        assert answer(program, number, machine=machine.audit) == LOG
    assert answer(program, 3, machine=I386) == LOG
    assert answer(program, machine.socket, 17, machine=machine.audit) == LOG
    assert answer(program, machine.clone, NEWUSER, machine=machine.audit) == LOG
    assert answer(program, 0, machine=machine.audit) == ALLOW


def test_rings_alone_are_refused_before_the_loop() -> None:
    program = bpf.refuse(bpf.IO_URING)
    refused = {number for number in range(600) if answer(program, number, machine=I386) != ALLOW}
    assert refused == {425, 426, 427}


def test_a_long_jump_reaches_its_place() -> None:
    ranges = [(number, [(0x06, 0, 0, number)] * 9) for number in range(0, 400, 2)]
    program = bpf._bytes([(0x20, 0, 0, 0), *bpf._search(ranges)])
    for number in range(400):
        assert answer(program, number, machine=0) == number & ~1


@pytest.mark.parametrize("table", HEADERS)
def test_numbers_are_the_kernels(table: str) -> None:
    header = HEADERS[table]
    if not header.exists():
        pytest.skip(f"no {header}")
    pattern = r"#define __NR(?:3264)?_(\w+)\s+(\d+)"
    known = {
        RENAMED.get(name, name): int(number)
        for name, number in re.findall(pattern, header.read_text())
    }
    newest = max(known.values())
    calls = [call for group in EVERY for call in group.calls()]
    assert len({call.name for call in calls}) == len(calls)
    for call in calls:
        number = getattr(call, table)
        if number is not None and number <= newest:
            assert known.get(call.name) == number, call.name
    for name, machine in bpf.MACHINES.items():
        if machine.table == table:
            asked = (machine.socket, machine.clone, machine.ioctl)
            assert asked == tuple(known[each] for each in ("socket", "clone", "ioctl")), name
