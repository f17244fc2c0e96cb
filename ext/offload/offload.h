/* SPDX-License-Identifier: Apache-2.0
 *
 * offload: super-packets. Pure: memory in, memory out; no system call, no allocation, no global.
 *
 *   vnet  the 10-byte header in front of every packet of a TUN opened with IFF_VNET_HDR
 *   segment   one super-packet read from the TUN → segments, each an ordinary packet (ext/offload/segment.c)
 *   coalesce  consecutive packets of a flow → one super-packet for the TUN (ext/offload/coalesce.c)
 *
 * A super-packet is one IP packet whose payload is longer than what may travel; the kernel hands it
 * over (or takes it) whole with the segment size in the vnet header. What segmenting makes of it is
 * exactly what the kernel's own segmentation makes (net/ipv4/tcp_offload.c, udp_offload.c,
 * af_inet.c), and only such runs are coalesced that the same segmentation takes apart into the same
 * bytes again. tests/support/twin/offload.py holds both rules once more, slow and obvious.
 *
 * This unit knows nothing of routes, peers, sockets or TTL: the TTL rule is applied before segmenting
 * and before coalescing. Headers are read and written through memcpy, in network byte order, so that
 * neither the CPU's byte order nor its alignment rules matter.
 */
#ifndef UDPOVERLAY_OFFLOAD_H
#define UDPOVERLAY_OFFLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* ---- vnet: struct virtio_net_hdr of <linux/virtio_net.h>, without num_buffers --------------- */

/*
 *   0        1          2            4          6            8             10
 *   | flags  | gso_type | hdr_len    | gso_size | csum_start | csum_offset |
 *
 * 16-bit fields are in the host's byte order (a TUN's default; TUNSETVNETBE/LE are never used).
 */
enum { VNET_HEADER_LENGTH = 10 };

/* flags; spelled out because <linux/virtio_net.h> of an old build host lacks the newer ones. */
enum {
    VNET_F_NEEDS_CSUM = 1, /* the checksum from csum_start on is still to be finished */
    VNET_F_DATA_VALID = 2, /* the checksum was verified */
};

/* gso_type */
enum {
    VNET_GSO_NONE = 0,
    VNET_GSO_TCPV4 = 1,
    VNET_GSO_TCPV6 = 4,
    VNET_GSO_UDP_L4 = 5, /* equal datagrams (USO), Linux 6.2 */
    VNET_GSO_ECN = 0x80, /* or-ed to a TCP type: the first segment carries CWR */
};

struct vnet {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t header_length; /* a hint of the sender, never trusted: headers are parsed */
    uint16_t gso_size;      /* payload bytes of every segment but the last */
    uint16_t csum_start;    /* offset in the packet from which the checksum is summed */
    uint16_t csum_offset;   /* where it is stored, from csum_start */
};

/* Between the wire's 10 bytes and the struct; both pure copies, nothing is judged. */
void vnet_load(struct vnet *vnet, const uint8_t header[static VNET_HEADER_LENGTH]);
void vnet_store(uint8_t header[static VNET_HEADER_LENGTH], const struct vnet *vnet);

/* True when the packet behind this header is to be segmented; false: it is one ordinary packet. */
static inline bool vnet_is_super(const struct vnet *vnet)
{
    return vnet->gso_type != VNET_GSO_NONE;
}

/*
 * Finishes the checksum of an ordinary packet in place where the header asks for it (NEEDS_CSUM);
 * otherwise does nothing. A sum of 0 is stored as 0xFFFF, like skb_checksum_help() does.
 *
 * Returns 0, or -EINVAL when csum_start or csum_offset do not lie behind the IP header and inside
 * the packet: the packet is then untouched and must be dropped.
 */
int vnet_finish_checksum(const struct vnet *vnet, uint8_t *packet, size_t length);

/* ---- segment -------------------------------------------------------------------------------- */

enum {
    SEGMENT_MAX_COUNT = 128,   /* UDP_MAX_SEGMENTS of today's kernels; 64 before Linux 6.9 */
    SEGMENT_MAX_BYTES = 65507, /* what one send over IPv4 takes: 65535 - 20 (IP) - 8 (UDP) */
    /* Room for a full group of the longest headers of ordinary traffic (IPv6 40, TCP 60, VXLAN 22);
     * with longer ones (extension headers) a group holds fewer segments. */
    SEGMENT_HEADERS_SIZE = SEGMENT_MAX_COUNT * 128,
};

