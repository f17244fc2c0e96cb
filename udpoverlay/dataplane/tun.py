"""Opens the TUN device; the only user of pytun.

Owns: its flags, what of its offloads the kernel grants, errors that name the fix. Must not know:
addresses, link state and routes of the device (host/netlink), or what is done with the packets.
The device is not persistent: it vanishes when the last descriptor is closed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytun

from udpoverlay import _fastpath as fp
from udpoverlay.dataplane.features import Features
from udpoverlay.errors import KernelError

__all__ = ["Tun", "adopt_tun", "check_tun", "open_tun"]

TUN_PATH = "/dev/net/tun"
_DEVICE = os.makedev(10, 200)
"""Major and minor number of the TUN driver (Linux Documentation/admin-guide/devices.txt)."""
_FIRST_DESCRIPTOR = 3
"""Behind standard input, output and error, which may be closed."""
_TUNGETIFF = fp.TUNGETFEATURES + 3
"""linux/if_tun.h: _IOR('T', 210, unsigned int), where the other is 207; the rest differs by CPU."""
_IFREQ = struct.Struct("=16sH22x")
"""struct ifreq: the link's name, then a union, here of flags."""
_CAP_NET_ADMIN = 12
"""linux/capability.h."""

_FIXES = {
    errno.ENOENT: f"load the tun module (modprobe tun), or give the container {TUN_PATH}",
    errno.ENODEV: f"load the tun module (modprobe tun), or give the container {TUN_PATH}",
    errno.ENXIO: f"load the tun module (modprobe tun), or give the container {TUN_PATH}",
    errno.EPERM: "run as root or with CAP_NET_ADMIN",
    errno.EACCES: f"run as root, or allow the device {TUN_PATH} in the container's device list",
    errno.EBUSY: "another process holds a device of this name: stop it (flanneld?)",
    errno.ENOTTY: f"this is not the tun device: rm {TUN_PATH}; mknod {TUN_PATH} c 10 200",
    errno.EINVAL: "a device of this name exists with other properties: remove it (ip link del)",
}


@dataclass(slots=True)
class Tun:
    """An open device: one descriptor a queue, all non-blocking and ours to close.

    `vnet_header` tells whether every packet read and written carries a struct virtio_net_hdr,
    `takes_udp` whether UDP super-packets may be written.
    `refused` has the reason for each wanted offload that the kernel does not grant.
    """

    name: str
    index: int
    queues: list[int]
    vnet_header: bool = False
    takes_udp: bool = False
    refused: dict[str, str] = field(default_factory=dict)

    def close(self) -> None:
        """Close all queues; the device vanishes with its address and routes."""
        while self.queues:
            os.close(self.queues.pop())


def open_tun(pattern: str, *, vnet_header: bool = False, uso: bool = False, queues: int = 1) -> Tun:
    """Create the device `pattern` ("%d" becomes the first free number) with what the kernel grants.

    `uso` counts only with `vnet_header`. Raises KernelError.
    """
    refused: dict[str, str] = {}
    flags = pytun.IFF_TUN | pytun.IFF_NO_PI
    if vnet_header:
        if _known_flags() & pytun.IFF_VNET_HDR:
            flags |= pytun.IFF_VNET_HDR
        else:
            refused["vnet-hdr"] = "this kernel's TUN has no IFF_VNET_HDR"
            vnet_header = False
    if queues > 1:
        if _known_flags() & pytun.IFF_MULTI_QUEUE:
            flags |= pytun.IFF_MULTI_QUEUE
        else:
            refused["multi-queue"] = "this kernel's TUN has one queue (needs Linux 3.8)"
            queues = 1
    name, first = _open_queue(pattern, flags)
    tun = Tun(name, 0, [first], refused=refused)
    try:
        tun.index = _index_of(name)
        for _ in range(queues - 1):
            tun.queues.append(_open_queue(name, flags)[1])
        if vnet_header:
            _set_offload(tun, uso)
    except BaseException:
        tun.close()
        raise
    return tun


def adopt_tun(queues: list[int], features: Features) -> Tun:
    """The device that these descriptors of its queues belong to, from another process.

    Raises KernelError when it is gone, or was made with other properties than are wanted.
    """
    try:
        name, flags = _asked(queues[0])
        for fd in queues:
            if _asked(fd) != (name, flags):
                raise KernelError("its queues belong to several devices")
            os.set_inheritable(fd, False)
            os.set_blocking(fd, False)
    except OSError as error:
        raise _refused("the device of the last run", error.errno or 0, str(error.strerror)) from (
            error
        )
    tun = Tun(name, _index_of(name), list(queues))
    vnet_header = bool(flags & pytun.IFF_VNET_HDR)
    if vnet_header != (features.on("vnet-hdr") and bool(_known_flags() & pytun.IFF_VNET_HDR)):
        raise KernelError(f"{name} was made with other offloads than are wanted now")
    if vnet_header:
        _set_offload(tun, features.on("uso"))
    return tun


