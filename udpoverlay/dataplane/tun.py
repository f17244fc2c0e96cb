"""Opens the TUN device; the only user of pytun.

Owns: its flags, what of its offloads the kernel grants, errors that name the fix. Must not know:
addresses, link state and routes of the device (host/netlink), or what is done with the packets.
The device is not persistent: it vanishes when the last descriptor is closed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from dataclasses import dataclass, field

import pytun

from udpoverlay import _fastpath as fp
from udpoverlay.errors import KernelError

__all__ = ["Tun", "open_tun"]

TUN_PATH = "/dev/net/tun"

_FIXES = {
    errno.ENOENT: f"load the tun module (modprobe tun), or give the container {TUN_PATH}",
    errno.ENODEV: f"load the tun module (modprobe tun), or give the container {TUN_PATH}",
    errno.ENXIO: f"load the tun module (modprobe tun), or give the container {TUN_PATH}",
    errno.EPERM: "run as root or with CAP_NET_ADMIN",
    errno.EACCES: f"run as root, or allow the device {TUN_PATH} in the container's device list",
    errno.EBUSY: "another process holds a device of this name: stop it (flanneld?)",
    errno.EINVAL: "a device of this name exists with other properties: remove it (ip link del)",
}


@dataclass(slots=True)
class Tun:
    """An open device: one descriptor a queue, all non-blocking, the first one always there.

    `vnet_header` tells whether every packet read and written carries a struct virtio_net_hdr,
    `takes_udp` whether UDP super-packets may be written.
    `refused` has the reason for each wanted lever that the kernel does not grant.
    """

    name: str
    index: int
    queues: list[pytun.TunTapDevice]
    vnet_header: bool = False
    takes_udp: bool = False
    refused: dict[str, str] = field(default_factory=dict)

    def filenos(self) -> list[int]:
        """Descriptors of all queues."""
        return [queue.fileno() for queue in self.queues]

    def close(self) -> None:
        """Close all queues; the device vanishes with its address and routes."""
        while self.queues:
            self.queues.pop().close()


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
    first = _open_queue(pattern, flags)
    tun = Tun(first.name, socket.if_nametoindex(first.name), [first], refused=refused)
    try:
        for _ in range(queues - 1):
            tun.queues.append(_open_queue(tun.name, flags))
        if vnet_header:
            _set_offload(tun, uso)
    except BaseException:
        tun.close()
        raise
    return tun


def _known_flags() -> int:
    """IFF_* flags that this kernel's TUN knows (TUNGETFEATURES); 0 when it cannot be asked."""
    try:
        fd = os.open(TUN_PATH, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return 0  # opening the device itself will say what is wrong
    try:
        answer = fcntl.ioctl(fd, fp.TUNGETFEATURES, struct.pack("I", 0))
        return int(struct.unpack("I", answer)[0])
    except OSError:
        return 0
    finally:
        os.close(fd)


def _open_queue(name: str, flags: int) -> pytun.TunTapDevice:
    try:
        queue = pytun.TunTapDevice(name=name, flags=flags, dev=TUN_PATH)
    except pytun.Error as error:
        code, text = error.args[0], error.args[-1]
        raise KernelError(
            f"cannot open TUN device {name}: {text}",
            fix=_FIXES.get(code, ""),
            errno=code if isinstance(code, int) else 0,
        ) from error
    os.set_blocking(queue.fileno(), False)
    os.set_inheritable(queue.fileno(), False)
    return queue


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
        tun.refused["uso"] = tun.refused["fold-udp"] = "needs Linux 6.2"
        return
    if not uso:
        _offload(tun, tcp)


def _offload(tun: Tun, flags: int) -> None:
    for fd in tun.filenos():
        fcntl.ioctl(fd, fp.TUNSETOFFLOAD, flags)
