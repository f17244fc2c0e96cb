"""Which range a Node gets, where the cluster's controller-manager hands out none.

Owns: the rules for --cluster-cidr and the node mask sizes (kube-controller-manager's nodeipam), and
who holds what. Must not know: how a Node is read or written (controller.py).

A pool is cut into slots, one per Node. A range that a Node already has marks every slot it touches,
whatever its size and origin, so an overlapping range can never be handed out:

    --cluster-cidr 10.244.0.0/16, slots of /24
    slot   0          1          2          3          4
           10.244.0.0 10.244.1.0 10.244.2.0 10.244.3.0 …
           held by a  [ held by b, a foreign /23  ]  free: the search starts after the last given
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netaddr import IPNetwork

from udpoverlay.errors import OperatorError, OutOfSubnets
from udpoverlay.kubernetes.node import NodeView, NotALease, parse_cidr

__all__ = ["CidrAllocator", "Finding", "Pool", "pools_of"]

DEFAULT_NODE_LENGTH = {4: 24, 6: 64}
"""kube-controller-manager's defaults."""

LONGEST_NODE_LENGTH = {4: 30, 6: 126}
"""As flannel's SubnetLen: a shorter range has no address left for a pod."""

MAX_SLOT_BITS = 16
"""At most 65,536 Nodes a pool, kube-controller-manager's limit too."""

_WIDTH = {4: 32, 6: 128}
_FLAG = {4: "--node-cidr-mask-size-ipv4", 6: "--node-cidr-mask-size-ipv6"}


