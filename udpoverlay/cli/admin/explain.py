"""`udpoverlay explain ADDRESS`: what would happen to a packet from here, and what is wrong.

Exit status 0 when nothing is wrong, 3 when a step fails, 1 when the daemon cannot be asked.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable

from netaddr import IPAddress

from udpoverlay.cli.admin import ask
from udpoverlay.cli.findings import lines
from udpoverlay.errors import KernelError
from udpoverlay.host.netlink import Netlink
from udpoverlay.host.sysctl import forwarding_off
from udpoverlay.model.finding import Level
from udpoverlay.observe.explain import Facts, Step, Way, explain

__all__ = ["configure", "run"]

_WRONG = 3

_EPILOG = """\
examples:
  udpoverlay explain 10.244.3.7
  udpoverlay explain 10.244.3.7 --json | jq .answer
  udpoverlay explain 10.244.3.7 --node n1

Nothing is sent. The first failure is the answer: those behind it may follow from it.
Exit status 0: nothing is wrong; 3: something is; 1: no answer."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("address", help="where the packet should go, for example 10.244.3.7")
    ask.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask and show."""
    address = str(ask.address(args.address))
    code = ask.in_node(args, "explain", [address])
    if code is not None:
        return code
    client = ask.client(args)
    status, peers, routes = map(client.get, ("/v1/status", "/v1/peers", "/v1/routes"))
    wanted = {address, *(peer["public_ip"] for peer in peers["peers"] if _may_hold(peer, address))}
    ways = asyncio.run(_ways(wanted))
    facts = Facts(status, peers, routes, ways, forwarding_off(status["node"]["tun"]))
    steps = explain(address, facts)
    failed = next((step for step in steps if step.finding.level is Level.FAILURE), None)
    answer = f"stops at the {failed.name}: {failed.finding.fact}" if failed else _passes(steps)
    if args.json:
        ask.print_json(
            {
                "schema": status["schema"],
                "address": address,
                "answer": answer,
                "steps": [
                    {
                        "level": step.finding.level.value,
                        "name": step.name,
                        "fact": step.finding.fact,
                        "fix": step.finding.fix,
                    }
                    for step in steps
                ],
            }
        )
    else:
        _show(steps, answer)
    return _WRONG if failed else 0


def _may_hold(peer: dict[str, str], address: str) -> bool:
    return ask.holds(peer["subnet"], ask.address(address))


def _passes(steps: list[Step]) -> str:
    odd = sum(step.finding.level is Level.WARNING for step in steps)
    found = "nothing is wrong on this host"
    return f"{found}; {ask.count(odd, 'warning')}" if odd else found


async def _ways(addresses: Iterable[str]) -> dict[str, Way]:
    """The kernel's route to each, as `ip route get`."""
    ways = {}
    async with Netlink() as netlink:
        names = {link.index: link.name for link in await netlink.links()}
        for address in addresses:
            try:
                index = (await netlink.route_to(IPAddress(address))).index
                ways[address] = Way(names.get(index, f"device {index}"))
            except KernelError as error:
                ways[address] = Way(error=str(error))
    return ways


def _show(steps: list[Step], answer: str) -> None:
    for step in steps:
        found = step.finding
        sys.stdout.write(lines(found.level.value, step.name, found.fact, found.fix))
    sys.stdout.write("\n" + lines("answer", "", answer, ""))
