"""Logging: one line per event on standard error, in klog's format, with key=value fields.

    I1120 11:21:03.012345     812 etcd.py:97] lease acquired subnet=10.5.52.0/24 how="free subnet"

    logger ──► detail (-v, -vmodule) ──► limits ──► format, redact.py ──► handler ──► writer

Rules:
- one event is one line: control characters of any value are escaped, so that nothing a registry
  holds can forge a line or drive a terminal; long values are cut;
- secrets never appear (redact.py);
- a line that can repeat without end goes through `RateLimited` or `Waiting`;
- no line ever waits for its reader (writer.py).

Must not know: flags, or what is worth a line.
"""

from __future__ import annotations

from udpoverlay.log.detail import parse_backtrace_at, parse_vmodule
from udpoverlay.log.format import escape, render
from udpoverlay.log.handler import configure, flush, lines_lost, renew_threads, write_text
from udpoverlay.log.limits import RateLimited, Waiting
from udpoverlay.log.logger import Log, get_logger

__all__ = [
    "Log",
    "RateLimited",
    "Waiting",
    "configure",
    "escape",
    "flush",
    "get_logger",
    "lines_lost",
    "parse_backtrace_at",
    "parse_vmodule",
    "render",
    "renew_threads",
    "write_text",
]
