"""The system calls that the running daemon and its children need: the one list, with the reasons.

Owns: names and numbers. Must not know: filters, or how the list is used.

The list is generated from what was seen: `python -m tests.support.calls_made` runs daemons under
strace through a life (start, repairs, a new device, dumps, stop) and prints what the list lacks; a
test does the same. What other C libraries, kernels and Python versions call in the same place
stands beside it: stat is newfstatat is statx. What is not needed is not there, dangerous or not:
bpf, io_uring, keyrings, kernel modules, mounts, namespaces, perf, ptrace, clocks.

Each entry is "name number number": on x86-64, and on the architectures with the kernel's common
table (asm-generic/unistd.h): arm64, riscv64, loongarch64. "-" where there is no such call.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEVICE_NODE", "GROUPS", "NEW_CALLS", "PLUGINS", "Call", "Group"]

NEW_CALLS = 424
"""From this number on (Linux 5.1) calls have one number everywhere, and programs do without."""


@dataclass(frozen=True, slots=True)
class Call:
    """A system call; None: the architecture has none of that name."""

    name: str
    x86_64: int | None
    generic: int | None


@dataclass(frozen=True, slots=True)
class Group:
    """Calls that are needed for one reason."""

    name: str
    why: str
    table: str

    def calls(self) -> tuple[Call, ...]:
        """The entries of the table."""
        rows = (entry.split() for entry in self.table.split(";"))
        return tuple(Call(name, _number(x86_64), _number(common)) for name, x86_64, common in rows)


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


GROUPS = (
    Group(
        "memory",
        "a process, its libraries and its allocator",
        """
            brk 12 214; mmap 9 222; munmap 11 215; mprotect 10 226; mremap 25 216; madvise 28 233;
            membarrier 324 283
        """,
    ),
    Group(
        "descriptors",
        "what is open: files, pipes, the tunnel",
        """
            read 0 63; write 1 64; readv 19 65; writev 20 66; pread64 17 67; pwrite64 18 68;
            preadv 295 69; pwritev 296 70; preadv2 327 286; pwritev2 328 287; open 2 -;
            openat 257 56; openat2 437 437; creat 85 -; close 3 57; close_range 436 436; dup 32 23;
            dup2 33 -; dup3 292 24; fcntl 72 25; lseek 8 62; flock 73 32; fsync 74 82;
            fdatasync 75 83; ftruncate 77 46; fallocate 285 47; fadvise64 221 223; sendfile 40 71;
            copy_file_range 326 285
        """,
    ),
    Group(
        "names",
        "files by their name: subnet.env, the admin socket, certificates, dumps, what tools load",
        """
            stat 4 -; fstat 5 80; lstat 6 -; newfstatat 262 79; statx 332 291; access 21 -;
            faccessat 269 48; faccessat2 439 439; readlink 89 -; readlinkat 267 78; getdents 78 -;
            getdents64 217 61; getcwd 79 17; chdir 80 49; fchdir 81 50; statfs 137 43;
            fstatfs 138 44; mkdir 83 -; mkdirat 258 34; rmdir 84 -; rename 82 -; renameat 264 38;
            renameat2 316 276; unlink 87 -; unlinkat 263 35; link 86 -; linkat 265 37;
            symlink 88 -; symlinkat 266 36; chmod 90 -; fchmod 91 52; fchmodat 268 53;
            fchmodat2 452 452; umask 95 166; utimensat 280 88
        """,
    ),
    Group(
        "waiting",
        "the event loop, the workers, timers",
        """
            pipe 22 -; pipe2 293 59; eventfd 284 -; eventfd2 290 19; epoll_create 213 -;
            epoll_create1 291 20; epoll_ctl 233 21; epoll_wait 232 -; epoll_pwait 281 22;
            epoll_pwait2 441 441; poll 7 -; ppoll 271 73; select 23 -; pselect6 270 72;
            timerfd_create 283 85; timerfd_settime 286 86; timerfd_gettime 287 87; signalfd 282 -;
            signalfd4 289 74; inotify_init 253 -; inotify_init1 294 26; inotify_add_watch 254 27;
            inotify_rm_watch 255 28; clock_gettime 228 113; clock_getres 229 114;
            clock_nanosleep 230 115; nanosleep 35 101; gettimeofday 96 169; time 201 -;
            times 100 153; alarm 37 -; getitimer 36 102; setitimer 38 103
        """,
    ),
    Group(
        "sockets",
        "registry, peers, netlink, the admin socket; socket itself is looked at",
        """
            socketpair 53 199; bind 49 200; listen 50 201; connect 42 203; accept 43 202;
            accept4 288 242; getsockname 51 204; getpeername 52 205; getsockopt 55 209;
            setsockopt 54 208; sendto 44 206; recvfrom 45 207; sendmsg 46 211; recvmsg 47 212;
            sendmmsg 307 269; recvmmsg 299 243; shutdown 48 210
        """,
    ),
    Group(
        "signals",
        "stop, SIGUSR1, the end of a child",
        """
            rt_sigaction 13 134; rt_sigprocmask 14 135; rt_sigreturn 15 139; rt_sigpending 127 136;
            rt_sigsuspend 130 133; rt_sigtimedwait 128 137; rt_sigqueueinfo 129 138;
            rt_tgsigqueueinfo 297 240; sigaltstack 131 132; kill 62 129; tkill 200 130;
            tgkill 234 131; pause 34 -; restart_syscall 219 128
        """,
    ),
    Group(
        "processes",
        "threads, and children like nft; clone is looked at",
        """
            fork 57 -; vfork 58 -; execve 59 221; execveat 322 281; exit 60 93; exit_group 231 94;
            wait4 61 260; waitid 247 95; pidfd_open 434 434; pidfd_send_signal 424 424;
            futex 202 98; futex_waitv 449 449; set_robust_list 273 99; get_robust_list 274 100;
            set_tid_address 218 96; rseq 334 293; gettid 186 178; getpid 39 172; getppid 110 173;
            getpgid 121 155; getpgrp 111 -; setpgid 109 154; getsid 124 156; setsid 112 157;
            sched_yield 24 124; sched_getaffinity 204 123; sched_setaffinity 203 122;
            sched_getparam 143 121; sched_getscheduler 145 120; sched_get_priority_max 146 125;
            sched_get_priority_min 147 126; getpriority 140 141; getcpu 309 168; prctl 157 167;
            arch_prctl 158 -; prlimit64 302 261; getrlimit 97 163; setrlimit 160 164;
            getrusage 98 165; sysinfo 99 179; uname 63 160; getrandom 318 278; getuid 102 174;
            geteuid 107 175; getgid 104 176; getegid 108 177; getresuid 118 148; getresgid 120 150;
            getgroups 115 158; capget 125 90
        """,
    ),
)

"""Always needed; socket, clone and ioctl come with a look at an argument (bpf.py)."""

PLUGINS = Group(
    "plugins",
    "what a credential plugin of a kubeconfig may be written in: Go, Java, Node, a shell",
    """
        chown 92 -; fchown 93 55; lchown 94 -; fchownat 260 54; truncate 76 45; utime 132 -;
        utimes 235 -; futimesat 261 -; getxattr 191 8; lgetxattr 192 9; fgetxattr 193 10;
        listxattr 194 11; llistxattr 195 12; flistxattr 196 13; splice 275 76; tee 276 77;
        sync 162 81; sync_file_range 277 84; readahead 187 213; memfd_create 319 279;
        mlock 149 228; munlock 150 229; mlock2 325 284; get_mempolicy 239 236; mbind 237 235;
        set_mempolicy 238 237;
        timer_create 222 107; timer_settime 223 110; timer_gettime 224 108;
        timer_getoverrun 225 109; timer_delete 226 111; setpriority 141 140;
        sched_setparam 142 118; sched_setscheduler 144 119; sched_getattr 315 275;
        sched_setattr 314 274; capset 126 91
    """,
)
"""Only with a kubeconfig."""
DEVICE_NODE = Group(
    "device",
    "makes the device node where a container has none",
    """
        mknod 133 -; mknodat 259 33
    """,
)
"""Only where /dev/net/tun is missing, as in the pods of flannel's own manifest."""
