"""Who may send: the source check, who is remembered, who is asked from where it sends."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        name="strangers-pass",
        bug="a stranger's datagram is delivered into a container",
        file="ext/worker/source_check.c",
        old="    return source->sender || source->pump->source_check != SOURCE_CHECK_ENFORCE;",
        new="    return true;",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="public-ip-is-foreign",
        bug="hostNetwork pods of flannel's nodes without ip-masq are cut off",
        file="ext/worker/source_check.c",
        old="    return is_address_of_sender(source, address);",
        new="    return false;",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="source-check-off-by-default",
        bug="the source check is there, and no node uses it",
        file="udpoverlay/model/dataplane.py",
        old='    source_check: str = "enforce"',
        new='    source_check: str = "off"',
        tests=(
            "tests/daemon/test_daemon.py",
            "tests/cli/test_daemon_flags.py",
        ),
    ),
    Mutant(
        name="no-destination-check",
        bug="a node relays for others: to nodes, to its own ports",
        file="ext/worker/source_check.c",
        old=(
            "    if (!in_our_subnet(source, to))\n"
            "        return VERDICT_INBOUND_FOREIGN_DESTINATION;\n"
        ),
        new="",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="no-martian-destination",
        bug="the metadata address and 127.0.0.1 are reached with source-check off",
        file="ext/worker/source_check.c",
        old=("source->broadcast))\n        return VERDICT_INBOUND_MARTIAN_DESTINATION;\n"),
        new=("source->broadcast))\n        return VERDICT_INBOUND_DELIVERED;\n"),
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="link-local-is-routable",
        bug="the metadata address is reached in every mode",
        file="ext/packet/address.h",
        old="    return address_is_unicast(address) && !(address[0] == 169 && address[1] == 254);",
        new="    return address_is_unicast(address);",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="no-source-check",
        bug="a leased node sends as any other",
        file="ext/worker/source_check.c",
        old=(
            "    if (!is_of_sender(source, from, peer))\n"
            "        return VERDICT_INBOUND_FOREIGN_SOURCE;\n"
        ),
        new="",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="own-source-passes",
        bug="a peer sends as a container of ours",
        file="ext/worker/source_check.c",
        old="    if (!address_is_routable(from) || is_ours(source->pump, from))",
        new="    if (!address_is_routable(from))",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="cache-across-senders",
        bug="the inner source that one sender passed with passes for the next",
        file="ext/worker/source_check.c",
        old=("        source->known = true;\n        source->passed = SOURCE_NONE;\n"),
        new="        source->known = true;\n",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="cache-across-batches",
        bug="a lease that moved is accepted from its old node",
        file="ext/worker/source_check.c",
        old=(
            "    source->known = false;\n"
            "    source->sender = NULL;\n"
            "    source->peer = PEER_UNKNOWN;\n"
            "    source->passed = SOURCE_NONE;\n"
        ),
        new="",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="fast-path-skips-destination",
        bug="what follows a good packet of a source goes anywhere",
        file="ext/worker/source_check.c",
        old="            ((to ^ source->subnet) & source->mask) == 0 && to != source->broadcast)",
        new="            true)",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="broadcast-passes",
        bug="the subnet's broadcast address is delivered",
        file="ext/worker/source_check.c",
        old="            ((to ^ source->subnet) & source->mask) == 0 && to != source->broadcast)",
        new="            ((to ^ source->subnet) & source->mask) == 0)",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="icmp-to-unverified",
        bug="a forged source gets our ICMP error in warn mode",
        file="ext/worker/inbound.c",
        old="        if (source_verified(&inbound->source, bytes, &packet))\n",
        new="        if (true)\n",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="icmp-to-anyone-from-tun",
        bug="a packet with a forged source that comes back to the TUN is answered",
        file="ext/worker/icmp_reply.c",
        old="    if (!source_answerable(pump, table, bytes, packet)) {",
        new="    if (false) {",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="flood-washes-out-steady",
        bug="a flood of addresses hides who really sends",
        file="ext/worker/refused.c",
        old=(
            "    if (poorest.credit > 0) {\n"
            "        poorest.credit--;\n"
            "        store(weakest, &poorest);\n"
            "        return;\n"
            "    }\n"
        ),
        new="",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="refused-not-remembered",
        bug="refused senders are not in the peers data",
        file="ext/worker/source_check.c",
        old="    refused_add(&source->refused, &latest, datagrams);\n",
        new="",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="aliases-not-published",
        bug="what was proved of a node behind a NAT does not reach the packets",
        file="udpoverlay/dataplane/sink.py",
        old="        self._table.publish([flat for _, _, flat in self._made.values()], aliases)\n",
        new="",
        tests=("tests/dataplane/test_senders.py",),
    ),
    Mutant(
        name="never-asks",
        bug="a node behind a NAT stays refused",
        file="udpoverlay/dataplane/senders.py",
        old="                claims += self._claim(address, source)\n",
        new="                pass\n",
        tests=("tests/dataplane/test_senders.py",),
    ),
    Mutant(
        name="any-nonce-proves",
        bug="a stranger proves its address by guessing nothing",
        file="ext/worker/probes.c",
        old="        uint64_t awaited = nonce;\n",
        new=(
            "        uint64_t awaited = atomic_load(&place->awaited);\n"
            "        if (!awaited)\n"
            "            continue;\n"
            "        nonce = awaited;\n"
        ),
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="answer-to-the-outer-source",
        bug="a stranger makes a node send to whom it likes",
        file="ext/worker/probe_reply.c",
        old="               &hop->endpoint.address.any, hop->endpoint.length) >= 0)",
        new=(
            "               (const struct sockaddr *)&(struct sockaddr_in){\n"
            "                   .sin_family = AF_INET,\n"
            "                   .sin_port = hop->endpoint.address.v4.sin_port,\n"
            "                   .sin_addr.s_addr = *(uint32_t *)(source->address.bytes + 12)},\n"
            "               sizeof(struct sockaddr_in)) >= 0)"
        ),
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="probes-not-answered",
        bug="two nodes behind NATs never find each other",
        file="ext/worker/inbound.c",
        old="        if (ours && probe_take(",
        new="        if (false && probe_take(",
        tests=("tests/dataplane/test_senders.py",),
    ),
    Mutant(
        name="no-limit-on-answers",
        bug="a stranger makes a node send without end",
        file="ext/worker/probe_reply.c",
        old="    if (!icmp_limiter_take(&source->pump->probes.limiter, source_now(source))) {",
        new="    if (false) {",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="claims-never-pause",
        bug="a stranger's claims bring about a probe each second for ever",
        file="udpoverlay/dataplane/verification.py",
        old="min(2 * length, LONGEST_PAUSE))",
        new="length)",
        tests=("tests/dataplane/test_verification.py",),
    ),
    Mutant(
        name="proofs-never-expire",
        bug="a NAT's old address is trusted for good",
        file="udpoverlay/dataplane/verification.py",
        old="            if proof.proved + EXPIRE_SECONDS <= now or ",
        new="            if ",
        tests=("tests/dataplane/test_verification.py",),
    ),
    Mutant(
        name="proofs-outlive-leases",
        bug="an address is trusted for a lease that has moved",
        file="udpoverlay/dataplane/verification.py",
        old=" or not holds(proof.subnet, key[1])",
        new="",
        tests=(
            "tests/dataplane/test_verification.py",
            "tests/dataplane/test_senders.py",
        ),
    ),
    Mutant(
        name="alias-of-one-peer-only",
        bug="of two nodes behind one NAT one is refused",
        file="ext/routes/senders.h",
        old=(
            "    return sender->count == 1 ? senders->peers[sender->first] == peer\n"
            "                              : sender_is_one_of(senders, sender, peer);"
        ),
        new="    return senders->peers[sender->first] == peer;",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="packets-before-routes",
        bug="a daemon that starts takes running nodes for strangers",
        file="udpoverlay/dataplane/engine.py",
        old="        if self._table.generation > 0:\n",
        new="        if True:\n",
        tests=("tests/dataplane/test_senders.py::test_packets_wait_for_the_first_routes",),
    ),
    Mutant(
        name="watch-has-no-owner",
        bug="after one error of ours nodes behind NATs stay refused",
        file="udpoverlay/dataplane/engine.py",
        old='        self._supervisor.start("senders", self._senders.run)\n',
        new="",
        tests=("tests/dataplane/test_senders.py",),
    ),
    Mutant(
        name="log-at-once",
        bug="every stray datagram writes a line",
        file="udpoverlay/dataplane/senders.py",
        old="            if first is not None and now - first >= STEADY_SECONDS:",
        new="            if first is not None:",
        tests=("tests/dataplane/test_senders.py",),
    ),
    Mutant(
        name="loopback-source-delivered",
        bug="a packet from 127.0.0.1 comes out of the tunnel",
        file="ext/worker/source_check.c",
        old="    if (!address_is_routable(from) || is_ours(source->pump, from))\n",
        new="    if (is_ours(source->pump, from))\n",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="warn-refuses",
        bug="--source-check=warn refuses what it should only count",
        file="ext/worker/source_check.c",
        old="COUNTER_WARNED_UNKNOWN_SENDER, 1);\n        return VERDICT_INBOUND_DELIVERED;\n",
        new="COUNTER_WARNED_UNKNOWN_SENDER, 1);\n        return verdict;\n",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="stranger-answered",
        bug="this host sends ICMP errors to an address that a stranger made up",
        file="ext/worker/source_check.c",
        old="    return senders_lookup(routes_senders(table), &address) != NULL;\n",
        new="    return true;\n",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="one-peer-behind-a-nat",
        bug="of several nodes behind one NAT only the first is accepted",
        file="ext/routes/senders.c",
        old="        if (peers[middle] == peer)\n            return true;\n",
        new="        if (peers[0] == peer)\n            return true;\n",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="alias-forgotten",
        bug="a node that sends from another address than its public IP is refused for ever",
        file="ext/routes/senders.c",
        old="    for (size_t i = 0; direct && i < alias_count; i++) {\n",
        new="    for (size_t i = alias_count; direct && i < alias_count; i++) {\n",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
    Mutant(
        name="alarm-rings-for-each-datagram",
        bug="a flood of refused datagrams keeps the event loop busy",
        file="ext/worker/probes.c",
        old="    if (!atomic_load_explicit(&probes->alarm, memory_order_relaxed) ||\n"
        "        !atomic_exchange_explicit(&probes->alarm, false, memory_order_acq_rel))\n",
        new="    if (!atomic_load_explicit(&probes->alarm, memory_order_relaxed))\n",
        tests=("tests/ext/worker/test_source_check.py",),
    ),
)