/* A super-packet on its way to become segments. Fields above the line are facts for the caller. */
struct segmenter {
    uint8_t *packet;         /* borrowed; must stay until the last group was sent */
    size_t payload_length;   /* payload bytes of the whole super-packet */
    unsigned segments;       /* how many there are in all, at least 1 */
    unsigned header_length;  /* IP and transport header, bytes; the same in each segment */
    unsigned segment_length; /* bytes of the longest segment, encapsulation not counted */
    /* ------------------------------------------------------------------------------------------ */
    unsigned next; /* index of the segment that the next group starts with */
    unsigned gso_size;
    unsigned transport; /* offset of the TCP or UDP header */
    bool ipv6, tcp;
    bool no_checksum;       /* UDP over IPv4 that came with checksum 0 and does not ask for one */
    uint16_t id;            /* IPv4: of the first segment */
    uint32_t sequence;      /* TCP: of the first segment */
    uint64_t ip_sum;        /* sum of the IPv4 header without total length, id and checksum */
    uint64_t transport_sum; /* pseudo-header and transport header without what changes */
};

/* What one send may hold, and what goes in front of each segment. */
struct segment_limits {
    unsigned segments;    /* at most this many datagrams, 1 to SEGMENT_MAX_COUNT */
    size_t bytes;         /* at most this many bytes in all, encapsulation included */
    const uint8_t *encap; /* header template copied in front of every segment */
    size_t encap_length;  /* its bytes; 0 for flannel's bare udp (`encap` may be NULL) */
};

/* Memory of the caller, free again once the group was sent. */
struct segment_space {
    uint8_t *headers; /* encapsulation and headers are written here */
    size_t headers_size;
    struct iovec *iov; /* two for each segment */
    unsigned iov_size; /* how many there are, at least 2 */
};

/*
 * One send: iov[2i] is the prefix and header of segment i (in the headers), iov[2i+1] its payload (in
 * the packet, not copied). All of iov[0 … 2·segments-1] with UDP_SEGMENT = `datagram` is one
 * sendmsg(); two at a time they are the messages of one sendmmsg().
 */
struct segment_group {
    unsigned segments;
    size_t datagram; /* bytes of each datagram but the last, encapsulation included */
    size_t last;     /* bytes of the last one: 1 … datagram */
    size_t bytes;    /* of all */
};

/*
 * Checks a super-packet and prepares to segment it. The packet is read, never written.
 *
 * Returns 0, or
 *   -EOPNOTSUPP  a gso_type that was never asked for (UFO, tunnels) or that is not known
 *   -EINVAL      gso_size 0; IP version, length or protocol that does not fit gso_type; a fragment;
 *                headers that do not fit the packet; csum_start or csum_offset that do not name the
 *                transport checksum
 * A super-packet not longer than one segment becomes one, as the kernel takes it.
 */
int segment_begin(struct segmenter *segmenter, const struct vnet *vnet, uint8_t *packet,
                  size_t length);

/*
 * Builds the next group; false when none is left. A group is as large as limits and space allow.
 *
 * Segments: IPv4 id + 1 each (modulo 65536), total length, header checksum; IPv6 payload length;
 * TCP sequence number, FIN and PSH only in the last, CWR only in the first; UDP length; transport
 * checksum (UDP 0 → 0xFFFF). All else is as in the super-packet: extension headers, options, ECE.
 *
 * Precondition: segment_fits().
 */
bool segment_next(struct segmenter *segmenter, const struct segment_limits *limits,
                  const struct segment_space *space, struct segment_group *group);

/* True when at least one segment at a time fits limits and space: otherwise drop the packet. */
bool segment_fits(const struct segmenter *segmenter, const struct segment_limits *limits,
                  const struct segment_space *space);

/* ---- coalesce ----------------------------------------------------------------------------------- */

enum {
    COALESCE_FLOWS = 32,         /* flows pending at a time; one more evicts the oldest */
    COALESCE_MAX_SEGMENTS = 128, /* room; the limit is an argument */
    COALESCE_UDP_SEGMENTS = 64,  /* the kernel refuses longer UDP_L4 super-packets (virtio_net.h) */
    COALESCE_MAX_HEADER = 100,   /* 40 (IPv6) + 60 (TCP with options) */
    COALESCE_MAX_LENGTH = 65535, /* of a super-packet, headers included */
};

/* What may be coalesced: the offloads that the TUN was found to take. */
enum { COALESCE_TCP4 = 1, COALESCE_TCP6 = 2, COALESCE_UDP4 = 4, COALESCE_UDP6 = 8 };

/*
 * One write to the TUN: iov[0] is the vnet header (with the rewritten headers of a super-packet),
 * the rest payload in the packets' own buffers. Borrowed until the callback returns.
 */
struct coalesce_write {
    const struct iovec *iov;
    size_t length;          /* bytes in all, vnet header included */
    uint16_t iov_count;     /* at most COALESCE_MAX_SEGMENTS + 1 */
    uint16_t packets;       /* how many packets are in it; 1: untouched, as it came */
    uint16_t header_length; /* of each original packet; 0 when packets is 1 */
};

