/* SPDX-License-Identifier: Apache-2.0
 *
 * Preloaded into a test process: makes sendmmsg fail with the errno that stands in the first 4 bytes
 * of the file that FAIL_SEND names, as often as the next 4 bytes say.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int *wanted; /* errno, times */

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("FAIL_SEND");
    int fd = path ? open(path, O_RDWR) : -1;
    void *shared = fd < 0 ? MAP_FAILED
                          : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        abort();
    close(fd);
    wanted = shared;
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    if (wanted[1] > 0) {
        wanted[1]--;
        errno = wanted[0];
        return -1;
    }
    return (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
}
