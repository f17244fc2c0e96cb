"""The garbage collector's part in the latency of the event loop.

Owns: when what stays is taken out of its sight. Must not know: what that is.
"""

from __future__ import annotations

import gc

__all__ = ["keep_for_good"]


def keep_for_good() -> None:
    """Collect once, and never look again at what is left (gc.freeze).

    A full collection goes over every object: with 10,000 leases it stops the event loop for some
    10 ms, and with it each change of a route. Call once the bulk of what lives long is there. What
    is kept is still freed when its last reference goes; only cycles among it are not found.
    """
    gc.collect()
    gc.freeze()
