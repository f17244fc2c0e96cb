/* SPDX-License-Identifier: Apache-2.0
 *
 * transport: where the fields of TCP and UDP headers are. Numbers only.
 *
 *  0                   1                   2                   3
 *  |          source port          |       destination port        |   0
 *  |                        sequence number                        |   4   TCP, RFC 9293
 *  |                     acknowledgment number                     |   8
 *  | offset|  rsv  |C|E|U|A|P|R|S|F|            window             |  12
 *  |           checksum            |         urgent pointer        |  16
 *
 *  |          source port          |       destination port        |   0
 *  |            length             |           checksum            |   4   UDP, RFC 768
 */
#ifndef UDPOVERLAY_TRANSPORT_H
#define UDPOVERLAY_TRANSPORT_H

enum {
    PROTOCOL_TCP = 6,
    PROTOCOL_UDP = 17,
    PROTOCOL_ICMPV6 = 58,
};

enum {
    TCP_HEADER_MIN = 20,
    TCP_HEADER_MAX = 60,
    TCP_SEQUENCE = 4,
    TCP_ACKNOWLEDGMENT = 8,
    TCP_OFFSET = 12, /* upper 4 bits: header length in 4 bytes; the rest is reserved */
    TCP_FLAGS = 13,
    TCP_WINDOW = 14,
    TCP_CHECKSUM = 16,
    TCP_URGENT = 18,
};

enum {
    TCP_FIN = 0x01,
    TCP_SYN = 0x02,
    TCP_RST = 0x04,
    TCP_PSH = 0x08,
    TCP_ACK = 0x10,
    TCP_URG = 0x20,
    TCP_ECE = 0x40,
    TCP_CWR = 0x80,
};

enum {
    UDP_HEADER = 8,
    UDP_LENGTH = 4,
    UDP_CHECKSUM = 6,
};

/* The IPv4 fragment word (packet.h: IPV4_FRAGMENT). */
enum {
    IPV4_DONT_FRAGMENT = 0x4000,
    IPV4_MORE_FRAGMENTS = 0x2000,
    IPV4_FRAGMENT_OFFSET = 0x1FFF,
};

#endif
