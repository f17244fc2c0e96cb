"""Which backends there are, by `Backend.Type`.

Owns: the list, and the error for what is not in it. Must not know: what a backend does.
"""

from __future__ import annotations

from collections.abc import Callable

from udpoverlay.backend.alloc import AllocBackend
from udpoverlay.backend.base import Backend
from udpoverlay.backend.udp import UdpBackend
from udpoverlay.errors import OperatorError
from udpoverlay.model.netconf import NetConf

__all__ = ["backend_of"]

_KINDS: dict[str, Callable[[NetConf], Backend]] = {
    UdpBackend.name: UdpBackend.of,
    AllocBackend.name: AllocBackend.of,
}


def backend_of(netconf: NetConf) -> Backend:
    """The backend of a configuration; its type is lower-cased, as flannel does.

    Raises OperatorError for one that this program has not, or that cannot do what is asked for.
    """
    make = _KINDS.get(netconf.backend_type.lower())
    if make is None:
        raise OperatorError(
            f"network configuration: Backend.Type {netconf.backend_type!r} is not supported",
            fix=f"this program supports: {', '.join(_KINDS)}",
        )
    return make(netconf)
