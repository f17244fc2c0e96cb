/* SPDX-License-Identifier: Apache-2.0
 *
 * A worker's memory, its turns, the loop of its thread with sleep and busy polling, stop, counters.
 */
#define _GNU_SOURCE /* struct mmsghdr */
#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "packet/packet.h"
#include "worker/clock.h"
#include "worker/inbound.h"
#include "worker/outbound.h"

enum {
    RETRY_MS = 1,
    /* A socket that is full counts as writable when half of its buffer is free (net/core/sock.c,
     * sock_writeable). What waits for peers that are gone may hold more than that for seconds, and
     * there is room for the others all the same: so look again. */
    ROOM_MS = 5,
};

/* All memory of a worker is one mapping that this begins; no packet allocates. */
struct worker {
    struct stats stats; /* written by the worker, read by anyone */
    /* Written by others. */
    _Alignas(CACHE_LINE) atomic_int stopping;
    int wake_fd;
    /* Private. */
    _Alignas(CACHE_LINE) struct pump *pump;
    unsigned roles;
    int udp_fd;
    struct {
        uint64_t window;     /* how long to spin now, nanoseconds */
        uint64_t not_before; /* on the monotonic clock: no growth until then */
    } spin;
    struct route_reader reader;
    struct peer_rows rows;
    struct device device;
    struct outbound outbound;
    struct inbound inbound;
    /* Of worker_run, on the monotonic clock; 0: not begun, awake. */
    _Atomic uint64_t began_ns, asleep_since_ns;
    _Atomic uint64_t asleep_ns, spinning_ns;
    size_t mapped; /* bytes of the mapping */
};

/* ---- memory ----------------------------------------------------------------------------------- */

