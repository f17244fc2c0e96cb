"""Finding the interface between the hosts: one look at this host, one choice, said in the log.

Owns: that it is said. Must not know: how it is chosen (interfaces.py), what asks.
"""

from __future__ import annotations

from collections.abc import Callable

from udpoverlay.gocompat.net import parse_ip
from udpoverlay.host.interfaces import Choice, Stack, Wanted, choose_interface
from udpoverlay.host.netlink import host_view
from udpoverlay.log import get_logger

__all__ = ["find_interface", "look_for_interface"]

_log = get_logger(__name__)


async def look_for_interface(
    wanted: Wanted, stack: Stack, tell: Callable[[str], None] = lambda _: None
) -> Choice:
    """Choose by `wanted`; `tell` hears of options that found none. Raises as find_interface."""
    view = await host_view(parse_ip(wanted.iface_can_reach))
    return choose_interface(wanted, stack, view, tell)


async def find_interface(wanted: Wanted, stack: Stack) -> Choice:
    """Choose by `wanted`, with lines in the log. Raises OperatorError, KernelError."""
    choice = await look_for_interface(
        wanted, stack, lambda why: _log.info("no interface by this option", reason=why)
    )
    _log.info(
        "interface chosen",
        name=choice.name,
        mtu=choice.mtu,
        address=choice.address or choice.address_v6,
        public_ip=choice.public_ip,
        public_ipv6=choice.public_ipv6,
    )
    return choice
