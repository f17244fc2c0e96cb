"""What the log says of peers that come, move, go, or get no route.

Owns: the lines and their rate. Must not know: why a peer is refused, when routes are published.
"""

from __future__ import annotations

from udpoverlay.clock import Clock
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model.lease import Subnet
from udpoverlay.model.refusal import Refusal
from udpoverlay.peers.peers import Changes, Refused

__all__ = ["PeerLog"]

_log = get_logger(__name__)


class PeerLog:
    """One line a change with -v=1, else some a minute; a snapshot has one line of its own.

    What is refused is always worth a line, once.
    """

    def __init__(self, clock: Clock) -> None:
        self._limited = RateLimited(_log, clock.monotonic)

    def report(self, changes: Changes, own: Subnet, *, whole: bool) -> None:
        """Log `changes`; `whole`: they are a snapshot's. `own` is this host's subnet."""
        for refused in changes.refused:
            self._refused(refused, own)
        detail = _log.v(1)
        if whole and not detail:
            return
        for change in changes.routes:
            if change.after is None:
                event = "peer removed"
            else:
                event = "peer added" if change.before is None else "peer changed"
            fields = {"subnet": change.lease.subnet, "public_ip": change.lease.attrs.public_ip}
            if detail:
                detail.info(event, **fields)
            else:
                self._limited.info("peers", event, **fields)

    def flush(self) -> None:
        """Log how many lines were left out, when it is time."""
        self._limited.flush()

    def _refused(self, refused: Refused, own: Subnet) -> None:
        lease = refused.lease
        fields: dict[str, object] = {
            "subnet": lease.subnet,
            "public_ip": lease.attrs.public_ip,
            "why": refused.refusal.why,
        }
        if refused.refusal is Refusal.OVERLAP:
            holder = refused.holder
            fields["holder_subnet"] = own if holder is None else holder.subnet
            fields["holder"] = "this host" if holder is None else holder.attrs.public_ip
        if refused.refusal.fix:
            fields["fix"] = refused.refusal.fix
            self._limited.error(refused.refusal.value, "lease refused", **fields)
        else:
            self._limited.warning(refused.refusal.value, "lease without a route", **fields)
