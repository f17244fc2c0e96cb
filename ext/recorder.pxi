# SPDX-License-Identifier: Apache-2.0
# Part of _fastpath.pyx: the flight recorder (ext/trace/).


@cython.final
@cython.no_gc
cdef class Recorder:
    cdef recorder_t *recorders
    cdef readonly unsigned workers

    def __cinit__(self, unsigned workers, *, size_t passed, size_t dropped):
        cdef unsigned i
        if not 0 < workers <= 64:
            raise ValueError(f"from 1 to 64 workers, not {workers}")
        if posix_memalign(<void **>&self.recorders, 64, workers * sizeof(recorder_t)):
            raise MemoryError
        memset(self.recorders, 0, workers * sizeof(recorder_t))
        for i in range(workers):
            _check(recorder_init(&self.recorders[i], passed, dropped))
            self.workers = i + 1

    def __dealloc__(self):
        cdef unsigned i
        for i in range(self.workers):
            recorder_destroy(&self.recorders[i])
        free(self.recorders)

    cdef recorder_t *of(self, unsigned worker) except NULL:
        if worker >= self.workers:
            raise ValueError(f"worker {worker}: there are {self.workers}")
        return &self.recorders[worker]

    @property
    def each(self):
        return recorder_each(self.recorders)

    @each.setter
    def each(self, bint each):
        for i in range(self.workers):
            recorder_set_each(&self.recorders[i], each)

    def written(self, unsigned worker, bint dropped):
        cdef recorder_t *recorder = self.of(worker)
        return trace_ring_written(
            &recorder.rings[RECORDER_DROPPED if dropped else RECORDER_PASSED]
        )

    def read(self, unsigned worker, bint dropped, uint64_t start, size_t most):
        cdef recorder_t *recorder = self.of(worker)
        cdef trace_record_t found[64]
        cdef trace_record_t *one
        cdef uint64_t next = start, lost = 0
        cdef size_t count, i, room
        cdef list records = []
        while most > 0:
            room = most if most < 64 else 64
            with nogil:
                count = trace_ring_read(
                    &recorder.rings[RECORDER_DROPPED if dropped else RECORDER_PASSED],
                    &next, found, room, &lost,
                )
            if count == 0:
                break
            most -= count
            for i in range(count):
                one = &found[i]
                records.append(
                    (
                        one.time_ns, one.verdict, one.point, <bytes>one.remote[:4], one.packets,
                        one.length, <bytes>one.head[:one.captured],
                    )
                )
        return records, next, lost
