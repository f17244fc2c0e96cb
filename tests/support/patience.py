"""How long a test waits for what must come.

Owns: one number. pytest-timeout cannot stop a test inside uvloop, which swallows what its signal
handler raises; so whatever waits ends by itself.
"""

from __future__ import annotations

import os

__all__ = ["DEADLINE"]

DEADLINE = float(os.environ.get("TEST_DEADLINE", "60"))
"""Seconds after which what must come has not come; far above what any machine needs."""
