"""`udpoverlay impair`: what its words mean, whom it asks for what, what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin import Command, daemon, documents
from udpoverlay.cli.admin.impair import impairment
from udpoverlay.errors import OperatorError
from udpoverlay.model.impairment import Impairment, ImpairmentState, how_to_allow
from udpoverlay.observe.status import impairments_document

PEER = "192.0.2.2"


class Asked:
    """What reached the daemon."""

    def __init__(self) -> None:
        self.wanted: list[Any] = []
        self.ended: list[Any] = []
        self.allowed = True

    def impair(self, wanted: object) -> dict[str, object]:
        if not self.allowed:
            raise how_to_allow()
        self.wanted.append(wanted)
        made = Impairment.from_json(wanted)
        return impairments_document([ImpairmentState(made, made.seconds - 0.5, 1000, 51)])

    def end(self, wanted: object) -> dict[str, object]:
        self.ended.append(wanted)
        return impairments_document([])


@pytest.fixture
def asked(path: Path) -> Iterator[Asked]:
    made = Asked()
    actions = {"/v1/impair": made.impair, "/v1/impair/off": made.end}
    with daemon(path, documents(), actions):
        yield made


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("loss 5%", {"loss_percent": 5.0}),
        ("loss 0.1%", {"loss_percent": 0.1}),
        ("duplicate 1% corrupt 2%", {"duplicate_percent": 1.0, "corrupt_percent": 2.0}),
        ("delay 50ms", {"delay_ms": 50.0}),
        ("delay 1.5s jitter 500us", {"delay_ms": 1500.0, "jitter_ms": 0.5}),
        ("reorder 5%", {"reorder_percent": 5.0, "reorder_ms": 10.0}),
        ("reorder 5% by 20ms", {"reorder_percent": 5.0, "reorder_ms": 20.0}),
        ("rate 10mbit", {"rate_bits_per_second": 10_000_000}),
        ("rate 1.5Gbit/s", {"rate_bits_per_second": 1_500_000_000}),
        ("rate 500kbit", {"rate_bits_per_second": 500_000}),
    ],
)
def test_words_become_settings(words: str, expected: dict[str, Any]) -> None:
    made = impairment(PEER, words.split(), "2min", 7)
    assert made == Impairment(PEER, 120.0, 7, **expected)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "nothing is to happen"),
        ("lose 5%", "'lose' is nothing that can be done to packets: use loss, duplicate"),
        ("loss", "loss is ''"),
        ("loss 5", "loss is '5': write a percentage, for example 5%"),
        ("loss 101%", "loss is 101 %: use 0 to 100 %"),
        ("loss -1%", "loss is '-1%'"),
        ("loss 1e9%", "loss is '1e9%'"),
        ("loss ٥%", "loss is '٥%'"),
        ("loss 1% loss 2%", "loss stands there twice"),
        ("delay 50", "delay is '50': write a time with its unit"),
        ("delay 6s", "delay is 6000 ms: use 0 to 5,000.0 ms"),
        ("delay ms", "delay is 'ms'"),
        ("jitter 10ms", "jitter stands alone: write it behind delay"),
        ("by 10ms", "by stands alone: write it behind reorder"),
        ("delay 5ms jitter 10ms", "more than the delay"),
        ("rate 10", "rate is '10': write a rate, for example 10mbit"),
        ("rate 1kbit", "rate is 1000 bit/s: use 8000 to"),
    ],
)
def test_words_that_cannot_be_name_the_value_and_the_fix(words: str, says: str) -> None:
    with pytest.raises(OperatorError) as caught:
        impairment(PEER, words.split(), "60s", 7)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("time", "says"),
    [
        ("2h", "the time is 7200.0 s: use 0.1 to 3,600 s"),
        ("60", "--for is '60'"),
        ("0s", "the time is 0"),
    ],
)
def test_time_is_bounded(time: str, says: str) -> None:
    with pytest.raises(OperatorError) as caught:
        impairment(PEER, ["loss", "5%"], time, 7)
    assert says.replace("7200.0", "7200") in str(caught.value).replace("7200.0", "7200")


@pytest.mark.parametrize("peer", [PEER, "10.5.73.9", "203.0.113.7"])
def test_a_peer_is_named_by_any_address_of_its(asked: Asked, command: Command, peer: str) -> None:
    assert command("impair", peer, "loss", "5%", "--for=30s", "--seed=7") == 0
    [wanted] = asked.wanted
    assert (wanted["peer"], wanted["seconds"], wanted["seed"]) == (PEER, 30.0, 7)
    for words in (PEER, "loss 5 %", "29 s", "1,000 packets", "51 lost"):
        assert words in command.out
    assert max(map(len, command.out.splitlines())) <= 80


def test_without_a_seed_there_is_a_new_one_which_is_shown(asked: Asked, command: Command) -> None:
    for _ in range(2):
        assert command("impair", PEER, "loss", "5%") == 0
        assert str(asked.wanted[-1]["seed"]) in command.out
    assert asked.wanted[0]["seed"] != asked.wanted[1]["seed"]
    assert asked.wanted[0]["seconds"] == 60.0


def test_off_and_list(asked: Asked, command: Command) -> None:
    assert command("impair", "10.5.73.9", "off") == 0
    assert asked.ended == [{"peer": PEER}]
    assert "nothing is done" in command.out
    assert command("impair", "list") == 0
    assert "nothing is done" in command.out
    assert command.json("impair", "list")["impairments"] == []


def test_an_unknown_peer_is_answered_with_those_there_are(asked: Asked, command: Command) -> None:
    assert command("impair", "10.9.9.9", "loss", "5%") == 1
    assert "no peer has 10.9.9.9: the peers are 192.0.2.2 (10.5.73.0/24), " in command.err
    assert not asked.wanted


def test_a_daemon_that_does_not_allow_it_is_told_how_to_start(
    asked: Asked, command: Command
) -> None:
    asked.allowed = False
    assert command("impair", PEER, "loss", "5%") == 1
    assert command.err.startswith("udpoverlay impair: this daemon does not allow impairments: ")
    assert "--allow-impair" in command.err


@pytest.mark.parametrize("words", [["n2", "loss", "5%"], [PEER, "loss", "5"], ["nothing", "off"]])
def test_a_wrong_word_is_wrong_without_a_daemon(command: Command, words: list[str]) -> None:
    assert command("impair", *words) == 1
    assert "no daemon" not in command.err


def test_help_has_an_example_and_fits(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("impair", "--help")
    text = capsys.readouterr().out
    assert "udpoverlay impair 192.0.2.12 loss 5% --for 60s" in text
    assert max(map(len, text.splitlines())) <= 80
