"""Waiting for the network configuration, as flanneld does: for ever, with a word now and then.

Owns: how often it is asked for, and that it is said. Must not know: which registry.
"""

from __future__ import annotations

import asyncio
import time

from udpoverlay.errors import RegistryError
from udpoverlay.log import Waiting, get_logger
from udpoverlay.model.netconf import NetConf
from udpoverlay.registry.base import Registry

__all__ = ["RETRY_SECONDS", "network_config"]

_log = get_logger(__name__)

RETRY_SECONDS = 1.0
"""Pause between two attempts (flannel main.go, getConfig)."""


async def network_config(registry: Registry) -> NetConf:
    """Ask until there is one. Raises OperatorError for one that is wrong."""
    waiting = Waiting(_log, time.monotonic, "waiting for the network configuration")
    while True:
        try:
            netconf = await registry.network_config()
        except RegistryError as error:
            waiting.still(str(error))
            await asyncio.sleep(RETRY_SECONDS)
            continue
        _log.info(
            "network configuration",
            network=netconf.network,
            subnet_len=netconf.subnet_len,
            backend=netconf.backend_type,
            backend_settings=dict(netconf.backend),
        )
        return netconf
