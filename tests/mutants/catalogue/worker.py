"""ext/worker: the order of a packet's steps, sends and their fall-backs, sleep, reclamation."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_FALLBACK = "ext/offload/fallback.c"
_DELIVERY = "ext/worker/delivery.c"
_DEVICE = "ext/worker/device.c"
_INBOUND = "ext/worker/inbound.c"
_OUTBOUND = "ext/worker/outbound.c"
_REPLY = "ext/worker/icmp_reply.c"
_TX_BATCH = "ext/worker/tx_batch.c"
_WORKER = "ext/worker/worker.c"

_LOADED = ("tests/ext/worker/test_always_loaded.py",)
_BYTES = ("tests/ext/worker/test_byte_counts.py",)
_PUMP = ("tests/ext/worker/test_pump.py",)
_THREADS = ("tests/ext/worker/test_threads.py",)
_ERRORS = ("tests/ext/worker/test_errors.py",)
_OFFLOAD = ("tests/ext/worker/test_offload.py",)
_SEGMENT = ("tests/ext/worker/test_segment_fallback.py",)
_COALESCE = ("tests/ext/worker/test_coalesce_fallback.py",)

_PEERS = ("tests/ext/worker/test_peer_counts.py",)

MUTANTS = (
    Mutant(
        name="waiting-datagram-loses-its-peer",
        bug="what waits in a full socket counts for no peer once it is sent",
        file=_TX_BATCH,
        old="        batch->entries[at].peer = NULL;\n",
        new="        batch->entries[at].peer = NULL;\n        batch->entries[at].slot = 0;\n",
        tests=_PEERS,
    ),
    Mutant(
        name="run-of-two-senders",
        bug="packets of one flow from two addresses count for the first one",
        file="ext/offload/coalesce.c",
        old="flow->tag != coalescer->tag",
        new="false",
        tests=_PEERS,
    ),
    Mutant(
        name="nat-peers-are-one",
        bug="of two peers behind one NAT the one that sent last gets the other's packets",
        file="ext/worker/source_check.c",
        old="        source->peer = PEER_UNKNOWN;\n        source->passed = SOURCE_NONE;\n    }\n",
        new="    }\n",
        tests=_PEERS,
    ),
    Mutant(
        name="used-slot-keeps-its-counts",
        bug="a new peer begins with what a peer counted that is gone",
        file="ext/routes/peers.c",
        old="    if (peer->before)\n        peer_sum_subtract(&sum, peer->before);\n",
        new="",
        tests=_PEERS,
    ),
    Mutant(
        name="never-heard",
        bug="when a peer was heard last is not known",
        file="ext/worker/event.h",
        old="    if (event.point >= POINT_UDP_IN)\n",
        new="    if (0)\n",
        tests=_PEERS,
    ),
    Mutant(
        name="no-batch-boundary",
        bug="under load that never ends, each change of a route costs memory for good",
        file=_WORKER,
        old="    route_reader_pass(&worker->reader);\n",
        new="",
        tests=_LOADED,
    ),
    Mutant(
        name="sleeper-holds-its-table",
        bug="a worker without traffic keeps every route table since it fell asleep",
        file=_WORKER,
        old="    route_reader_offline(&worker->reader);\n    const uint64_t since",
        new="    const uint64_t since",
        tests=_LOADED,
    ),
    Mutant(
        name="loaded-direction-starves-the-other",
        bug="while one direction is loaded the other one stands still",
        file=_WORKER,
        old="        directions = (int)worker->roles; /* never one direction alone while it is"
        " loaded */\n",
        new="",
        tests=_LOADED,
    ),
    Mutant(
        name="blocked-worker-spins",
        bug="a full UDP socket makes the worker burn a CPU until there is room",
        file=_WORKER,
        old="WORKER_OUTBOUND && !waiting ? worker->device.queues[0] : -1,",
        new="WORKER_OUTBOUND ? worker->device.queues[0] : -1,",
        tests=_LOADED,
    ),
    Mutant(
        name="blocked-worker-never-looks-again",
        bug="packets that wait for room in the UDP socket stay there until others come",
        file=_WORKER,
        old="    const bool waiting = state & (WORKER_BLOCKED | WORKER_RETRY);\n",
        new="    const bool waiting = state & WORKER_RETRY;\n",
        tests=_LOADED,
    ),
    Mutant(
        name="stop-does-not-wake",
        bug="the daemon hangs at its end until a packet comes",
        file=_WORKER,
        old="    ssize_t written = write(worker->wake_fd, &one, sizeof(one));\n",
        new="    ssize_t written = (ssize_t)one;\n",
        tests=_THREADS,
    ),
    Mutant(
        name="idle-tunnel-spins",
        bug="with busy polling an idle tunnel burns a CPU for ever",
        file=_WORKER,
        old="    if (now - start > longest * SPIN_FORGET)\n",
        new="    if (now - start > UINT64_MAX / 2)\n",
        tests=(
            "tests/dataplane/test_offloads.py::test_busy_polling_catches_answers_and_an_idle_tunnel_does_not_spin",
        ),
    ),
    Mutant(
        name="send-of-128-segments",
        bug="kernels before 6.9 refuse each send of more than 64 segments",
        file="ext/worker/tx_batch.h",
        old="    TX_BATCH_SEGMENTS = 64, ",
        new="    TX_BATCH_SEGMENTS = 128,",
        tests=_SEGMENT,
    ),
    Mutant(
        name="waiting-messages-point-into-a-freed-table",
        bug="routes that change while packets wait for room: memory of a freed peer is written",
        file=_TX_BATCH,
        old="        batch->entries[at].peer = NULL;\n",
        new="",
        tests=_SEGMENT,
    ),
    Mutant(
        name="rest-of-super-packet-points-into-a-freed-table",
        bug="routes that change while a super-packet is segmented: memory of a freed peer is read",
        file=_OUTBOUND,
        old="    outbound->hop.peer = NULL; /* belonged to that batch's table */\n",
        new="",
        tests=_SEGMENT,
    ),
    Mutant(
        name="outbound-bytes-count-whole-segments",
        bug="outbound_bytes counts the short last segment as a whole one",
        file=_TX_BATCH,
        old="bytes += entry->sent + 1U < entry->segments ? entry->datagram : entry->last;",
        new="bytes += entry->datagram;",
        tests=_BYTES,
    ),
    Mutant(
        name="outbound-bytes-count-once-a-send",
        bug="outbound_bytes counts one datagram of each segmented send",
        file=_TX_BATCH,
        old="bytes += entry->sent + 1U < entry->segments ? entry->datagram : entry->last;",
        new="bytes = entry->sent + 1U < entry->segments ? entry->datagram : entry->last;",
        tests=_BYTES,
    ),
    Mutant(
        name="inbound-bytes-count-padding",
        bug="inbound_bytes counts what follows the packet in its datagram",
        file=_INBOUND,
        old="    delivery_add(&inbound->delivery, bytes, packet.length, inbound->source.peer);\n}",
        new="    delivery_add(&inbound->delivery, bytes, all.iov_len, inbound->source.peer);\n}",
        tests=_BYTES,
    ),
    Mutant(
        name="run-across-peers",
        bug="packets for two peers leave in one send: one peer gets the other's",
        file=_TX_BATCH,
        old="    return run->hop == hop && run->pieces == 1 &&",
        new="    return run->pieces == 1 &&",
        tests=_PUMP,
    ),
    Mutant(
        name="run-after-a-short-datagram",
        bug="a run goes on behind a shorter datagram: the kernel cuts it in the wrong places",
        file=_TX_BATCH,
        old="           run->last == run->datagram && length <= run->datagram &&\n",
        new="           length <= run->datagram &&\n",
        tests=_PUMP,
    ),
    Mutant(
        name="refused-send-loses-its-run",
        bug="a device without checksum offload loses each segmented send instead of plain ones",
        file=_TX_BATCH,
        old="        if (!falls_back(batch, error))\n            settle(",
        new="        settle(",
        tests=_ERRORS,
    ),
    Mutant(
        name="interrupted-send-is-lost",
        bug="a signal in the middle of a send costs packets",
        file=_TX_BATCH,
        old="        if (sent > 0 || error == EINTR)\n",
        new="        if (sent > 0)\n",
        tests=_ERRORS,
    ),
    Mutant(
        name="full-memory-holds-for-ever",
        bug="one datagram that the kernel has no memory for holds up all others for ever",
        file=_TX_BATCH,
        old="&& batch->retries++ < TX_BATCH_RETRIES) {",
        new="&& batch->retries < TX_BATCH_RETRIES) {",
        tests=_ERRORS,
    ),
    Mutant(
        name="firewall-looks-like-no-route",
        bug="a firewall rule that drops our datagrams is counted as a peer out of reach",
        file=_TX_BATCH,
        old="        return VERDICT_OUTBOUND_FORBIDDEN;\n",
        new="        return VERDICT_OUTBOUND_UNREACHABLE;\n",
        tests=_ERRORS,
    ),
    Mutant(
        name="ttl-before-lookup",
        bug="a packet that no peer has is answered `time exceeded`, not `net unreachable`",
        file=_OUTBOUND,
        old="    const struct nexthop *hop =\n        routes_lookup(",
        new="    if (!packet_decrease_ttl(bytes, &packet)) {\n"
        "        refuse(outbound, VERDICT_OUTBOUND_TTL_EXPIRED, PEER_UNKNOWN, &all);\n"
        "        return false;\n    }\n    const struct nexthop *hop =\n        routes_lookup(",
        tests=_PUMP,
    ),
    Mutant(
        name="peer-mtu-ignored",
        bug="a peer with a smaller MTU is sent packets that it cuts",
        file=_OUTBOUND,
        old="    return length > (hop->mtu ? hop->mtu : pump->mtu) ||\n",
        new="    return length > pump->mtu ||\n",
        tests=_PUMP,
    ),
    Mutant(
        name="own-datagram-carried",
        bug="a peer whose address lies in the overlay makes one packet loop at full speed",
        file=_OUTBOUND,
        old="    if (is_own_datagram(outbound, bytes, &packet)) {\n",
        new="    if (is_own_datagram(outbound, bytes, &packet) && packet.version == 6) {\n",
        tests=_PUMP,
    ),
    Mutant(
        name="device-read-on-while-packets-wait",
        bug="packets that wait for room are overwritten by the next ones",
        file=_OUTBOUND,
        old="    if (!tx_batch_empty(batch) || outbound->segmenting)\n"
        "        return go_on(outbound);\n",
        new="    if (outbound->segmenting)\n        return go_on(outbound);\n",
        tests=(*_PUMP, *_LOADED),
    ),
    Mutant(
        name="rest-of-super-packet-lost",
        bug="the segments of a super-packet that one batch has no room for never leave",
        file=_OUTBOUND,
        old="        outbound->segmenting = "
        "outbound->segmenter.next < outbound->segmenter.segments;\n",
        new="        outbound->segmenting = false;\n",
        tests=_OFFLOAD,
    ),
    Mutant(
        name="device-gone-loses-the-batch",
        bug="a device that vanishes takes the packets along that were read before",
        file=_OUTBOUND,
        old="            gone = received == -EAGAIN ? 0 : (int)received;\n",
        new="            if (received != -EAGAIN)\n                return (int)received;\n",
        tests=_ERRORS,
    ),
    Mutant(
        name="inbound-ttl-kept",
        bug="a packet between two hosts shows one hop in a traceroute where flannel shows two",
        file=_INBOUND,
        old="    if (!encap_pass(pump->encap, bytes, &packet)) {\n",
        new="    if (bytes[IPV4_TTL] <= 1) {\n",
        tests=_PUMP,
    ),
    Mutant(
        name="oversize-datagram-delivered",
        bug="a packet longer than the tunnel's MTU is handed to the device",
        file=_INBOUND,
        old="    if (all.iov_len > pump->mtu) {\n",
        new="    if (all.iov_len > 65535U + pump->mtu) {\n",
        tests=_PUMP,
    ),
    Mutant(
        name="merged-datagrams-taken-as-one",
        bug="datagrams that the kernel merged are taken for one long packet and dropped",
        file=_INBOUND,
        old="    if (size == 0)\n        size = length;\n    else\n",
        new="    if (size != 1)\n        size = length;\n    else\n",
        tests=_PUMP,
    ),
    Mutant(
        name="empty-datagram-loops",
        bug="an empty datagram is not counted at all",
        file=_INBOUND,
        old="    do { /* an empty datagram is one, too */\n",
        new="    if (length == 0)\n        return;\n    do {\n",
        tests=_PUMP,
    ),
    Mutant(
        name="device-down-looks-like-full-queue",
        bug="a TUN that is down is counted as one whose queue is full",
        file=_DELIVERY,
        old="        return VERDICT_INBOUND_DEVICE_DOWN;\n",
        new="        return VERDICT_INBOUND_QUEUE_FULL;\n",
        tests=(
            "tests/dataplane/test_engine.py::test_a_device_that_is_down_is_counted_without_spinning",
        ),
    ),
    Mutant(
        name="flow-on-two-queues",
        bug="packets of one flow go to different queues of the TUN and overtake each other",
        file=_DEVICE,
        old="    return device->queues[(uint64_t)hash * device->queue_count >> 32];\n",
        new="    return device->queues[bytes[IPV4_ID + 1] % device->queue_count];\n",
        tests=_OFFLOAD,
    ),
    Mutant(
        name="run-held-over-the-batch",
        bug="the last packets of a burst are delivered only when the next one comes",
        file=_DELIVERY,
        old="        coalesce_flush(&delivery->coalescer);\n",
        new="",
        tests=_OFFLOAD,
    ),
    Mutant(
        name="refused-super-packet-lost",
        bug="a TUN that refuses a super-packet loses all packets in it but one",
        file=_DELIVERY,
        old="        deliver(delivery, packet.iov_base, packet.iov_len, delivery->coalescer.tag);\n"
        "    }\n}",
        new="        deliver(delivery, packet.iov_base, packet.iov_len, delivery->coalescer.tag);\n"
        "        break;\n    }\n}",
        tests=_COALESCE,
    ),
    Mutant(
        name="refused-super-packet-counted-as-written",
        bug="coalesced_super_packets counts super-packets that the TUN refused",
        file=_DELIVERY,
        old="    if (super && (error == EINVAL || error == EOPNOTSUPP)) {\n",
        new="    if (super)\n"
        "        stats_count(delivery->device->stats, COUNTER_COALESCED_SUPER_PACKETS, 1);\n"
        "    if (super && (error == EINVAL || error == EOPNOTSUPP)) {\n",
        tests=_COALESCE,
    ),
    Mutant(
        name="fallback-for-good",
        bug="one forged `fragmentation needed` takes segmented sends from a peer until restart",
        file=_FALLBACK,
        old="    return retry_at == 0 || now >= retry_at || size < LOAD(size);\n",
        new="    return retry_at == 0 || size < LOAD(size);\n",
        tests=(*_SEGMENT, *_COALESCE),
    ),
    Mutant(
        name="fallback-tried-each-second",
        bug="a device that never takes segmented sends is asked each second for ever",
        file=_FALLBACK,
        old="        pause *= 2;\n",
        new="        pause *= 1;\n",
        tests=(*_SEGMENT, *_COALESCE),
    ),
    Mutant(
        name="fallback-counts-each-refusal",
        bug="the refusals of one batch count as many: the pause is minutes at once",
        file=_FALLBACK,
        old="    if (retry_at != 0 && now < retry_at) {\n",
        new="    if (retry_at != 0 && now < 0 * retry_at) {\n",
        tests=(*_SEGMENT, *_COALESCE),
    ),
    Mutant(
        name="fallback-stays-after-success",
        bug="features go on to say that a peer falls back although segmented sends work again",
        file=_FALLBACK,
        old="    STORE(worked_at, now);\n    STORE(retry_at, 0);\n",
        new="    STORE(worked_at, now);\n",
        tests=(*_SEGMENT, *_COALESCE),
    ),
    Mutant(
        name="unreachable-peer-falls-back",
        bug="a peer that was out of reach for a moment is sent plain datagrams afterwards",
        file=_TX_BATCH,
        old="    default:\n        return FALLBACK_NONE;\n",
        new="    default:\n        return FALLBACK_KERNEL;\n",
        tests=(*_SEGMENT, *_ERRORS),
    ),
    Mutant(
        name="icmp-from-the-device-address",
        bug="with a raw socket ICMP errors go to the TUN, where Linux drops them as martians",
        file=_REPLY,
        old="    if (pump->icmp_fd >= 0 && send_raw(pump->icmp_fd, out, length))\n",
        new="    if (pump->icmp_fd > 1 << 20 && send_raw(pump->icmp_fd, out, length))\n",
        tests=(
            "tests/dataplane/test_engine.py::test_the_local_sender_hears_that_no_peer_has_the_destination",
        ),
    ),
    Mutant(
        name="icmp-limit-not-asked",
        bug="the rate limit of ICMP errors has no effect",
        file=_REPLY,
        old="    if (!icmp_limiter_take(&pump->icmp_limiter, clock_ns())) {\n",
        new="    if (!icmp_limiter_take(&pump->icmp_limiter, clock_ns()) && length == 0) {\n",
        tests=_PUMP,
    ),
    Mutant(
        name="short-read-ends-the-worker",
        bug="a read of less than an offload header from the TUN ends the daemon",
        file=_DEVICE,
        old="            return length > header ? length - header : 0;\n",
        new="            return length - header;\n",
        tests=_OFFLOAD,
    ),
)
