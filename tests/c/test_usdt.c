/* SPDX-License-Identifier: Apache-2.0
 *
 * The probe, used as a tracer uses it: found by its note, switched on by its semaphore, a breakpoint
 * in place of the nop, and arguments read from where the note says.
 */
#define _GNU_SOURCE /* REG_RAX */
#include <elf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "harness.h"
#include "worker/event.h"

#if USDT_SUPPORTED

/* The note's descriptor. */
struct found {
    uint64_t location, base, semaphore;
    char texts[256]; /* provider, name, arguments */
};

extern const char usdt_base __asm__("_.stapsdt.base") __attribute__((visibility("hidden")));

static struct found probe;

static void read_at(FILE *file, uint64_t offset, void *to, size_t length)
{
    CHECK(fseek(file, (long)offset, SEEK_SET) == 0);
    CHECK(fread(to, 1, length, file) == length);
}

/* Notes named stapsdt in this program; the last one. */
static unsigned find_notes(struct found *found)
{
    FILE *file = fopen("/proc/self/exe", "rb");
    unsigned count = 0;
    Elf64_Ehdr elf;

    CHECK(file);
    read_at(file, 0, &elf, sizeof(elf));
    for (unsigned i = 0; i < elf.e_shnum; i++) {
        Elf64_Shdr section;
        read_at(file, elf.e_shoff + i * sizeof(section), &section, sizeof(section));
        if (section.sh_type != SHT_NOTE)
            continue;
        for (uint64_t at = 0; at < section.sh_size;) {
            Elf64_Nhdr note;
            char name[8] = {0};
            read_at(file, section.sh_offset + at, &note, sizeof(note));
            const uint64_t behind = at + sizeof(note) + ((note.n_namesz + 3) & ~3U);
            if (note.n_namesz == 8) {
                read_at(file, section.sh_offset + at + sizeof(note), name, 8);
                if (strcmp(name, "stapsdt") == 0) {
                    CHECK(note.n_type == 3 && note.n_descsz <= sizeof(*found));
                    read_at(file, section.sh_offset + behind, found, note.n_descsz);
                    count++;
                }
            }
            at = behind + ((note.n_descsz + 3) & ~3U);
        }
    }
    fclose(file);
    return count;
}

/* How far the program lies from where the file says. */
static uint64_t moved(void)
{
    return (uint64_t)&usdt_base - probe.base;
}

TEST(the_note_names_one_probe_and_its_semaphore)
{
    CHECK(find_notes(&probe) == 1);
    CHECK(strcmp(probe.texts, "udpoverlay") == 0);
    CHECK(strcmp(probe.texts + sizeof("udpoverlay"), "packet") == 0);
    CHECK(probe.semaphore + moved() == (uint64_t)&udpoverlay_packet_semaphore);
}

#ifdef __x86_64__

enum { ARGUMENTS = 5 };

static volatile uint64_t hits, seen[ARGUMENTS]; /* by a signal handler */
static char seen_name[64];

static uint64_t register_named(const char *name, const greg_t *registers)
{
    static const struct {
        const char *name;
        int number;
    } names[] = {{"rax", REG_RAX}, {"rbx", REG_RBX}, {"rcx", REG_RCX}, {"rdx", REG_RDX},
                 {"rsi", REG_RSI}, {"rdi", REG_RDI}, {"rbp", REG_RBP}, {"r8", REG_R8},
                 {"r9", REG_R9},   {"r10", REG_R10}, {"r11", REG_R11}, {"r12", REG_R12},
                 {"r13", REG_R13}, {"r14", REG_R14}, {"r15", REG_R15}};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i].name) == 0)
            return (uint64_t)registers[names[i].number];
    abort();
}

static void on_trap(int number, siginfo_t *info, void *context)
{
    const greg_t *registers = ((const ucontext_t *)context)->uc_mcontext.gregs;
    char arguments[128];
    unsigned count = 0;

    (void)number, (void)info;
    strcpy(arguments, strchr(strchr(probe.texts, '\0') + 1, '\0') + 1);
    for (char *one = strtok(arguments, " "); one && count < ARGUMENTS; one = strtok(NULL, " ")) {
        if (strncmp(one, "8@%", 3) != 0)
            abort();
        seen[count++] = register_named(one + 3, registers);
    }
    snprintf(seen_name, sizeof(seen_name), "%s", (const char *)seen[0]);
    hits++;
}

