/* SPDX-License-Identifier: Apache-2.0 */
#include "verdict.h"

const struct verdict_facts verdict_facts[VERDICT_COUNT] = {
#define X(name, direction, kind, help) {#name, DIRECTION_##direction, VERDICT_KIND_##kind, help},
    VERDICT_LIST(X)
#undef X
};

const struct verdict_facts counter_facts[COUNTER_COUNT] = {
#define X(name, direction, help) {#name, DIRECTION_##direction, VERDICT_KIND_OK, help},
    COUNTER_LIST(X)
#undef X
};

const struct verdict_facts histogram_facts[HISTOGRAM_COUNT] = {
#define X(name, direction, help) {#name, DIRECTION_##direction, VERDICT_KIND_OK, help},
    HISTOGRAM_LIST(X)
#undef X
};