@dataclass(frozen=True, slots=True)
class Pool:
    """One range of the cluster and the prefix length of each Node's part of it."""

    network: IPNetwork
    node_length: int

    @property
    def slots(self) -> int:
        """How many Nodes it holds."""
        return 1 << (self.node_length - int(self.network.prefixlen))

    def slot(self, index: int) -> IPNetwork:
        """The range of slot `index`."""
        bits = _WIDTH[int(self.network.version)]
        first = int(self.network.first) + (index << (bits - self.node_length))
        return IPNetwork((first, self.node_length), version=self.network.version)

    def touched(self, network: IPNetwork) -> range:
        """The slots that share an address with `network`; empty when none does."""
        if network.version != self.network.version:
            return range(0)
        shift = _WIDTH[int(self.network.version)] - self.node_length
        low = max(int(network.first), int(self.network.first))
        high = min(int(network.last), int(self.network.last))
        if low > high:
            return range(0)
        base = int(self.network.first)
        return range((low - base) >> shift, ((high - base) >> shift) + 1)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the cluster that an operator should know; nothing stops because of it."""

    node: str
    text: str
    fix: str


def pools_of(
    cluster_cidrs: Sequence[str],
    mask_size: int | None = None,
    mask_size_v4: int | None = None,
    mask_size_v6: int | None = None,
) -> tuple[Pool, ...]:
    """The pools that the flags describe, in the order given; OperatorError names the wrong flag."""
    networks = [_cluster_cidr(text) for text in cluster_cidrs]
    versions = [int(network.version) for network in networks]
    if not networks:
        raise OperatorError(
            "--cluster-cidr is missing", fix="for example --cluster-cidr 10.244.0.0/16"
        )
    if len(networks) > 2 or len(set(versions)) != len(versions):
        raise OperatorError(
            f"--cluster-cidr {','.join(cluster_cidrs)} has more than one range of a family",
            fix="give one IPv4 range, one IPv6 range, or one of each",
        )
    if mask_size is not None and len(networks) == 2:
        raise OperatorError(
            f"--node-cidr-mask-size {mask_size} is ambiguous with two ranges",
            fix="use --node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6",
        )
    by_version = {4: mask_size_v4, 6: mask_size_v6}
    for version, given in by_version.items():
        if given is None:
            continue
        if version not in versions:
            raise OperatorError(
                f"{_FLAG[version]} {given} has no IPv{version} range to cut",
                fix=f"add an IPv{version} range to --cluster-cidr or leave the flag away",
            )
        if mask_size is not None:
            raise OperatorError(
                f"--node-cidr-mask-size {mask_size} and {_FLAG[version]} {given} are both given",
                fix="leave one of them away",
            )
    return tuple(
        _pool(network, by_version[int(network.version)], mask_size) for network in networks
    )


def _cluster_cidr(text: str) -> IPNetwork:
    try:
        return parse_cidr(text)
    except NotALease:
        raise OperatorError(
            f"--cluster-cidr {text!r} is not a CIDR",
            fix="it looks like 10.244.0.0/16 or fd00:10::/48",
        ) from None


def _pool(network: IPNetwork, own: int | None, shared: int | None) -> Pool:
    version = int(network.version)
    flag = _FLAG[version] if own is not None or shared is None else "--node-cidr-mask-size"
    length = own if own is not None else shared
    if length is None:
        length = DEFAULT_NODE_LENGTH[version]
    if not network.prefixlen <= length <= LONGEST_NODE_LENGTH[version]:
        raise OperatorError(
            f"{flag} {length} does not fit --cluster-cidr {network}",
            fix=f"it must lie between {network.prefixlen} and {LONGEST_NODE_LENGTH[version]}",
        )
    if length - network.prefixlen > MAX_SLOT_BITS:
        raise OperatorError(
            f"{flag} {length} would cut --cluster-cidr {network} into more than 65,536 ranges",
            fix=f"use at most {network.prefixlen + MAX_SLOT_BITS}, or a smaller --cluster-cidr",
        )
    return Pool(network, length)


class CidrAllocator:
    """Who holds which range. Every rule about overlap is here; nothing here waits or writes."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.pools = tuple(pools)
        self._held: dict[str, tuple[IPNetwork, ...]] = {}
        self._marks: list[dict[int, int]] = [{} for _ in self.pools]
        self._next = [0 for _ in self.pools]

    def held(self, node: str) -> tuple[IPNetwork, ...]:
        """What `node` holds, () when nothing."""
        return self._held.get(node, ())

    def holders(self) -> dict[str, tuple[IPNetwork, ...]]:
        """A copy of the whole book."""
        return dict(self._held)

    def free(self) -> tuple[int, ...]:
        """Free slots of each pool."""
        return tuple(pool.slots - len(m) for pool, m in zip(self.pools, self._marks, strict=True))

    def hold(self, node: str, networks: Sequence[IPNetwork]) -> None:
        """Write down that `node` holds `networks`, in place of what it held before."""
        self.release(node)
        if not networks:
            return
        self._held[node] = tuple(networks)
        for pool, marks in zip(self.pools, self._marks, strict=True):
            for index in (i for network in networks for i in pool.touched(network)):
                marks[index] = marks.get(index, 0) + 1

    def release(self, node: str) -> bool:
        """`node` is gone: its ranges may be given again. False when it held none."""
        networks = self._held.pop(node, ())
        for pool, marks in zip(self.pools, self._marks, strict=True):
            for index in (i for network in networks for i in pool.touched(network)):
                marks[index] -= 1
                if not marks[index]:
                    del marks[index]
        return bool(networks)

    def allocate(self, node: str) -> tuple[IPNetwork, ...]:
        """Give `node` one free range of every pool and write it down; OutOfSubnets gives nothing.

        The search goes round the pool from the range given last, so that a freed range rests as
        long as possible before another Node's packets use it.
        """
        slots = [self._free_slot(number) for number in range(len(self.pools))]
        networks = tuple(pool.slot(s) for pool, s in zip(self.pools, slots, strict=True))
        self._next = [(s + 1) % pool.slots for pool, s in zip(self.pools, slots, strict=True)]
        self.hold(node, networks)
        return networks

    def _free_slot(self, number: int) -> int:
        pool, marks, start = self.pools[number], self._marks[number], self._next[number]
        for step in range(pool.slots):
            slot = (start + step) % pool.slots
            if slot not in marks:
                return slot
        raise OutOfSubnets(
            f"all {pool.slots} ranges of --cluster-cidr {pool.network} are held",
            fix="delete Nodes that are gone, or start again with a larger --cluster-cidr that "
            "contains the present one",
        )

    def clash(self, node: str, networks: Sequence[IPNetwork]) -> bool:
        """Whether another Node holds an address of `networks`."""
        return any(self._overlapping(node, network) for network in networks)

    def adopt(self, view: NodeView) -> list[Finding]:
        """Write down what a Node already has, and say what is odd about it."""
        texts = view.pod_cidrs or ((view.pod_cidr,) if view.pod_cidr else ())
        networks: list[IPNetwork] = []
        findings: list[Finding] = []
        replace = (
            f"podCIDR cannot be changed: drain the Node, kubectl delete node {view.name}, and let "
            "its kubelet register again"
        )
        for text in texts:
            try:
                networks.append(parse_cidr(text))
            except NotALease as error:
                findings.append(Finding(view.name, str(error), replace))
        for network in networks:
            if not any(pool.network.version == network.version for pool in self.pools):
                findings.append(
                    Finding(view.name, f"{network} is of a family that --cluster-cidr has not", "")
                )
            elif not any(network in pool.network for pool in self.pools):
                findings.append(
                    Finding(
                        view.name, f"{network} lies outside --cluster-cidr, it is kept", replace
                    )
                )
            findings += [
                Finding(view.name, f"{network} overlaps {theirs} of Node {other}", replace)
                for other, theirs in self._overlapping(view.name, network)
            ]
        if texts and len(texts) < len(self.pools):
            findings.append(
                Finding(
                    view.name, f"it has {', '.join(texts)} only, one family is missing", replace
                )
            )
        self.hold(view.name, networks)
        return findings

    def _overlapping(self, node: str, network: IPNetwork) -> list[tuple[str, IPNetwork]]:
        """Holders other than `node` that share an address with `network`."""
        touched = [pool.touched(network) for pool in self.pools]
        inside = any(touched) and any(network in pool.network for pool in self.pools)
        if inside and not any(
            index in marks and not self._only_own(node, number, index)
            for number, marks in enumerate(self._marks)
            for index in touched[number]
        ):
            return []
        return [
            (other, theirs)
            for other, held in self._held.items()
            if other != node
            for theirs in held
            if theirs.version == network.version
            and theirs.first <= network.last
            and network.first <= theirs.last
        ]

    def _only_own(self, node: str, number: int, index: int) -> bool:
        pool = self.pools[number]
        own = sum(index in pool.touched(network) for network in self._held.get(node, ()))
        return own == self._marks[number][index]
