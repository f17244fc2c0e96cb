"""Which capabilities the running daemon needs, and why.

Owns: the reasons. Must not know: how the others are given up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from udpoverlay.host.privileges import capabilities

__all__ = ["ALWAYS", "Needs"]

ALWAYS = ("NET_ADMIN", "NET_RAW")
"""The device, its address, routes, packet rules; ICMP errors, both ways."""
_PRIVILEGED_PORTS = 1024
_OVERRIDE = "DAC_OVERRIDE"
_READ = "DAC_READ_SEARCH"


@dataclass(frozen=True, slots=True)
class Needs:
    """What the daemon will do again while it runs."""

    port: int = 0
    """UDP port that is bound again when the device is rebuilt."""
    reads: tuple[str, ...] = ()
    """Files that are read again: certificates, a kubeconfig; "" counts as none."""
    writes: tuple[str, ...] = ()
    """Folders in which files are made and removed; "" counts as none."""
    device_node: str = ""
    """The TUN driver's path: where it is missing, a node is made for each new device."""
    plugins: bool = False
    """Whether programs of others run: a kubeconfig's credential plugins."""

    @property
    def makes_device_node(self) -> bool:
        """Whether mknod is needed."""
        return bool(self.device_node) and not os.path.exists(self.device_node)

    def kept(self) -> dict[str, str]:
        """The capabilities that are needed beyond ALWAYS, each with its reason."""
        found: dict[str, str] = {}
        if 0 < self.port < _PRIVILEGED_PORTS:
            found["NET_BIND_SERVICE"] = f"port {self.port} is bound again with a new device"
        if self.makes_device_node:
            found["MKNOD"] = f"{self.device_node} is missing: a node is made for a new device"
        foreign = list(self._foreign())
        unwritable = [path for path, write in foreign if write]
        if unwritable:
            found[_OVERRIDE] = f"{unwritable[0]} belongs to another user"
        elif foreign:
            found[_READ] = f"{foreign[0][0]} belongs to another user"
        return found

    def _foreign(self) -> Iterator[tuple[str, bool]]:
        """Paths that only these two capabilities open to us, and whether they are written to."""
        # What does not exist yet shows nothing; without the capabilities all would seem to be so.
        wanted = [
            *((path, False) for path in self.reads if path and os.path.exists(path)),
            *((_existing(path), True) for path in self.writes if path),
        ]
        try:
            with capabilities.lowered(capabilities.mask((_OVERRIDE, _READ))):
                closed = [(path, write) for path, write in wanted if not _open(path, write)]
        except OSError:
            return
        # What no capability opens, a disk that is read-only, say, is not among them.
        yield from ((path, write) for path, write in closed if _open(path, write))


def _open(path: str, write: bool) -> bool:
    return os.access(path, os.W_OK | os.X_OK if write else os.R_OK, effective_ids=True)


def _existing(folder: str) -> str:
    """The folder, or the one in which it would be made."""
    while folder and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return folder
