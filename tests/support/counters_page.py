"""docs/reference/counters.md, made from the lists that the program itself uses.

python -m tests.support.counters_page > docs/reference/counters.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from udpoverlay import _fastpath as fp
from udpoverlay.model.kernel_drops import KERNEL_DROPS

_HEAD = """\
# Counters of the data path

Made from `ext/verdict.h` and `udpoverlay/dataplane/kernel_drops.py` by
`python -m tests.support.counters_page`. They stand in `dataplane` of `/v1/counters` and in
`dataplane.counters` of `/v1/status` ([the admin socket](admin.md)); `udpoverlay status` shows the
verdicts. All count since the start of the daemon, over every rebuild of the tunnel.

outbound is always from the TUN device to the UDP socket, inbound from the socket to the device.
"""
_SUM = """
A packet ends in exactly one verdict. So for each direction, in packets:

```
what came = what the kernel dropped in front of us + the sum of the direction's verdicts
```
"""


def page() -> str:
    """The whole page."""
    return "".join(_parts())


def _parts() -> Iterator[str]:
    yield _HEAD
    for direction in ("outbound", "inbound"):
        rows = [(n, f"{k}: {text}") for n, d, k, text in fp.VERDICTS if d == direction]
        yield f"\n## Verdicts, {direction}\n\n{_table(rows)}"
    yield f"\n## Dropped by the kernel before a worker saw it\n\n{_table(KERNEL_DROPS.items())}"
    yield _SUM
    rows = [(facts[0], facts[-1]) for facts in fp.COUNTERS]
    yield f"\n## What was done\n\n{_table(rows)}"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| `{name}` | {text} |\n" for name, text in rows]
    return "| name | meaning |\n|---|---|\n" + "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())
