"""cli/admin/explain.py: what is printed, the exit codes; the steps have tests of their own."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.support.admin import Command, Documents
from udpoverlay.cli.admin import explain
from udpoverlay.observe.explain import Way


@pytest.fixture
def healthy(found: Documents) -> Documents:
    """No sender is refused."""
    found["/v1/peers"]["refused_senders"] = []
    return found


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> dict[str, Way]:
    """The kernel's routes; a test may break one."""
    known = {"10.5.73.7": Way("flannel0"), "192.0.2.2": Way("eth0"), "192.0.2.9": Way("eth0")}

    async def answer(addresses: Iterable[str]) -> dict[str, Way]:
        return {address: known[address] for address in addresses}

    monkeypatch.setattr(explain, "_ways", answer)
    return known


def test_steps_are_shown_with_the_answer_last(
    healthy: Documents, command: Command, ways: dict[str, Way]
) -> None:
    assert command("explain", "10.5.73.7") == 0
    lines = command.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "192.0.2.2 has 10.5.73.0/24" in command.out
    assert lines[-1].startswith("answer ")
    assert "nothing is wrong on this host" in lines[-1]


def test_first_failure_is_the_answer(
    found: Documents, command: Command, ways: dict[str, Way]
) -> None:
    ways["10.5.73.7"] = Way("eth0")
    assert command("explain", "10.5.73.7") == 3
    assert "fix: remove the route" in " ".join(command.out.split())
    assert "stops at the kernel route: 10.5.73.7 should go to flannel0" in " ".join(
        command.out.split()
    )


def test_json_has_the_steps_and_the_answer(
    healthy: Documents, command: Command, ways: dict[str, Way]
) -> None:
    document = command.json("explain", "10.5.73.7")
    assert document["address"] == "10.5.73.7"
    assert document["answer"].startswith("nothing is wrong on this host")
    assert {"level", "name", "fact", "fix"} == set(document["steps"][0])


def test_word_that_is_no_address_is_refused_by_explain(command: Command) -> None:
    assert command("explain", "10.5.73") == 1
    assert "'10.5.73' is not an IP address" in command.err


def test_ways_of_the_kernel_are_found() -> None:
    """The routes of this host, whatever they are: loopback goes by lo."""
    import asyncio  # noqa: PLC0415

    found = asyncio.run(explain._ways(["127.0.0.1", "240.0.0.1"]))
    assert found["127.0.0.1"] == Way("lo")
    assert found["240.0.0.1"].device or "240.0.0.1" in found["240.0.0.1"].error
