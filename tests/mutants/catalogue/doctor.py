"""`udpoverlay doctor`: what an operator is told that is not so, and what is done to his host."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_CHECKS = "udpoverlay/doctor/checks"
_ETCD = "udpoverlay/doctor/facts/etcd.py"
_LISTEN = "udpoverlay/doctor/listen.py"
_PATIENT = "udpoverlay/doctor/patient.py"
_PEER = f"{_CHECKS}/peer.py"
_RUNNER = "udpoverlay/doctor/runner.py"


def _of(check: str) -> tuple[str, ...]:
    return (f"tests/doctor/checks/test_{check}.py",)


MUTANTS = (
    Mutant(
        name="doctor-ends-with-the-first-defect",
        bug="one check with a defect ends the command with a traceback",
        file=_RUNNER,
        old="    except Exception as error:\n",
        new="    except OSError as error:\n",
        tests=("tests/doctor/test_runner.py",),
    ),
    Mutant(
        name="doctor-waits-for-a-check-for-ever",
        bug="a check that hangs hangs the command",
        file=_RUNNER,
        old="        await asyncio.wait({task}, timeout=limit)\n",
        new="        await asyncio.wait({task}, timeout=limit * 1e6)\n",
        tests=("tests/doctor/test_runner.py",),
    ),
    Mutant(
        name="doctor-reads-settings-in-one-piece",
        bug="every setting of the kernel counts as unreadable",
        file=_PATIENT,
        old="_PIECE_BYTES = 1 << 16\n",
        new="_PIECE_BYTES = 8 << 20\n",
        tests=("tests/doctor/test_patient.py",),
    ),
    Mutant(
        name="doctor-asks-a-dead-registry-again",
        bug="each check waits its ten seconds for a registry that does not answer",
        file=_PATIENT,
        old="self.learned[name] = RegistryUnavailable(",
        new="raise RegistryUnavailable(",
        tests=("tests/doctor/test_patient.py",),
    ),
    Mutant(
        name="doctor-writes-a-lease",
        bug="looking whether leases may be written leaves an entry in etcd",
        file=_ETCD,
        old="[if_absent(key), if_unchanged(key, _NEVER)]",
        new="[if_absent(key)]",
        tests=_of("registry"),
    ),
    Mutant(
        name="doctor-does-not-try-to-write",
        bug="a user who may only read etcd is told that leases may be written",
        file=_ETCD,
        old='[put_op(key, b"", 0)]',
        new="[]",
        tests=_of("registry"),
    ),
    Mutant(
        name="doctor-one-dead-endpoint-fails",
        bug="one etcd member of several that is down makes scripts believe the host is broken",
        file=f"{_CHECKS}/registry.py",
        old="    bad = warning if None in refused.values() else failure\n",
        new="    bad = failure\n",
        tests=_of("registry"),
    ),
    Mutant(
        name="doctor-rp-filter-of-all-ignored",
        bug="strict filtering by net.ipv4.conf.all is not seen",
        file=f"{_CHECKS}/reverse_path.py",
        old="    return max(every, own) == str(_STRICT)\n",
        new="    return own == str(_STRICT)\n",
        tests=_of("reverse_path"),
    ),
    Mutant(
        name="doctor-overlap-one-way",
        bug="a Network inside the host's own link is called free",
        file=f"{_CHECKS}/overlap.py",
        old="    return bool(link in network or network in link)\n",
        new="    return bool(link in network)\n",
        tests=_of("overlap"),
    ),
    Mutant(
        name="doctor-firewalld-default-zone-alone",
        bug="a port that is open in another zone than the interface's counts as open",
        file=f"{_CHECKS}/firewalls.py",
        old="    if not zone:\n",
        new="    if True:\n",
        tests=_of("firewalls"),
    ),
    Mutant(
        name="doctor-clock-behind-not-seen",
        bug="a clock that is an hour behind the registry's is called right",
        file=f"{_CHECKS}/clock.py",
        old="        if abs(ahead) >= _MUCH:\n",
        new="        if ahead >= _MUCH:\n",
        tests=_of("clock"),
    ),
    Mutant(
        name="doctor-clock-of-etcd-behind-tls",
        bug="the clock of an etcd with TLS is never compared",
        file=_ETCD,
        old='        context.set_alpn_protocols(["http/1.1"])  # in place of gRPC\'s h2\n',
        new="",
        tests=_of("clock"),
    ),
    Mutant(
        name="doctor-shared-address-of-nodes",
        bug="two Nodes that publish one address are not told",
        file=f"{_CHECKS}/public_ip.py",
        old="            level = failure if address == public else warning\n",
        new="            level = warning\n",
        tests=_of("public_ip"),
    ),
    Mutant(
        name="doctor-listener-answers-answers",
        bug="two listeners can be made to answer each other for ever",
        file=_LISTEN,
        old="                if probe is None or probe.is_answer or not budget.take():\n",
        new="                if probe is None or not budget.take():\n",
        tests=("tests/doctor/test_listen.py",),
    ),
    Mutant(
        name="doctor-listener-answers-from-elsewhere",
        bug="a peer with several addresses seems not to answer",
        file=_LISTEN,
        old="            return [(level, kind, _PKTINFO.pack(0, local, bytes(4)))]\n",
        new="            return []\n",
        tests=("tests/doctor/test_listen.py",),
    ),
    Mutant(
        name="doctor-short-probe-tells-the-mtu",
        bug="a path that carries less than the MTU is called good",
        file=_PEER,
        old="    if (await ping(source, target, mtu)).answered:\n",
        new="    if (await ping(source, target, mtu // 2)).answered:\n",
        tests=("tests/netns/test_doctor.py",),
    ),
    Mutant(
        name="doctor-vxlan-on-the-tunnels-port",
        bug="VXLAN that is dropped on the way seems to arrive",
        file=_PEER,
        old="[(str(peer.public), port) for port in shapes.VXLAN_PORTS]",
        new="[(str(peer.public), 8285) for port in shapes.VXLAN_PORTS]",
        tests=("tests/netns/test_doctor.py",),
    ),
)
