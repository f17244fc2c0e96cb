/* SPDX-License-Identifier: Apache-2.0 */
#include "packet/encap.h"

const struct encap encap_udp = {.name = "udp", .header_length = 0, .is_hop = true, .check = NULL};
