"""Impairments: what is counted, what ends them, who may ask."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_IMPAIR = "ext/worker/impair.c"
_QUEUE = "ext/worker/impair_queue.c"
_RULE = "ext/worker/impair_rule.c"
_KEEPER = "udpoverlay/dataplane/impairments.py"

_WORKER_TESTS = "tests/ext/worker/test_impair.py"
_KEEPER_TESTS = ("tests/dataplane/test_impairments.py",)

MUTANTS = (
    Mutant(
        name="impaired-packet-uncounted",
        bug="packets that were lost on purpose are missing in every sum",
        file=_IMPAIR,
        old="        drop(impair, hop, bytes, length, VERDICT_OUTBOUND_IMPAIRED);\n",
        new="",
        tests=(
            f"{_WORKER_TESTS}::test_loss_is_the_pattern_of_the_seed_and_every_packet_is_counted",
        ),
    ),
    Mutant(
        name="seed-does-not-matter",
        bug="the same seed makes another pattern each time, none can be repeated",
        file=_RULE,
        old="    uint64_t x = seed + (n + 1)",
        new="    uint64_t x = (uintptr_t)&seed + (n + 1)",
        tests=(
            f"{_WORKER_TESTS}::test_loss_is_the_pattern_of_the_seed_and_every_packet_is_counted",
        ),
    ),
    Mutant(
        name="impairment-never-ends",
        bug="packets are lost until the daemon is started again",
        file=_IMPAIR,
        old="        if (lane->over && lane->queue->count == 0) {",
        new="        lane->over = false;\n        if (lane->over && lane->queue->count == 0) {",
        tests=(f"{_WORKER_TESTS}::test_it_ends_by_itself_and_what_was_held_back_comes_first",),
    ),
    Mutant(
        name="duplicate-uncounted",
        bug="more packets are sent than came, and no counter says why",
        file=_IMPAIR,
        old="        stats_count(impair->stats, COUNTER_OUTBOUND_DUPLICATES, 1);\n",
        new="",
        tests=(f"{_WORKER_TESTS}::test_duplicates_follow_their_original_and_are_counted",),
    ),
    Mutant(
        name="corruption-of-the-header",
        bug="a corrupted packet may find another way: its IP header is changed, too",
        file=_IMPAIR,
        old="        corrupt(rule, number, bytes, hop->header.length + ip_header, length);\n",
        new="        corrupt(rule, number, bytes, hop->header.length, length);\n",
        tests=(f"{_WORKER_TESTS}::test_corruption_is_one_bit_behind_the_ip_header",),
    ),
    Mutant(
        name="loss-fills-the-queue",
        bug="with loss of a millionth a fast sender loses half of its packets",
        file="ext/worker/outbound.c",
        old="batch->count + impair_ready(outbound->impair) >= TX_BATCH_ENTRIES",
        new="false",
        tests=(f"{_WORKER_TESTS}::test_loss_alone_never_fills_the_queue",),
    ),
    Mutant(
        name="held-back-for-ever",
        bug="a delayed packet leaves when the next one comes, the last never",
        file="ext/worker/worker.c",
        old="waiting || held >= 0 ? WORKER_OUTBOUND : 0",
        new="waiting ? WORKER_OUTBOUND : 0",
        tests=(f"{_WORKER_TESTS}::test_delay_holds_packets_back_in_their_order",),
    ),
    Mutant(
        name="equal-packets-change-places",
        bug="a delay without jitter reorders packets",
        file=_QUEUE,
        old="due_ns, queue->order++,",
        new="due_ns, queue->order--,",
        tests=(f"{_WORKER_TESTS}::test_duplicates_follow_their_original_and_are_counted",),
    ),
    Mutant(
        name="rate-without-a-limit",
        bug="a limited rate holds back a second of packets instead of dropping what is too much",
        file=_RULE,
        old="            return 0;\n",
        new="            break;\n",
        tests=(f"{_WORKER_TESTS}::test_rate_spreads_packets_and_drops_what_would_wait_too_long",),
    ),
    Mutant(
        name="impaired-without-leave",
        bug="a daemon without --allow-impair says that it impairs packets",
        file=_KEEPER,
        old="        if not self.allowed:\n",
        new="        if False:\n",
        tests=_KEEPER_TESTS,
    ),
    Mutant(
        name="replaced-impairment-stays",
        bug="a second impairment of a peer is added to the first",
        file=_KEEPER,
        old='        self.end(wanted.peer, why="replaced")\n',
        new="",
        tests=_KEEPER_TESTS,
    ),
    Mutant(
        name="impairment-hidden",
        bug="`status` says that nothing is wrong while packets are lost on purpose",
        file="udpoverlay/cli/admin/status.py",
        old='    for each in document["dataplane"]["impairments"]:\n',
        new="    for each in ():\n",
        tests=("tests/cli/admin/test_commands.py",),
    ),
    Mutant(
        name="impairment-for-days",
        bug="an impairment may be asked for that outlives the person who tests",
        file="udpoverlay/model/impairment.py",
        old='MOST_SECONDS, "s")',
        new='10**9, "s")',
        tests=("tests/model/test_impairment.py",),
    ),
)
