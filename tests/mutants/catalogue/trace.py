"""ext/trace/ and dataplane/recorder.py: the flight recorder."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_RING = "ext/trace/ring.c"
_RECORDER = "ext/trace/recorder.c"
_PYTHON = "udpoverlay/dataplane/recorder.py"

_EXT = ("tests/ext/trace/test_recorder.py",)
_USDT = ("tests/ext/trace/test_usdt.py",)
_TESTS = ("tests/dataplane/test_recorder.py",)

MUTANTS = (
    Mutant(
        name="record-written-over-is-shown",
        bug="a reader that was too slow is told of no packet that it missed",
        file=_RING,
        old="        *lost += written - ring->mask - *next;\n",
        new="",
        tests=_TESTS,
    ),
    Mutant(
        name="stranger-without-an-address",
        bug="the record of a stranger's datagram does not say whose it is",
        file="ext/worker/inbound.c",
        old="                                       .remote = sender_of(&inbound->source)});\n",
        new="                                       .remote = NULL});\n",
        tests=_EXT,
    ),
    Mutant(
        name="record-names-todays-peer",
        bug="packets that were sent to a peer that is gone are shown without an address",
        file="ext/routes/peers.c",
        old="        atomic_store_explicit(&peers->addresses[peer->slot], address,",
        new="        atomic_store_explicit(&peers->addresses[0], address,",
        tests=_EXT,
    ),
    Mutant(
        name="drops-among-all-others",
        bug="the drop of a minute ago is written over by a millisecond of bulk traffic",
        file=_RECORDER,
        old="facts->dropped ? RECORDER_DROPPED : RECORDER_PASSED",
        new="RECORDER_PASSED",
        tests=_EXT,
    ),
    Mutant(
        name="record-of-an-old-batch",
        bug="packets out are recorded with the time of some earlier batch",
        file="ext/worker/outbound.c",
        old="outbound->began_ns = packet_batch(outbound->stats);\n",
        new="outbound->began_ns = clock_ns();\n",
        tests=_EXT,
    ),
    Mutant(
        name="records-out-of-order",
        bug="drops are shown before all packets that passed, whenever they were",
        file=_PYTHON,
        old="        found.sort(key=lambda record: record.time_ns)\n",
        new="        found.sort(key=lambda record: not record.dropped)\n",
        tests=_TESTS,
    ),
    Mutant(
        name="probe-without-its-semaphore",
        bug="bpftrace listens at the probe and is told of no packet",
        file="ext/trace/usdt.c",
        old="_.stapsdt.base, udpoverlay_packet_semaphore\\n",
        new="_.stapsdt.base, 0\\n",
        tests=_USDT,
    ),
)
