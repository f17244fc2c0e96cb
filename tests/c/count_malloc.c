/* SPDX-License-Identifier: Apache-2.0
 *
 * Preloaded into a test process: counts every allocation of the C heap in the 8 bytes of the file
 * that COUNT_MALLOC names, so that reading the count allocates nothing.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic unsigned long own;
static _Atomic unsigned long *count = &own;

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("COUNT_MALLOC");
    int fd = path ? open(path, O_RDWR) : -1;
    if (fd < 0)
        abort();
    void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        abort();
    close(fd);
    count = shared;
}

/* glibc's own entry points: dlsym would allocate. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t size)
{
    atomic_fetch_add(count, 1);
    return __libc_malloc(size);
}

void *calloc(size_t members, size_t size)
{
    atomic_fetch_add(count, 1);
    return __libc_calloc(members, size);
}

void *realloc(void *old, size_t size)
{
    atomic_fetch_add(count, 1);
    return __libc_realloc(old, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    atomic_fetch_add(count, 1);
    *out = __libc_memalign(alignment, size);
    return *out ? 0 : 12;
}
