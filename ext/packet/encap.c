/* SPDX-License-Identifier: Apache-2.0 */
#include "packet/encap.h"

#include <string.h>

const struct encap encap_udp = {.name = "udp", .header_length = 0, .check = NULL};

void encap_fill(const struct encap *encap, struct encap_header *header)
{
    memset(header, 0, sizeof(*header));
    header->length = encap->header_length;
}
