"""doctor/runner.py: a check that hangs, raises or is wrong is a finding; the rest goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, Level, failure, good, skipped, warning
from udpoverlay.doctor.patient import Patient
from udpoverlay.doctor.runner import Report, examine, worst
from udpoverlay.errors import OperatorError
from udpoverlay.model.config import DaemonConfig

PATIENT = Patient(DaemonConfig())


def check(name: str, *findings: Finding) -> Check:
    async def run(_patient: Patient) -> Sequence[Finding]:
        return findings

    return Check(name, name, run)


async def _hangs(_patient: Patient) -> Sequence[Finding]:
    await asyncio.Event().wait()
    return []


async def _hangs_on(_patient: Patient) -> Sequence[Finding]:
    """Does not end when it is cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    for _ in range(3):
        await asyncio.sleep(0)
    raise RuntimeError("too late")


async def _wrong(_patient: Patient) -> Sequence[Finding]:
    raise KeyError("typo")


async def _refused(_patient: Patient) -> Sequence[Finding]:
    raise OperatorError("--iface 'eth9' is nowhere", fix="name another")


async def test_check_that_raises_is_a_finding_and_the_rest_goes_on() -> None:
    checks = [
        Check("wrong", "", _wrong),
        Check("refused", "", _refused),
        check("fine", good("all is well")),
    ]
    seen: list[Report] = []
    reports = await examine(PATIENT, checks, seen.append)
    assert seen == reports
    assert [report.findings[0].level for report in reports] == [
        Level.WARNING,
        Level.FAILURE,
        Level.OK,
    ]
    assert "typo" in reports[0].findings[0].fact
    assert reports[1].findings[0] == failure("--iface 'eth9' is nowhere", "name another")


async def test_check_that_takes_too_long_is_a_finding() -> None:
    checks = [Check("hangs", "", _hangs), Check("on", "", _hangs_on), check("fine", good("well"))]
    reports = await examine(PATIENT, checks, limit=0.05)
    assert [report.findings[0].level for report in reports] == [
        Level.FAILURE,
        Level.FAILURE,
        Level.OK,
    ]
    assert "0.05 s" in reports[0].findings[0].fact
    for _ in range(10):  # what was given up ends without a word
        await asyncio.sleep(0)


async def test_each_part_of_a_check_has_its_time() -> None:
    async def three(_patient: Patient) -> Sequence[Finding]:
        await asyncio.sleep(0.2)
        return [good("done")]

    def limited(parts: int) -> list[Check]:
        return [Check("three", "", three, parts=lambda _: parts)]

    (hasty,) = await examine(PATIENT, limited(1), limit=0.1)
    assert hasty.findings[0].level is Level.FAILURE
    (patient,) = await examine(PATIENT, limited(300), limit=0.1)
    assert patient.findings[0].level is Level.OK


async def test_worst_level_of_all_findings_counts() -> None:
    async def of(*findings: Finding) -> Level:
        return worst(await examine(PATIENT, [check("a", *findings), check("b", good("x"))]))

    assert await of(good("x")) is Level.OK
    assert await of(skipped("x")) is Level.SKIPPED
    assert await of(warning("x", "y"), skipped("z")) is Level.WARNING
    assert await of(failure("x", "y"), warning("z", "y")) is Level.FAILURE
    assert worst([]) is Level.OK
