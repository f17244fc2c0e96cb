"""When routes are published, when our lease is renewed, what ends the daemon."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_CONTROL = "udpoverlay/control.py"
_DAEMON = "udpoverlay/daemon.py"

MUTANTS = (
    Mutant(
        name="no-routes-without-a-peer",
        bug="the first host of a network never says that its routes are there",
        file=_CONTROL,
        old="            if whole:\n                self._dirty.set()",
        new="            if False:\n                self._dirty.set()",
        tests=("tests/control",),
    ),
    Mutant(
        name="failed-publication-forgotten",
        bug="routes that could not be published once are missing until the next change",
        file=_CONTROL,
        old="            if not published:\n                self._dirty.set()\n",
        new="            if not published:\n",
        tests=("tests/control",),
    ),
    Mutant(
        name="each-event-published-alone",
        bug="a burst of ten thousand events builds ten thousand route tables",
        file=_CONTROL,
        old="            await self._clock.sleep(max(_PUBLISH_PAUSE, _PUBLISH_SHARE * took))\n",
        new="            await asyncio.sleep(0.0)\n",
        tests=("tests/control",),
    ),
    Mutant(
        name="old-deletion-is-a-revocation",
        bug="after a pause of etcd a host ends: its watch tells of what was before its renewal",
        file=_CONTROL,
        old="                if 0 < event.revision < self._lease.revision:\n",
        new="                if False:\n",
        tests=("tests/control",),
    ),
    Mutant(
        name="revocation-ignored",
        bug="a host whose lease an administrator deleted goes on and takes its subnet again",
        file=_CONTROL,
        old="                if not self._renewal.expired(self._clock.now()):\n",
        new="                if False:\n",
        tests=("tests/control",),
    ),
    Mutant(
        name="expired-lease-ends-the-daemon",
        bug="a lease that ran out while etcd was away ends the daemon instead of being renewed",
        file=_CONTROL,
        old="                if not self._renewal.expired(self._clock.now()):\n",
        new="                if True:\n",
        tests=("tests/control",),
    ),
    Mutant(
        name="other-host-on-our-subnet",
        bug="two hosts with one subnet go on side by side: connections break at random",
        file=_CONTROL,
        old="        if theirs != ours:\n",
        new="        if False:\n",
        tests=("tests/control",),
    ),
    Mutant(
        name="renewal-fails-once",
        bug="one failed renewal is the last: the lease runs out a day later",
        file=_CONTROL,
        old="            self._renewal = self._renewal.failed(now)\n",
        new="            self._renewing = None\n",
        tests=("tests/control",),
    ),
    Mutant(
        name="margin-in-seconds",
        bug="--subnet-lease-renew-margin counts seconds: renewed when it is all but over",
        file=_DAEMON,
        old="renew_margin=config.subnet_lease_renew_margin * 60.0,",
        new="renew_margin=config.subnet_lease_renew_margin * 1.0,",
        tests=("tests/netns/test_renew_margin.py",),
    ),
)
