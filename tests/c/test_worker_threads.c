/* SPDX-License-Identifier: Apache-2.0
 *
 * Workers move packets both ways in threads of their own while a control thread replaces their
 * routes, impairs their peer, reads their counters and fall-backs as fast as it can. Run under ThreadSanitizer and
 * under AddressSanitizer: nothing that two of them touch may be torn, freed or left behind.
 *
 *     device (the kernel's side of the TUN) -- tun queue | workers | udp -- peer
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "packets.h"
#include "worker/clock.h"
#include "worker/kernel.h"
#include "worker/worker.h"

enum { QUEUES = 2, WORKERS = QUEUES + 1, ROUNDS = 400, PAYLOAD = 200, SUPER = 5000 };

struct rig {
    struct route_slot routes;
    struct pump pump;
    struct worker *workers[WORKERS];
    int devices[QUEUES], tuns[QUEUES], udp, peer;
    struct sockaddr_in udp_address, peer_address;
    atomic_bool moving;
    atomic_ulong turns; /* of the control thread */
};

static struct rig rig;

/* ---- set-up ------------------------------------------------------------------------------------ */

static int bound_socket(struct sockaddr_in *address)
{
    socklen_t length = sizeof(*address);
    const int buffer = 1 << 20;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    CHECK(fd >= 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    CHECK(bind(fd, (struct sockaddr *)address, sizeof(*address)) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &length) == 0);
    return fd;
}

/* 10/8 at the peer; `other` adds a second one, so that peers come and go as well. */
static void publish(bool other)
{
    struct route routes[2];
    const uint8_t loopback[4] = {127, 0, 0, 1};
    memset(routes, 0, sizeof(routes));
    for (unsigned i = 0; i < 2; i++) {
        routes[i].address[0] = (uint8_t)(10 + i);
        routes[i].version = 4;
        routes[i].length = 8;
        CHECK(endpoint_set(&routes[i].endpoint, loopback, sizeof(loopback),
                           i ? 9 : ntohs(rig.peer_address.sin_port)) == 0);
    }
    CHECK(routes_publish(&rig.routes, routes, other ? 2 : 1, NULL, 0) == 0);
}

static void open_rig(uint32_t busy_poll_us)
{
    const int one = 1;

    memset(&rig, 0, sizeof(rig));
    CHECK(route_slot_init(&rig.routes) == 0);
    rig.udp = bound_socket(&rig.udp_address);
    rig.peer = bound_socket(&rig.peer_address);
    for (unsigned i = 0; i < QUEUES; i++) {
        int pair[2];
        CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) == 0);
        rig.devices[i] = pair[0];
        rig.tuns[i] = pair[1];
    }
    publish(false);
    rig.pump = (struct pump){
        .routes = &rig.routes,
        .encap = &encap_udp,
        .icmp_fd = -1,
        .offloads = PUMP_VNET_HEADER | PUMP_UDP_SEGMENT | PUMP_COALESCE_TCP | PUMP_COALESCE_UDP,
        .families = PACKET_IPV4,
        .mtu = 1400,
        .batch = PUMP_BATCH_MAX,
        .busy_poll_us = busy_poll_us,
        .tun_address = {10, 9, 0, 0},
        .allow_impair = true,
    };
    CHECK(probes_init(&rig.pump.probes, PROBE_RATE_DEFAULT, PROBE_BURST_DEFAULT) == 0);
    CHECK(icmp_limiter_init(&rig.pump.icmp_limiter, 1000, 1000) == 0);
    if (setsockopt(rig.udp, SOL_UDP, UDP_GRO, &one, sizeof(one)) == 0)
        rig.pump.offloads |= PUMP_UDP_GRO;
    CHECK(worker_create(&rig.workers[0], &rig.pump, WORKER_INBOUND, rig.tuns, QUEUES, rig.udp) ==
          0);
    for (unsigned i = 0; i < QUEUES; i++)
        CHECK(worker_create(&rig.workers[1 + i], &rig.pump, WORKER_OUTBOUND, &rig.tuns[i], 1,
                            rig.udp) == 0);
}

static void close_rig(void)
{
    for (unsigned i = 0; i < WORKERS; i++)
        worker_destroy(rig.workers[i]);
    for (unsigned i = 0; i < QUEUES; i++) {
        close(rig.devices[i]);
        close(rig.tuns[i]);
    }
    close(rig.udp);
    close(rig.peer);
    probes_destroy(&rig.pump.probes);
    CHECK(routes_collect(&rig.routes) == 0);
    route_slot_destroy(&rig.routes);
}

/* ---- the threads ------------------------------------------------------------------------------- */

static void *move(void *worker)
{
    CHECK(worker_run(worker) == 0);
    return NULL;
}

