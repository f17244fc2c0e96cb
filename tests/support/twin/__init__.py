"""The compiled data path once more, in slow and obvious Python: the oracle of the C code's tests.

Same names, arguments and results as udpoverlay._pure, and RouteTable as in _fastpath; one module
for each C unit. It favours definitions (RFC formulas, exact fractions, a scan of all prefixes) over
the tricks that the C code needs, so that the two can only agree by both being right.
"""

from tests.support.twin.checksum import checksum, transport_checksum
from tests.support.twin.icmp import IcmpLimiter, icmp_error
from tests.support.twin.packet import check, decrease_ttl
from tests.support.twin.routes import RouteTable

__all__ = [
    "IcmpLimiter",
    "RouteTable",
    "check",
    "checksum",
    "decrease_ttl",
    "icmp_error",
    "transport_checksum",
]
