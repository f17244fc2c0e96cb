"""dataplane/: the device, the socket, workers and what becomes of their ends; daemon, tasks."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_AIO = "udpoverlay/aio.py"
_DAEMON = "udpoverlay/daemon.py"
_ENGINE = "udpoverlay/dataplane/engine.py"
_FEATURES = "udpoverlay/dataplane/features.py"
_REPORTS = "udpoverlay/dataplane/reports.py"
_SINK = "udpoverlay/dataplane/sink.py"
_SUPERVISOR = "udpoverlay/supervisor.py"
_TUN = "udpoverlay/dataplane/tun.py"


MUTANTS = (
    Mutant(
        name="moved-endpoint-not-published",
        bug="a peer that moved is sent packets at its old address",
        file=_SINK,
        old="            if known is None or known[1] is not endpoint:\n",
        new="            if known is None:\n",
        tests=("tests/dataplane/test_sink.py",),
    ),
    Mutant(
        name="failed-table-remembered",
        bug="a table that could not be built stands in the way of every later change of senders",
        file=_SINK,
        old="        self._table.publish([flat for _, _, flat in made.values()], self._aliases)\n"
        "        self._made = made\n",
        new="        self._made = made\n"
        "        self._table.publish([flat for _, _, flat in made.values()], self._aliases)\n",
        tests=("tests/dataplane/test_sink.py",),
    ),
    Mutant(
        name="aliases-lost-by-a-change-of-routes",
        bug="a peer behind a NAT is cut off whenever some route changes",
        file=_SINK,
        old="[flat for _, _, flat in made.values()], self._aliases)\n",
        new="[flat for _, _, flat in made.values()], ())\n",
        tests=(
            "tests/dataplane/test_sink.py",
            "tests/dataplane/test_senders.py",
        ),
    ),
    Mutant(
        name="dead-worker-not-noticed",
        bug="no packet moves any more, and the daemon goes on as if nothing had happened",
        file=_ENGINE,
        old="        self._ended.set_exception(failure)\n",
        new="",
        tests=(
            "tests/dataplane/test_engine.py::test_a_device_that_is_removed_ends_the_engine_with_an_error",
        ),
    ),
    Mutant(
        name="stopped-engine-keeps-its-device",
        bug="a daemon that ends leaves its TUN device and routes behind",
        file=_ENGINE,
        old="        tun.close()\n        sockets.close()\n",
        new="        sockets.close()\n",
        tests=(
            "tests/dataplane/test_engine.py::test_stopping_twice_is_fine_and_takes_the_device_away",
        ),
    ),
    Mutant(
        name="failed-open-leaves-the-device",
        bug="a start that fails on a taken port leaves a TUN device",
        file=_ENGINE,
        old="            undo.callback(tun.close)\n"
        "            engine = cls(tunnel, settings, tun, sockets, features, recorder=recorder)\n"
        "            undo.pop_all()\n",
        new="            undo.pop_all()\n            engine = cls(tunnel, settings, tun, sockets,"
        " features)\n",
        tests=("tests/dataplane/test_descriptors.py",),
    ),
    Mutant(
        name="switched-off-offload-used",
        bug="--offload-off has no effect: what an operator switched off to get around a bug stays",
        file=_FEATURES,
        old="        off = OFFLOADS.keys() if settings.per_packet else settings.offloads_off\n",
        new="        off = OFFLOADS.keys() if settings.per_packet else frozenset()\n",
        tests=(
            "tests/dataplane/test_offloads.py::test_features_tell_what_is_on_what_is_off_and_why",
        ),
    ),
    Mutant(
        name="gro-left-on",
        bug="udp-gro switched off is told as off, but the socket merges datagrams",
        file=_FEATURES,
        old='udp.setsockopt(fp.SOL_UDP, fp.UDP_GRO, int(self.on("udp-gro")))',
        new="udp.setsockopt(fp.SOL_UDP, fp.UDP_GRO, 1)",
        tests=("tests/dataplane/test_offloads.py::test_the_same_bytes_arrive[no-udp-gro]",),
    ),
    Mutant(
        name="two-threads-receive",
        bug="with three workers the packets of one peer overtake each other",
        file=_ENGINE,
        old="    return [(fp.INBOUND, queues), *((fp.OUTBOUND, [queue]) for queue in queues)]\n",
        new="    return [(fp.INBOUND | fp.OUTBOUND, [queue]) for queue in queues]\n",
        tests=("tests/dataplane/test_descriptors.py",),
    ),
    Mutant(
        name="counters-gone-after-stop",
        bug="the counts of a worker that ended are missing in the last status",
        file="ext/worker.pxi",
        old="            self.last = self.counts()\n",
        new="            self.last = ([0] * VERDICT_COUNT, [0] * COUNTER_COUNT)\n",
        tests=("tests/ext/worker/test_threads.py",),
    ),
    Mutant(
        name="device-without-close-on-exec",
        bug="a program that the daemon starts keeps the TUN device alive after its end",
        file=_TUN,
        old="fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR",
        new="fcntl.F_DUPFD, _FIRST_DESCRIPTOR",
        tests=("tests/dataplane/test_descriptors.py",),
    ),
    Mutant(
        name="odd-subnet-file-found-out-late",
        bug="a --subnet-file that is a device is refused only when the lease is taken",
        file=_DAEMON,
        old="    check_tun()\n    subnetfile.check(config.subnet_file)\n",
        new="    check_tun()\n",
        tests=(
            "tests/netns/test_bad_input.py::test_subnet_file_that_is_no_regular_file_is_refused_before_etcd_is_asked",
        ),
    ),
    Mutant(
        name="task-ends-in-silence",
        bug="after one unforeseen error nothing follows the registry any more, and nothing says so",
        file=_SUPERVISOR,
        old="            await self._clock.sleep(self.failed(name, error))\n",
        new="            await asyncio.Event().wait()\n",
        tests=("tests/test_supervisor.py",),
    ),
    Mutant(
        name="supervisor-without-back-off",
        bug="a task that fails at once fails a thousand times a second",
        file=_SUPERVISOR,
        old="            await self._clock.sleep(self.failed(name, error))\n",
        new="            self.failed(name, error)\n            await self._clock.sleep(0)\n",
        tests=("tests/test_supervisor.py",),
    ),
    Mutant(
        name="all-hosts-come-back-at-once",
        bug="a registry that was away is hit by every host in the same moment",
        file=_AIO,
        old="self._next * random.uniform(1.0, 1.0 + self._jitter)",
        new="self._next * random.uniform(1.0, 1.0)",
        tests=("tests/test_aio.py",),
    ),
    Mutant(
        name="error-of-a-part-swallowed",
        bug="a part of the daemon that fails is taken for one that ended in order: exit status 0",
        file=_AIO,
        old="            if task.done():\n                task.result()\n",
        new="            if task.done():\n                task.exception()\n",
        tests=("tests/test_aio.py",),
    ),
    Mutant(
        name="dead-peers-fill-the-send-buffer",
        bug="a hundred peers that are gone cost a living one most of its packets",
        file=_ENGINE,
        old="        fit_send_buffer(self._udp, self._table.peers)\n",
        new="",
        tests=("tests/dataplane/test_dead_peers.py",),
    ),
    Mutant(
        name="closed-port-looks-like-success",
        bug="a peer whose port is closed looks like one that takes every packet",
        file=_ENGINE,
        old="        self._reports.start(loop)\n",
        new="",
        tests=(
            "tests/dataplane/test_reports.py::test_closed_port_of_a_peer_does_not_look_like_success",
        ),
    ),
    Mutant(
        name="reports-about-others-counted",
        bug="ICMP errors for another program of this host are counted as our peers'",
        file=_REPORTS,
        old=", (load_half, 28, port)]\n",
        new="]\n",
        tests=("tests/dataplane/test_reports.py::test_reports_about_others_are_not_ours",),
    ),
    Mutant(
        name="flood-of-reports-takes-the-loop",
        bug="forged ICMP errors keep the event loop busy: leases and SIGTERM wait",
        file=_REPORTS,
        old="        for _ in range(_BATCH):\n",
        new="        while True:\n",
        tests=("tests/dataplane/test_reports.py",),
    ),
    Mutant(
        name="reported-peers-never-forgotten",
        bug="ICMP errors about peers that come and go fill the memory",
        file=_REPORTS,
        old="            if len(self._seen) >= _PEERS_MAX:\n",
        new="            if len(self._seen) < 0:\n",
        tests=("tests/dataplane/test_reports.py",),
    ),
    Mutant(
        name="report-without-an-mtu-ignored",
        bug="behind a router that tells no MTU datagrams are sent past it and vanish for minutes",
        file=_REPORTS,
        old="max(mtu, _SMALLEST_MTU) if kind",
        new="mtu if kind",
        tests=("tests/dataplane/test_path_mtu.py", "tests/dataplane/test_reports.py"),
    ),
    Mutant(
        name="no-start-without-reports",
        bug="a kernel that gives no socket for ICMP errors keeps the daemon from starting",
        file=_REPORTS,
        old="    except OSError as error:\n",
        new="    except PermissionError as error:\n",
        tests=("tests/dataplane/test_reports.py",),
    ),
    Mutant(
        name="without-libatomic",
        bug="on 32-bit ARM, MIPS and PowerPC the extension cannot be loaded",
        file="setup.py",
        old='    LDFLAGS += ["-latomic"]\n',
        new="    pass\n",
        tests=("tests/test_setup.py",),
    ),
    Mutant(
        name="worker-outlives-its-pump",
        bug="the daemon crashes when the collector finds a worker that nothing uses any more",
        file="ext/worker.pxi",
        old="@cython.no_gc\ncdef class Worker:\n",
        new="cdef class Worker:\n",
        tests=("tests/ext/worker/test_lifetime.py",),
    ),
    Mutant(
        name="fallback-not-told",
        bug="features go on to say that an offload is on while a peer does without it",
        file="udpoverlay/dataplane/fallbacks.py",
        old="    if not away:\n",
        new="    if offload:\n",
        tests=(
            "tests/dataplane/test_path_mtu.py::test_underlay_mtu_that_shrinks_for_a_moment_costs_seconds",
        ),
    ),
    Mutant(
        name="closed-port-not-in-the-log",
        bug="the log does not say that nothing listens on a peer's port",
        file=_REPORTS,
        old="        if is_news and read.kind in MEANINGS:\n",
        new="        if not is_news and read.kind in MEANINGS:\n",
        tests=("tests/dataplane/test_reports.py",),
    ),
)
