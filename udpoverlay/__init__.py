"""udpoverlay: a userspace overlay on flannel's udp wire.

The layers are drawn in docs/architecture.md.
"""

from udpoverlay._version import VERSION as __version__

__all__ = ["__version__"]
