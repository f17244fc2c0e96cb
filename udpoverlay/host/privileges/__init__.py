"""What the daemon may still do once it is set up: capabilities, no_new_privs, system calls.

capabilities  which are kept, and giving up the others      needs  why one more is kept
calls         the system calls that are needed, by reason   bpf    a filter of them; pure
seccomp       having the kernel use it                      process  the steps, and what is so now
"""