static size_t lines(size_t bytes)
{
    return (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

/* A TUN read, a receive and the counters must have what they were promised. */
static int check(const struct pump *pump, unsigned roles)
{
    if (pump->batch < 1 || pump->batch > PUMP_BATCH_MAX || roles == 0 ||
        (roles & ~(unsigned)(WORKER_OUTBOUND | WORKER_INBOUND)))
        return -EINVAL;
    if (pump->mtu < IPV4_HEADER_MIN || pump->mtu > SEND_BYTES_MAX || pump->families == 0)
        return -EINVAL;
    return 0;
}

int worker_create(struct worker **out, struct pump *pump, unsigned roles, const int *tun_fds,
                  unsigned tun_count, int udp_fd)
{
    struct worker *worker = MAP_FAILED;
    int error = check(pump, roles);
    if (error)
        return error;
    if (tun_count < 1 || tun_count > DEVICE_QUEUES_MAX)
        return -EINVAL;

    /* Pages are zero and come only when touched: a direction that is not done costs nothing, nor
     * do receive slots that no burst ever fills, nor rows of peers that there are not. */
    size_t packets = lines(sizeof(*worker));
    size_t headers = packets + lines(OUTBOUND_PACKETS);
    size_t slots = headers + lines(OUTBOUND_HEADERS);
    size_t rows = slots + lines((size_t)PUMP_BATCH_MAX * INBOUND_SLOT);
    size_t mapped = rows + PEER_SLOTS * sizeof(struct peer_counts);
    worker = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (worker == MAP_FAILED)
        return -errno;
    worker->mapped = mapped;
    worker->pump = pump;
    worker->roles = roles;
    worker->udp_fd = udp_fd;
    worker->stats.peers = (struct peer_counts *)((uint8_t *)worker + rows);
    worker->rows.rows = worker->stats.peers;
    worker->stats.remotes = pump->routes->peers.addresses;
    worker->device.stats = &worker->stats;
    worker->device.vnet_header = pump->offloads & PUMP_VNET_HEADER;
    worker->device.queue_count = tun_count;
    memcpy(worker->device.queues, tun_fds, tun_count * sizeof(*tun_fds));
    outbound_init(&worker->outbound, pump, &worker->device, udp_fd, (uint8_t *)worker + packets,
                  (uint8_t *)worker + headers);
    inbound_init(&worker->inbound, pump, &worker->device, udp_fd, (uint8_t *)worker + slots);
    if (pump->allow_impair && roles & WORKER_OUTBOUND) {
        worker->outbound.impair = impair_create(&worker->stats, pump->impair);
        if (worker->outbound.impair == NULL) {
            munmap(worker, mapped);
            return -ENOMEM;
        }
    }
    worker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (worker->wake_fd < 0) {
        error = -errno;
        impair_destroy(worker->outbound.impair);
        munmap(worker, mapped);
        return error;
    }
    route_reader_add(pump->routes, &worker->reader);
    routes_rows_add(pump->routes, &worker->rows);
    *out = worker;
    return 0;
}

void worker_record(struct worker *worker, struct recorder *recorder)
{
    worker->stats.recorder = recorder;
}

void worker_finish(struct worker *worker)
{
    outbound_finish(&worker->outbound);
}

void worker_destroy(struct worker *worker)
{
    if (worker == NULL)
        return;
    worker_finish(worker);
    route_reader_remove(&worker->reader);
    routes_rows_remove(worker->pump->routes, &worker->rows);
    close(worker->wake_fd);
    impair_destroy(worker->outbound.impair);
    munmap(worker, worker->mapped);
}

/* ---- turns ------------------------------------------------------------------------------------ */

/* One batch in each of `directions`: enum worker_state, or -errno. */
static int turn(struct worker *worker, unsigned directions)
{
    int state = 0;

    route_reader_pass(&worker->reader);
    const struct route_table *table = routes_current(worker->pump->routes);
    if (directions & WORKER_OUTBOUND) {
        int end = outbound_batch(&worker->outbound, table);
        if (end < 0)
            return end;
        if (end == BATCH_MORE)
            state |= WORKER_MORE_OUTBOUND;
        else if (end == BATCH_BLOCKED)
            state |= WORKER_BLOCKED;
        else if (end == BATCH_RETRY)
            state |= WORKER_RETRY;
    }
    if (directions & WORKER_INBOUND) {
        int end = inbound_batch(&worker->inbound, table);
        if (end < 0)
            return end;
        if (end == BATCH_MORE)
            state |= WORKER_MORE_INBOUND;
    }
    return state;
}

int worker_step(struct worker *worker, unsigned directions, unsigned batches)
{
    int state = 0;

    directions &= worker->roles;
    route_reader_online(&worker->reader);
    while (batches-- > 0 && directions) {
        state = turn(worker, directions);
        if (state < 0)
            break;
        if (!(state & WORKER_MORE_OUTBOUND))
            directions &= ~(unsigned)WORKER_OUTBOUND;
        if (!(state & WORKER_MORE_INBOUND))
            directions &= ~(unsigned)WORKER_INBOUND;
    }
    route_reader_offline(&worker->reader);
    return state;
}

/* ---- sleeping --------------------------------------------------------------------------------- */

/*
 * poll, not epoll: what is registered in an epoll set hears of every datagram, also while its
 * worker is awake and reads them anyway, and the sender's CPU pays for it. A poller is in the
 * wait queues only while it sleeps, and three descriptors are soon gone through.
 *
 * Sleeps until there is something to do; the directions to look at, 0 for none, or -errno.
 */
static int sleep_until_ready(struct worker *worker, int state)
{
    const bool waiting = state & (WORKER_BLOCKED | WORKER_RETRY);
    const short room = state & WORKER_BLOCKED ? POLLOUT : 0;
    const short datagrams = worker->roles & WORKER_INBOUND ? POLLIN : 0;
    enum { WAKE, TUN, UDP, DESCRIPTORS };
    struct pollfd watched[DESCRIPTORS] = {
        [WAKE] = {.fd = worker->wake_fd, .events = POLLIN},
        /* What waits to be sent comes first: the TUN's own queue holds the rest back. */
        [TUN] = {.fd = worker->roles & WORKER_OUTBOUND && !waiting ? worker->device.queues[0] : -1,
                 .events = POLLIN},
        [UDP] = {.fd = room | datagrams ? worker->udp_fd : -1, .events = room | datagrams},
    };
    const int held = outbound_sleep_ms(&worker->outbound);
    int timeout = state & WORKER_RETRY ? RETRY_MS : state & WORKER_BLOCKED ? ROOM_MS : -1;
    int directions = waiting || held >= 0 ? WORKER_OUTBOUND : 0;

    if (held >= 0 && (timeout < 0 || held < timeout))
        timeout = held;
    route_reader_offline(&worker->reader);
    const uint64_t since = clock_ns();
    atomic_store_explicit(&worker->asleep_since_ns, since, memory_order_relaxed);
    int ready = poll(watched, DESCRIPTORS, timeout);
    int error = errno;
    atomic_store_explicit(&worker->asleep_since_ns, 0, memory_order_relaxed);
    counter_add(&worker->asleep_ns, clock_ns() - since);
    route_reader_online(&worker->reader);
    stats_count(&worker->stats, COUNTER_SLEEPS, 1);
    if (ready < 0)
        return error == EINTR ? directions : -error;
    if (watched[TUN].revents)
        directions |= WORKER_OUTBOUND;
    if (watched[UDP].revents & ~POLLOUT)
        directions |= WORKER_INBOUND;
    return directions & (int)worker->roles;
}

/* ---- busy polling ----------------------------------------------------------------------------- */

/*
 * A worker that found nothing may look again for a while instead of sleeping: to be woken takes
 * longer than many a packet's way. How long (the window) follows what it was good for, as a
 * hypervisor's halt polling does (virt/kvm/kvm_main.c):
 *   - a sleep shorter than the longest window: a longer one would have caught the packet, so grow
 *   - a long sleep: nothing to wait for, so none; an idle tunnel never spins
 *   - between two looks the CPU is offered to other tasks, and their turn does not count;
 *     where it is a long one, another task computes: a sleeper is woken sooner than one that waits in
 *     line, so no spinning for some time
 */
enum {
    SPIN_FIRST_NS = 10000,      /* the smallest window */
    SPIN_FORGET = 8,            /* a sleep of so many longest windows ends spinning */
    SPIN_PREEMPTED_NS = 200000, /* away for longer: to a computation, not to a sender or receiver */
    SPIN_PAUSE_NS = 20000000,   /* without spinning, after another task wanted the CPU */
};

/* Only a worker that has nothing left to do: neither more of a batch, nor something that waits. */
static bool may_spin(const struct worker *worker, int state)
{
    return state == 0 && worker->spin.window > 0;
}

static bool moved(const struct worker *worker)
{
    return worker->outbound.moved || worker->inbound.moved;
}

/* Looks until something came or the window is over; what turn() found last. */
static int spin(struct worker *worker)
{
    uint64_t left = clock_ns(), spent = 0;
    int state = 0;

    stats_count(&worker->stats, COUNTER_SPINS, 1);
    worker->outbound.moved = worker->inbound.moved = false;
    while (!atomic_load_explicit(&worker->stopping, memory_order_acquire)) {
        /* First, as the task that the last batch woke may wait for this CPU. Returns at once when
        * none does. */
        sched_yield();
        uint64_t looked = clock_ns();
        if (looked - left > SPIN_PREEMPTED_NS) {
            worker->spin.window = 0;
            worker->spin.not_before = looked + SPIN_PAUSE_NS;
        }
        state = turn(worker, worker->roles);
        if (state < 0)
            return state;
        if (moved(worker)) {
            stats_count(&worker->stats, COUNTER_SPIN_HITS, 1);
            return state;
        }
        left = clock_ns();
        spent += left - looked;
        counter_add(&worker->spinning_ns, left - looked);
        if (spent >= worker->spin.window)
            break;
    }
    return state;
}

/* What a sleep from `start` on says about the window. */
static void learn(struct worker *worker, uint64_t start)
{
    const uint64_t longest = (uint64_t)worker->pump->busy_poll_us * 1000;
    uint64_t now = clock_ns();

    if (now - start > longest * SPIN_FORGET)
        worker->spin.window = 0;
    else if (now - start < longest && now >= worker->spin.not_before)
        worker->spin.window = worker->spin.window ? worker->spin.window * 2 : SPIN_FIRST_NS;
    if (worker->spin.window > longest)
        worker->spin.window = longest;
}

/* ---- the loop of a thread --------------------------------------------------------------------- */

static int loop(struct worker *worker)
{
    const int more = WORKER_MORE_OUTBOUND | WORKER_MORE_INBOUND;
    int directions = (int)worker->roles;

    while (!atomic_load_explicit(&worker->stopping, memory_order_acquire)) {
        int state = turn(worker, (unsigned)directions);
        directions = (int)worker->roles; /* never one direction alone while it is loaded */
        for (bool go_on = true; go_on && may_spin(worker, state); go_on = moved(worker))
            state = spin(worker);
        if (state < 0)
            return state;
        if (state & more)
            continue;
        uint64_t start = worker->pump->busy_poll_us ? clock_ns() : 0;
        directions = sleep_until_ready(worker, state);
        if (directions < 0)
            return directions;
        if (start)
            learn(worker, start);
    }
    return 0;
}

int worker_run(struct worker *worker)
{
    atomic_store_explicit(&worker->began_ns, clock_ns(), memory_order_relaxed);
    route_reader_online(&worker->reader);
    int result = loop(worker);
    route_reader_offline(&worker->reader);
    return result;
}

void worker_stop(struct worker *worker)
{
    const uint64_t one = 1;

    atomic_store_explicit(&worker->stopping, 1, memory_order_release);
    /* Fails only when the counter is full, and then the worker is awake anyway. */
    ssize_t written = write(worker->wake_fd, &one, sizeof(one));
    (void)written;
}

void worker_counts(const struct worker *worker, uint64_t verdicts[static VERDICT_COUNT],
                   uint64_t counters[static COUNTER_COUNT])
{
    stats_read(&worker->stats, verdicts, counters);
}

void worker_coalesces(const struct worker *worker,
                      struct fallback_state coalesces[static DELIVERY_KINDS])
{
    for (int i = 0; i < DELIVERY_KINDS; i++)
        coalesces[i] = fallback_look(&worker->inbound.delivery.refusals[i]);
}

const struct refused_table *worker_refused(const struct worker *worker)
{
    return &worker->inbound.source.refused;
}

struct impair *worker_impair(const struct worker *worker)
{
    return worker->outbound.impair;
}

int worker_impair_offer(struct worker *worker, unsigned place)
{
    const struct pump *pump = worker->pump;

    return impair_offer(worker->outbound.impair, place, pump->encap->header_length + pump->mtu);
}

struct worker_times worker_times(const struct worker *worker)
{
    const uint64_t began = atomic_load_explicit(&worker->began_ns, memory_order_relaxed);
    const uint64_t since = atomic_load_explicit(&worker->asleep_since_ns, memory_order_relaxed);
    const uint64_t now = clock_ns();
    struct worker_times times = {
        .total = began ? now - began : 0,
        .asleep = atomic_load_explicit(&worker->asleep_ns, memory_order_relaxed),
        .spinning = atomic_load_explicit(&worker->spinning_ns, memory_order_relaxed),
    };

    if (since && since < now)
        times.asleep += now - since;
    return times;
}

uint64_t worker_histogram(const struct worker *worker, enum histogram_kind which,
                          uint64_t buckets[static HISTOGRAM_BUCKETS])
{
    const struct histogram *histogram = &worker->stats.histograms[which];

    for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
        buckets[i] = atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
    return atomic_load_explicit(&histogram->sum, memory_order_relaxed);
}
