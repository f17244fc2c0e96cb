"""Every error udpoverlay raises on purpose; the class says who is to blame.

A bad *packet* is never an exception: it is a counter (ext/verdict.h). What is here ends a command
or a retry, so each error carries the facts a person needs: what failed, which value, the fix.

    UdpOverlayError
    ├── OperatorError      a flag, an environment variable, the network configuration
    ├── RegistryError      the registry's side: what it holds, or that it cannot be reached
    │   ├── RegistryUnavailable   it did not answer; retrying may help
    │   ├── RegistryDenied        it refused us: credentials, roles, certificates
    │   ├── RegistryConflict      another host holds what we wanted
    │   └── OutOfSubnets          nothing free in the configured range
    ├── KernelError        the host refused: privilege, module, device, address
    └── LabError           the lab: a host that died, a daemon that never got ready
"""

from __future__ import annotations

__all__ = [
    "KernelError",
    "LabError",
    "OperatorError",
    "OutOfSubnets",
    "RegistryConflict",
    "RegistryDenied",
    "RegistryError",
    "RegistryUnavailable",
    "UdpOverlayError",
]


class UdpOverlayError(Exception):
    """Base of all; never raised itself.

    `what` is one sentence without a full stop, `fix` says how to fix it ("" when nothing is to be
    done by the reader). `str(error)` is the one line that a person sees. Neither may hold a secret.
    """

    def __init__(self, what: str, *, fix: str = "") -> None:
        self.what = what
        self.fix = fix
        super().__init__(f"{what}: {fix}" if fix else what)


class OperatorError(UdpOverlayError):
    """The person who configured this must change something."""


class RegistryError(UdpOverlayError):
    """The registry holds something unusable, or did not do what was asked."""


class RegistryUnavailable(RegistryError):
    """The registry did not answer; the same request may work later."""


class RegistryDenied(RegistryError):
    """The registry refused our credentials or our rights."""


class RegistryConflict(RegistryError):
    """Another host holds the key or the subnet."""


class OutOfSubnets(RegistryError):
    """No free subnet is left between SubnetMin and SubnetMax."""


class KernelError(UdpOverlayError):
    """The host's kernel refused; `errno` is kept where there was one (0 otherwise)."""

    def __init__(self, what: str, *, fix: str = "", errno: int = 0) -> None:
        self.errno = errno
        super().__init__(what, fix=fix)


class LabError(UdpOverlayError):
    """A part of the lab ended or did not answer; the overlay itself is not to blame.

    `details` is what else helps, in several lines: the end of a log, or "".
    """

    def __init__(self, what: str, *, fix: str = "", details: str = "") -> None:
        self.details = details
        super().__init__(what, fix=fix)
