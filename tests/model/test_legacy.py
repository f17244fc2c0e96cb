"""model/legacy.py: what is written is read again, and nothing odd is taken for it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress, IPNetwork

from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.histogram import Histogram
from udpoverlay.model.legacy import Counts, Legacy, LegacyError
from udpoverlay.model.traffic import PeerTraffic

LEGACY = Legacy(
    version="1.2.3",
    device="flannel0",
    index=7,
    mtu=1472,
    address=IPAddress("10.5.72.0"),
    subnet=IPNetwork("10.5.72.0/24"),
    network=IPNetwork("10.5.0.0/16"),
    bind=("192.0.2.1", 8285),
    public_ip=IPAddress("203.0.113.7"),
    routes={
        IPNetwork("10.5.73.0/24"): Endpoint(IPAddress("192.0.2.2"), 8285),
        IPNetwork("10.5.74.0/24"): Endpoint(IPAddress("2001:db8::3"), 8285, 1400, b"\x08\x00"),
    },
    counts=Counts(
        since=12.5,
        counters={"outbound_sent": 5},
        senders={"probes": 1},
        reports={"port_unreachable": 2},
        dropped={"inbound_kernel_dropped": 3},
        traffic={"192.0.2.2": PeerTraffic(1, 2, 3, 4, {"inbound_ttl": 5}, 6)},
        histograms={"batch": Histogram((1, 2, 3), 4.5, 1e-6)},
    ),
)


def changed(path: str, value: Any) -> bytes:
    found = json.loads(LEGACY.dump())
    *folders, name = path.split(".")
    at = found
    for folder in folders:
        at = at[folder]
    if value is ...:
        del at[name]
    else:
        at[name] = value
    return json.dumps(found).encode()


def test_what_was_written_is_read_again() -> None:
    assert Legacy.load(LEGACY.dump()) == LEGACY
    bare = replace(LEGACY, public_ip=None, routes={}, counts=Counts())
    assert Legacy.load(bare.dump()) == bare


def test_keys_of_a_later_version_are_passed_over() -> None:
    assert Legacy.load(changed("colour", "blue")) == LEGACY


def test_another_format_is_named() -> None:
    with pytest.raises(LegacyError, match="format 2, this program 1"):
        Legacy.load(changed("format", 2))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("device", ...),
        ("device", 5),
        ("index", "7"),
        ("index", -1),
        ("mtu", 1.5),
        ("address", "no address"),
        ("address", 5),
        ("subnet", "10.5.72.0/99"),
        ("bind", "192.0.2.1"),
        ("bind", ["192.0.2.1"]),
        ("bind", ["192.0.2.1", "8285"]),
        ("routes", {}),
        ("routes", [["10.5.73.0/24"]]),
        ("routes", [["10.5.73.0/24", "192.0.2.2", 8285, 0, "0"]]),
        ("routes", [5]),
        ("counts", None),
        ("counts.counters", {"a": "5"}),
        ("counts.since", "0"),
        ("counts.traffic", {"192.0.2.2": {}}),
        ("counts.histograms", {"batch": {"counts": [1, None], "total": 1, "unit": 1}}),
    ],
)
def test_odd_value_is_refused(path: str, value: Any) -> None:
    if (path, value) == ("routes", {}):
        assert Legacy.load(changed(path, value)).routes == {}  # nothing to go through
        return
    with pytest.raises(LegacyError):
        Legacy.load(changed(path, value))


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"5", b"{", b"[" * 100_000, b"\xff", b"{}"])
def test_what_is_no_note_is_refused(data: bytes) -> None:
    with pytest.raises(LegacyError):
        Legacy.load(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.sampled_from(sorted(json.loads(LEGACY.dump()))), JSON)
def test_any_value_in_any_place_is_read_or_refused(name: str, value: Any) -> None:
    with contextlib.suppress(LegacyError):
        assert isinstance(Legacy.load(changed(name, value)), Legacy)