/* Packet `index` (0 … packets-1) as it was added, unchanged: for verdicts, and to write the packets
 * one by one where the kernel refused them as one. */
static inline struct iovec coalesce_original(const struct coalesce_write *write, unsigned index)
{
    struct iovec packet = write->iov[index + 1];

    packet.iov_base = (uint8_t *)packet.iov_base - write->header_length;
    packet.iov_len += write->header_length;
    return packet;
}

typedef void coalesce_deliver(void *context, const struct coalesce_write *write);

/* What happened since the caller last cleared it. */
struct coalesce_counters {
    uint64_t supers;       /* super-packets written */
    uint64_t coalesced;    /* packets inside them */
    uint64_t plain;        /* packets written as they came */
    uint64_t bad_checksum; /* of `plain`: would have been coalesced, but the checksum was wrong */
    uint64_t evicted;      /* flows written early because the table was full */
};

/* One flow's run of packets so far. Private to coalesce.c. */
struct coalesce_flow {
    uint32_t sequence; /* TCP: of the next byte */
    uint16_t next_id;  /* IPv4: of the next packet */
    uint16_t gso_size;
    uint16_t packets;
    uint16_t header_length;
    uint16_t tag;
    uint8_t transport;
    bool ipv6, tcp;
    bool push;     /* the last packet had PSH */
    bool verified; /* the first packet's checksums were found right */
    size_t payload_length;
    uint8_t *first; /* the first packet, where it was received */
    /* The vnet header, and the super-packet's headers right behind it. */
    uint8_t header[VNET_HEADER_LENGTH + COALESCE_MAX_HEADER];
    struct iovec iov[COALESCE_MAX_SEGMENTS + 1];
};

struct coalescer {
    struct coalesce_counters counters;
    unsigned kinds; /* COALESCE_* that runs are made of; to be read, coalesce_init() sets it */
    /* Private to coalesce.c from here. */
    unsigned max_segments;
    coalesce_deliver *deliver;
    void *context;
    uint16_t tag;  /* of the packet at hand; while `deliver` runs, of what it gets */
    unsigned used; /* pending flows, oldest first in `order` */
    uint8_t order[COALESCE_FLOWS];
    uint32_t hashes[COALESCE_FLOWS]; /* by position in `order` */
    struct coalesce_flow flows[COALESCE_FLOWS];
};

/*
 * `kinds`: COALESCE_TCP4 | …; 0 writes every packet as it comes. `max_segments`: most packets in one
 * super-packet, 1 to COALESCE_MAX_SEGMENTS (UDP never more than COALESCE_UDP_SEGMENTS). `deliver` is called
 * from coalesce_add() and coalesce_flush(), one call for each write to the TUN; it must not call back in.
 */
void coalesce_init(struct coalescer *coalescer, unsigned kinds, unsigned max_segments,
                   coalesce_deliver *deliver, void *context);

/*
 * Takes one packet (IPv4 or IPv6, `length` bytes; any content is safe). It is written at once,
 * joins its flow's run, or starts one; the buffer must stay unchanged until coalesce_flush(). `tag` is
 * the caller's, and handed back when the packet is written; all packets of a run have the same.
 *
 * Packets between the same two addresses and ports are always written in the order they came:
 * what cannot join a run makes that run be written first. A packet whose ports are not known (a
 * fragment, an extension header) holds for every flow between its two addresses. Runs of other
 * flows may be overtaken.
 *
 * A packet joins a run when all of this holds, which is what makes the run the exact inverse of
 * segmentation:
 *   - IPv4 without options or IPv6 without extension headers; not a fragment; lengths that match
 *   - every header byte equal to the first packet's but for: IPv4 id (must be the previous + 1, also
 *     with DF: a fixed id, which Linux itself coalesces for TCP alone, has no vnet header to say so),
 *     sequence number (must follow), PSH, lengths and checksums; CWR may be set in the first alone
 *   - TCP: ACK set; no SYN, FIN, RST, URG; payload not empty. PSH ends the run
 *   - UDP: checksum not 0; payload not empty
 *   - payload as long as the first's; a shorter one ends the run
 *   - no IPv4 or TCP checksum of 0xFFFF: it is right, but segmentation would write 0
 *   - IP header checksum and transport checksum right. They are looked at only when two packets
 *     could be joined: a packet with a wrong one is written as it came, for the kernel to judge
 */
void coalesce_add(struct coalescer *coalescer, uint8_t *packet, size_t length, uint16_t tag);

/* Writes all that is pending, oldest flow first. At the end of each batch. */
void coalesce_flush(struct coalescer *coalescer);

#endif
