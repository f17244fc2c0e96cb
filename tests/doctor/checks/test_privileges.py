"""doctor/checks/privileges.py: what the process may do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.patient import levels, look, patient
from udpoverlay.doctor.checks.privileges import CHECK


@pytest.mark.parametrize(
    ("effective", "expected", "word"),
    [
        ("000001ffffffffff", ["ok"], "CAP_NET_ADMIN and CAP_NET_RAW"),
        ("0000000000003000", ["ok"], "CAP_NET_ADMIN and CAP_NET_RAW"),
        ("0000000000002000", ["failure"], "CAP_NET_ADMIN"),
        ("0000000000001000", ["warning"], "CAP_NET_RAW"),
        ("0000000000000000", ["failure", "warning"], "CAP_NET_ADMIN"),
    ],
)
async def test_missing_capability_is_named(
    tmp_path: Path, effective: str, expected: list[str], word: str
) -> None:
    files = {"/proc/self/status": f"Name:\tx\nCapPrm:\t0\nCapEff:\t{effective}\n"}
    findings = await look(CHECK, patient(tmp_path, files))
    assert levels(findings) == expected
    assert word in findings[0].fact


async def test_without_proc_it_is_not_known(tmp_path: Path) -> None:
    assert levels(await look(CHECK, patient(tmp_path))) == ["skipped"]
