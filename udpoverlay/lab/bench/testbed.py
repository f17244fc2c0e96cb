"""Where a bench is fought: for every path two hosts on one veth, all alike and all at once.

      ┌─ a ──────────┐      veth, 1,500 bytes      ┌─ b ──────────┐
      │ eth0 198.19.0.1 ─────────────────────────── eth0 198.19.0.2 │
      └── mgmt0 ─────┘                             └── mgmt0 ─────┘
             └──────── switch 198.18.0.1: etcd ───────────┘

Every path has a pair of hosts of its own, so that nothing that one leaves behind (a port, a route,
a device) can touch another, and all live at once, so that their runs can alternate. The second
network is for the registry only. Owns: these hosts and links. Must not know: paths, tests.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType

from udpoverlay.lab.actions import links
from udpoverlay.lab.etcd import Etcd
from udpoverlay.lab.hosts import Fabric, Host, Process
from udpoverlay.lab.traffic import Pair

__all__ = ["LINK", "Duo", "Ready", "Testbed"]

LINK = "eth0"
PREFIX_LEN = 30


@dataclass(frozen=True, slots=True)
class Duo:
    """Two hosts on one veth."""

    name: str
    a: Host
    b: Host
    a_address: str = "198.19.0.1"
    b_address: str = "198.19.0.2"
    link: str = LINK

    def both(self) -> tuple[tuple[Host, str], tuple[Host, str]]:
        """Each host with its address."""
        return (self.a, self.a_address), (self.b, self.b_address)


@dataclass(frozen=True, slots=True)
class Ready:
    """A path that traffic can take: between which addresses, by which daemons."""

    pair: Pair
    daemons: tuple[Process, ...] = ()
    version: str = ""


class Testbed:
    """A Duo for each of `names`, and one etcd that all can reach."""

    def __init__(
        self,
        names: Iterable[str],
        *,
        offload: bool,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.duos: dict[str, Duo] = {}
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            wanted = list(names)
            report("hosts and links")
            sides = [f"{name}-{side}" for name in wanted for side in "ab"]
            self._fabric = self._stack.enter_context(Fabric(sides, link="mgmt0"))
            for name in wanted:
                hosts = self._fabric.hosts
                duo = Duo(name, hosts[f"{name}-a"], hosts[f"{name}-b"])
                duo.a.add_veth(LINK, duo.b, LINK)
                for host, address in duo.both():
                    host.call(links.add_address, name=LINK, address=address, prefix_len=PREFIX_LEN)
                    host.call(links.set_segmentation, name=LINK, on=offload)
                self.duos[name] = duo
            report("etcd")
            self.etcd = Etcd(self._fabric.switch, Fabric.GATEWAY)
            undo.pop_all()

    def close(self) -> None:
        """End all hosts; idempotent."""
        self._stack.close()

    def __enter__(self) -> Testbed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
