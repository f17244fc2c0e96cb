# SPDX-License-Identifier: Apache-2.0
# Part of _fastpath.pyx: what this process may do (ext/process/).


def capabilities():
    cdef process_capabilities_t found
    _check(process_capabilities_get(&found))
    return found.effective, found.permitted, found.inheritable


def set_capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable):
    cdef process_capabilities_t wanted
    wanted.effective, wanted.permitted, wanted.inheritable = effective, permitted, inheritable
    _check_process(process_capabilities_set(&wanted))


def drop_from_bounding_set(unsigned capability):
    _check_process(process_bounding_drop(capability))


def raise_ambient(unsigned capability):
    _check_process(process_ambient_raise(capability))


def set_no_new_privileges():
    _check_process(process_no_new_privileges())


def filter_system_calls(bytes instructions not None):
    cdef sock_fprog program
    _program(&program, instructions)
    _check_process(process_filter(&program))


cdef int _check_process(int rc) except -1:
    """EINVAL is the kernel's here, not the caller's."""
    if rc < 0:
        raise OSError(-rc, os.strerror(-rc))
    return 0
