/* SPDX-License-Identifier: Apache-2.0
 *
 * A tunnel with 22 bytes in front of each packet, as long as Ethernet and VXLAN: the header leaves the
 * host as the route carries it, is checked against what this end is, and nothing between the device
 * and the socket takes it for a part of the packet.
 *
 *     device (the kernel's side of the TUN) -- tun | worker | udp -- peer
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "packets.h"
#include "worker/kernel.h"
#include "worker/pump.h"
#include "worker/worker.h"

enum { HEADER = 22, VNI_AT = 18, MTU = 1400, PAYLOAD = 200, OWN_VNI = 0x00ABCDEF };

static const uint8_t OWN_MAC[6] = {2, 1, 2, 3, 4, 5};

/* A device down: no verdict of a datagram that this test sends. */
static enum verdict check_header(const struct encap_own *own, const uint8_t *header)
{
    const uint8_t *vni = header + VNI_AT;

    if ((uint32_t)(vni[0] << 16 | vni[1] << 8 | vni[2]) != own->vni ||
        memcmp(header, own->mac, sizeof(own->mac)) != 0)
        return VERDICT_INBOUND_DEVICE_DOWN;
    return VERDICT_INBOUND_DELIVERED;
}

static const struct encap with_header = {
    .name = "test", .header_length = HEADER, .is_hop = false, .check = check_header};
static const struct encap with_header_and_hop = {
    .name = "test", .header_length = HEADER, .is_hop = true, .check = check_header};

struct rig {
    struct route_slot routes;
    struct pump pump;
    struct worker *worker;
    int device, tun, udp, peer;
    struct sockaddr_in udp_address, peer_address;
    uint8_t header[HEADER]; /* as the route to the peer carries it */
    bool vnet;
};

static struct rig rig;

static int bound_socket(struct sockaddr_in *address)
{
    socklen_t length = sizeof(*address);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    CHECK(fd >= 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(fd, (struct sockaddr *)address, sizeof(*address)) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &length) == 0);
    return fd;
}

/* The header for one end. */
static void write_header(uint8_t *header, uint32_t vni, const uint8_t *mac)
{
    for (unsigned i = 0; i < HEADER; i++)
        header[i] = (uint8_t)(0xF0 | i); /* first bits that no IP packet has */
    memcpy(header, mac, 6);
    header[VNI_AT] = (uint8_t)(vni >> 16);
    header[VNI_AT + 1] = (uint8_t)(vni >> 8);
    header[VNI_AT + 2] = (uint8_t)vni;
}

/* 10.0.0/24 at the peer. */
static void publish_route(void)
{
    struct route route = {.address = {10, 0, 0, 0}, .version = 4, .length = 24};
    const uint8_t loopback[4] = {127, 0, 0, 1}, peer_mac[6] = {6, 7, 8, 9, 10, 11};

    write_header(rig.header, OWN_VNI, peer_mac);
    CHECK(endpoint_set(&route.endpoint, loopback, sizeof(loopback),
                       ntohs(rig.peer_address.sin_port)) == 0);
    route.header.length = HEADER;
    memcpy(route.header.bytes, rig.header, HEADER);
    CHECK(routes_publish(&rig.routes, &route, 1, NULL, 0) == 0);
}

static void open_rig(const struct encap *encap, unsigned offloads, enum source_check source_check)
{
    int pair[2];

    memset(&rig, 0, sizeof(rig));
    CHECK(route_slot_init(&rig.routes) == 0);
    rig.udp = bound_socket(&rig.udp_address);
    rig.peer = bound_socket(&rig.peer_address);
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) == 0);
    rig.device = pair[0];
    rig.tun = pair[1];
    rig.vnet = offloads & PUMP_VNET_HEADER;
    publish_route();
    rig.pump = (struct pump){
        .routes = &rig.routes,
        .encap = encap,
        .encap_own = {.vni = OWN_VNI},
        .icmp_fd = -1,
        .offloads = offloads,
        .families = PACKET_IPV4,
        .mtu = MTU,
        .batch = PUMP_BATCH_MAX,
        .tun_address = {10, 9, 0, 0},
        .source_check = source_check,
        .subnet = {10, 9, 0, 0},
        .subnet_length = source_check == SOURCE_CHECK_OFF ? 0 : 24,
    };
    memcpy(rig.pump.encap_own.mac, OWN_MAC, sizeof(OWN_MAC));
    CHECK(probes_init(&rig.pump.probes, PROBE_RATE_DEFAULT, PROBE_BURST_DEFAULT) == 0);
    CHECK(icmp_limiter_init(&rig.pump.icmp_limiter, 1000, 1000) == 0);
    CHECK(worker_create(&rig.worker, &rig.pump, WORKER_INBOUND | WORKER_OUTBOUND, &rig.tun, 1,
                        rig.udp) == 0);
}

