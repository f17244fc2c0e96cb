"""Go's flag syntax, as flanneld's users type it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpoverlay.gocompat.flags import (
    Flag,
    FlagError,
    HelpRequested,
    format_flags,
    from_environment,
    parse,
    parse_bool,
    parse_int,
    parse_int32,
)

FLAGS = (
    Flag("name", "a name", "x"),
    Flag("on", "a bool", False, parse_bool),
    Flag("n", "a number", 5, parse_int),
    Flag("iface", "a list", (), repeatable=True),
    Flag("password", "a secret", secret=True),
)


def values(*words: str) -> dict[str, object]:
    return parse(FLAGS, words).values


@pytest.mark.parametrize("words", [("-name", "v"), ("--name", "v"), ("-name=v",), ("--name=v",)])
def test_one_dash_or_two_and_both_ways_to_give_a_value(words: tuple[str, ...]) -> None:
    assert values(*words)["name"] == "v"


def test_defaults_stand_for_what_is_not_given() -> None:
    assert values() == {"name": "x", "on": False, "n": 5, "iface": (), "password": ""}


def test_a_value_may_look_like_a_flag_or_hold_equal_signs() -> None:
    assert values("-name", "-on")["name"] == "-on"
    assert values("-name=a=b")["name"] == "a=b"
    assert values("-name=")["name"] == ""
    assert values("-name", "")["name"] == ""


def test_a_bool_never_takes_the_next_word() -> None:
    parsed = parse(FLAGS, ("-on", "false", "-n", "7"))
    assert parsed.values["on"] is True
    assert parsed.values["n"] == 5
    assert parsed.rest == ("false", "-n", "7")


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_words_for_true(text: str) -> None:
    assert values(f"-on={text}")["on"] is True


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_words_for_false(text: str) -> None:
    assert values("-on", f"-on={text}")["on"] is False


@pytest.mark.parametrize("word", ["word", "-", ""])
def test_parsing_stops_at_the_first_word_that_is_no_flag(word: str) -> None:
    parsed = parse(FLAGS, ("-n", "1", word, "-n", "2"))
    assert parsed.values["n"] == 1
    assert parsed.rest == (word, "-n", "2")


def test_two_dashes_end_the_flags() -> None:
    parsed = parse(FLAGS, ("-n", "1", "--", "-n", "2"))
    assert parsed.values["n"] == 1
    assert parsed.rest == ("-n", "2")


def test_the_last_of_a_repeated_flag_wins_but_a_list_collects() -> None:
    found = values("-n", "1", "-n=2", "-iface", "eth1", "--iface=eth0,eth2")
    assert found["n"] == 2
    assert found["iface"] == ("eth1", "eth0,eth2")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10", 10),
        ("-10", -10),
        ("+10", 10),
        ("0", 0),
        ("010", 8),
        ("0o10", 8),
        ("0O1_0", 8),
        ("0x1F", 31),
        ("0X_1f", 31),
        ("0b101", 5),
        ("1_000", 1000),
        ("0_7", 7),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_integers_in_any_base(text: str, number: int) -> None:
    assert parse_int(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "٣",
        "",
        "1.0",
        "1e3",
        " 1",
        "1 ",
        "_1",
        "1_",
        "1__0",
        "08",
        "0x",
        "0x_",
        "--1",
        "1\n",
    ],
)
def test_what_is_no_integer(text: str) -> None:
    with pytest.raises(ValueError, match="parse error"):
        parse_int(text)


def test_an_integer_beyond_64_bits_is_out_of_range() -> None:
    for text in ("9223372036854775808", "-9223372036854775809", "0xffffffffffffffff"):
        with pytest.raises(ValueError, match="out of range"):
            parse_int(text)


def test_klogs_verbosity_is_decimal_and_32_bits_wide() -> None:
    assert parse_int32("-1") == -1
    assert parse_int32("010") == 10
    for text in ("0x1", "1_0", "", "2147483648"):
        with pytest.raises(ValueError, match=r"parse error|out of range"):
            parse_int32(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-foo",), "flag provided but not defined: -foo"),
        (("--foo=1",), "flag provided but not defined: -foo"),
        (("-name",), "flag needs an argument: -name"),
        (("-n", "x"), 'invalid value "x" for flag -n: parse error'),
        (("-on=maybe",), 'invalid boolean value "maybe" for -on: parse error'),
        (("---name",), "bad flag syntax: ---name"),
        (("-=x",), "bad flag syntax: -…"),
        (("---password=hunter2",), "bad flag syntax: ---password…"),
        (("-pasword:hunter2",), "flag provided but not defined: -pasword…"),
        (("-passwordhunter2",), "flag provided but not defined: -password…"),
        (("-n", "--pasword=hunter2"), 'invalid value "--pasword…" for flag -n: parse error'),
        (("-password",), "flag needs an argument: -password"),
    ],
)
def test_a_wrong_line_is_refused_in_gos_words(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse(FLAGS, words)
    assert str(caught.value) == message


@pytest.mark.parametrize("word", ["-h", "--h", "-help", "--help"])
def test_help_is_asked_for(word: str) -> None:
    with pytest.raises(HelpRequested):
        parse(FLAGS, ("-n", "1", word, "-foo"))


@given(st.text(max_size=6).filter(lambda text: "=" not in text))
def test_misspelt_secret_flag_shows_no_value(separator: str) -> None:
    for word in (f"--password{separator}hunter2", f"-pasword:{separator}hunter2"):
        with pytest.raises(FlagError) as caught:
            parse(FLAGS, (word,))
        assert "hunter2" not in str(caught.value)
        assert "hunter2" not in caught.value.flag


@given(st.lists(st.text(max_size=6) | st.sampled_from(["-n", "-on", "--name=1", "-iface"])))
def test_any_line_is_parsed_or_refused(words: list[str]) -> None:
    try:
        parsed = parse(FLAGS, words)
    except (FlagError, HelpRequested):
        return
    assert parsed.rest == tuple(words)[len(words) - len(parsed.rest) :]


def test_the_environment_fills_what_the_line_left_out() -> None:
    parsed = parse(FLAGS, ("-n", "1"))
    environ = {"P_N": "2", "P_NAME": "v", "P_IFACE": "a,b", "P_ON": "", "NAME": "w"}
    found, complaints = from_environment(FLAGS, parsed, environ, "P")
    assert found == {"name": "v", "iface": ("a,b",)}
    assert complaints == []


def test_a_variable_that_cannot_be_read_is_only_a_complaint() -> None:
    found, complaints = from_environment(FLAGS, parse(FLAGS, ()), {"P_ON": "yes"}, "P")
    assert found == {}
    assert complaints == ['invalid value "yes" for P_ON: parse error']


def test_usage_names_every_flag_its_meaning_and_default() -> None:
    assert format_flags(FLAGS) == (
        "  -iface value\n        a list\n"
        "  -n int\n        a number (default 5)\n"
        '  -name string\n        a name (default "x")\n'
        "  -on\n        a bool\n"
        "  -password string\n        a secret\n"
    )