/* A breakpoint of one byte takes the place of the nop, which is one byte, too. */
static void set_breakpoint(bool on)
{
    uint8_t *place = (uint8_t *)(probe.location + moved());
    const uintptr_t page = (uintptr_t)place & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);

    CHECK(*place == (on ? 0x90 : 0xCC));
    CHECK(mprotect((void *)page, (size_t)sysconf(_SC_PAGESIZE),
                   PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    *place = on ? 0xCC : 0x90;
    CHECK(mprotect((void *)page, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_EXEC) == 0);
}

static struct peer_counts rows[PEER_SLOTS];
static _Atomic uint32_t remotes[PEER_SLOTS];
static struct stats stats = {.peers = rows, .remotes = remotes};

/* A packet comes to its end while a tracer listens, or while none does. */
static void end_of_packet(struct packet_event event, bool listened)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO}, before;

    CHECK(find_notes(&probe) == 1);
    hits = 0;
    CHECK(sigaction(SIGTRAP, &action, &before) == 0);
    set_breakpoint(true);
    udpoverlay_packet_semaphore = listened; /* as the kernel does it */
    packet_event(&stats, event);
    udpoverlay_packet_semaphore = 0;
    set_breakpoint(false);
    sigaction(SIGTRAP, &before, NULL);
    CHECK(hits == listened);
}

TEST(a_packet_does_not_reach_the_probe_while_no_tracer_listens)
{
    end_of_packet((struct packet_event){.verdict = VERDICT_OUTBOUND_SENT}, false);
}

TEST(a_tracer_sees_verdict_point_peer_length_and_packet)
{
    uint8_t bytes[100] = {0};
    const struct iovec all = {.iov_base = bytes, .iov_len = sizeof(bytes)};

    remotes[3] = 0x0A0B0C0D;
    end_of_packet((struct packet_event){.verdict = VERDICT_INBOUND_MARTIAN_SOURCE,
                                        .point = POINT_UDP_IN,
                                        .peer = 3,
                                        .header = 8,
                                        .count = 1,
                                        .pieces = &all},
                  true);
    CHECK(strcmp(seen_name, "inbound_martian_source") == 0);
    CHECK(seen[1] == 2 && seen[2] == 0x0A0B0C0D);
    CHECK(seen[3] == 92 && seen[4] == (uint64_t)(bytes + 8));
}

TEST(a_tracer_sees_the_address_of_a_stranger)
{
    const uint8_t stranger[] = {9, 8, 7, 6};
    uint32_t expected;

    memcpy(&expected, stranger, sizeof(expected));
    end_of_packet((struct packet_event){.verdict = VERDICT_INBOUND_UNKNOWN_SENDER,
                                        .point = POINT_UDP_IN,
                                        .peer = PEER_UNKNOWN,
                                        .remote = stranger},
                  true);
    CHECK(seen[2] == expected);
}

TEST(a_tracer_sees_each_segment_of_a_run_with_its_own_header)
{
    uint8_t outer[50] = {0}, head[40] = {0}, payload[60] = {0}, both[90] = {0};
    const struct iovec apart[] = {{outer, sizeof(outer)}, {head, sizeof(head)}};
    const struct iovec split[] = {{both, sizeof(both)}, {payload, sizeof(payload)}};
    struct packet_event event = {.verdict = VERDICT_OUTBOUND_SENT,
                                 .point = POINT_UDP_OUT,
                                 .header = sizeof(outer),
                                 .count = 2,
                                 .run = 2};

    event.pieces = apart;
    end_of_packet(event, true);
    CHECK(seen[3] == sizeof(head) && seen[4] == (uint64_t)head);
    event.pieces = split;
    event.run = 0; /* a later one */
    end_of_packet(event, true);
    CHECK(seen[3] == 100 && seen[4] == (uint64_t)(both + sizeof(outer)));
}

TEST(a_tracer_gets_no_pointer_where_nothing_of_the_packet_is_left)
{
    uint8_t bytes[8] = {0};
    const struct iovec all = {.iov_base = bytes, .iov_len = sizeof(bytes)};

    end_of_packet((struct packet_event){.verdict = VERDICT_INBOUND_TOO_SHORT}, true);
    CHECK(seen[3] == 0 && seen[4] == 0);
    end_of_packet((struct packet_event){.verdict = VERDICT_INBOUND_TOO_SHORT,
                                        .header = sizeof(bytes),
                                        .count = 1,
                                        .pieces = &all},
                  true);
    CHECK(seen[3] == 0 && seen[4] == 0);
}

TEST(every_name_fits)
{
    for (int verdict = 0; verdict < VERDICT_COUNT; verdict++) {
        end_of_packet((struct packet_event){.verdict = (enum verdict)verdict}, true);
        CHECK(strlen(seen_name) == strlen(verdict_facts[verdict].name));
        CHECK(strcasecmp(seen_name, verdict_facts[verdict].name) == 0);
    }
}

#endif
#endif
