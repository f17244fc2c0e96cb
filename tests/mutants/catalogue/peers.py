"""Other hosts' leases: who can be a peer, who has which range, who is held over."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_ADMISSION = "udpoverlay/peers/admission.py"
_CONTROL = "udpoverlay/control.py"
_HOLDOVER = "udpoverlay/peers/holdover.py"
_PEERS = "udpoverlay/peers/peers.py"
_PLACE = "udpoverlay/model/place.py"
_PLAN = "udpoverlay/peers/route_plan.py"

MUTANTS = (
    Mutant(
        name="half-of-the-network-is-a-subnet",
        bug="two /17 leases in a /16 keep every host from getting a subnet",
        file=_PLACE,
        old="SPARE_BITS = 2",
        new="SPARE_BITS = 1",
        tests=("tests/model/test_place.py",),
    ),
    Mutant(
        name="widest-subnet-refused",
        bug="a flanneld whose SubnetLen is Network's length + 2 loses its route",
        file=_PLACE,
        old="SPARE_BITS = 2",
        new="SPARE_BITS = 3",
        tests=("tests/model/test_place.py",),
    ),
    Mutant(
        name="wide-lease-takes-every-range",
        bug="a /8 lease that was written first leaves no host a subnet",
        file="udpoverlay/model/acquire.py",
        old="taken = [part for subnet in claimed if (part := places.part(subnet)) is not None]",
        new="taken = list(claimed)",
        tests=("tests/model/test_allocator.py",),
    ),
    Mutant(
        name="stale-leases-deleted-one-by-one",
        bug="a host with more than ten stale leases of its own ends in a conflict",
        file="udpoverlay/model/acquire.py",
        old="return Delete(stale)",
        new="return Delete(stale[:1])",
        tests=("tests/model/test_allocator.py",),
    ),
    Mutant(
        name="route-for-any-address",
        bug="a lease that points to 127.0.0.1 or into its own range gets a route",
        file=_ADMISSION,
        old=" or self._rejects(lease) or self._address_refusal(lease)",
        new=" or self._rejects(lease)",
        tests=("tests/peers/test_admission.py",),
    ),
    Mutant(
        name="route-for-any-range",
        bug="a lease of 127.0.0.0/8 gets a route",
        file=_ADMISSION,
        old="return self._places.refusal(net) or ",
        new="return ",
        tests=("tests/peers/test_admission.py",),
    ),
    Mutant(
        name="host-inside-network-refused",
        bug="hosts in 10.240.0.0/16 with Network 10.0.0.0/8, flannel's example, are no peers",
        file=_ADMISSION,
        old="self._way = self._by_network if way is None else way",
        new="self._way = self._by_network",
        tests=("tests/peers/test_admission.py",),
    ),
    Mutant(
        name="address-lost-in-the-line",
        bug="a lease that waits and becomes 0.0.0.0 later gets a route to its old address",
        file=_PEERS,
        old="            changes.routes = self._drop(key)\n",
        new="            changes.routes = [] if self._plan.waits(key) else self._drop(key)\n",
        tests=("tests/peers/test_peers.py",),
    ),
    Mutant(
        name="renewal-judged-again",
        bug="each renewal of each host asks the kernel for a route",
        file=_PEERS,
        old="            if known is lease.attrs or known == lease.attrs:\n"
        "                return Changes()\n",
        new="",
        tests=("tests/peers/test_admission.py",),
    ),
    Mutant(
        name="last-in-the-line-first",
        bug="of two hosts that wait for a range the later one gets it",
        file=_PLAN,
        old="for _, key in sorted(heads):",
        new="for _, key in sorted(heads, reverse=True):",
        tests=("tests/peers/test_route_plan.py",),
    ),
    Mutant(
        name="own-range-given-away",
        bug="another host's lease for a part of our subnet gets a route",
        file=_PLAN,
        old="            self._active.add(Subnet(v4=own.v4), own.key)\n",
        new="            pass\n",
        tests=("tests/peers/test_route_plan.py",),
    ),
    Mutant(
        name="waiting-scanned-whole",
        bug="each lease that ends costs a look at every lease that waits",
        file=_PLAN,
        old="heads = [(self._claims[key].turn, key) for key in self._waiting.heads(free)]",
        new="heads = [(c.turn, k) for k, c in self._claims.items() if c.endpoint is None]",
        tests=("tests/control/test_scale.py",),
    ),
    Mutant(
        name="held-without-end",
        bug="a peer that a wiped registry forgot is kept for ever",
        file=_HOLDOVER,
        old="if until <= now]",
        new="if until < 0]",
        tests=("tests/peers/test_holdover.py",),
    ),
    Mutant(
        name="moved-peer-held",
        bug="after a wiped registry a host that took another subnet keeps its old route, too",
        file=_HOLDOVER,
        old="return list(self._by_address.get(lease.attrs.public_ip.value, ()))",
        new="return []",
        tests=("tests/peers/test_holdover.py",),
    ),
    Mutant(
        name="snapshot-in-one-step",
        bug="thousands of leases keep status and SIGTERM waiting",
        file=_CONTROL,
        old="                if whole or self._turns % _EVENTS_A_TURN == 0:\n"
        "                    await asyncio.sleep(0)\n",
        new="",
        tests=("tests/control/test_scale.py",),
    ),
    Mutant(
        name="foreign-renewal-not-said",
        bug="two hosts with one public IP share a subnet, and nothing says so",
        file=_CONTROL,
        old="        if event.foreign:\n",
        new="        if event.foreign and False:\n",
        tests=("tests/control/test_renewal.py",),
    ),
    Mutant(
        name="routes-of-this-host-not-looked-at-again",
        bug="a peer that was refused at start has no route although its way is free by now",
        file=_CONTROL,
        old="            await self._change(self._peers.recheck())\n",
        new="",
        tests=("tests/control/test_control.py",),
    ),
    Mutant(
        name="own-datagram-sent-again",
        bug="a peer address that the host routes into the tunnel makes one packet circle for ever",
        file="ext/worker/outbound.c",
        old="    if (is_own_datagram(outbound, bytes, &packet)) {\n",
        new="    if (0 && is_own_datagram(outbound, bytes, &packet)) {\n",
        tests=("tests/ext/worker/test_pump.py",),
    ),
    Mutant(
        name="peer-at-our-own-address",
        bug="a left-over lease of this host gets a route: packets go round in this host",
        file=_ADMISSION,
        old="        if value in self._own_addresses:\n            return Refusal.OWN_ADDRESS\n",
        new="",
        tests=("tests/peers/test_admission.py",),
    ),
    Mutant(
        name="peer-inside-its-own-subnet",
        bug="a lease that points into its own range makes one packet loop for ever",
        file=_ADMISSION,
        old="        for subnet in (lease.subnet, self._own):\n",
        new="        for subnet in (self._own,):\n",
        tests=("tests/peers/test_admission.py",),
    ),
    Mutant(
        name="multicast-peer",
        bug="a lease with a multicast PublicIP makes this host flood its network",
        file=_ADMISSION,
        old="        if unreachable(address):\n            return Refusal.NOT_A_HOST\n",
        new="",
        tests=("tests/peers/test_admission.py",),
    ),
    Mutant(
        name="later-claim-takes-the-route",
        bug="a lease that overlaps a working peer's takes its traffic",
        file=_PLAN,
        old="claim = self._claims[key] = _Claim(lease, net, Subnet(v4=net), self._turns)\n"
        "        if self._active.first(claim.range) is None:\n",
        new="claim = self._claims[key] = _Claim(lease, net, Subnet(v4=net), self._turns)\n"
        "        if True:\n",
        tests=("tests/peers/test_peers.py", "tests/peers/test_route_plan.py"),
    ),
    Mutant(
        name="waiting-claim-never-served",
        bug="a host whose subnet was in use stays unreachable when the other one goes",
        file=_PLAN,
        old="[RouteChange(claim.lease, claim.endpoint, None), *self._promote(claim.range)]",
        new="[RouteChange(claim.lease, claim.endpoint, None)]",
        tests=("tests/peers/test_peers.py", "tests/peers/test_route_plan.py"),
    ),
    Mutant(
        name="moved-peer-keeps-its-old-address",
        bug="packets for a host with a new address go to the old one until it restarts",
        file=_PLAN,
        old="        if before == after:\n",
        new="        if before is not None:\n",
        tests=("tests/peers/test_peers.py", "tests/peers/test_route_plan.py"),
    ),
    Mutant(
        name="forgotten-peers-lose-their-routes",
        bug="a registry restored from an older copy cuts off every host that came since",
        file=_PEERS,
        old="            if snapshot.lost_history and self._refusal(key, peer) is None:\n"
        "                self._holdover.hold(peer.lease, now)\n",
        new="",
        tests=("tests/peers/test_holdover.py",),
    ),
    Mutant(
        name="deleted-peer-held",
        bug="a host whose lease an administrator deleted keeps its route for a day",
        file=_PEERS,
        old="            if snapshot.lost_history and self._refusal(key, peer) is None:\n",
        new="            if self._refusal(key, peer) is None:\n",
        tests=("tests/peers/test_holdover.py",),
    ),
    Mutant(
        name="held-peer-in-the-way",
        bug="after a loss of history a subnet given to a new host stays with the old one",
        file=_PEERS,
        old="(*self._holdover.of_address(lease), *self._plan.holders(lease.subnet))",
        new="tuple(self._holdover.of_address(lease))",
        tests=("tests/peers/test_holdover.py",),
    ),
)
