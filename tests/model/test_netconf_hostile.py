"""Network configurations and JSON that mean harm: depth, size, any text at all."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpoverlay.errors import OperatorError
from udpoverlay.gocompat import json as gojson
from udpoverlay.gocompat.json import GoJSONError
from udpoverlay.model.netconf import parse_netconf

# Hostile text.


def test_deep_nesting_is_refused_at_a_fixed_depth() -> None:
    limit = gojson.MAX_DEPTH - 1
    gojson.read_object('{"a":' + "[" * limit + "]" * limit + "}")
    for depth in (limit + 1, 100_000):
        with pytest.raises(OperatorError, match="nested deeper than 100"):
            parse_netconf('{"a":' + "[" * depth + "]" * depth + "}")


def test_many_brackets_that_are_not_deep_are_fine() -> None:
    parse_netconf('{"a":[' + ",".join(["[]"] * 5000) + '],"b":"' + '[{\\"' * 5000 + '"}')


def test_a_huge_document_is_refused_unread() -> None:
    with pytest.raises(OperatorError, match="limit"):
        parse_netconf('{"a":"' + "x" * gojson.MAX_TEXT + '"}')


def test_huge_numbers_cost_nothing() -> None:
    digits = "9" * 100_000
    parse_netconf(f'{{"a":{digits},"b":-{digits},"c":1e{digits[:1000]},"d":0.{digits[:1000]}}}')
    with pytest.raises(OperatorError) as caught:
        parse_netconf(f'{{"SubnetLen":{digits}}}')
    assert len(str(caught.value)) < 300


def test_messages_do_not_repeat_a_huge_value() -> None:
    with pytest.raises(OperatorError) as caught:
        parse_netconf(json.dumps({"Network": "x" * 100_000}))
    assert len(str(caught.value)) < 300


@given(st.text(st.characters(), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, f'{{"Network":{text}}}', f'{{"Backend":{{{text}}}}}', f"{{{text}}}"):
        with contextlib.suppress(OperatorError):
            parse_netconf(candidate).validated()


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON_VALUES, st.sampled_from([None, 1, "\t"]))
def test_compacting_keeps_the_value_and_drops_the_space(value: Any, indent: Any) -> None:
    raw = json.dumps(value, indent=indent, ensure_ascii=False)
    compact = gojson.compact(raw)
    assert json.loads(compact) == json.loads(raw)
    assert gojson.compact(compact) == compact
    assert not set("<>&\u2028\u2029") & set(compact)


@given(st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=5))
def test_splitting_an_object_keeps_every_key_and_value(value: dict[str, Any]) -> None:
    members = gojson.read_object(json.dumps(value, indent=1))
    assert members is not None
    assert {key: json.loads(raw) for key, raw in members} == value


@given(st.text())
def test_a_quoted_string_reads_back(text: str) -> None:
    quoted = gojson.quote(text)
    assert gojson.read_string(quoted, "") == gojson.clean(text)
    quoted.encode()


def test_strings_are_written_as_go_writes_them() -> None:
    assert gojson.quote('<a & "b">\\\n\t\b\f\r\x01\x7f\u2028é\U0001f600') == (
        '"\\u003ca \\u0026 \\"b\\"\\u003e\\\\\\n\\t\\b\\f\\r\\u0001\x7f\\u2028é\U0001f600"'
    )


@pytest.mark.parametrize("raw", ["", "{", "1 2", "{}}", "nul"])
def test_a_raw_value_that_is_not_json_is_not_written(raw: str) -> None:
    with pytest.raises(GoJSONError):
        gojson.compact(raw)
