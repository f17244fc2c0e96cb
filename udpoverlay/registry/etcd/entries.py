"""Between etcd's keys and leases: where the network lives, which key is a lease, which is skipped.

Owns: the key paths under the prefix (flannel pkg/subnet/etcd/registry.go), the rule that only a
well-formed key directly under `<prefix>/subnets/` is a lease, and counting what is skipped.
Must not know: requests. A skipped entry is never a loss: what was known of its key stays known.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable

from udpoverlay.log import RateLimited
from udpoverlay.model.lease import Lease, Subnet
from udpoverlay.registry.etcd.codec import (
    BadLeaseValue,
    decode_attrs,
    parse_subnet_key,
    subnet_key,
)
from udpoverlay.registry.etcd.listing import Part
from udpoverlay.registry.etcd.messages import (
    LONGEST_VALUE,
)
from udpoverlay.registry.etcd.values import (
    KeyValue,
    prefix_end,
)
from udpoverlay.registry.etcd.watch import Range

__all__ = ["LeaseReader", "Listed", "Paths"]


class Paths:
    """The keys of one network. Paths are cleaned as Go's path.Join does.

    >>> Paths("//coreos.com/x/../network/").config
    b'/coreos.com/network/config'
    """

    def __init__(self, prefix: str) -> None:
        self.config = _join(prefix, "config")
        subnets = _join(prefix, "subnets")
        self._directory = subnets + b"/"
        digits = Part(self._directory + b"0", self._directory + b":")
        end = prefix_end(subnets)
        # Without a slash, as flannel's: siblings such as `subnets-old` are seen, and distinguished.
        # The key of every lease begins with a digit; the values of other keys are of no use.
        self.leases = Range(
            subnets,
            end,
            (
                digits,
                Part(subnets, digits.key, names_only=True),
                Part(digits.end, end, names_only=True),
            ),
        )
        """What is watched and listed to know all leases."""

    def of(self, subnet: Subnet) -> bytes:
        """Return the key of a lease."""
        return self._directory + subnet_key(subnet).encode("ascii")

    def subnet_of(self, key: bytes) -> Subnet | None:
        """Return the subnet that a key claims, None when it claims none."""
        if not key.startswith(self._directory):
            return None
        return parse_subnet_key(key[len(self._directory) :].decode("utf-8", "replace"))

    def is_sibling(self, key: bytes) -> bool:
        """Whether a key is seen only because the range has no slash, like `…/subnets-old`."""
        return not key.startswith(self._directory)


class Listed:
    """The leases of one listing, and the subnets whose entries cannot be read."""

    def __init__(self, paths: Paths, read: Callable[[KeyValue], Lease | None]) -> None:
        self._paths = paths
        self._read = read
        self._created: list[int] = []
        self.leases: list[Lease] = []
        """In the order of their keys."""
        self.unreadable: list[Subnet] = []

    def add(self, kv: KeyValue) -> None:
        """Read one entry."""
        lease = self._read(kv)
        if lease is not None:
            self.leases.append(lease)
            self._created.append(kv.create_revision)
        elif (subnet := self._paths.subnet_of(kv.key)) is not None:
            self.unreadable.append(subnet)

    def by_age(self) -> tuple[Lease, ...]:
        """The leases, the oldest claim first: of two that overlap it is the one in use."""
        order = sorted(range(len(self.leases)), key=self._created.__getitem__)
        return tuple(self.leases[index] for index in order)


class LeaseReader:
    """Turns the entries of one range into leases and remembers the last good one of each key."""

    def __init__(
        self,
        paths: Paths,
        counters: Counter[str],
        log: RateLimited,
        expiry: Callable[[KeyValue], float | None],
    ) -> None:
        self._paths = paths
        self._counters = counters
        self._log = log
        self._expiry = expiry
        self._good: dict[bytes, Lease] = {}

    def listing(self) -> Listed:
        """What the next listing is read into; `adopt` it when it is complete."""
        return Listed(self._paths, self._read_listed)

    def adopt(self, listed: Listed) -> None:
        """From now on what was listed is what is known."""
        self._good = {self._paths.of(lease.subnet): lease for lease in listed.leases}

    def _read_listed(self, kv: KeyValue) -> Lease | None:
        # An entry that was a lease before and cannot be read any more keeps its last good content:
        # its subnet is still claimed, and its host is most likely still there.
        return self._read(kv) or self._good.get(kv.key)

    def put(self, kv: KeyValue) -> Lease | None:
        """Read one entry; None when it is skipped."""
        lease = self._read(kv)
        if lease is not None:
            self._good[kv.key] = lease
        return lease

    def deleted(self, key: bytes) -> Subnet | None:
        """Return the subnet whose entry vanished; None when the key held no lease."""
        lease = self._good.pop(key, None)
        return None if lease is None else lease.subnet

    def _read(self, kv: KeyValue) -> Lease | None:
        if self._paths.is_sibling(kv.key):
            self._counters["entries_beside"] += 1
            return None
        subnet = self._paths.subnet_of(kv.key)
        if subnet is None:
            self._skip(kv, "its key is no subnet", "etcdctl del it")
            return None
        if self._paths.of(subnet) != kv.key:
            self._skip(kv, f"its key should be {subnet_key(subnet)}", "etcdctl del it")
            return None
        known = self._good.get(kv.key)
        try:
            if len(kv.value) > LONGEST_VALUE:
                raise BadLeaseValue(f"its value has more than {LONGEST_VALUE} bytes")
            attrs = decode_attrs(kv.value)
        except BadLeaseValue as error:
            self._skip(
                kv, str(error), "its host repairs it when it renews; if none does, etcdctl del it"
            )
            return None
        if known is not None and known.attrs == attrs:
            attrs = known.attrs  # one object for what every renewal repeats
        return Lease(
            subnet if known is None else known.subnet,
            attrs,
            expires_at=self._expiry(kv),
            revision=kv.mod_revision,
            registry_lease=kv.lease,
        )

    def _skip(self, kv: KeyValue, why: str, fix: str) -> None:
        self._counters["entries_skipped"] += 1
        key = kv.key[:200].decode("utf-8", "backslashreplace")
        self._log.warning("entry skipped", "registry entry skipped", key=key, why=why, fix=fix)


def _join(prefix: str, name: str) -> bytes:
    # normpath keeps two leading slashes (POSIX); Go's path.Clean does not.
    path = posixpath.normpath(posixpath.join(prefix, name) if prefix else name)
    return (path[1:] if path.startswith("//") else path).encode()
