"""Runs with tests/c/fail_send.c preloaded: what the pump makes of each error of a send.

Prints one line of JSON: for each case its states of step(), its verdicts and tallies, and how many
datagrams came.
"""

from __future__ import annotations

import errno
import json
import mmap
import os

from tests.support.pumprig import received, rig, to_peer
from udpoverlay import _fastpath as fp

CASES = [
    # name, errno, times, equal packets (a run)
    *[
        (name, getattr(errno, name), 1, False)
        for name in (
            *("EHOSTUNREACH", "ENETUNREACH", "ECONNREFUSED", "ENETDOWN"),
            *("EPERM", "EACCES", "EMSGSIZE", "EINVAL", "EINTR"),
        )
    ],
    ("ENOBUFS-passes", errno.ENOBUFS, 3, False),
    ("ENOBUFS-stays", errno.ENOBUFS, 9, False),
    ("ENOMEM-passes", errno.ENOMEM, 1, False),
    ("EAGAIN", errno.EAGAIN, 2, False),
    *[
        (f"{name}-run", getattr(errno, name), 1, True)
        for name in ("EIO", "EINVAL", "EMSGSIZE", "EOPNOTSUPP", "EPERM")
    ],
]


def main() -> None:
    with open(os.environ["FAIL_SEND"], "r+b") as file:
        wanted = memoryview(mmap.mmap(file.fileno(), 8)).cast("i")
    results = {}
    for name, code, times, run in CASES:
        with rig(udp_segment=True) as r:
            for size in (40, 40, 40) if run else (10, 20, 30):
                r.device.send(to_peer(bytes(size)))
            wanted[0], wanted[1] = code, times
            states = [r.step(fp.OUTBOUND)]
            while states[-1]:
                states.append(r.step(fp.OUTBOUND))
            results[name] = {
                "states": states,
                "counts": r.counts(),
                "verdicts": r.verdicts(),
                "came": len(received(r.peer)),
            }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
