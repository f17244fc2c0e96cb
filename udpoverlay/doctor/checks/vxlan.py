"""Has the kernel VXLAN: what flannel's default backend needs, and ours does not.

Whether VXLAN arrives at a peer is the check `peer`'s. VMware's card (vmxnet3) is known to lose what
it should only compute checksums of (flannel issue 2388, calico issue 9433, kURL issue 5041).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct
from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, good, skipped, warning
from udpoverlay.doctor.patient import Patient

__all__ = ["CHECK"]

_BAD_DRIVERS = ("vmxnet3",)
# linux/sockios.h, linux/ethtool.h
_SIOCETHTOOL = 0x8946
_ETHTOOL_GTXCSUM = 0x16


async def _look(patient: Patient) -> Sequence[Finding]:
    return [_present(patient), await _card(patient)]


def _present(patient: Patient) -> Finding:
    devices = patient.devices("vxlan")
    if devices:
        return good(f"VXLAN is in use: {', '.join(devices)}")
    if patient.exists("/sys/module/vxlan"):
        return good("the kernel has VXLAN")
    folder = f"/lib/modules/{platform.release()}"
    for index in ("modules.builtin", "modules.dep"):
        if "/vxlan.ko" in (patient.read(f"{folder}/{index}") or ""):
            return good("the kernel has VXLAN as a module")
    return good("the kernel has no VXLAN: flannel's vxlan backend fails here, udp needs none")


async def _card(patient: Patient) -> Finding:
    choice = await patient.known(patient.choice)
    if choice is None:
        return skipped("the network card: no interface is known, see interface")
    name = choice.name
    driver = _driver(patient, name)
    if driver not in _BAD_DRIVERS or not checksums_offloaded(name):
        return good(f"{name} ({driver or 'no driver'}): no card that is known to break VXLAN")
    what = f"{name} ({driver}) computes checksums, and VXLAN packets can get lost in it"
    if not patient.devices("vxlan"):
        return good(f"{what}; no VXLAN is used here")
    return warning(what, f"ethtool -K {name} tx off; the udp backend is not affected")


def _driver(patient: Patient, name: str) -> str:
    try:
        return os.path.basename(os.readlink(patient.path(f"/sys/class/net/{name}/device/driver")))
    except OSError:
        return ""


def checksums_offloaded(name: str) -> bool:
    """Whether a device computes checksums of what it sends; true where it does not tell."""
    value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_GTXCSUM, 0), 8)
    request = struct.pack("16sP16x", name.encode()[:15], ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, request)
        except OSError:
            return True
    return bool(struct.unpack("II", value.raw)[1])


CHECK = Check("vxlan", "kernel VXLAN", _look)
