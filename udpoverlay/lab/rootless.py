"""Whether a lab can run here: as root, else in a user namespace of our own, else why not.

Owns: the rules of the kernel for that and the fix to print. A process enters its user namespace
before it has any other thread. Must not know: what the lab does then.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from udpoverlay.errors import KernelError
from udpoverlay.lab import syscalls

__all__ = ["TUN_DEVICE", "enter"]

TUN_DEVICE = "/dev/net/tun"
_CAP_SYS_ADMIN = 21
_CAP_NET_ADMIN = 12
_AS_ROOT = "or run it as root (sudo)"


def enter() -> bool:
    """Get the right to make hosts; True when that took a user namespace.

    Raises KernelError with the fix when it is not to be had.
    """
    _check_tun(need_root_to_mend=os.geteuid() != 0)
    if _has_capabilities():
        return False
    if threading.active_count() > 1:
        raise KernelError("a user namespace can only be entered before threads start")
    _enter_user_namespace()
    return True


def _has_capabilities() -> bool:
    """Whether we may make namespaces and configure networks in them."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    effective = int(line.split()[1], 16)
    needed = 1 << _CAP_SYS_ADMIN | 1 << _CAP_NET_ADMIN
    return effective & needed == needed


def _check_tun(*, need_root_to_mend: bool) -> None:
    try:
        os.close(os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        code = error.errno or 0
        prefix = "as root: " if need_root_to_mend else ""
        fixes = {
            errno.ENOENT: f"{prefix}modprobe tun (in a container: --device={TUN_DEVICE})",
            errno.ENODEV: f"{prefix}modprobe tun",
            errno.EACCES: f"as root: chmod 0666 {TUN_DEVICE}, {_AS_ROOT}",
            errno.EPERM: f"allow this container or service to use {TUN_DEVICE}",
        }
        raise KernelError(
            f"cannot open {TUN_DEVICE}: {error.strerror}",
            fix=fixes.get(code, "check the device"),
            errno=code,
        ) from None


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        # user_namespaces(7): without setgroups denied, an unprivileged process may not map groups.
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {gid} 1"),
        ):
            Path("/proc/self", name).write_text(text, encoding="ascii")
        _probe_network_namespace()
    except OSError as error:
        raise KernelError(
            f"no rights to make network namespaces, also not in a user namespace: {error.strerror}",
            fix=_why_no_user_namespace(error.errno or 0),
            errno=error.errno or 0,
        ) from None


def _probe_network_namespace() -> None:
    """Make a network namespace in a child, since some rules only bite here (AppArmor's)."""
    child = os.fork()
    if child == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
        except OSError as error:
            os._exit(error.errno or errno.EPERM)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        raise OSError(status, os.strerror(status))


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _why_no_user_namespace(code: int) -> str:
    """The command that fixes it, by the settings with which distributions close it."""
    for name, closed, open_ in (
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "15000"),
        ("user.max_net_namespaces", "0", "15000"),
    ):
        if _sysctl(name) == closed:
            return f"as root: sysctl {name}={open_}, {_AS_ROOT}"
    if code == errno.EINVAL:
        return "this kernel has no user namespaces: run it as root (sudo)"
    return f"user namespaces are forbidden here, as in most containers: allow them, {_AS_ROOT}"
