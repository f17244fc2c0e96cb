"""Who is asked when, and what an answer proves; time is a number."""

from __future__ import annotations

import itertools

import pytest
from netaddr import IPNetwork

from udpoverlay.dataplane.verification import (
    ADDRESSES_MAX,
    ANSWER_SECONDS,
    CONFIRM_AGAIN_SECONDS,
    CONFIRM_SECONDS,
    EXPIRE_SECONDS,
    LONGEST_PAUSE,
    Verification,
)

PUBLIC, OTHER = b"\xc6\x12\x00\x32", b"\xc6\x12\x00\x33"
NAT, NAT2 = b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02"
SUBNET, OTHER_SUBNET = IPNetwork("10.5.1.0/24"), IPNetwork("10.5.2.0/24")
CLAIM = [(SUBNET, PUBLIC)]


def made(places: int = 16) -> Verification:
    numbers = itertools.count(1)
    return Verification(places, lambda: next(numbers))


def ask(v: Verification, now: float) -> int | None:
    """The place of the one probe that a claim brings about, None when it brings about none."""
    begun = v.begin(CLAIM, now)
    assert len(begun) <= 1
    return begun[0][0] if begun else None


def proved(v: Verification, now: float, address: bytes = NAT) -> None:
    place = ask(v, now)
    assert place is not None
    assert v.answered(place, address, now)


def held(_subnet: IPNetwork, _public_ip: bytes) -> bool:
    return True


def test_a_claim_brings_about_one_probe_to_the_public_ip() -> None:
    v = made()
    [(place, probe)] = v.begin(CLAIM * 3, 0.0)
    assert (probe.subnet, probe.public_ip, probe.nonce) == (SUBNET, PUBLIC, 1)
    assert probe.deadline == ANSWER_SECONDS
    assert list(v.out()) == [(place, probe)]
    assert v.begin(CLAIM, 0.5) == []
    assert v.aliases() == []


def test_an_answer_from_another_address_is_an_alias() -> None:
    v = made()
    proved(v, 0.0)
    assert v.aliases() == [(NAT, PUBLIC)]
    assert list(v.out()) == []


def test_an_answer_from_the_public_ip_proves_that_the_claim_was_a_strangers() -> None:
    v = made()
    place = ask(v, 0.0)
    assert place is not None
    assert not v.answered(place, PUBLIC, 0.1)
    assert v.aliases() == []
    assert ask(v, 0.2) is None
    assert ask(v, 1.1) is not None


def test_claims_that_bring_nothing_new_are_heard_less_and_less_often() -> None:
    """A stranger that claims without end: 1 s, 2, 4 … then once a minute."""
    v = made()
    asked, now = [], 0.0
    while now < 600:
        place = ask(v, now)
        if place is not None:
            asked.append(now)
            v.lost(place, now)
        now += 0.25
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert pauses[:6] == [1, 2, 4, 8, 16, 32]
    assert set(pauses[6:]) == {LONGEST_PAUSE}


def test_an_answer_makes_the_next_claim_heard_at_once() -> None:
    """The address behind a NAT may change at any time."""
    v = made()
    for now in (0.0, 1.0, 3.0):
        place = ask(v, now)
        assert place is not None
        v.lost(place, now)
    proved(v, 7.0)
    proved(v, 7.1, NAT2)
    assert set(v.aliases()) == {(NAT, PUBLIC), (NAT2, PUBLIC)}


def test_a_proof_is_renewed_every_minute_without_a_claim() -> None:
    v = made()
    proved(v, 0.0)
    assert v.due() == CONFIRM_SECONDS
    for minute in range(1, 20):
        now = minute * CONFIRM_SECONDS
        [(place, probe)] = v.begin([], now)
        assert probe.confirms
        assert not v.answered(place, NAT, now)
        assert not v.expire(held, now)
        assert v.due() == now + CONFIRM_SECONDS
    # And that is no reason to hear the next claim any later.
    proved(v, now + 1, NAT2)


def test_a_proof_that_is_not_renewed_is_forgotten() -> None:
    v = made()
    proved(v, 0.0)
    now, asked = 0.0, 0
    while now < EXPIRE_SECONDS:
        assert not v.expire(held, now)
        for place, _ in v.begin([], now):
            v.lost(place, now + ANSWER_SECONDS)
            asked += 1
        due = v.due()
        assert due is not None
        assert due > now, "it would look without end"
        now = due
    assert asked == 1 + (EXPIRE_SECONDS - CONFIRM_SECONDS) // CONFIRM_AGAIN_SECONDS - 1
    assert v.expire(held, EXPIRE_SECONDS)
    assert v.aliases() == []
    assert v.due() is None


def test_a_proof_ends_with_the_lease() -> None:
    v = made()
    proved(v, 0.0)
    assert not v.expire(lambda subnet, public_ip: (subnet, public_ip) == (SUBNET, PUBLIC), 1.0)
    assert v.expire(lambda *_: False, 1.0)
    assert v.aliases() == []


def test_a_peer_has_so_many_addresses_and_the_oldest_proof_goes() -> None:
    v = made()
    for number in range(ADDRESSES_MAX + 2):
        proved(v, float(number), bytes([192, 0, 2, number]))
    kept = {address[3] for address, _ in v.aliases()}
    assert kept == set(range(2, ADDRESSES_MAX + 2))


def test_two_peers_may_share_an_address() -> None:
    v = made()
    for place, _ in v.begin([(SUBNET, PUBLIC), (OTHER_SUBNET, OTHER)], 0.0):
        assert v.answered(place, NAT, 0.1)
    assert set(v.aliases()) == {(NAT, PUBLIC), (NAT, OTHER)}


def test_no_more_probes_are_out_than_there_are_places() -> None:
    v = made(places=2)
    claims = [(IPNetwork(f"10.5.{n}.0/24"), bytes([192, 0, 2, n])) for n in range(50)]
    assert len(v.begin(claims, 0.0)) == 2
    assert v.begin(claims, 0.1) == []
    for place, _ in list(v.out()):
        v.lost(place, 1.0)
    assert len(v.begin(claims, 1.0)) == 2


def test_made_up_claims_do_not_keep_a_true_one_waiting_for_ever() -> None:
    """1,000 leases are claimed falsely all the time; the true one gets its turn by chance."""
    v = made()
    claims = [
        (IPNetwork(f"10.{n // 250}.{n % 250}.0/24"), n.to_bytes(4, "big")) for n in range(1000)
    ]
    true = claims[500][1]
    now = 0.0
    while True:
        begun = v.begin(claims, now)
        if any(probe.public_ip == true for _, probe in begun):
            break
        for place, _ in begun:
            v.lost(place, now + ANSWER_SECONDS)
        now += ANSWER_SECONDS
        assert now < 3600


@pytest.mark.parametrize("answer", [NAT, PUBLIC, None])
def test_a_place_is_free_again_however_its_probe_ended(answer: bytes | None) -> None:
    v = made(places=1)
    for round_ in range(5):
        now = round_ * 1000.0
        place = ask(v, now)
        assert place == 0
        if answer is None:
            v.lost(place, now)
        else:
            v.answered(place, answer, now)
        v.expire(lambda *_: False, now + 1)
