"""registry/etcd: claims, renewals, watches, fail-over, hostile entries."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_CLIENT = "udpoverlay/registry/etcd/client.py"
_CODEC = "udpoverlay/registry/etcd/codec.py"
_ENTRIES = "udpoverlay/registry/etcd/entries.py"
_REGISTRY = "udpoverlay/registry/etcd/registry.py"
_WATCH = "udpoverlay/registry/etcd/watch.py"


MUTANTS = (
    Mutant(
        name="claim-overwrites",
        bug="two hosts that start together get one subnet: the second writes over the first",
        file=_REGISTRY,
        old="self._client.txn([compare], [put_op",
        new="self._client.txn([], [put_op",
        tests=(
            "tests/registry/etcd/test_claims.py::test_a_lost_race_is_tried_again_with_another_subnet",
        ),
    ),
    Mutant(
        name="doubtful-lease-revoked",
        bug="a renewal whose answer came too late deletes this host's own entry",
        file=_REGISTRY,
        old="        if not lease.revision:\n",
        new="        if True:\n",
        tests=("tests/registry/etcd/test_doubtful_puts.py",),
    ),
    Mutant(
        name="lost-answer-is-a-failure",
        bug="a renewal that was carried out counts as failed when its answer is lost",
        file=_REGISTRY,
        old="        if grant and current is not None and current.lease == grant:\n"
        "            return current.mod_revision\n",
        new="",
        tests=("tests/registry/etcd/test_doubtful_puts.py",),
    ),
    Mutant(
        name="replaced-etcd-lease-left",
        bug="each renewal and each restart leaves an etcd lease behind",
        file=_REGISTRY,
        old="            self._grants.loosen(lease.registry_lease)\n        await",
        new="            pass\n        await",
        tests=(
            "tests/registry/etcd/test_etcd_leases.py::test_restarts_and_renewals_leave_one_etcd_lease",
        ),
    ),
    Mutant(
        name="reservation-renewed-with-a-term",
        bug="a reservation that an administrator made of our lease runs out all the same",
        file=_REGISTRY,
        old="            kept = current.lease or (0 if holder is not None else _FRESH)\n",
        new="            kept = _FRESH\n",
        tests=(
            "tests/registry/etcd/test_claims.py::test_a_lease_turned_into_a_reservation_stays_one",
        ),
    ),
    Mutant(
        name="lost-subnet-taken-back",
        bug="a host that was away for a day writes over the lease of its successor",
        file=_REGISTRY,
        old="            if holder is not None and holder not in ours:\n",
        new="            if False:\n",
        tests=("tests/registry/etcd/test_registry.py",),
    ),
    Mutant(
        name="unreadable-subnet-is-free",
        bug="a host gets a subnet whose entry cannot be read although it is in use",
        file=_REGISTRY,
        old="            return Listing(tuple(listed.leases), tuple(listed.unreadable))\n",
        new="            return Listing(tuple(listed.leases))\n",
        tests=(
            "tests/registry/etcd/test_claims.py::test_a_subnet_whose_entry_cannot_be_read_is_not_free",
        ),
    ),
    Mutant(
        name="watch-without-back-off",
        bug="an etcd that is away is asked ten times a second by every host",
        file=_WATCH,
        old="            await self._clock.sleep(backoff.next())\n",
        new="            await self._clock.sleep(self._timing.first_retry)\n",
        tests=("tests/registry/etcd/test_watch_backoff.py",),
    ),
    Mutant(
        name="back-off-never-reset",
        bug="after one long outage each short one costs seconds",
        file=_WATCH,
        old="                backoff.reset()\n",
        new="                pass\n",
        tests=("tests/registry/etcd/test_watch_backoff.py",),
    ),
    Mutant(
        name="resumed-one-change-late",
        bug="the first change after a broken connection is lost",
        file=_WATCH,
        old="                    start = self._anchor.kv.mod_revision + 1\n",
        new="                    start = self._anchor.kv.mod_revision + 2\n",
        tests=(
            "tests/registry/etcd/test_faults.py::test_changes_made_while_we_were_cut_off_arrive_one_by_one",
        ),
    ),
    Mutant(
        name="restored-etcd-not-noticed",
        bug="an etcd restored from an older copy makes hosts miss every later change",
        file=_WATCH,
        old="        return _History.SAME if same else _History.LOST\n",
        new="        return _History.SAME\n",
        tests=(
            "tests/registry/etcd/test_faults.py::test_restored_and_overtaken_before_we_looked_again",
        ),
    ),
    Mutant(
        name="silent-watch-trusted",
        bug="a member that stalls is waited for for ever: no change arrives any more",
        file=_WATCH,
        old="            if stream.heard != heard or await self._is_alive(stream):\n",
        new="            if stream.heard != heard or stream.heard:\n",
        tests=(
            "tests/registry/etcd/test_faults.py::test_a_watch_that_fell_silent_is_noticed_and_opened_again",
        ),
    ),
    Mutant(
        name="damaged-listing-loses-a-peer",
        bug="one damaged entry in a listing cuts off a working peer",
        file=_ENTRIES,
        old="        return self._read(kv) or self._good.get(kv.key)\n",
        new="        return self._read(kv)\n",
        tests=("tests/registry/etcd/test_damaged_listing.py",),
    ),
    Mutant(
        name="alias-key-is-a-lease",
        bug="a foreign key below subnets/ that spells a peer's subnet another way moves its route",
        file=_ENTRIES,
        old="        if self._paths.of(subnet) != kv.key:\n",
        new="        if False:\n",
        tests=(
            "tests/registry/etcd/test_hostile.py::test_duplicate_and_overlapping_claims",
            "tests/registry/etcd/test_hostile.py::test_malformed_and_hostile_values_cost_nobody_a_route",
        ),
    ),
    Mutant(
        name="newest-claim-first",
        bug="after a restart the later of two overlapping leases gets the route",
        file=_ENTRIES,
        old="key=self._created.__getitem__)",
        new="key=self._created.__getitem__, reverse=True)",
        tests=(
            "tests/registry/etcd/test_registry.py::test_the_oldest_claim_comes_first_in_a_snapshot",
        ),
    ),
    Mutant(
        name="value-without-v6-null",
        bug="a lease's value differs by bytes from flanneld's: no PublicIPv6",
        file=_CODEC,
        old="""parts = [f'{{"PublicIP":"{attrs.public_ip}","PublicIPv6":{v6_text}']""",
        new="""parts = [f'{{"PublicIP":"{attrs.public_ip}"']""",
        tests=("tests/registry/etcd/test_codec.py",),
    ),
    Mutant(
        name="dead-endpoint-asked-first",
        bug="with one endpoint down each request waits for it first",
        file=_CLIENT,
        old="            self._preferred = index\n            return result\n",
        new="            return result\n",
        tests=("tests/registry/etcd/test_client.py::test_a_dead_endpoint_costs_one_attempt_only",),
    ),
    Mutant(
        name="stale-token-kept",
        bug="after etcd's token ran out every request is refused until a restart",
        file=_CLIENT,
        old="            if self._token == used:\n                self._token ="
        " await self._authenticate(endpoint)\n",
        new="",
        tests=(
            "tests/registry/etcd/test_client_auth.py::test_a_token_that_etcd_does_not_know_any_more_is_replaced",
        ),
    ),
    Mutant(
        name="member-without-leader-believed",
        bug="a member cut off from the others answers with old data",
        file=_CLIENT,
        old='        metadata = {"hasleader": "true"}\n',
        new="        metadata: dict[str, str] = {}\n",
        tests=(
            "tests/registry/etcd/test_faults.py::test_a_member_cut_off_from_the_others_lets_the_watch_go",
        ),
    ),
)
