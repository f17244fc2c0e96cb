"""Who lives as long as whom: the collector, and tables that are replaced while packets wait."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

from udpoverlay import _fastpath as fp

ROOT = Path(__file__).parent.parent.parent.parent
PERTURB = "glibc.malloc.tcache_count=0:glibc.malloc.perturb=165"
"""What is freed is overwritten at once."""

COLLECT = """
import gc, socket
from tests.support.pumprig import Rig, to_peer

class Cycle:
    pass

for _ in range(20):
    made = Rig(narrow=True)  # first: the collector clears in the order of age
    cycle = Cycle()
    cycle.self = cycle
    cycle.worker, cycle.kept = made.worker, (made.device, made.tun, made.udp, made.peer)
    for _ in range(64):
        made.device.send(to_peer(bytes(200)))
    assert cycle.worker.step(1, 9), "nothing waits"
    del made, cycle
    # What was freed too early is used by others before the worker is.
    keep = [bytearray(size) for size in range(16, 4096, 16)]
    gc.collect()
print("alive")
"""


def test_collector_that_finds_a_worker_frees_it_before_its_pump() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLLECT],
        cwd=ROOT,
        env={**os.environ, "PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": PERTURB},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_collector_does_not_take_worker_or_pump_apart() -> None:
    table = fp.RouteTable()
    pump = fp.Pump(table, mtu=1400, tun_address=bytes(4))
    assert not gc.is_tracked(pump)
    assert not gc.is_tracked(table)
