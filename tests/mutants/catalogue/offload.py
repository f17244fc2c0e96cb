"""ext/offload: super-packets taken apart and put together."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_COALESCE = "ext/offload/coalesce.c"
_SEGMENT = "ext/offload/segment.c"
_VIEW = "ext/offload/coalesce_view.c"
_VNET = "ext/offload/vnet.c"

_SEGMENT_TESTS = ("tests/ext/offload/test_segment.py",)
_COALESCE_TESTS = (
    "tests/ext/offload/test_coalesce.py",
    "tests/ext/offload/test_coalesce_flows.py",
    "tests/ext/offload/test_streams.py",
)

MUTANTS = (
    Mutant(
        name="segments-share-an-id",
        bug="all segments of a super-packet have one IPv4 id: fragments of them are mixed up",
        file=_SEGMENT,
        old="uint16_t id = (uint16_t)(segmenter->id + index);",
        new="uint16_t id = segmenter->id;",
        tests=_SEGMENT_TESTS,
    ),
    Mutant(
        name="fin-in-every-segment",
        bug="the receiver sees FIN before the last bytes: a transfer ends short",
        file=_SEGMENT,
        old="            transport[TCP_FLAGS] &= (uint8_t)~(TCP_FIN | TCP_PSH);\n",
        new="            transport[TCP_FLAGS] &= (uint8_t)~TCP_PSH;\n",
        tests=_SEGMENT_TESTS,
    ),
    Mutant(
        name="cwr-in-every-segment",
        bug="CWR in each segment: the receiver stops echoing congestion marks too early",
        file=_SEGMENT,
        old="        if (index > 0)\n            transport[TCP_FLAGS] &= (uint8_t)~TCP_CWR;\n",
        new="",
        tests=_SEGMENT_TESTS,
    ),
    Mutant(
        name="udp-checksum-zero",
        bug="a UDP segment whose sum is 0 says `no checksum`; over IPv6 it is dropped",
        file=_SEGMENT,
        old="    if (!segmenter->tcp && check == 0)\n        check = 0xFFFF;",
        new="    if (!segmenter->tcp && check == 0)\n        check = 0;",
        tests=_SEGMENT_TESTS,
    ),
    Mutant(
        name="last-segment-too-long",
        bug="the last, short segment is sent with bytes that belong to no packet",
        file=_SEGMENT,
        old="    return segmenter->payload_length - (size_t)index * segmenter->gso_size;",
        new="    return segmenter->gso_size;",
        tests=_SEGMENT_TESTS,
    ),
    Mutant(
        name="group-over-64-kilobytes",
        bug="a super-packet of full length is refused by the kernel: one send is too long",
        file=_SEGMENT,
        old="    if (most > whole)\n        most = whole;\n",
        new="",
        tests=_SEGMENT_TESTS,
    ),
    Mutant(
        name="fragment-segmented",
        bug="a fragment that claims to be a super-packet is segmented into rubbish",
        file=_SEGMENT,
        old="get16(packet + IPV4_FRAGMENT) & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET)",
        new="0",
        tests=_SEGMENT_TESTS,
    ),
    Mutant(
        name="local-checksum-not-finished",
        bug="packets of programs on this host leave with half a checksum and are dropped",
        file=_VNET,
        old="    memcpy(packet + field, &sum, 2);\n",
        new="",
        tests=(*_SEGMENT_TESTS, "tests/ext/worker/test_offload.py"),
    ),
    Mutant(
        name="checksum-start-in-header",
        bug="an offload header that points into the IP header changes where a packet goes",
        file=_VNET,
        old="    if (start < ip || start < IPV4_HEADER_MIN)\n        return -EINVAL;\n",
        new="",
        tests=(*_SEGMENT_TESTS, "tests/ext/worker/test_offload.py"),
    ),
    Mutant(
        name="congestion-mark-lost",
        bug="a packet marked CE joins unmarked ones: the mark is lost and TCP never slows down",
        file=_COALESCE,
        old="if (first[IPV4_TOS] != packet[IPV4_TOS] || first[IPV4_TTL] != packet[IPV4_TTL] ||",
        new="if (first[IPV4_TTL] != packet[IPV4_TTL] ||",
        tests=_COALESCE_TESTS,
    ),
    Mutant(
        name="lost-segment-papered-over",
        bug="segments with a gap between them are joined: the stream's bytes are wrong",
        file=_COALESCE,
        old="    return get32(tcp + TCP_SEQUENCE) == flow->sequence &&\n           (view->flags",
        new="    return (view->flags",
        tests=_COALESCE_TESTS,
    ),
    Mutant(
        name="acknowledgment-lost",
        bug="segments that acknowledge more are joined to one that acknowledges less",
        file=_COALESCE,
        old="memcmp(tcp + TCP_ACKNOWLEDGMENT, tcp_first + TCP_ACKNOWLEDGMENT, 5) == 0 &&",
        new="",
        tests=_COALESCE_TESTS,
    ),
    Mutant(
        name="timestamp-lost",
        bug="segments with different timestamps are joined: the later ones are lost",
        file=_COALESCE,
        old="           memcmp(tcp + TCP_WINDOW, tcp_first + TCP_WINDOW, 2) == 0 &&\n"
        "           memcmp(tcp + TCP_URGENT, tcp_first + TCP_URGENT,\n"
        "                  (size_t)(view->header_length - view->transport - TCP_URGENT)) == 0;",
        new="           memcmp(tcp + TCP_WINDOW, tcp_first + TCP_WINDOW, 2) == 0;",
        tests=_COALESCE_TESTS,
    ),
    Mutant(
        name="push-waits",
        bug="a segment with PSH is held back for more: requests wait for the end of the batch",
        file=_COALESCE,
        old="    if (flow->push || view->payload_length < flow->gso_size)\n",
        new="    if (view->payload_length < flow->gso_size)\n",
        tests=_COALESCE_TESTS,
    ),
    Mutant(
        name="damaged-packet-joined",
        bug="a packet with a wrong checksum gets a right one: damaged bytes reach programs",
        file=_COALESCE,
        old="    if (!checksums_right(view->packet, view->length, view->transport, view->ipv6,"
        " view->tcp)) {",
        new="    if (false) {",
        tests=_COALESCE_TESTS,
    ),
    Mutant(
        name="first-of-a-run-not-verified",
        bug="a damaged first packet becomes part of a super-packet with a right checksum",
        file=_COALESCE,
        old="    flow->verified = false;\n    flow->packets = 1;",
        new="    flow->verified = true;\n    flow->packets = 1;",
        tests=_COALESCE_TESTS,
    ),
    Mutant(
        name="udp-super-packet-too-long",
        bug="the kernel refuses UDP super-packets of more than 64 datagrams: they go one by one",
        file=_COALESCE,
        old="if (!flow->tcp && limit > COALESCE_UDP_SEGMENTS)",
        new="if (!flow->tcp && limit > COALESCE_MAX_SEGMENTS)",
        tests=_COALESCE_TESTS,
    ),
    Mutant(
        name="fragment-overtakes",
        bug="a fragment overtakes earlier packets of its flow that wait to be joined",
        file=_COALESCE,
        old="    if (outlook == OPAQUE)\n        write_between(coalescer, &view);\n",
        new="",
        tests=_COALESCE_TESTS,
    ),
    Mutant(
        name="flows-of-one-hash-mixed",
        bug="two connections whose hashes are equal are joined into one",
        file=_COALESCE,
        old="        if (coalescer->hashes[position] == view->hash &&\n"
        "            same_flow(&coalescer->flows[coalescer->order[position]], view))",
        new="        if (coalescer->hashes[position] == view->hash)",
        tests=("tests/ext/offload/test_coalesce_collision.py",),
    ),
    Mutant(
        name="syn-joined",
        bug="a SYN with data is held back and joined as if it were a plain segment",
        file=_VIEW,
        old="(TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK | TCP_URG)) != TCP_ACK)",
        new="(TCP_FIN | TCP_RST | TCP_ACK | TCP_URG)) != TCP_ACK)",
        tests=_COALESCE_TESTS,
    ),
    Mutant(
        name="udp-without-checksum-joined",
        bug="a datagram that carries no checksum is joined and gets one that it never had",
        file=_VIEW,
        old="    return get16(udp + UDP_CHECKSUM) == 0 ? FLOW : RUN;",
        new="    return RUN;",
        tests=_COALESCE_TESTS,
    ),
    Mutant(
        name="options-joined",
        bug="a packet with IPv4 options is read as if its ports stood where options are",
        file=_VIEW,
        old="plain = packet[0] == (4 << 4 | IPV4_HEADER_MIN / 4) &&",
        new="plain = packet[0] >> 4 == 4 &&",
        tests=("tests/ext/offload/test_coalesce_options.py",),
    ),
)
