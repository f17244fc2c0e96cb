"""The one error of the plugin: a code and two sentences, printed as CNI's JSON.

Codes: CNI specification, section "Error".
"""

from __future__ import annotations

__all__ = [
    "BAD_CONFIG",
    "BAD_ENVIRONMENT",
    "CANNOT_DECODE",
    "INTERNAL",
    "IO_FAILURE",
    "NOT_AVAILABLE",
    "TRY_AGAIN",
    "UNSUPPORTED_VERSION",
    "CniError",
]

UNSUPPORTED_VERSION = 1
BAD_ENVIRONMENT = 4
IO_FAILURE = 5
CANNOT_DECODE = 6
BAD_CONFIG = 7
TRY_AGAIN = 11
NOT_AVAILABLE = 50
"""STATUS: the plugin cannot serve ADD."""
INTERNAL = 100
"""Codes from here on are a plugin's own: an error that this plugin did not foresee."""


class CniError(Exception):
    """`what` went wrong, `details` say how to fix it."""

    def __init__(self, code: int, what: str, details: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.details = details
