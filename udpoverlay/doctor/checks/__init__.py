"""One file a concern; `ALL` is the order in which they run: what others need comes first."""

from __future__ import annotations

from udpoverlay.doctor.base import Check
from udpoverlay.doctor.checks import (
    bridge,
    clock,
    cni,
    daemon,
    firewalls,
    forwarding,
    interface,
    kernel,
    mtu,
    overlap,
    peer,
    pod_cidr,
    privileges,
    public_ip,
    registry,
    reverse_path,
    rights,
    tun,
    vxlan,
)

__all__ = ["ALL"]

ALL: tuple[Check, ...] = (
    privileges.CHECK,
    tun.CHECK,
    kernel.CHECK,
    vxlan.CHECK,
    registry.CHECK,
    rights.CHECK,
    pod_cidr.CHECK,
    interface.CHECK,
    public_ip.CHECK,
    daemon.CHECK,
    forwarding.CHECK,
    reverse_path.CHECK,
    bridge.CHECK,
    firewalls.CHECK,
    mtu.CHECK,
    overlap.CHECK,
    cni.CHECK,
    clock.CHECK,
    peer.CHECK,
)
