/* SPDX-License-Identifier: Apache-2.0
 *
 * process: what a process may do, where Python has no name for the call.
 *
 * Owns: the numbers of these calls and their structures. Must not know: which rights are wanted.
 *
 * All work on the thread that calls, save process_filter, which takes every thread along.
 */
#ifndef UDPOVERLAY_PROCESS_H
#define UDPOVERLAY_PROCESS_H

#include <stdint.h>

#include <linux/filter.h>

/* Capabilities by number, each a bit (linux/capability.h). */
struct process_capabilities {
    uint64_t effective;
    uint64_t permitted;
    uint64_t inheritable;
};

/* 0 or -errno. */
int process_capabilities_get(struct process_capabilities *out);
int process_capabilities_set(const struct process_capabilities *wanted);

/* Take a capability from all that this thread will ever execute. -EINVAL: the kernel has no such. */
int process_bounding_drop(unsigned capability);

/* Keep a capability over execve for a user who is not root; it must be permitted and inheritable. */
int process_ambient_raise(unsigned capability);

/* Neither set-user-ID bits nor file capabilities give this thread's programs more from here on. */
int process_no_new_privileges(void);

/*
 * Have the kernel run `program` before each system call of every thread (seccomp(2)); this cannot be
 * undone. Needs process_no_new_privileges, which the other threads get by it, too. 0, -errno, or
 * -EBUSY where a thread has other filters than the caller.
 */
int process_filter(const struct sock_fprog *program);

#endif
