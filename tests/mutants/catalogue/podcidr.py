"""The podCIDR controller: two leaders, promises, ranges given twice."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_ELECTION = "udpoverlay/podcidr/election.py"
_RECONCILER = "udpoverlay/podcidr/reconciler.py"
_CONTROLLER = "udpoverlay/podcidr/controller.py"

_ELECTIONS = "tests/podcidr/test_election.py"
_RACES = "tests/podcidr/test_races.py"
_FAULTS = "tests/podcidr/test_faults.py"

MUTANTS = (
    Mutant(
        name="promises-forgotten",
        bug="what the last leader promised is given to others while its write is still under way",
        file=_RECONCILER,
        old="        for name, promise in promises.items():",
        new="        for name, promise in dict[str, Promise]().items():",
        tests=(f"{_RACES}::test_a_successor_keeps_a_promise_that_it_would_not_make",),
    ),
    Mutant(
        name="promise-held-not-kept",
        bug="a successor drops a promise from the Lease before it is kept: the third forgets",
        file=_RECONCILER,
        old="            self._promised[name] = networks\n\n    def restored",
        new="            pass\n\n    def restored",
        tests=(f"{_RACES}::test_a_promise_stays_in_the_lease_through_all_batches",),
    ),
    Mutant(
        name="leads-while-it-waits",
        bug="a leader whose renewal is never answered leads until the request fails: two leaders",
        file=_ELECTION,
        old="        return self._held and self._left() > 0",
        new="        return self._held",
        tests=(f"{_ELECTIONS}::test_the_time_to_act_counts_from_when_the_lease_was_asked_for",),
    ),
    Mutant(
        name="works-past-deadline",
        bug="a leader past its deadline goes on with the writes that are under way",
        file=_ELECTION,
        old="        await aio.first_to_end(self._renew(), self._expire())",
        new="        await self._renew()",
        tests=(
            f"{_ELECTIONS}::test_a_renewal_that_is_never_answered_keeps_no_leader_past_its_deadline[double]",
        ),
    ),
    Mutant(
        name="deadline-from-answer",
        bug="the time to act counts from the answer, not from the question: others count earlier",
        file=_ELECTION,
        old="        self._written(made, began)",
        new="        self._written(made, self._clock.monotonic())",
        tests=(f"{_ELECTIONS}::test_the_time_to_act_counts_from_when_the_lease_was_asked_for",),
    ),
    Mutant(
        name="one-request-takes-all",
        bug="one request about the Lease that hangs uses up the whole time to renew it",
        file=_ELECTION,
        old="most = self._periods.attempt if most is None else most",
        new="most = 30.0 if most is None else most",
        tests=(f"{_ELECTIONS}::test_a_promise_that_is_never_answered_lets_the_lease_be_renewed",),
    ),
    Mutant(
        name="unanswered-replica-holds-on",
        bug="a replica whose writes are never answered holds the Lease for ever, and nobody acts",
        file=_ELECTION,
        old="return 0.0 if confirmed else found.duration + self._periods.renew_deadline",
        new="return 0.0",
        tests=(
            f"{_RACES}::test_a_leader_whose_renewals_are_not_answered_stops_before_another_starts"
            "[double]",
        ),
    ),
    Mutant(
        name="suspended-leader-writes",
        bug="a leader that was suspended writes to a Node after its time",
        file=_RECONCILER,
        old="                self._leadership.check()\n",
        new="",
        tests=(f"{_RACES}::test_a_leader_that_was_suspended_writes_to_no_node",),
    ),
    Mutant(
        name="range-of-unreadable-node",
        bug="a range is given that a Node may hold which cannot be read",
        file=_RECONCILER,
        old="        if wanting and self.unreadable:",
        new="        if wanting and not names:",
        tests=(f"{_FAULTS}::test_no_range_is_given_while_a_node_that_may_hold_it_cannot_be_read",),
    ),
    Mutant(
        name="failed-replica-keeps-lease",
        bug="a replica whose work fails keeps the Lease, and no other may act",
        file=_CONTROLLER,
        old="            await self._leadership.release()",
        new="            pass",
        tests=(
            "tests/podcidr/test_controller.py::test_a_restart_changes_nothing_and_goes_on[double]",
        ),
    ),
    Mutant(
        name="controller-task-unowned",
        bug="one error in a replica's work ends the program",
        file=_CONTROLLER,
        old='        await self._supervisor.run("podcidr", self._life)',
        new="        await self._life()",
        tests=(f"{_FAULTS}::test_an_unforeseen_error_gives_the_lease_to_another_replica",),
    ),
)
