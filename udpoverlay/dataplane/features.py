"""Which offloads are on: what the operator switched off, what the kernel grants, and why not.

Owns: the probes of the UDP socket and the answer for each of model.dataplane.OFFLOADS. Must not
know: what an offload does to packets (ext/).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from udpoverlay import _fastpath as fp
from udpoverlay.model.dataplane import OFFLOADS, DataplaneSettings
from udpoverlay.model.kernel_faults import known_faults

__all__ = ["Features"]

ON = "on"
SWITCHED_OFF = "off (switch)"


@dataclass(slots=True)
class Features:
    """The state of each offload: "on", "off (switch)" or "unavailable: reason"."""

    state: dict[str, str]

    @classmethod
    def wanted(cls, settings: DataplaneSettings) -> Features:
        """All that is not switched off; the kernel has not been asked yet."""
        off = OFFLOADS.keys() if settings.per_packet else settings.offloads_off
        return cls({offload: SWITCHED_OFF if offload in off else ON for offload in OFFLOADS})

    def on(self, offload: str) -> bool:
        """Whether `offload` is in use."""
        return self.state[offload] == ON

    def refuse(self, offload: str, reason: str) -> None:
        """The kernel or the set-up does not grant `offload`; what is switched off stays so."""
        if self.on(offload):
            self.state[offload] = f"unavailable: {reason}"

    def refuse_known(self, release: str, *, tunnels: bool) -> None:
        """Leave alone what this kernel is known to damage or lose, since no error would say so."""
        for fault in known_faults(release, tunnels=tunnels):
            self.refuse(fault.offload, f"Linux {release} {fault.what}; fixed in {fault.fix}")

    def probe_udp(self, udp: socket.socket) -> None:
        """Ask the socket what it knows, and set UDP_GRO on it or not."""
        try:
            udp.getsockopt(fp.SOL_UDP, fp.UDP_SEGMENT)
        except OSError as error:
            self.refuse("udp-segment", f"needs Linux 4.18 ({error.strerror})")
        try:
            udp.setsockopt(fp.SOL_UDP, fp.UDP_GRO, int(self.on("udp-gro")))
        except OSError as error:
            self.refuse("udp-gro", f"needs Linux 5.0 ({error.strerror})")