def _asked(fd: int) -> tuple[str, int]:
    """Name and IFF_* flags of a queue's device (TUNGETIFF). Raises OSError, EBADFD: it is gone."""
    name, flags = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))
    return name.rstrip(b"\0").decode(errors="replace"), flags


@contextlib.contextmanager
def _node() -> Iterator[str]:
    """The path of the driver's device node: /dev/net/tun, or a private one where that is missing.

    flannel's own manifest does not mount it, and a container's /dev has none. Where the container
    may make and open device nodes, one of ours that exists only while it is opened does as well.
    """
    if os.path.exists(TUN_PATH):
        yield TUN_PATH
        return
    with contextlib.ExitStack() as undo:
        path = TUN_PATH
        try:
            folder = undo.enter_context(tempfile.TemporaryDirectory(prefix="udpoverlay-"))
            os.mknod(f"{folder}/tun", stat.S_IFCHR | 0o600, _DEVICE)
            path = f"{folder}/tun"
        except OSError:
            pass  # what opening the usual path says is what helps
        yield path


def check_tun() -> None:
    """Raise the KernelError that making a device would end with, as far as that can be foreseen."""
    try:
        _features()
    except OSError as error:
        raise _refused("a TUN device", error.errno or 0, str(error.strerror)) from error
    if not _may_administer():
        raise _refused("a TUN device", errno.EPERM, os.strerror(errno.EPERM))


def _may_administer() -> bool:
    """Whether CAP_NET_ADMIN is in effect; true when /proc does not tell."""
    try:
        status = Path("/proc/thread-self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return effective is None or bool(int(effective[1], 16) & 1 << _CAP_NET_ADMIN)


def _features() -> int:
    """IFF_* flags that this kernel's TUN knows (TUNGETFEATURES). Raises OSError."""
    with _node() as path:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return int(struct.unpack("I", fcntl.ioctl(fd, fp.TUNGETFEATURES, bytes(4)))[0])
    finally:
        os.close(fd)


def _known_flags() -> int:
    """The features, 0 when they cannot be asked: making the device will say what is wrong."""
    try:
        return _features()
    except OSError:
        return 0


def _refused(what: str, code: int, text: str) -> KernelError:
    return KernelError(f"cannot open {what}: {text}", fix=_FIXES.get(code, ""), errno=code)


def _open_queue(name: str, flags: int) -> tuple[str, int]:
    """The device's name and a descriptor of our own: pytun's object closes its when it is dropped.

    Two descriptors of one queue; the device lives until the last one is closed.
    """
    try:
        with _node() as path:
            made = pytun.TunTapDevice(name=name, flags=flags, dev=path)
    except pytun.Error as error:
        code, text = error.args[0], error.args[-1]
        number = code if isinstance(code, int) else 0
        raise _refused(f"TUN device {name}", number, text) from error
    try:
        fd = fcntl.fcntl(made.fileno(), fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
        os.set_blocking(fd, False)
        return made.name, fd
    except OSError as error:
        raise _refused(f"TUN device {name}", error.errno or 0, str(error.strerror)) from error
    finally:
        made.close()


def _index_of(name: str) -> int:
    """Raises KernelError where it is gone already."""
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        raise _refused(f"TUN device {name}", error.errno or 0, str(error.strerror)) from error


def _set_offload(tun: Tun, uso: bool) -> None:
    """Ask for the widest set of super-packets that is wanted and that the kernel takes.

    TUNSETOFFLOAD with the USO bits also tells whether the device takes UDP super-packets: both came
    with Linux 6.2.
    """
    tcp = fp.TUN_F_CSUM | fp.TUN_F_TSO4 | fp.TUN_F_TSO6 | fp.TUN_F_TSO_ECN
    tun.vnet_header = True
    try:
        _offload(tun, tcp)
    except OSError as error:  # the header is there all the same; packets come one by one
        tun.refused["vnet-hdr"] = f"the kernel refused TUNSETOFFLOAD: {error.strerror}"
        return
    try:
        _offload(tun, tcp | fp.TUN_F_USO4 | fp.TUN_F_USO6)
        tun.takes_udp = True
    except OSError:
        tun.refused["uso"] = tun.refused["coalesce-udp"] = "needs Linux 6.2"
        return
    if not uso:
        _offload(tun, tcp)


def _offload(tun: Tun, flags: int) -> None:
    for fd in tun.queues:
        fcntl.ioctl(fd, fp.TUNSETOFFLOAD, flags)
