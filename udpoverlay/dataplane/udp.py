"""Opens the tunnel's UDP socket and the raw socket for the ICMP errors that we originate.

Owns: how they are bound and sized, and errors that name the fix. Must not know: what is sent.
The UDP socket is bound as flannel binds its own (pkg/backend/udp/udp_network_amd64.go): to the
interface's address and the port, without reuse flags, in the kernel's default path-MTU mode.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from udpoverlay import _fastpath as fp
from udpoverlay.errors import KernelError

__all__ = ["Sockets", "adopt_udp", "fit_send_buffer", "open_icmp", "open_udp"]

BUFFER_BYTES = 8 << 20
"""Asked for in each direction; a burst of 64 super-packets waits here rather than being lost."""

NEIGHBOUR_BYTES_FILE = Path("/proc/sys/net/ipv4/neigh/default/unres_qlen_bytes")
NEIGHBOUR_BYTES = 212992
"""Its value in Linux where it cannot be read."""
NEIGHBOURS_MAX = 1024
"""More than these the kernel does not keep unless gc_thresh3 is raised."""


@dataclass(slots=True)
class Sockets:
    """What an engine talks to the underlay with."""

    udp: socket.socket
    """The tunnel's own."""
    icmp: socket.socket | None = None
    """For the ICMP errors that we originate."""
    reports: socket.socket | None = None
    """For those that come back for our datagrams."""

    def close(self) -> None:
        """Close all that are open. Idempotent."""
        for each in (self.udp, self.icmp, self.reports):
            if each is not None:
                each.close()


def open_udp(address: str, port: int) -> socket.socket:
    """Bind a non-blocking UDP socket to `address`, `port` (host byte order). Raises KernelError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _enlarge(udp, fp.SO_RCVBUFFORCE, socket.SO_RCVBUF)
        _enlarge(udp, fp.SO_SNDBUFFORCE, socket.SO_SNDBUF)
        udp.bind((address, port))
    except OSError as error:
        udp.close()
        fix = {
            errno.EADDRINUSE: "another process has the port (is flanneld still running?): "
            "stop it, or set Backend.Port in the network configuration",
            errno.EADDRNOTAVAIL: "no interface of this host has the address: check --iface and "
            "--public-ip",
            errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        }.get(error.errno or 0, "")
        raise KernelError(
            f"cannot bind UDP {address} port {port}: {error.strerror}",
            fix=fix,
            errno=error.errno or 0,
        ) from error
    return udp


def adopt_udp(fd: int, bind: tuple[str, int]) -> socket.socket:
    """A socket from another process, which has bound it to `bind`; `fd` stays the caller's.

    Raises KernelError.
    """
    try:
        udp = socket.socket(fileno=os.dup(fd))
    except OSError as error:
        raise KernelError(f"no socket: {error.strerror}", errno=error.errno or 0) from error
    try:
        if udp.type != socket.SOCK_DGRAM or udp.getsockname()[:2] != bind:
            raise KernelError(f"the socket is not bound to {bind[0]} port {bind[1]}")
        udp.setblocking(False)
    except BaseException:
        udp.close()
        raise
    return udp


def fit_send_buffer(udp: socket.socket, peers: int) -> None:
    """Make the send buffer large enough that peers which are gone do not starve those that live.

    A datagram to a host whose link address is not known waits in the kernel and is charged to our
    socket: up to `unres_qlen_bytes` for each such host, for about three seconds
    (net/core/neighbour.c, __neigh_event_send). A few dozen of them fill any fixed buffer, and then
    nothing leaves for anybody. So what all peers can hold there comes on top of what we want in
    flight for those that live.
    """
    try:
        each = int(NEIGHBOUR_BYTES_FILE.read_text())
    except (OSError, ValueError):
        each = NEIGHBOUR_BYTES
    # The kernel doubles the value (net/core/sock.c, SO_SNDBUFFORCE).
    wanted = BUFFER_BYTES + min(peers, NEIGHBOURS_MAX) * each // 2
    if udp.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) != 2 * wanted:
        _enlarge(udp, fp.SO_SNDBUFFORCE, socket.SO_SNDBUF, wanted)


def open_icmp() -> socket.socket | None:
    """A send-only raw IPv4 socket that takes whole packets; None without CAP_NET_RAW.

    Linux drops an ICMP error that is written to the TUN with the TUN's own address as its source
    (a martian, fib_validate_source) unless accept_local is set, which would let peers spoof our
    addresses. Through a raw socket the error reaches the sender on a host with default settings.
    """
    try:
        raw = socket.socket(
            socket.AF_INET,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            socket.IPPROTO_RAW,
        )
    except PermissionError:
        return None
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # IPPROTO_RAW never receives
    return raw


def _enlarge(udp: socket.socket, forced: int, plain: int, wanted: int = BUFFER_BYTES) -> None:
    """Set a buffer beyond the system's limit where we may, else up to the limit."""
    try:
        udp.setsockopt(socket.SOL_SOCKET, forced, wanted)
    except PermissionError:
        with contextlib.suppress(OSError):  # the default size works too
            udp.setsockopt(socket.SOL_SOCKET, plain, wanted)
