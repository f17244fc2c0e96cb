"""The packet trace: filter, packet id, capture files, streams, dumps."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_PCAPNG = "udpoverlay/trace/pcapng.py"
_PCAPNG_TESTS = ("tests/trace/test_pcapng.py",)
_FILTER_TESTS = ("tests/trace/test_filter.py",)
_STREAMS = "udpoverlay/observe/trace.py"
_STREAM_TESTS = ("tests/observe/test_trace.py",)
_DUMPS = "udpoverlay/observe/dumps.py"
_DUMP_TESTS = ("tests/observe/test_dumps.py",)
_FILE = "udpoverlay/host/capturefile.py"
_FILE_TESTS = ("tests/host/test_capturefile.py",)

MUTANTS = (
    Mutant(
        name="packet-id-with-ttl",
        bug="a packet has another id on the other host, so it cannot be followed",
        file="udpoverlay/trace/identity.py",
        old="        head[_V4_TOS] = head[_V4_TTL] = 0\n",
        new="        head[_V4_TOS] = 0\n",
        tests=("tests/trace/test_identity.py",),
    ),
    Mutant(
        name="passed-ring-skipped",
        bug="a filter such as `drops or udp` shows no packet that was not dropped",
        file="udpoverlay/trace/filter.py",
        old="            all(node.drops_only for node in nodes),\n",
        new="            any(node.drops_only for node in nodes),\n",
        tests=_FILTER_TESTS,
    ),
    Mutant(
        name="fragment-with-ports",
        bug="the payload of a later fragment passes for ports",
        file="udpoverlay/trace/flow.py",
        old="    if not first_piece or protocol",
        new="    if protocol",
        tests=_FILTER_TESTS,
    ),
    Mutant(
        name="endless-parentheses",
        bug="a request full of parentheses ends in an internal error",
        file="udpoverlay/trace/filter.py",
        old="        if depth > _MOST_DEPTH:\n",
        new="        if depth > 10**6:\n",
        tests=_FILTER_TESTS,
    ),
    Mutant(
        name="drop-at-every-point",
        bug="Wireshark shows a packet as dropped where it still passed",
        file=_PCAPNG,
        old="if last and record.dropped else",
        new="if record.dropped else",
        tests=_PCAPNG_TESTS,
    ),
    Mutant(
        name="outer-header-reversed",
        bug="a datagram that arrived looks as if this host had sent it",
        file=_PCAPNG,
        old="ends if record.outbound else ends[::-1]",
        new="ends",
        tests=_PCAPNG_TESTS,
    ),
    Mutant(
        name="losses-told-for-ever",
        bug="each packet behind a loss claims it again",
        file=_PCAPNG,
        old="            self._lost = 0\n        verdict",
        new="        verdict",
        tests=_PCAPNG_TESTS,
    ),
    Mutant(
        name="streams-without-bound",
        bug="readers of streams take the event loop's time from the leases",
        file=_STREAMS,
        old="        if self._open >= MOST_STREAMS:\n",
        new="        if self._open >= 1000:\n",
        tests=_STREAM_TESTS,
    ),
    Mutant(
        name="every-packet-for-ever",
        bug="one trace with --each costs bulk traffic CPU until the daemon is restarted",
        file=_STREAMS,
        old="            self._each -= each\n",
        new="",
        tests=_STREAM_TESTS,
    ),
    Mutant(
        name="stop-waits-for-traces",
        bug="a running trace delays the end of the daemon",
        file="udpoverlay/observe/http.py",
        old="            if connection.waits or connection.streams:\n",
        new="            if connection.waits:\n",
        tests=_STREAM_TESTS,
    ),
    Mutant(
        name="dump-follows-a-link",
        bug="a user who may write to the run directory has root write elsewhere",
        file=_DUMPS,
        old="os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
        new="os.O_DIRECTORY | os.O_CLOEXEC",
        tests=_DUMP_TESTS,
    ),
    Mutant(
        name="dumps-without-bound",
        bug="dumps fill /run, which is memory",
        file=_DUMPS,
        old="            self._remove_old(directory)\n",
        new="",
        tests=_DUMP_TESTS,
    ),
    Mutant(
        name="crash-without-dump",
        bug="a defect ends the daemon and the last packets are gone with it",
        file="udpoverlay/daemon.py",
        old='            dumps.write("crash")\n',
        new="            pass\n",
        tests=("tests/daemon/test_daemon.py",),
    ),
    Mutant(
        name="capture-over-a-link",
        bug="`-w` writes over what a symbolic link leads to",
        file=_FILE,
        old="        info = os.lstat(path)\n",
        new="        info = os.stat(path)\n",
        tests=_FILE_TESTS,
    ),
    Mutant(
        name="part-of-a-dump-stays",
        bug="a full disk keeps hidden pieces of dumps, which make it fuller",
        file=_FILE,
        old="        os.unlink(temporary)\n",
        new="",
        tests=_FILE_TESTS,
    ),
    Mutant(
        name="first-loss-of-a-trace-hidden",
        bug="a trace that began before the first packet hides what it missed",
        file="udpoverlay/dataplane/recorder.py",
        old="            lost += 0 if first else missed\n",
        new="            lost += missed if position[ring] else 0\n",
        tests=_STREAM_TESTS,
    ),
)