static void close_rig(void)
{
    worker_destroy(rig.worker);
    close(rig.device);
    close(rig.tun);
    close(rig.udp);
    close(rig.peer);
    probes_destroy(&rig.pump.probes);
    route_slot_destroy(&rig.routes);
}

static uint64_t verdicts_of(enum verdict verdict)
{
    uint64_t verdicts[VERDICT_COUNT], counters[COUNTER_COUNT];
    worker_counts(rig.worker, verdicts, counters);
    return verdicts[verdict];
}

static uint64_t counter_of(enum counter counter)
{
    uint64_t verdicts[VERDICT_COUNT], counters[COUNTER_COUNT];
    worker_counts(rig.worker, verdicts, counters);
    return counters[counter];
}

static void step(void)
{
    CHECK(worker_step(rig.worker, WORKER_INBOUND | WORKER_OUTBOUND, 8) >= 0);
}

/* A packet of the host, with an empty vnet header where the device has one. */
static void from_host(const uint8_t *packet, size_t length)
{
    uint8_t read[VNET_HEADER_LENGTH + MTU + 100] = {0};
    const size_t vnet = rig.vnet ? VNET_HEADER_LENGTH : 0;

    memcpy(read + vnet, packet, length);
    CHECK(send(rig.device, read, vnet + length, 0) == (ssize_t)(vnet + length));
}

/* A datagram of the peer for this end: `header`, then the packet. */
static void from_peer(const uint8_t *header, const uint8_t *packet, size_t length)
{
    uint8_t datagram[HEADER + MTU + 100];

    memcpy(datagram, header, HEADER);
    memcpy(datagram + HEADER, packet, length);
    CHECK(sendto(rig.peer, datagram, HEADER + length, 0, (struct sockaddr *)&rig.udp_address,
                 sizeof(rig.udp_address)) == (ssize_t)(HEADER + length));
}

static void header_for_us(uint8_t *header)
{
    write_header(header, OWN_VNI, OWN_MAC);
}

/* ---- outbound ---------------------------------------------------------------------------------- */

TEST(a_packet_leaves_behind_the_header_of_its_route)
{
    struct flow flow = {.tcp = true, .port = 40000};
    uint8_t packet[MTU], datagram[HEADER + MTU];
    size_t length = packet_next(&flow, packet, PAYLOAD, 1);

    open_rig(&with_header, 0, SOURCE_CHECK_OFF);
    from_host(packet, length);
    step();
    CHECK(recv(rig.peer, datagram, sizeof(datagram), 0) == (ssize_t)(HEADER + length));
    CHECK(memcmp(datagram, rig.header, HEADER) == 0);
    CHECK(memcmp(datagram + HEADER, packet, length) == 0); /* no hop: the TTL, too */
    CHECK(counter_of(COUNTER_OUTBOUND_BYTES) == length);
    close_rig();
}

TEST(each_segment_of_a_super_packet_leaves_behind_the_header)
{
    enum { SEGMENTS = 5, BYTES = SEGMENTS * PAYLOAD };
    struct flow flow = {.tcp = true, .port = 40000};
    uint8_t super[VNET_HEADER_LENGTH + BYTES + 100] = {0}, datagram[HEADER + MTU];
    size_t length = packet_super(&flow, super, BYTES, PAYLOAD);
    const size_t headers = flow_headers(&flow), each = headers + PAYLOAD;

    for (unsigned run = 0; run < 2; run++) { /* one by one, and as one UDP_SEGMENT send */
        open_rig(&with_header, PUMP_VNET_HEADER | (run ? PUMP_UDP_SEGMENT : 0), SOURCE_CHECK_OFF);
        CHECK(send(rig.device, super, VNET_HEADER_LENGTH + length, 0) > 0);
        step();
        for (unsigned i = 0; i < SEGMENTS; i++) {
            CHECK(recv(rig.peer, datagram, sizeof(datagram), 0) == (ssize_t)(HEADER + each));
            CHECK(memcmp(datagram, rig.header, HEADER) == 0);
            CHECK(get16(datagram + HEADER + IPV4_TOTAL_LENGTH) == each);
            CHECK(memcmp(datagram + HEADER + headers,
                         super + VNET_HEADER_LENGTH + headers + i * PAYLOAD, PAYLOAD) == 0);
        }
        CHECK(counter_of(COUNTER_OUTBOUND_BYTES) == SEGMENTS * each);
        CHECK(verdicts_of(VERDICT_OUTBOUND_SENT) == SEGMENTS);
        close_rig();
    }
}

