"""What a test can break in the API server, and what it can look up afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.kubeapi.status import ApiError

Json = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One request as the server understood it."""

    user: str
    verb: str
    resource: str
    """With its subresource: nodes/status."""
    name: str
    namespace: str
    query: dict[str, str]
    content_type: str
    body: Any
    authorization: str = ""


@dataclass
class Fault:
    """Requests that match are refused, `left` times."""

    matches: Callable[[Call], bool]
    code: int
    left: int
    headers: dict[str, str]


@dataclass
class Faults:
    """Armed by tests, asked by the server for every request."""

    armed: list[Fault] = field(default_factory=list)
    held: list[tuple[Callable[[Call], bool], asyncio.Event]] = field(default_factory=list)
    mute: bool = False
    """Watches stay open and say nothing."""

    def refuse(
        self,
        code: int,
        matches: Callable[[Call], bool] = lambda _: True,
        *,
        times: int = 1,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer the next `times` matching requests with `code`."""
        self.armed.append(Fault(matches, code, times, headers or {}))

    def hold(self, matches: Callable[[Call], bool]) -> asyncio.Event:
        """Let matching requests wait, after they were logged, until the returned event is set."""
        event = asyncio.Event()
        self.held.append((matches, event))
        return event

    async def meet(self, call: Call) -> dict[str, str]:
        """Raise the armed refusal for `call`, if any."""
        for matches, event in list(self.held):
            if matches(call):
                await event.wait()
        for fault in list(self.armed):
            if fault.matches(call):
                fault.left -= 1
                if fault.left <= 0:
                    self.armed.remove(fault)
                raise Refused(fault)
        return {}


class Refused(ApiError):
    """A refusal armed by the test."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.code, "refused by the test")
        self.headers = fault.headers
