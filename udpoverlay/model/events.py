"""The vocabulary between a registry and everything that follows leases.

A watch yields one Snapshot first and again whenever continuity was lost (a compacted etcd watch, a
Kubernetes 410 Gone); between them Added and Removed, in registry order. Every event is idempotent:
each renewal by anybody arrives as Added for a lease that is already known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from udpoverlay.model.lease import Lease, Subnet

__all__ = ["Added", "Event", "Removed", "Snapshot"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All leases that the registry holds at `revision`; what is not in it is gone.

    `lost_history`: the registry does not continue what it sent before, because its store was wiped,
    replaced or restored from an older copy: a missing lease was forgotten rather than given up.
    """

    leases: tuple[Lease, ...]
    revision: int = 0
    lost_history: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """`lease` was created, renewed or changed.

    `foreign`: only from watch_own, where it means that this process did not write our entry.
    """

    lease: Lease
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Removed:
    """The lease of `subnet` was deleted or ran out."""

    subnet: Subnet
    revision: int = field(default=0, compare=False)
    """The registry's when it was gone; 0: unknown. What was written later is not meant."""


Event: TypeAlias = Snapshot | Added | Removed
