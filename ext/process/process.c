/* SPDX-License-Identifier: Apache-2.0 */
#include "process/process.h"

#include <errno.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Newer than the oldest headers that we are built with. */
#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT       47
#define PR_CAP_AMBIENT_RAISE 2
#endif
#ifndef SECCOMP_FILTER_FLAG_TSYNC
#define SECCOMP_FILTER_FLAG_TSYNC 1
#endif

static int control(int option, unsigned long first, unsigned long second)
{
    return prctl(option, first, second, 0UL, 0UL) == 0 ? 0 : -errno;
}

int process_capabilities_get(struct process_capabilities *out)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct half[_LINUX_CAPABILITY_U32S_3] = {{0}};

    if (syscall(SYS_capget, &header, half) != 0)
        return -errno;
    out->effective = half[0].effective | (uint64_t)half[1].effective << 32;
    out->permitted = half[0].permitted | (uint64_t)half[1].permitted << 32;
    out->inheritable = half[0].inheritable | (uint64_t)half[1].inheritable << 32;
    return 0;
}

int process_capabilities_set(const struct process_capabilities *wanted)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct half[_LINUX_CAPABILITY_U32S_3] = {
        {(uint32_t)wanted->effective, (uint32_t)wanted->permitted, (uint32_t)wanted->inheritable},
        {(uint32_t)(wanted->effective >> 32), (uint32_t)(wanted->permitted >> 32),
         (uint32_t)(wanted->inheritable >> 32)},
    };

    return syscall(SYS_capset, &header, half) == 0 ? 0 : -errno;
}

int process_bounding_drop(unsigned capability)
{
    return control(PR_CAPBSET_DROP, capability, 0);
}

int process_ambient_raise(unsigned capability)
{
    return control(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability);
}

int process_no_new_privileges(void)
{
    return control(PR_SET_NO_NEW_PRIVS, 1, 0);
}

int process_filter(const struct sock_fprog *program)
{
    long rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, program);

    if (rc > 0) /* the thread that could not be taken along */
        return -EBUSY;
    return rc == 0 ? 0 : -errno;
}
