"""Values and rules: netconf, allocator, acquire, schedule, subnet file, claims."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_ACQUIRE = "udpoverlay/model/acquire.py"
_ALLOCATOR = "udpoverlay/model/allocator.py"
_CLAIMS = "udpoverlay/model/claims.py"
_NETCONF = "udpoverlay/model/netconf.py"
_SCHEDULE = "udpoverlay/model/schedule.py"
_SUBNETENV = "udpoverlay/model/subnetenv.py"

MUTANTS = (
    Mutant(
        name="last-subnet-never-given",
        bug="the subnet at SubnetMax is never handed out: a full network is one host short",
        file=_ALLOCATOR,
        old="while at <= high and len(free) < most:",
        new="while at < high and len(free) < most:",
        tests=("tests/model/test_allocator.py",),
    ),
    Mutant(
        name="wide-lease-hidden-by-narrow",
        bug="a host gets a subnet inside a wide lease when a narrow one begins in it, too",
        file=_ALLOCATOR,
        old="blocked_to = max(blocked_to, ranges[next_range][1])",
        new="blocked_to = ranges[next_range][1]",
        tests=("tests/model/test_allocator.py",),
    ),
    Mutant(
        name="hosts-draw-the-lowest-subnet",
        bug="hosts that start together all claim the lowest free subnet and lose the race",
        file=_ALLOCATOR,
        old="return IPNetwork((free[rng.randrange(len(free))], length), version=low.version)",
        new="return IPNetwork((free[0], length), version=low.version)",
        tests=("tests/model/test_allocator.py",),
    ),
    Mutant(
        name="lease-of-other-length-fits",
        bug="after SubnetLen changed a host keeps its lease of the old length",
        file=_ACQUIRE,
        old="return bool(low.value <= net.value <= high.value and net.prefixlen == length)",
        new="return bool(low.value <= net.value <= high.value)",
        tests=("tests/model/test_allocator.py",),
    ),
    Mutant(
        name="reservation-deleted",
        bug="a reservation that an administrator wrote for this host is deleted from etcd",
        file=_ACQUIRE,
        old="stale = tuple(lease for lease in ours if lease.registry_lease)",
        new="stale = tuple(ours)",
        tests=("tests/model/test_allocator.py",),
    ),
    Mutant(
        name="reservation-gets-a-term",
        bug="a reservation is put under a 24 h lease and runs out with its host",
        file=_ACQUIRE,
        old="return Reuse(lease, reservation=lease.registry_lease == 0)",
        new="return Reuse(lease, reservation=False)",
        tests=("tests/model/test_allocator.py",),
    ),
    Mutant(
        name="previous-subnet-of-another-host",
        bug="a host that comes back claims its old subnet although another host has it by now",
        file=_ACQUIRE,
        old="elif (holder := _holder(previous, taken)) is not None:",
        new="elif (holder := _holder(previous, [])) is not None:",
        tests=("tests/model/test_allocator.py",),
    ),
    Mutant(
        name="suspend-not-noticed",
        bug="a machine that slept through its term does not renew when it wakes up",
        file=_SCHEDULE,
        old="return max(now.monotonic - since.monotonic, now.wall - since.wall, 0.0)",
        new="return max(now.monotonic - since.monotonic, 0.0)",
        tests=("tests/model/test_schedule.py",),
    ),
    Mutant(
        name="short-term-renewed-without-pause",
        bug="a term shorter than the margin is renewed over and over without a pause",
        file=_SCHEDULE,
        old="if self.term > self.margin else self.term / 2",
        new="if self.term > self.margin else 0.0",
        tests=("tests/model/test_schedule.py",),
    ),
    Mutant(
        name="failed-renewal-tried-at-once",
        bug="a registry that is away gets renewals without a pause from every host",
        file=_SCHEDULE,
        old="return max(0.0, RETRY_SECONDS - self._elapsed(self.retry_at, now))",
        new="return 0.0",
        tests=("tests/model/test_schedule.py",),
    ),
    Mutant(
        name="renewal-after-the-term",
        bug="a lease is renewed when it has run out, not an hour before",
        file=_SCHEDULE,
        old="after = self.term - self.margin if self.term > self.margin",
        new="after = self.term if self.term > self.margin",
        tests=("tests/model/test_schedule.py",),
    ),
    Mutant(
        name="subnet-file-names-the-network",
        bug="FLANNEL_SUBNET is 10.5.72.0/24: the bridge gets an address that is no host's",
        file=_SUBNETENV,
        old='return f"{IPAddress(net.value + 1, version=net.version)}/{net.prefixlen}"',
        new='return f"{IPAddress(net.value, version=net.version)}/{net.prefixlen}"',
        tests=("tests/model/test_subnetenv.py",),
    ),
    Mutant(
        name="subnet-file-capital-true",
        bug="FLANNEL_IPMASQ=True, which shell scripts that compare with `true` read as off",
        file=_SUBNETENV,
        old="FLANNEL_IPMASQ={str(ip_masq).lower()}",
        new="FLANNEL_IPMASQ={ip_masq}",
        tests=("tests/model/test_subnetenv.py",),
    ),
    Mutant(
        name="subnet-file-quote-kept",
        bug="a quoted FLANNEL_SUBNET is not recognised: the host changes its subnet at a restart",
        file=_SUBNETENV,
        old="quoted = _QUOTED.match(value)",
        new="quoted = None",
        tests=("tests/model/test_subnetenv.py",),
    ),
    Mutant(
        name="first-subnet-is-the-network",
        bug="without SubnetMin the first host gets 10.5.0.0/24, which flannel leaves out",
        file=_NETCONF,
        old="first, last = network.first + step, network.last + 1 - step",
        new="first, last = network.first, network.last + 1 - step",
        tests=("tests/model/test_netconf.py",),
    ),
    Mutant(
        name="misaligned-subnet-min",
        bug="a SubnetMin off its boundary is accepted and hands out overlapping subnets",
        file=_NETCONF,
        old="        if given.value % step:\n",
        new="        if given.value % step and False:\n",
        tests=("tests/model/test_netconf.py",),
    ),
    Mutant(
        name="narrow-claim-not-seen",
        bug="a /26 lease inside a working peer's /24 is no conflict and takes its traffic",
        file=_CLAIMS,
        old="            if shorter <= length:\n",
        new="            if shorter == length:\n",
        tests=("tests/model/test_claims.py", "tests/peers/test_route_plan.py"),
    ),
    Mutant(
        name="claim-counted-once",
        bug="when one of two hosts that hold the same range goes, the range counts as free",
        file=_CLAIMS,
        old="        if claimants:\n            return\n",
        new="",
        tests=("tests/model/test_claims.py",),
    ),
)
