"""ext/packet: header checks, TTL, checksum, the ICMP errors that we originate."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_CHECKSUM = "ext/packet/checksum.c"
_ENCAP = "ext/packet/encap.h"
_ENCAP_TESTS = ("tests/ext/packet/test_encap.py",)
_ICMP = "ext/packet/icmp.c"
_PACKET = "ext/packet/packet.c"

MUTANTS = (
    Mutant(
        name="ttl-one-forwarded",
        bug="a packet with TTL 1 leaves with TTL 0: traceroute does not see this hop",
        file=_PACKET,
        old="    if (bytes[IPV4_TTL] <= 1)\n",
        new="    if (bytes[IPV4_TTL] == 0)\n",
        tests=("tests/ext/packet/test_packet.py",),
    ),
    Mutant(
        name="ttl-checksum-carry",
        bug="one packet in 65,536 leaves with a wrong IPv4 header checksum and is dropped",
        file=_PACKET,
        old="put16(bytes + IPV4_CHECKSUM, (uint16_t)(check + (check >= 0xFFFFU)));",
        new="put16(bytes + IPV4_CHECKSUM, (uint16_t)(check + (check > 0xFFFFU)));",
        tests=("tests/ext/packet/test_packet.py",),
    ),
    Mutant(
        name="hop-limit-not-decreased",
        bug="an IPv6 packet goes round a routing loop for ever",
        file=_PACKET,
        old="        bytes[IPV6_HOP_LIMIT]--;\n",
        new="",
        tests=("tests/ext/packet/test_packet.py",),
    ),
    Mutant(
        name="short-ihl-accepted",
        bug="a packet with a header length below 20 bytes is forwarded",
        file=_PACKET,
        old="if (header_length < IPV4_HEADER_MIN || header_length > received)",
        new="if (header_length > received)",
        tests=("tests/ext/packet/test_packet.py",),
    ),
    Mutant(
        name="total-length-beyond-packet",
        bug="a packet that claims to be longer than it is leaves with bytes of an earlier one",
        file=_PACKET,
        old="if (length < header_length || length > received)",
        new="if (length < header_length)",
        tests=("tests/ext/packet/test_packet.py",),
    ),
    Mutant(
        name="trailing-bytes-forwarded",
        bug="padding behind a packet travels on: a peer's kernel gets more than the packet",
        file=_PACKET,
        old="    packet->length = (uint32_t)length;\n",
        new="    packet->length = (uint32_t)received;\n",
        tests=("tests/ext/packet/test_packet.py",),
    ),
    Mutant(
        name="jumbogram-accepted",
        bug="an IPv6 packet with length 0 before hop-by-hop options is forwarded as 40 bytes",
        file=_PACKET,
        old="if (payload == 0 && bytes[IPV6_NEXT_HEADER] == 0)",
        new="if (payload == 0 && bytes[IPV6_NEXT_HEADER] == 255)",
        tests=("tests/ext/packet/test_packet.py",),
    ),
    Mutant(
        name="checksum-odd-byte-swapped",
        bug="every segment of odd length has a wrong checksum",
        file=_CHECKSUM,
        old="        memcpy(&two, data, 1);\n",
        new="        memcpy((uint8_t *)&two + 1, data, 1);\n",
        tests=("tests/ext/packet/test_checksum.py",),
    ),
    Mutant(
        name="checksum-loses-a-carry",
        bug="the checksum of some long packets is one too small",
        file=_CHECKSUM,
        old="    sum = (sum & 0xFFFFU) + (sum >> 16);\n    return (uint16_t)((sum & 0xFFFFU)"
        " + (sum >> 16));",
        new="    return (uint16_t)((sum & 0xFFFFU) + (sum >> 16));",
        tests=("tests/ext/packet/test_checksum.py",),
    ),
    Mutant(
        name="icmp-about-fragments",
        bug="each fragment of a packet without a route is answered, not only the first",
        file=_ICMP,
        old="    FRAGMENT_OFFSET_MASK = 0x1FFF,\n",
        new="    FRAGMENT_OFFSET_MASK = 0x0000,\n",
        tests=("tests/ext/packet/test_icmp.py",),
    ),
    Mutant(
        name="icmp-to-multicast",
        bug="a packet from a multicast source is answered: one packet, many answers",
        file=_ICMP,
        old="    if (!address_is_unicast(offender + IPV4_SOURCE) ||\n",
        new="    if (offender[IPV4_SOURCE] == 0 ||\n",
        tests=("tests/ext/packet/test_icmp.py",),
    ),
    Mutant(
        name="icmp-about-icmp-error",
        bug="an ICMP error whose TTL ran out is answered with an error: two hosts never stop",
        file=_ICMP,
        old="return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;",
        new="return type == 3 || type == 4 || type == 5 || type == 12;",
        tests=("tests/ext/packet/test_icmp.py",),
    ),
    Mutant(
        name="icmp-quotes-too-little",
        bug="an ICMP error has no ports in it: the sender's kernel finds no socket to tell",
        file=_ICMP,
        old="    QUOTED_BYTES = 8, /* after the offender's header */\n",
        new="    QUOTED_BYTES = 0,\n",
        tests=("tests/ext/packet/test_icmp.py",),
    ),
    Mutant(
        name="icmp-without-limit",
        bug="a scan of the network makes this host send an ICMP error for each packet",
        file=_ICMP,
        old="        if (ahead + limiter->interval > limiter->depth)\n            return 0;\n",
        new="",
        tests=("tests/ext/packet/test_icmp.py",),
    ),
    Mutant(
        name="icmp-limit-above-rate",
        bug="more ICMP errors a second leave than icmp_rate allows",
        file=_ICMP,
        old="limiter->interval = (TICKS_PER_SECOND + rate - 1) / rate;",
        new="limiter->interval = TICKS_PER_SECOND / (rate + 1);",
        tests=("tests/ext/packet/test_icmp.py",),
    ),
    Mutant(
        name="icmp-silent-after-19-hours",
        bug="after 19 quiet hours the clock's wrap keeps ICMP errors back for hours",
        file=_ICMP,
        old="        if (ahead > limiter->depth + CLOCK_SKEW)\n            ahead = 0;\n",
        new="",
        tests=("tests/ext/packet/test_icmp.py",),
    ),
    Mutant(
        name="encapsulation-not-checked",
        bug="packets of another virtual network are delivered into this one",
        file=_ENCAP,
        old="    return encap->check ? encap->check(own, datagram) : VERDICT_INBOUND_DELIVERED;\n",
        new="    return own ? VERDICT_INBOUND_DELIVERED : VERDICT_INBOUND_NOT_IP;\n",
        tests=_ENCAP_TESTS,
    ),
    Mutant(
        name="every-encapsulation-is-a-hop",
        bug="a packet through a VXLAN tunnel loses one more hop than through the kernel's",
        file=_ENCAP,
        old="    return !encap->is_hop || packet_decrease_ttl(bytes, packet);\n",
        new="    return encap && packet_decrease_ttl(bytes, packet);\n",
        tests=_ENCAP_TESTS,
    ),
    Mutant(
        name="header-taken-for-the-packet",
        bug="a trace shows the tunnel's header as an IP packet",
        file=_ENCAP,
        old="{.iov_base = datagram + header, .iov_len = length - header};",
        new="{.iov_base = datagram, .iov_len = length + 0 * header};",
        tests=_ENCAP_TESTS,
    ),
    Mutant(
        name="routes-share-one-header",
        bug="packets for one of a peer's tunnels leave with the header of another",
        file="ext/routes/routes.c",
        old="    return one->length == other->length && memcmp(",
        new="    return one->length == other->length || memcmp(",
        tests=_ENCAP_TESTS,
    ),
    Mutant(
        name="header-counted-as-inner-bytes",
        bug="the counter of inner bytes grows with the tunnel's overhead",
        file="ext/worker/tx_batch.c",
        old="        bytes -= entry->header;\n",
        new="",
        tests=_ENCAP_TESTS,
    ),
)
