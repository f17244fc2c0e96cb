"""The podCIDR controller: promises, writes, leader election."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_ELECTION = "udpoverlay/podcidr/election.py"
_RECONCILER = "udpoverlay/podcidr/reconciler.py"


MUTANTS = (
    Mutant(
        name="promises-of-last-leader-forgotten",
        bug="a write of a stopped leader that arrives late gives one range to two Nodes",
        file=_RECONCILER,
        old="        for name, promise in promises.items():\n",
        new="        for name, promise in list(promises.items())[:0]:\n",
        tests=(
            "tests/podcidr/test_races.py::test_a_successor_keeps_a_promise_that_it_would_not_make",
            "tests/podcidr/test_races.py::test_a_promise_outlives_several_leaders",
        ),
    ),
    Mutant(
        name="node-written-without-its-version",
        bug="a taint that is set while another one is removed is lost",
        file=_RECONCILER,
        old='meta = {"resourceVersion": view.resource_version, "uid": view.uid}',
        new='meta = {"uid": view.uid}',
        tests=("tests/podcidr/test_taints.py",),
    ),
    Mutant(
        name="taint-removed-before-range",
        bug="pods are scheduled on a Node that has no podCIDR yet",
        file=_RECONCILER,
        old="        if view is None or not _has_range(view):\n            return []\n",
        new="        if view is None:\n            return []\n",
        tests=(
            "tests/podcidr/test_controller.py::test_taints_are_removed_once_the_node_has_its_range",
        ),
    ),
    Mutant(
        name="starved-node-not-served",
        bug="a Node that got no range stays without one when another Node is deleted",
        file=_RECONCILER,
        old="todo = {*names, *self.failed, *(self.starved if any(freed) else ())}",
        new="todo = {*names, *self.failed}",
        tests=(
            "tests/podcidr/test_controller.py::test_a_deleted_node_frees_its_range_for_one_that_got_none",
        ),
    ),
    Mutant(
        name="deleted-node-keeps-its-range",
        bug="ranges of deleted Nodes are never given again: the pool runs out",
        file=_RECONCILER,
        old="        if self.allocator.release(name):\n",
        new="        if False:\n",
        tests=(
            "tests/podcidr/test_controller.py::test_a_deleted_node_frees_its_range_for_one_that_got_none",
        ),
    ),
    Mutant(
        name="failed-node-not-tried-again",
        bug="a taint whose removal failed once stays: the Node gets no pods",
        file=_RECONCILER,
        old='            self._report.warning("patch", "node not written", node=name,'
        " error=str(error))\n        self.failed.add(name)\n",
        new='            self._report.warning("patch", "node not written", node=name,'
        " error=str(error))\n",
        tests=("tests/podcidr/test_taints.py",),
    ),
    Mutant(
        name="living-lease-taken-over",
        bug="two replicas act at once: one takes the Lease that the other still renews",
        file=_ELECTION,
        old="            if holder and now < self._seen_at + self._respect(found):\n",
        new="            if holder and now < 0:\n",
        tests=(
            "tests/podcidr/test_election.py::test_another_takes_it_only_when_it_was_not_renewed_for_its_duration",
        ),
    ),
    Mutant(
        name="leader-never-gives-up",
        bug="a leader that cannot reach the API server acts on although another took over",
        file=_ELECTION,
        old="        return self._held and self._left() > 0\n",
        new="        return self._held\n",
        tests=("tests/podcidr/test_races.py::test_a_leader_that_was_suspended_writes_to_no_node",),
    ),
    Mutant(
        name="lost-answer-costs-the-lease",
        bug="one lost answer of the API server makes the leader step down",
        file=_ELECTION,
        old="                if self.holder != self.identity or attempt == 2:\n",
        new="                if self.holder != self.identity or attempt:\n",
        tests=(
            "tests/podcidr/test_election.py::test_a_write_whose_answer_was_lost_does_not_cost_the_lease",
        ),
    ),
    Mutant(
        name="deadline-only-when-answered",
        bug="an API server that takes the leader's writes without answering leaves two leaders",
        file=_ELECTION,
        old="        await aio.first_to_end(self._renew(), self._expire())\n",
        new="        await self._renew()\n",
        tests=(
            "tests/podcidr/test_election.py::test_a_renewal_that_is_never_answered_keeps_no_leader_past_its_deadline",
            "tests/podcidr/test_races.py::test_leader_without_answers_stops_before_another_starts",
        ),
    ),
    Mutant(
        name="deadline-from-the-answer",
        bug="a slow answer to a renewal lets the old leader act after the next one has begun",
        file=_ELECTION,
        old="        self._lease, self._confirmed, self._renewed_at = lease, lease.term, began\n",
        new="        self._lease, self._confirmed = lease, lease.term\n"
        "        self._renewed_at = self._clock.monotonic()\n",
        tests=(
            "tests/podcidr/test_election.py::test_the_time_to_act_counts_from_when_the_lease_was_asked_for",
        ),
    ),
    Mutant(
        name="unforeseen-error-keeps-the-lease",
        bug="a replica whose work fails holds the Lease, and none serves new Nodes",
        file="udpoverlay/podcidr/controller.py",
        old="            await self._leadership.release()\n",
        new="            pass\n",
        tests=(
            "tests/podcidr/test_faults.py::test_an_unforeseen_error_gives_the_lease_to_another_replica",
        ),
    ),
    Mutant(
        name="check-glues-words-and-numbers",
        bug="--check prints 10.244.0.0/16210: network and number run into each other",
        file="udpoverlay/cli/podcidr_controller.py",
        old="    width = max(len(name) for name, _ in rows) + 2\n",
        new="    width = 20\n",
        tests=("tests/podcidr/test_process.py::test_check_prints_what_is_odd_and_fails",),
    ),
)
