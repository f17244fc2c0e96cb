# SPDX-License-Identifier: Apache-2.0
# Part of _fastpath.pyx: routes and what is counted of peers (ext/routes/).


cdef int _read_route(object item, route *to) except -1:
    cdef bytes address, endpoint_address, header = b""
    cdef unsigned length, mtu
    cdef uint16_t port
    if len(item) == 6:
        address, length, endpoint_address, port, mtu, header = item
    else:
        address, length, endpoint_address, port, mtu = item
    if len(address) not in (4, 16) or length > 8 * <unsigned>len(address):
        raise ValueError(f"route {item!r}: not an IPv4 or IPv6 prefix")
    memcpy(to.address, <const uint8_t *>address, len(address))
    to.version = 4 if len(address) == 4 else 6
    to.length = length
    to.mtu = mtu
    if endpoint_set(&to.endpoint, endpoint_address, len(endpoint_address), port) < 0:
        raise ValueError(f"route {item!r}: the peer's address takes 4 or 16 bytes")
    if len(header) > <Py_ssize_t>sizeof(to.header.bytes):
        raise ValueError(f"route {item!r}: a header takes {sizeof(to.header.bytes)} bytes at most")
    to.header.length = len(header)
    memcpy(to.header.bytes, <const uint8_t *>header, len(header))
    return 0


cdef int _read_address(bytes text, address *to) except -1:
    if len(text) == 4:
        address_from_ipv4(to, <const uint8_t *>text)
    elif len(text) == 16:
        memcpy(to.bytes, <const uint8_t *>text, 16)
    else:
        raise ValueError(f"an address takes 4 or 16 bytes, not {len(text)}")
    return 0


cdef bytes _address(const address *of_):
    """IPv4 in 4 bytes, where it is that."""
    cdef bytes whole = of_.bytes[:16]
    return whole[12:] if whole.startswith(b"\0" * 10 + b"\xff\xff") else whole


cdef unsigned _version(Py_ssize_t length) except 0:
    if length == 4:
        return 4
    if length == 16:
        return 6
    raise ValueError(f"an address takes 4 or 16 bytes, not {length}")


@cython.final
cdef class RouteTable:
    cdef route_slot *slot  # on the heap, aligned to cache lines; valid as long as this object

    def __cinit__(self):
        cdef int rc
        if posix_memalign(<void **>&self.slot, 64, sizeof(route_slot)) != 0:
            self.slot = NULL
            raise MemoryError
        rc = route_slot_init(self.slot)
        if rc < 0:
            free(self.slot)
            self.slot = NULL
            _check(rc)

    def __dealloc__(self):
        if self.slot != NULL:
            route_slot_destroy(self.slot)
            free(self.slot)

    def publish(self, routes, aliases=()):
        cdef size_t count = len(routes), i = 0, alias_count = len(aliases), j = 0
        cdef int rc
        cdef route *flat = <route *>calloc(count or 1, sizeof(route))
        cdef sender_alias *flat_aliases = <sender_alias *>calloc(
            alias_count or 1, sizeof(sender_alias)
        )
        try:
            if flat == NULL or flat_aliases == NULL:
                raise MemoryError
            for alias, of in aliases:
                if j == alias_count:
                    raise ValueError("aliases changed while they were published")
                _read_address(alias, &flat_aliases[j].address)
                _read_address(of, &flat_aliases[j].of_)
                j += 1
            for item in routes:
                if i == count:
                    raise ValueError("routes changed while they were published")
                _read_route(item, &flat[i])
                i += 1
            with nogil:
                rc = routes_publish(self.slot, flat, i, flat_aliases, j)
        finally:
            free(flat)
            free(flat_aliases)
        _check(rc)

    def collect(self):
        cdef size_t left
        with nogil:
            left = routes_collect(self.slot)
        return left

    def lookup(self, bytes address not None):
        cdef nexthop found
        cdef uint8_t peer_address[16]
        cdef uint16_t port
        cdef size_t length
        if not routes_find(self.slot, _version(len(address)), address, &found):
            return None
        length = endpoint_get(&found.endpoint, peer_address, &port)
        return peer_address[:length], port, found.mtu

    def lookup_many(self, bytes addresses not None, size_t address_length, size_t rounds=1):
        cdef unsigned version = _version(address_length)
        cdef const uint8_t *start = addresses
        cdef size_t count = len(addresses) // address_length, hits = 0, i
        cdef const route_table *table
        cdef route_reader reader
        with nogil:
            route_reader_add(self.slot, &reader)
            route_reader_online(&reader)
            for _ in range(rounds):
                route_reader_pass(&reader)
                table = routes_current(self.slot)
                for i in range(count):
                    hits += routes_lookup(table, version, start + i * address_length) != NULL
            route_reader_offline(&reader)
            route_reader_remove(&reader)
        return hits

    def fallbacks(self):
        cdef size_t room = 0, count, length
        cdef peer_fallback *found = NULL
        cdef uint8_t address[16]
        cdef uint16_t port
        cdef list peers = []
        with nogil:
            count = routes_fallbacks(self.slot, NULL, 0)
        try:
            room = count
            found = <peer_fallback *>calloc(room or 1, sizeof(peer_fallback))
            if found == NULL:
                raise MemoryError
            with nogil:
                count = routes_fallbacks(self.slot, found, room)
            for i in range(min(count, room)):
                length = endpoint_get(&found[i].endpoint, address, &port)
                peers.append(
                    (
                        address[:length],
                        port,
                        _fallback("udp-segment", &found[i].path.segment),
                        found[i].path.past_until,
                    )
                )
        finally:
            free(found)
        return peers

    def traffic(self):
        cdef size_t room, count, length
        cdef peer_traffic *found = NULL
        cdef uint8_t address[16]
        cdef uint16_t port
        cdef list peers = []
        with nogil:
            count = routes_traffic(self.slot, NULL, 0)
        try:
            room = count
            found = <peer_traffic *>calloc(room or 1, sizeof(peer_traffic))
            if found == NULL:
                raise MemoryError
            with nogil:
                count = routes_traffic(self.slot, found, room)
            for i in range(min(count, room)):
                length = endpoint_get(&found[i].endpoint, address, &port)
                peers.append(
                    (
                        address[:length],
                        port,
                        {
                            verdict: found[i].sum.verdicts[verdict]
                            for verdict in range(VERDICT_COUNT)
                            if found[i].sum.verdicts[verdict]
                        },
                        found[i].sum.bytes[<int>DIRECTION_OUTBOUND],
                        found[i].sum.bytes[<int>DIRECTION_INBOUND],
                        found[i].sum.heard_ns,
                    )
                )
        finally:
            free(found)
        return peers

    def heard(self, uint64_t since_ns):
        cdef size_t count
        with nogil:
            count = routes_heard(self.slot, since_ns)
        return count

    def path_report(self, bytes address not None, uint16_t port, uint32_t mtu=0):
        cdef endpoint of_
        cdef bint known
        if endpoint_set(&of_, address, len(address), port) < 0:
            raise ValueError(f"an address takes 4 or 16 bytes, not {len(address)}")
        with nogil:
            known = routes_path_report(self.slot, &of_, mtu, clock_ns())
        return known

    cdef route_facts _read_facts(self):
        cdef route_facts facts
        with nogil:
            routes_facts(self.slot, &facts)
        return facts

    def __len__(self):
        return self._read_facts().routes

    @property
    def generation(self):
        return self._read_facts().generation

    @property
    def memory(self):
        return self._read_facts().memory

    @property
    def retired(self):
        return self._read_facts().retired

    @property
    def peers(self):
        return self._read_facts().peers