/* Impairs the peer, or ends that and waits for the memory. */
static void impair_in_turns(void)
{
    struct impair_settings settings = {
        .seed = 1, .loss = 100000, .duplicate = 100000, .delay_us = 100, .jitter_us = 100};
    struct impair_rule *rule = &rig.pump.impair[0];
    const uint64_t now = clock_ns();
    bool empty = true;

    impair_rule_end(rule);
    for (unsigned i = 1; i < WORKERS; i++)
        empty &= impair_reclaim(worker_impair(rig.workers[i]), 0);
    if (!empty)
        return;
    address_from_ipv4(&settings.peer, &rig.peer_address.sin_addr);
    CHECK(impair_rule_set(rule, &settings, now + 1000000000, now) == 0);
    for (unsigned i = 1; i < WORKERS; i++)
        CHECK(worker_impair_offer(rig.workers[i], 0) == 0);
}

static void *control(void *argument)
{
    (void)argument;
    while (atomic_load(&rig.moving)) {
        uint64_t verdicts[VERDICT_COUNT], counters[COUNTER_COUNT];
        struct fallback_state coalesces[DELIVERY_KINDS];
        struct peer_fallback peers[2];
        const unsigned long turn = atomic_fetch_add(&rig.turns, 1);
        publish(turn % 2);
        if (turn % 16 == 0)
            impair_in_turns();
        routes_collect(&rig.routes);
        routes_fallbacks(&rig.routes, peers, 2);
        for (unsigned i = 0; i < WORKERS; i++) {
            worker_counts(rig.workers[i], verdicts, counters);
            worker_coalesces(rig.workers[i], coalesces);
        }
    }
    return NULL;
}

static unsigned drain(int fd)
{
    uint8_t buffer[VNET_HEADER_LENGTH + COALESCE_MAX_LENGTH];
    unsigned count = 0;
    while (recv(fd, buffer, sizeof(buffer), 0) >= 0)
        count++;
    return count;
}

/* Super-packets, runs and refused packets to the device; runs of a flow to the socket. */
static void offer(struct flow *flow)
{
    static const uint8_t nonsense[VNET_HEADER_LENGTH + 30];
    uint8_t packet[VNET_HEADER_LENGTH + SUPER + 100] = {0};
    size_t length;

    for (unsigned i = 0; i < QUEUES; i++) {
        length = packet_super(flow, packet, SUPER, PAYLOAD);
        send(rig.devices[i], packet, VNET_HEADER_LENGTH + length, 0);
        memset(packet, 0, VNET_HEADER_LENGTH);
        for (unsigned j = 0; j < 3; j++) {
            length = packet_next(flow, packet + VNET_HEADER_LENGTH, PAYLOAD, (uint8_t)j);
            send(rig.devices[i], packet, VNET_HEADER_LENGTH + length, 0);
        }
        send(rig.devices[i], nonsense, sizeof(nonsense), 0);
    }
    for (unsigned j = 0; j < 4; j++) {
        length = packet_next(flow, packet, PAYLOAD, (uint8_t)j);
        sendto(rig.peer, packet, length, 0, (struct sockaddr *)&rig.udp_address,
               sizeof(rig.udp_address));
    }
}

static uint64_t counted(enum verdict verdict)
{
    uint64_t verdicts[VERDICT_COUNT], counters[COUNTER_COUNT], sum = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        worker_counts(rig.workers[i], verdicts, counters);
        sum += verdicts[verdict];
    }
    return sum;
}

static void move_while_routes_change(uint32_t busy_poll_us)
{
    pthread_t threads[WORKERS], controller;
    struct flow flow = {.tcp = true, .port = 40000};
    unsigned long sent = 0, delivered = 0;

    open_rig(busy_poll_us);
    atomic_store(&rig.moving, true);
    for (unsigned i = 0; i < WORKERS; i++)
        CHECK(pthread_create(&threads[i], NULL, move, rig.workers[i]) == 0);
    CHECK(pthread_create(&controller, NULL, control, NULL) == 0);
    for (unsigned round = 0; round < ROUNDS || atomic_load(&rig.turns) < ROUNDS; round++) {
        offer(&flow);
        sent += drain(rig.peer);
        for (unsigned i = 0; i < QUEUES; i++)
            delivered += drain(rig.devices[i]);
        if (round % 16 == 0)
            usleep(500); /* so that workers sleep now and then */
    }
    atomic_store(&rig.moving, false);
    pthread_join(controller, NULL);
    for (unsigned i = 0; i < WORKERS; i++)
        worker_stop(rig.workers[i]);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    CHECK(sent > 0 && delivered > 0);
    CHECK(counted(VERDICT_OUTBOUND_SENT) >= sent);
    CHECK(counted(VERDICT_OUTBOUND_NO_ROUTE) == 0); /* each table had one */
    CHECK(counted(VERDICT_OUTBOUND_WRONG_VERSION) > 0);
    CHECK(counted(VERDICT_OUTBOUND_IMPAIRED) > 0);
    CHECK(worker_impair(rig.workers[0]) == NULL); /* it sends nothing */
    close_rig();
}

TEST(workers_move_packets_while_their_routes_change)
{
    move_while_routes_change(0);
}

TEST(polling_workers_move_packets_while_their_routes_change)
{
    move_while_routes_change(100);
}
