/* SPDX-License-Identifier: Apache-2.0
 *
 * Preloaded into a test process: makes calls of the pump fail, and its clock run ahead. The file
 * that FAIL_CALLS names holds the orders, as ints:
 *
 *     0, 1  errno and how often: sendmmsg
 *     2, 3  the same: sendmmsg whose first message is to be segmented
 *     4, 5  the same: writev of a super-packet (more than a header and one packet)
 *     6     seconds that the monotonic clock is ahead
 *     7     the most datagrams that one segmented send had; counted here
 *     8-10  read: descriptor + 1, how many succeed before one fails, errno
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SEND, SEGMENTED = 2, SUPER = 4, AHEAD = 6, MOST = 7, READ = 8 };

static volatile int *orders;

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("FAIL_CALLS");
    int fd = path ? open(path, O_RDWR) : -1;
    void *shared =
        fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        abort();
    close(fd);
    orders = shared;
}

/* A sanitizer's library calls some of these before we are attached. */
static bool fails(int which)
{
    if (!orders || orders[which + 1] <= 0)
        return false;
    orders[which + 1]--;
    errno = orders[which];
    return true;
}

/* The datagrams that a message is to be sent as; 1 without UDP_SEGMENT. */
static int datagrams(const struct msghdr *message)
{
    unsigned short size;
    size_t bytes = 0;
    if (message->msg_controllen == 0)
        return 1;
    memcpy(&size, CMSG_DATA(CMSG_FIRSTHDR(message)), sizeof(size));
    for (size_t i = 0; i < message->msg_iovlen; i++)
        bytes += message->msg_iov[i].iov_len;
    return (int)((bytes + size - 1) / size);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    if (fails(SEND))
        return -1;
    for (unsigned i = 0; i < count; i++) {
        int one = datagrams(&messages[i].msg_hdr);
        if (one > orders[MOST])
            orders[MOST] = one;
        if (messages[i].msg_hdr.msg_controllen == 0 || orders[SEGMENTED + 1] <= 0)
            continue;
        if (i > 0) {
            count = i;
            break;
        }
        fails(SEGMENTED);
        return -1;
    }
    return (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    if (count > 2 && fails(SUPER))
        return -1;
    return syscall(SYS_writev, fd, iov, count);
}

ssize_t read(int fd, void *buffer, size_t length)
{
    if (orders && orders[READ] == fd + 1 && orders[READ + 1]-- == 0) {
        orders[READ] = 0;
        errno = orders[READ + 2];
        return -1;
    }
    return syscall(SYS_read, fd, buffer, length);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, now);
    if (rc == 0 && orders && clock == CLOCK_MONOTONIC)
        now->tv_sec += orders[AHEAD];
    return rc;
}
