"""The tunnel that is rebuilt: what is noticed, what is repaired, who hears of it."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_NETWORK = "udpoverlay/backend/network.py"
_FACTS = "udpoverlay/facts.py"
_HEALING = "tests/netns/test_self_healing.py"
_DELETED = (f"{_HEALING}::test_tunnel_device_that_was_changed_is_as_before[deleted]",)
_MOVED = (f"{_HEALING}::test_another_address_of_the_underlay_is_published",)

MUTANTS = (
    Mutant(
        name="routes-forgotten-at-a-restart",
        bug="after a restart nothing flows until the registry has answered",
        file="udpoverlay/handover/bridge.py",
        old="            self._engine.replace(self._legacy.routes)\n",
        new="            pass\n",
        tests=("tests/handover/test_bridge.py", "tests/netns/test_handover.py"),
    ),
    Mutant(
        name="old-daemon-does-not-come-back",
        bug="a new daemon that dies while it takes over takes the tunnel with it",
        file="udpoverlay/handover/offer.py",
        old="        await leaving.resume()\n",
        new="",
        tests=("tests/handover/test_offer.py", "tests/netns/test_handover.py"),
    ),
    Mutant(
        name="any-note-is-believed",
        bug="routes of another device's last run are published",
        file="udpoverlay/handover/bridge.py",
        old="    if (tun.index, tun.name) != (legacy.index, legacy.device):\n",
        new="    if tun.index == 0:\n",
        tests=("tests/handover/test_bridge.py",),
    ),
    Mutant(
        name="route-of-the-tunnel-stays-gone",
        bug="a TUN that goes down and up once carries nothing for ever",
        file="udpoverlay/host/device.py",
        old="        if await netlink.add_link_route(network, index):\n",
        new="        if False:\n",
        tests=("tests/host/test_notices.py",),
    ),
    Mutant(
        name="rebuilt-without-routes",
        bug="a device that was made again has no peers until the registry changes",
        file=_NETWORK,
        old="            engine.replace(self._routes)\n        await engine.start()\n        if ",
        new="            pass\n        await engine.start()\n        if ",
        tests=_DELETED,
    ),
    Mutant(
        name="rebuilt-from-zero",
        bug="counters go back when the device is made again",
        file="udpoverlay/backend/totals.py",
        old="        self._counters.update(engine.counters())\n",
        new="",
        tests=_DELETED,
    ),
    Mutant(
        name="traffic-rebuilt-from-zero",
        bug="what a peer sent and got is forgotten when the device is made again",
        file="udpoverlay/backend/totals.py",
        old="        traffic = _added(self._traffic, engine.traffic())\n",
        new="        traffic = self._traffic\n",
        tests=(
            "tests/netns/test_self_healing.py::"
            "test_traffic_of_a_peer_goes_on_counting_over_a_rebuild",
        ),
    ),
    Mutant(
        name="looks-only-at-notices",
        bug="an address that changed before the first notice is seen half a minute later",
        file=_NETWORK,
        old="self._noticed(None)  # what changed before we listened gave no notice",
        new="pass",
        tests=("tests/backend/test_network.py",),
    ),
    Mutant(
        name="new-address-not-noticed",
        bug="after a DHCP server gave another address packets go from one that is not ours",
        file=_NETWORK,
        old="            elif notice.kind == ADDRESS:\n"
        "                self._host_changed = self._host_changed or not ours\n",
        new="            elif notice.kind == ADDRESS:\n                continue\n",
        tests=(f"{_HEALING}::test_another_address_is_noticed_where_no_default_route_is",),
    ),
    Mutant(
        name="new-address-not-published",
        bug="the others send to an address that this host had once",
        file=_FACTS,
        old="        if choice.public_ip != self.control.lease.attrs.public_ip:\n",
        new="        if False:\n",
        tests=_MOVED,
    ),
    Mutant(
        name="dead-connections-kept",
        bug="the new address is published only when connections from the old one time out",
        file="udpoverlay/registry/etcd/registry.py",
        old="        self._client.reconnect()\n",
        new="",
        tests=_MOVED,
    ),
    Mutant(
        name="new-mtu-not-in-the-subnet-file",
        bug="new containers get the MTU that the underlay had at start",
        file=_FACTS,
        old="        if mtu != before:\n",
        new="        if before == 0:\n",
        tests=(f"{_HEALING}::test_mtu_of_the_underlay_becomes_the_tunnels",),
    ),
    Mutant(
        name="own-move-is-a-conflict",
        bug="a host that publishes its new address ends: its own watch shows it first",
        file="udpoverlay/control.py",
        old="        if self._moving is not None and theirs == self._moving.public_ip:\n",
        new="        if False:\n",
        tests=("tests/control/test_control.py",),
    ),
    Mutant(
        name="republished-once-or-never",
        bug="a registry that cannot be reached when the address changes never hears of it",
        file="udpoverlay/control.py",
        old="                pause = min(pause, _REPUBLISH_SECONDS)\n",
        new="                self._moving = None\n",
        tests=("tests/control/test_control.py",),
    ),
    Mutant(
        name="peer-of-another-backend-has-a-route",
        bug="packets go to hosts that have another Backend.Type and do not listen",
        file="udpoverlay/backend/udp.py",
        old='in {"", self.name} else',
        new="in peer.attrs.backend_type.lower() + self.name else",
        tests=("tests/backend",),
    ),
    Mutant(
        name="full-device-queue-not-told",
        bug="half of the packets of a flood die in the TUN's queue and no counter says so",
        file="udpoverlay/dataplane/kernel_drops.py",
        old="_TX_DROPPED = 11\n",
        new="_TX_DROPPED = 10\n",
        tests=("tests/netns/test_conservation.py",),
    ),
    Mutant(
        name="full-socket-not-told",
        bug="datagrams that found no room in the socket's buffer are in no counter",
        file="udpoverlay/dataplane/kernel_drops.py",
        old="_DROPS = 8\n",
        new="_DROPS = 7\n",
        tests=("tests/dataplane/test_kernel_drops.py",),
    ),
    Mutant(
        name="configuration-read-twice",
        bug="a configuration that changes during the start gives a lease of another network",
        file="udpoverlay/daemon.py",
        old="ownsubnet.remembered(config.subnet_file), netconf)",
        new="ownsubnet.remembered(config.subnet_file), None)",
        tests=("tests/daemon/test_daemon.py",),
    ),
)
