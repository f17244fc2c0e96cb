"""gocompat/json.py: what a document means where a dict would mean something else."""

from __future__ import annotations

from udpoverlay.gocompat import json as gojson


def folded(text: str) -> object:
    return gojson.fold_keys(gojson.loads(text))


def test_last_of_a_repeated_key_counts() -> None:
    assert folded('{"Port": 1, "port": 2}') == {"port": 2}
    assert folded('{"a": {"B": 1, "b": [2], "B": 3}}') == {"a": {"b": 3}}


def test_null_after_a_value_keeps_it() -> None:
    assert folded('{"Port": 1, "Port": null}') == {"port": 1}
    assert folded('{"Port": null, "Port": 1}') == {"port": 1}


def test_long_s_is_an_s() -> None:
    """encoding/json folds U+017F to s, as Unicode's simple folding has it."""
    assert folded('{"\\u017fubnet": 1}') == {"subnet": 1}