TEST(the_header_does_not_count_for_the_mtu_of_a_packet_sent)
{
    struct flow flow = {.port = 40000};
    const size_t fits = MTU - flow_headers(&flow);
    uint8_t packet[MTU + 1], datagram[HEADER + MTU];

    open_rig(&with_header, 0, SOURCE_CHECK_OFF);
    from_host(packet, packet_next(&flow, packet, fits, 1));
    from_host(packet, packet_next(&flow, packet, fits + 1, 2));
    step();
    CHECK(recv(rig.peer, datagram, sizeof(datagram), 0) == HEADER + MTU);
    CHECK(verdicts_of(VERDICT_OUTBOUND_SENT) == 1);
    CHECK(verdicts_of(VERDICT_OUTBOUND_TOO_BIG) == 1);
    close_rig();
}

/* ---- inbound ----------------------------------------------------------------------------------- */

TEST(a_datagram_for_us_arrives_without_its_header)
{
    struct flow flow = {.tcp = true, .port = 40000};
    uint8_t header[HEADER], packet[MTU], read[MTU];
    size_t length = packet_next(&flow, packet, PAYLOAD, 1);

    header_for_us(header);
    open_rig(&with_header, 0, SOURCE_CHECK_OFF);
    from_peer(header, packet, length);
    step();
    CHECK(recv(rig.device, read, sizeof(read), 0) == (ssize_t)length);
    CHECK(memcmp(read, packet, length) == 0);
    CHECK(counter_of(COUNTER_INBOUND_BYTES) == length);
    close_rig();
}

TEST(a_header_for_another_end_is_refused)
{
    static const uint8_t other_mac[6] = {2, 1, 2, 3, 4, 6};
    struct flow flow = {.tcp = true, .port = 40000};
    uint8_t header[HEADER], packet[MTU], read[MTU];
    size_t length = packet_next(&flow, packet, PAYLOAD, 1);

    open_rig(&with_header, 0, SOURCE_CHECK_OFF);
    write_header(header, OWN_VNI + 1, OWN_MAC);
    from_peer(header, packet, length);
    write_header(header, OWN_VNI, other_mac);
    from_peer(header, packet, length);
    step();
    CHECK(recv(rig.device, read, sizeof(read), 0) < 0);
    CHECK(verdicts_of(VERDICT_INBOUND_DEVICE_DOWN) == 2);
    close_rig();
}

TEST(lengths_are_those_of_the_packet_behind_the_header)
{
    struct flow flow = {.port = 40000};
    const size_t fits = MTU - flow_headers(&flow);
    uint8_t header[HEADER], packet[MTU + 1], read[MTU + 1];

    header_for_us(header);
    open_rig(&with_header, 0, SOURCE_CHECK_OFF);
    from_peer(header, packet, packet_next(&flow, packet, fits, 1));
    from_peer(header, packet, packet_next(&flow, packet, fits + 1, 2));
    from_peer(header, packet, 0);                   /* a header alone */
    from_peer(header, packet, IPV4_HEADER_MIN - 1); /* longer than an IP header with it */
    CHECK(sendto(rig.peer, header, HEADER - 1, 0, (struct sockaddr *)&rig.udp_address,
                 sizeof(rig.udp_address)) == HEADER - 1);
    step();
    CHECK(recv(rig.device, read, sizeof(read), 0) == MTU);
    CHECK(recv(rig.device, read, sizeof(read), 0) < 0);
    CHECK(verdicts_of(VERDICT_INBOUND_OVERSIZE) == 1);
    CHECK(verdicts_of(VERDICT_INBOUND_TOO_SHORT) == 3);
    close_rig();
}

