"""Which daemon came before us, and how its tunnel comes to us.

Owns: the choice between the two ways. Must not know: what happens on either.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from udpoverlay.backend.base import Former
from udpoverlay.handover.bridge import Bridge, bridge
from udpoverlay.handover.predecessor import Predecessor, predecessor
from udpoverlay.handover.statefile import StateFile
from udpoverlay.host.notify import ServiceManager
from udpoverlay.log import get_logger
from udpoverlay.model.config import DaemonConfig

__all__ = ["former_daemon", "runs"]

_log = get_logger(__name__)


@contextlib.asynccontextmanager
async def former_daemon(
    config: DaemonConfig, manager: ServiceManager
) -> AsyncIterator[Former | None]:
    """Whose tunnel we go on with; None: there was none. Raises OperatorError."""
    found: Bridge | Predecessor | None
    if config.replace:
        found = await predecessor(config.admin_socket, config.dataplane)
    else:
        found = await bridge(manager.kept, _left(config.admin_socket), config.dataplane)
    try:
        yield found
    finally:
        if found is not None:
            await found.aclose()


def _left(admin_socket: str) -> bytes | None:
    file = StateFile.beside(admin_socket)
    try:
        return file.read()
    except OSError as error:
        _log.warning("the note of the last run cannot be read", path=file.path, reason=error)
        return None


def runs(former: Former | None) -> bool:
    """Whether it still runs, and has ports and the admin socket until we are able."""
    return isinstance(former, Predecessor)
