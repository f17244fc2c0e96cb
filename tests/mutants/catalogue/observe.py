"""The admin socket, the health server and the HTTP server under both."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_ADMIN = "udpoverlay/observe/admin.py"
_DOCUMENTS = "udpoverlay/observe/documents.py"
_HEALTH = "udpoverlay/observe/health.py"
_HTTP = "udpoverlay/observe/http.py"

_ADMIN_TESTS = ("tests/observe/test_admin.py",)
_HTTP_TESTS = ("tests/observe/test_http.py",)

MUTANTS = (
    Mutant(
        name="page-for-any-name",
        bug="a site whose name is made to lead to 127.0.0.1 reads the page by a visitor's browser",
        file="udpoverlay/web/server.py",
        old="        if request.host not in self._authorities:\n",
        new="        if not request.host:\n",
        tests=("tests/web/test_server.py",),
    ),
    Mutant(
        name="page-floods-the-browser",
        bug="a page that is left open under load takes all memory of the browser",
        file="udpoverlay/observe/trace.py",
        old="        sent = budget.take(len(found))\n",
        new="        sent = len(found)\n",
        tests=("tests/observe/test_trace.py", "tests/web/test_server.py"),
    ),
    Mutant(
        name="way-by-any-equal-packet",
        bug="of packets that are equal byte for byte the page shows another one's way",
        file="udpoverlay/web/way.py",
        old="key=lambda other: abs(other.time_ns - record.time_ns)",
        new="key=lambda other: -other.time_ns",
        tests=("tests/web/test_way.py",),
    ),
    Mutant(
        name="series-without-bound",
        bug="each peer of a cluster of thousands has series of its own in Prometheus",
        file="udpoverlay/observe/metrics.py",
        old="[:MOST_PEERS])",
        new=")",
        tests=("tests/observe/test_metrics.py",),
    ),
    Mutant(
        name="fallback-that-is-over-still-counts",
        bug="an offload that is in use again looks as if it were refused for ever",
        file="udpoverlay/observe/metrics.py",
        old="            if each.retry_seconds is not None and each.offload in away:\n",
        new="            if each.offload in away:\n",
        tests=("tests/observe/test_metrics.py",),
    ),
    Mutant(
        name="any-user-may-ask",
        bug="where the socket's permissions were loosened, any user reads peers and leases",
        file=_ADMIN,
        old="        if request.uid not in {0, os.geteuid()}:\n",
        new="        if request.uid is None:\n",
        tests=_ADMIN_TESTS,
    ),
    Mutant(
        name="admin-socket-for-all",
        bug="the admin socket is made with the mode that the umask leaves",
        file=_ADMIN,
        old="                os.fchmod(sock.fileno(), stat.S_IRUSR | stat.S_IWUSR)\n",
        new="",
        tests=_ADMIN_TESTS,
    ),
    Mutant(
        name="socket-of-a-living-daemon-taken",
        bug="a second daemon takes the admin socket of the first",
        file=_ADMIN,
        old="                if error.errno != errno.ECONNREFUSED:\n                    raise\n"
        "                os.unlink(self._path)\n                return\n",
        new="                pass\n            os.unlink(self._path)\n            return\n",
        tests=_ADMIN_TESTS,
    ),
    Mutant(
        name="dead-socket-in-the-way",
        bug="after a kill the admin socket cannot be had until the file is removed",
        file=_ADMIN,
        old="                if error.errno != errno.ECONNREFUSED:\n",
        new="                if error.errno:\n",
        tests=_ADMIN_TESTS,
    ),
    Mutant(
        name="successors-socket-removed",
        bug="a daemon that ends takes the admin socket of its successor along",
        file=_ADMIN,
        old="                if _identity(self._path) == inode:\n",
        new="                if _identity(self._path):\n",
        tests=_ADMIN_TESTS,
    ),
    Mutant(
        name="ready-before-it-is",
        bug="/readyz says ready while the daemon still waits for its lease",
        file=_HEALTH,
        old="        if self.ready:\n",
        new="        if True:\n",
        tests=("tests/observe/test_health.py",),
    ),
    Mutant(
        name="refused-lease-looks-reachable",
        bug="`peers` shows a lease without a route like any other",
        file=_DOCUMENTS,
        old='                    "" if refusal is None else refusal.value,\n',
        new='                    "",\n',
        tests=("tests/observe/test_documents.py",),
    ),
    Mutant(
        name="half-open-requests-held",
        bug="a hundred half-open requests take the descriptors that etcd needs",
        file=_HTTP,
        old="min(self._limits.connections, max(1, _descriptors() // 8))",
        new="max(1, _descriptors())",
        tests=_HTTP_TESTS,
    ),
    Mutant(
        name="unaccounted-before-the-batch-is-over",
        bug="status shows packets as lost while they wait for room in the socket",
        file="ext/worker/outbound.c",
        old="    if (!tx_batch_empty(&outbound->batch) || outbound->segmenting)\n        return;\n"
        "    packets_taken",
        new="    packets_taken",
        tests=("tests/ext/worker/test_measures.py",),
    ),
    Mutant(
        name="super-packet-is-one",
        bug="status hides lost segments: a super-packet is taken for one packet",
        file="ext/worker/outbound.c",
        old="    outbound->taken += segmenter->segments - 1;\n",
        new="",
        tests=("tests/ext/worker/test_measures.py",),
    ),
    Mutant(
        name="bound-off-by-one",
        bug="a batch of 4 packets counts as one of up to 8",
        file="ext/worker/histogram.h",
        old="__builtin_clzll(units - 1)",
        new="__builtin_clzll(units)",
        tests=("tests/ext/worker/test_measures.py",),
    ),
    Mutant(
        name="long-sleep-looks-busy",
        bug="an idle worker counts as busy until it wakes up",
        file="ext/worker/worker.c",
        old="        times.asleep += now - since;\n",
        new="        times.asleep += 0;\n",
        tests=("tests/ext/worker/test_measures.py",),
    ),
    Mutant(
        name="impaired-packets-look-lost",
        bug="packets that are held back on purpose are shown as lost",
        file="udpoverlay/observe/accounts.py",
        old='counters.get("outbound_duplicates", 0) - held_back}',
        new='counters.get("outbound_duplicates", 0)}',
        tests=("tests/observe/test_accounts.py",),
    ),
)
