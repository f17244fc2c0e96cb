"""The machine's clocks behind the parameter that everything else takes."""

from __future__ import annotations

from udpoverlay.clock import SystemClock


async def test_system_clock_tells_both_clocks() -> None:
    clock = SystemClock()
    before = clock.now()
    await clock.sleep(0.001)
    after = clock.now()
    assert after.monotonic > before.monotonic
    assert after.wall > 1_600_000_000
    assert clock.monotonic() >= after.monotonic
