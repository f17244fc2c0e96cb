"""Packets that the kernel dropped in front of us and behind us: the names of their counts."""

from __future__ import annotations

__all__ = ["KERNEL_DROPS"]

KERNEL_DROPS = {
    "outbound_kernel_dropped": "dropped by the kernel: the TUN device's queue was full",
    "inbound_kernel_dropped": "dropped by the kernel: the UDP socket's buffer was full",
}
"""Name of each count, and what it means."""
