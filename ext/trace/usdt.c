/* SPDX-License-Identifier: Apache-2.0 */
#include "trace/usdt.h"

#include <stddef.h>

/* In a section of its own that lies in the file, as the kernel finds it by its place there. */
__attribute__((section(".probes"))) volatile uint16_t udpoverlay_packet_semaphore;

#if USDT_SUPPORTED
/* A nop, and the note that says where it is, where the semaphore is and where each argument can be
 * found (https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation). The base is a byte whose
 * address tells by how much a tool like prelink moved the rest. */
#define USDT_NOTE(arguments)                                                    \
    "990: nop\n"                                                                \
    ".pushsection .note.stapsdt, \"\", \"note\"\n"                              \
    ".balign 4\n"                                                               \
    ".4byte 992f - 991f, 994f - 993f, 3\n"                                      \
    "991: .asciz \"stapsdt\"\n"                                                 \
    "992: .balign 4\n"                                                          \
    "993: .8byte 990b, _.stapsdt.base, udpoverlay_packet_semaphore\n"           \
    ".asciz \"udpoverlay\"\n"                                                   \
    ".asciz \"packet\"\n"                                                       \
    ".asciz \"" arguments "\"\n"                                                \
    "994: .balign 4\n"                                                          \
    ".popsection\n"                                                             \
    ".pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n" \
    ".weak _.stapsdt.base\n"                                                    \
    ".hidden _.stapsdt.base\n"                                                  \
    "_.stapsdt.base: .space 1\n"                                                \
    ".size _.stapsdt.base, 1\n"                                                 \
    ".popsection\n"
#endif

enum { NAME_MAX_LENGTH = 32 };

/* The name that people see (verdict.h). */
static void name_of(enum verdict verdict, char name[static NAME_MAX_LENGTH])
{
    const char *capitals = verdict_facts[verdict].name;
    size_t at = 0;

    for (; capitals[at] && at < NAME_MAX_LENGTH - 1; at++)
        name[at] = (char)(capitals[at] == '_' ? '_' : capitals[at] - 'A' + 'a');
    name[at] = '\0';
}

/* One place, so that a tracer has one address to watch. */
__attribute__((cold, noinline)) void usdt_packet(enum verdict verdict, unsigned point,
                                                 uint32_t peer, const struct iovec *pieces,
                                                 unsigned count, unsigned header)
{
    char name[NAME_MAX_LENGTH];
    const uint8_t *packet = NULL;
    uint64_t length = 0;

    name_of(verdict, name);
    for (unsigned i = 0; i < count; i++)
        length += pieces[i].iov_len;
    length = length > header ? length - header : 0;
    /* The inner header stands behind the outer one, or begins the next piece. */
    if (length > 0)
        packet = pieces[0].iov_len > header ? (const uint8_t *)pieces[0].iov_base + header
                                            : pieces[1].iov_base;
#if USDT_SUPPORTED
    __asm__ volatile(USDT_NOTE("8@%[verdict] 8@%[point] 8@%[peer] 8@%[length] 8@%[packet]")
                     :
                     : [verdict] "r"(name), [point] "r"((uint64_t)point),
                       [peer] "r"((uint64_t)peer), [length] "r"(length), [packet] "r"(packet)
                     : "memory");
#else
    (void)point, (void)peer, (void)packet;
#endif
}
