"""Why a lease of another host gets no route: one list of reasons, as verdicts are for packets.

Owns: the reasons, their names in documents and their texts in the log. Must not know: who judges
(model/place.py the range, peers/ the address and the rest).
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Refusal"]


class Refusal(Enum):
    """The value is the name in documents."""

    NO_IPV4_SUBNET = "no_ipv4_subnet"
    OUTSIDE_NETWORK = "outside_network"
    TOO_WIDE = "too_wide"
    TOO_NARROW = "too_narrow"
    NO_ADDRESS = "no_address"
    NOT_A_HOST = "not_a_host"
    OWN_ADDRESS = "own_address"
    IN_OVERLAY = "in_overlay"
    OVERLAP = "overlap"
    OTHER_BACKEND = "other_backend"

    @property
    def why(self) -> str:
        """The text for the log."""
        return _TEXTS[self][0]

    @property
    def fix(self) -> str:
        """What the operator can do; "" where nothing is wrong."""
        return _TEXTS[self][1]


_ADDRESS = "give that host an address of its own with --iface or --public-ip"
_DELETE = "delete the entry if no host holds it"
_TEXTS = {
    Refusal.NO_IPV4_SUBNET: ("it has no IPv4 subnet, and IPv4 alone is carried", ""),
    Refusal.OUTSIDE_NETWORK: (
        "its range is not inside Network",
        f"{_DELETE}; if Network was changed since this daemon started, restart it",
    ),
    Refusal.TOO_WIDE: ("its range is wider than a host's subnet of Network can be", _DELETE),
    Refusal.TOO_NARROW: ("its range is narrower than a host's subnet can be", _DELETE),
    Refusal.NO_ADDRESS: ("it has no public IPv4 address", ""),
    Refusal.NOT_A_HOST: (
        "its public IP is a loopback, multicast or broadcast address",
        _ADDRESS,
    ),
    Refusal.OWN_ADDRESS: (
        "its public IP is an address of this host",
        f"{_ADDRESS}; what this host left behind itself runs out",
    ),
    Refusal.IN_OVERLAY: (
        "its public IP lies in the overlay: packets to it would enter the tunnel",
        _ADDRESS,
    ),
    Refusal.OTHER_BACKEND: (
        "its host has another Backend.Type: it does not listen on our port",
        "restart its daemon, if the network's Backend.Type was changed",
    ),
    Refusal.OVERLAP: ("its range overlaps one that is in use", _DELETE),
}
