"""reach/ and the commands ping and traceroute: what they say of a way."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_ECHO = "udpoverlay/reach/echo.py"
_SIZES = "udpoverlay/reach/sizes.py"
_EXCHANGE = "udpoverlay/reach/live/exchange.py"
_SOCKET = "udpoverlay/reach/live/socket.py"

MUTANTS = (
    Mutant(
        name="lost-on-the-way-counts-as-delivered",
        bug="where says that packets arrived which a firewall between the hosts dropped",
        file="udpoverlay/reach/follow.py",
        old=") and ports in delivered_flows",
        new=") or ports in delivered_flows or True",
        tests=("tests/reach/test_follow.py",),
    ),
    Mutant(
        name="words-behind-ssh-unquoted",
        bug="a filter with parentheses is read by the other host's shell",
        file="udpoverlay/cli/admin/ends.py",
        old="map(shlex.quote, argv) if self.quoted else argv",
        new="argv",
        tests=("tests/cli/admin/test_where.py",),
    ),
    Mutant(
        name="answers-of-another-ping",
        bug="an answer to another program's ping counts as ours",
        file=_ECHO,
        old=" or message[_ECHO.size :][:NONCE_BYTES] != nonce:",
        new=":",
        tests=("tests/reach/test_echo.py",),
    ),
    Mutant(
        name="refusal-blamed-on-the-way",
        bug="this host's kernel refuses a packet, and ping says that all left",
        file="udpoverlay/cli/admin/ping.py",
        old="size_only=not found.silent)",
        new="size_only=False)",
        tests=("tests/cli/admin/test_ping.py",),
    ),
    Mutant(
        name="time-exceeded-is-the-target",
        bug="traceroute ends at the first hop and says that it is the target",
        file=_ECHO,
        old="        return Event(sequence, Kind.TIME_EXCEEDED, at, sender",
        new="        return Event(sequence, Kind.ANSWER, at, sender",
        tests=("tests/reach/test_echo.py",),
    ),
    Mutant(
        name="largest-size-off-by-one",
        bug="ping names a size as the largest, and the next one passes too",
        file=_SIZES,
        old="    while high - low > 1:\n",
        new="    while high - low > 2:\n",
        tests=("tests/reach/test_sizes.py",),
    ),
    Mutant(
        name="black-hole-called-icmp",
        bug="long packets are lost in silence, and ping says that a router reports it",
        file=_SIZES,
        old='        return "silence"\n',
        new='        return "icmp"\n',
        tests=("tests/reach/test_sizes.py",),
    ),
    Mutant(
        name="one-lost-packet-is-a-limit",
        bug="one packet lost while a size is searched, and ping names an MTU that is none",
        file=_EXCHANGE,
        old="        for _ in range(_SIZE_TRIES):\n",
        new="        for _ in range(1):\n",
        tests=("tests/reach/live/test_exchange.py",),
    ),
    Mutant(
        name="late-answer-is-taken",
        bug="an answer to an earlier request, of another size or TTL, counts for this one",
        file=_EXCHANGE,
        old="            if event.sequence == sequence % _SEQUENCES:\n",
        new="            if event:\n",
        tests=("tests/reach/live/test_exchange.py",),
    ),
    Mutant(
        name="old-drops-blamed",
        bug="ping blames a loss on drops of last week",
        file="udpoverlay/reach/losses.py",
        old="count - earlier.get(name, 0) for name",
        new="count for name",
        tests=("tests/reach/test_losses.py",),
    ),
    Mutant(
        name="ping-needs-root",
        bug="a user whose group is in ping_group_range gets no ping",
        file=_SOCKET,
        old="    for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):\n",
        new="    for kind in (socket.SOCK_RAW,):\n",
        tests=("tests/reach/live/test_socket.py",),
    ),
    Mutant(
        name="ping-is-fragmented",
        bug="a packet over the MTU is sent in fragments, so every size passes",
        file=_SOCKET,
        old="        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)\n",
        new="",
        tests=("tests/reach/live/test_socket.py",),
    ),
    Mutant(
        name="loss-is-exit-0",
        bug="a script takes a lossy tunnel for a good one",
        file="udpoverlay/cli/admin/ping.py",
        old="        if not self.summary.answered or self.summary.answered < self.summary.sent:\n",
        new="        if not self.summary.answered:\n",
        tests=("tests/cli/admin/test_ping.py",),
    ),
)
