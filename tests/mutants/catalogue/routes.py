"""ext/routes: longest-prefix match, peers, publication and reclamation."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_PATH = "ext/routes/path.c"
_PEERS = "ext/routes/peers.c"
_ROUTES = "ext/routes/routes.c"
_TRIE = "ext/routes/trie.c"

_TESTS = ("tests/ext/routes/test_routes.py",)
_NEIGHBOURS = ("tests/ext/routes/test_neighbours.py",)

MUTANTS = (
    Mutant(
        name="wider-route-forgotten",
        bug="beside a /24 route the rest of a wider one is unreachable",
        file=_TRIE,
        old="    lone->otherwise = trie->entries[at];\n",
        new="    lone->otherwise = 0;\n",
        tests=_TESTS,
    ),
    Mutant(
        name="wider-route-lost-by-split",
        bug="a second route in the same /24 makes the addresses between them unreachable",
        file=_TRIE,
        old="    fill(node, TRIE_FANOUT, lone->otherwise);\n",
        new="    fill(node, TRIE_FANOUT, 0);\n",
        tests=_TESTS,
    ),
    Mutant(
        name="host-bits-compared",
        bug="a route written with host bits (10.5.23.7/20) leads astray beside a longer one",
        file=_TRIE,
        old="        bytes[i] = address[i] & mask[i];\n",
        new="        bytes[i] = address[i];\n",
        tests=_NEIGHBOURS,
    ),
    Mutant(
        name="first-of-equal-routes-counts",
        bug="of two routes with one prefix the older one stays: packets go to a host that moved",
        file=_TRIE,
        old="                lone->value = prefix->value;\n                return 0;\n",
        new="                return 0;\n",
        tests=_NEIGHBOURS,
    ),
    Mutant(
        name="shared-bytes-not-compared",
        bug="when all routes lie in 10.5.0.0/16, packets to 10.6.0.0/16 are sent to peers, too",
        file=_TRIE,
        old="    trie->shared = bits_of(prefixes[0].address, trie->width, 8 * skip);\n",
        new="    trie->shared = bits_of(prefixes[0].address, trie->width, 0);\n",
        tests=_TESTS,
    ),
    Mutant(
        name="peer-mtu-shared",
        bug="two routes to one peer with different MTUs share the first one's",
        file=_ROUTES,
        old="table->hops[peer->hop].mtu == route->mtu &&\n        same_header(",
        new="same_header(",
        tests=_NEIGHBOURS,
    ),
    Mutant(
        name="tables-never-freed",
        bug="each change of a route costs memory that never comes back",
        file=_ROUTES,
        old="        slot->generation++;\n        collect(slot);\n",
        new="        slot->generation++;\n",
        tests=_TESTS,
    ),
    Mutant(
        name="table-freed-under-a-reader",
        bug="a route that changes under load crashes the daemon: the table in use is freed",
        file=_ROUTES,
        old="        if (now - table->retired_at < now - oldest) {\n",
        new="        if (now - table->retired_at < 0) {\n",
        tests=_NEIGHBOURS,
    ),
    Mutant(
        name="peer-leaks",
        bug="peers that come and go are never forgotten: memory grows without end",
        file=_PEERS,
        old="    if (--peer->users > 0)\n        return;\n",
        new="    if (--peer->users >= 0)\n        return;\n",
        tests=_TESTS,
    ),
    Mutant(
        name="peers-differ-by-address-alone",
        bug="two peers on one address with different ports are taken for one",
        file=_PEERS,
        old="        key.port = endpoint->address.v4.sin_port;\n",
        new="",
        tests=_NEIGHBOURS,
    ),
    Mutant(
        name="failed-build-replaces",
        bug="a table that cannot be built leaves the host without any route",
        file=_ROUTES,
        old="    int rc = table_build(slot, routes, count, aliases, alias_count, &table);\n"
        "    if (rc == 0) {\n",
        new="    int rc = table_build(slot, routes, count, aliases, alias_count, &table);\n"
        "    if (rc == 0 || table_build(slot, NULL, 0, NULL, 0, &table) == 0) {\n",
        tests=_TESTS,
    ),
    Mutant(
        name="forged-mtu-believed",
        bug="one forged `fragmentation needed` halves the speed to a peer for ten minutes",
        file=_PATH,
        old="        mode.past_mtu = watched && mtu_is_the_cause(path) && "
        "size >= LOAD(segment.size);\n",
        new="        mode.past_mtu = false;\n",
        tests=(
            "tests/dataplane/test_path_mtu.py::test_forged_report_costs_seconds_while_the_kernel_believes_it",
        ),
    ),
    Mutant(
        name="report-of-a-narrow-path-ignored",
        bug="behind a path that became narrow full packets vanish for ten minutes",
        file=_PATH,
        old="    if (mtu >= size + PATH_OVERHEAD || (!LOAD(proving) && LOAD(past_until) <= now))\n",
        new="    if (mtu > 0)\n",
        tests=(
            "tests/dataplane/test_path_mtu.py::test_narrow_path_is_found_out_and_nothing_is_sent_past_it_for_long",
        ),
    ),
)
