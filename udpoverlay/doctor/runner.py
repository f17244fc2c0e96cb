"""Runs checks one after the other, each bounded in time, and adds up how it went.

Owns: order, time limits, what becomes of a check that fails itself. Must not know: any check.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from udpoverlay.doctor.base import Check, Finding, Level, failure, warning
from udpoverlay.doctor.patient import Patient
from udpoverlay.errors import UdpOverlayError

__all__ = ["CHECK_SECONDS", "Report", "examine", "worst"]

CHECK_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Report:
    """What one check found, and how long it took in seconds."""

    check: Check
    findings: tuple[Finding, ...]
    seconds: float


async def examine(
    patient: Patient,
    checks: Sequence[Check],
    shown: Callable[[Report], None] = lambda _: None,
    limit: float = CHECK_SECONDS,
) -> list[Report]:
    """Run `checks` in order, each part for `limit` seconds; `shown` gets each report at once."""
    reports = []
    for check in checks:
        begun = time.monotonic()
        findings = await _one(patient, check, limit * check.parts(patient))
        report = Report(check, tuple(findings), time.monotonic() - begun)
        shown(report)
        reports.append(report)
    return reports


async def _one(patient: Patient, check: Check, limit: float) -> Sequence[Finding]:
    # Not wait_for(): it waits for a check that does not end when it is cancelled.
    task = asyncio.ensure_future(check.run(patient))
    try:
        await asyncio.wait({task}, timeout=limit)
        if not task.done():
            return [
                failure(f"not done after {limit:g} s", f"udpoverlay doctor --only {check.name}")
            ]
        return task.result()
    except UdpOverlayError as error:
        return [failure(error.what, error.fix)]
    except Exception as error:
        return [warning(f"this check failed itself: {error!r}", "please report it")]
    finally:
        task.cancel()
        task.add_done_callback(_seen)


def _seen(task: asyncio.Future[Sequence[Finding]]) -> None:
    """What a check that was given up raises later is of no use."""
    if not task.cancelled():
        task.exception()


def worst(reports: Sequence[Report]) -> Level:
    """The worst level of all findings."""
    order = list(Level)
    levels = [finding.level for report in reports for finding in report.findings]
    return max(levels, key=order.index, default=Level.OK)
