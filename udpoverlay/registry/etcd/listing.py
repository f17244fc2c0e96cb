"""Reading ranges of etcd keys page by page at one revision, whatever others have written into them.

Owns: how many keys a page has. Must not know: what a key or value means.

Pages grow to `most` keys while they fit into a reply and shrink when one does not, down to a single
key; of a single entry that is still too large the value is left out. A page is handed on before the
next one is read, so a listing takes the memory of one page, however much there is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from udpoverlay.registry.etcd.client import EtcdClient
from udpoverlay.registry.etcd.errors import EtcdTimedOut, ReplyTooLarge
from udpoverlay.registry.etcd.values import (
    RangeReply,
)

__all__ = ["Part", "pages"]

_SMALL = 16
"""Keys of a page that etcd should be able to put together in time."""
_MOST_NAMES = 16_384
"""Keys of a part of which only the names count: what is beyond is not looked at."""


class Part(NamedTuple):
    """Keys from `key` to `end`, b"" for `key` alone."""

    key: bytes
    end: bytes = b""
    names_only: bool = False
    """No value can be of use: they are not read, nor is a name beyond the first _MOST_NAMES."""


async def pages(
    client: EtcdClient, parts: Sequence[Part], most: int
) -> AsyncIterator[tuple[Part, RangeReply]]:
    """Yield all keys of the parts; the first page's revision is that of the whole listing.

    Raises EtcdCompacted when that revision is compacted before the last page is read: then the
    caller begins again.
    """
    revision = 0
    for part in parts:
        key = part.key
        size = max(1, most // 8)
        read = 0
        while True:
            try:
                page = await client.range(
                    key, part.end, limit=size, revision=revision, keys_only=part.names_only
                )
            except ReplyTooLarge:
                if size > 1:
                    size = max(1, size // 8)
                    continue
                page = await client.range(key, part.end, limit=1, revision=revision, keys_only=True)
            except EtcdTimedOut:
                if size <= _SMALL:
                    raise
                size //= 8
                continue
            revision = revision or page.header.revision
            yield part, page
            read += len(page.kvs)
            if not page.more or not part.end or (part.names_only and read >= _MOST_NAMES):
                break
            key = page.kvs[-1].key + b"\x00"
            size = min(most, size * 2)
