/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a list of routes and the addresses to look up, against a scan of all routes. First
 * byte: how many routes; each takes 5 bytes (IPv4) or 17 (IPv6), the length in the last one; what
 * is left is looked up as addresses.
 */
#include <stdlib.h>
#include <string.h>

#include "routes/routes.h"

#define MUST(condition) ((condition) ? (void)0 : abort())

enum { ROUTES_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int holds(const struct route *route, const uint8_t *address)
{
    for (unsigned bit = 0; bit < route->length; bit++)
        if ((route->address[bit / 8] ^ address[bit / 8]) & 0x80 >> bit % 8)
            return 0;
    return 1;
}

static void compare(struct route_slot *slot, const struct route *routes, size_t count,
                    unsigned version, const uint8_t *address)
{
    const struct route *best = NULL;
    for (size_t i = 0; i < count; i++)
        if (routes[i].version == version && holds(&routes[i], address) &&
            (!best || routes[i].length >= best->length))
            best = &routes[i];
    const struct nexthop *hop = routes_lookup(routes_current(slot), version, address);
    MUST((best == NULL) == (hop == NULL));
    MUST(best == NULL || best->mtu == hop->mtu);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct route routes[ROUTES_MAX];
    struct route_slot slot;
    size_t count = 0;
    if (size == 0)
        return 0;
    size_t wanted = data[0] & 0x3F;
    size_t width = data[0] & 0x80 ? 16 : 4;
    unsigned version = width == 16 ? 6 : 4;
    data++, size--;
    memset(routes, 0, sizeof(routes));
    while (count < wanted && size > width) {
        struct route *route = &routes[count];
        memcpy(route->address, data, width);
        route->version = (uint8_t)version;
        route->length = (uint8_t)(data[width] % (8 * width + 1));
        route->mtu = (uint32_t)count++;
        MUST(endpoint_set(&route->endpoint, route->address, 4, 8285) == 0);
        data += width + 1, size -= width + 1;
    }
    MUST(route_slot_init(&slot) == 0);
    MUST(routes_publish(&slot, routes, count, NULL, 0) == 0);
    for (size_t i = 0; i < count; i++)
        compare(&slot, routes, count, version, routes[i].address);
    for (; size >= width; data += width, size -= width) {
        uint8_t address[16];
        memcpy(address, data, width);
        compare(&slot, routes, count, version, address);
    }
    route_slot_destroy(&slot);
    return 0;
}
