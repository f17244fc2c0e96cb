"""One file a concern; `ALL` is the order in which they run."""

from __future__ import annotations

from udpoverlay.doctor.base import Check
from udpoverlay.doctor.checks import (
    bridge,
    clock,
    cni,
    firewalls,
    forwarding,
    kernel,
    mtu,
    overlap,
    privileges,
    reverse_path,
    tun,
    vxlan,
)

__all__ = ["ALL"]

ALL: tuple[Check, ...] = (
    privileges.CHECK,
    tun.CHECK,
    kernel.CHECK,
    vxlan.CHECK,
    forwarding.CHECK,
    reverse_path.CHECK,
    bridge.CHECK,
    firewalls.CHECK,
    mtu.CHECK,
    overlap.CHECK,
    cni.CHECK,
    clock.CHECK,
)