TEST(packets_behind_headers_are_coalesced)
{
    enum { PACKETS = 4 };
    struct flow flow = {.tcp = true, .port = 40000};
    uint8_t header[HEADER], packet[MTU], read[VNET_HEADER_LENGTH + PACKETS * MTU];
    struct vnet vnet;
    size_t length = 0;

    header_for_us(header);
    open_rig(&with_header, PUMP_VNET_HEADER | PUMP_COALESCE_TCP, SOURCE_CHECK_OFF);
    for (unsigned i = 0; i < PACKETS; i++) {
        length = packet_next(&flow, packet, PAYLOAD, (uint8_t)i);
        from_peer(header, packet, length);
    }
    step();
    CHECK(recv(rig.device, read, sizeof(read), 0) ==
          (ssize_t)(VNET_HEADER_LENGTH + length + (PACKETS - 1) * PAYLOAD));
    vnet_load(&vnet, read);
    CHECK(vnet.gso_type == VNET_GSO_TCPV4 && vnet.gso_size == PAYLOAD);
    CHECK(counter_of(COUNTER_COALESCED_SUPER_PACKETS) == 1);
    CHECK(counter_of(COUNTER_INBOUND_BYTES) == PACKETS * length);
    close_rig();
}

/* ---- TTL and what quotes a packet -------------------------------------------------------------- */

TEST(each_end_that_is_a_hop_takes_one_from_the_ttl)
{
    struct flow flow = {.tcp = true, .port = 40000};
    uint8_t header[HEADER], packet[MTU], datagram[HEADER + MTU], read[MTU];
    size_t length = packet_next(&flow, packet, PAYLOAD, 1);

    header_for_us(header);
    open_rig(&with_header_and_hop, 0, SOURCE_CHECK_OFF);
    from_host(packet, length);
    from_peer(header, packet, length);
    step();
    CHECK(recv(rig.peer, datagram, sizeof(datagram), 0) == (ssize_t)(HEADER + length));
    CHECK(datagram[HEADER + IPV4_TTL] == packet[IPV4_TTL] - 1);
    CHECK(recv(rig.device, read, sizeof(read), 0) == (ssize_t)length);
    CHECK(read[IPV4_TTL] == packet[IPV4_TTL] - 1);
    close_rig();
}

TEST(an_icmp_error_quotes_the_packet_without_the_header)
{
    enum { QUOTE = 28 }; /* where the quoted packet begins: after IP and ICMP */
    struct flow flow = {.port = 40000};
    uint8_t header[HEADER], packet[MTU], read[MTU];
    size_t length = packet_next(&flow, packet, PAYLOAD, 1);

    packet[IPV4_TTL] = 1;
    packet[IPV4_DESTINATION + 1] = 9; /* in our subnet; the source is the peer's */
    packet_seal(&flow, packet, length);
    header_for_us(header);
    open_rig(&with_header_and_hop, 0, SOURCE_CHECK_ENFORCE);
    from_peer(header, packet, length);
    step();
    CHECK(recv(rig.device, read, sizeof(read), 0) > QUOTE + IPV4_HEADER_MIN);
    CHECK(read[IPV4_HEADER_MIN] == 11); /* time exceeded */
    CHECK(memcmp(read + QUOTE, packet, IPV4_HEADER_MIN) == 0);
    CHECK(verdicts_of(VERDICT_INBOUND_TTL_EXPIRED) == 1);
    close_rig();
}

TEST(what_is_remembered_of_an_unknown_sender_is_the_packet_behind_the_header)
{
    struct flow flow = {.tcp = true, .port = 40000};
    uint8_t header[HEADER], packet[MTU];
    size_t length = packet_next(&flow, packet, PAYLOAD, 1);
    struct refused found;
    unsigned rows = 0;

    header_for_us(header);
    open_rig(&with_header, 0, SOURCE_CHECK_ENFORCE);
    CHECK(routes_publish(&rig.routes, NULL, 0, NULL, 0) == 0);
    from_peer(header, packet, length);
    step();
    CHECK(verdicts_of(VERDICT_INBOUND_UNKNOWN_SENDER) == 1);
    for (unsigned at = 0; at < REFUSED_MAX; at++) {
        if (!refused_read(worker_refused(rig.worker), at, &found))
            continue;
        rows++;
        CHECK(memcmp(found.inner_source, packet + IPV4_SOURCE, 4) == 0);
        CHECK(memcmp(found.inner_destination, packet + IPV4_DESTINATION, 4) == 0);
    }
    CHECK(rows == 1);
    close_rig();
}
