"""The steps by which the daemon gives up its rights, and what is so now.

Owns: their order; that a kernel which refuses one is no error. Must not know: what the daemon does
with the rights that are left.

    before the event loop   no io_uring (the loop would have one for good)
    after set-up            capabilities ► no_new_privs ► seccomp; then packets flow
"""

from __future__ import annotations

import os

from udpoverlay import _fastpath as fp
from udpoverlay.host.privileges import capabilities, seccomp
from udpoverlay.host.privileges.calls import DEVICE_NODE, GROUPS, PLUGINS
from udpoverlay.host.privileges.needs import ALWAYS, Needs
from udpoverlay.log import get_logger, renew_threads
from udpoverlay.model.privileges import PrivilegeSettings

__all__ = ["Privileges"]

_log = get_logger(__name__)
_STATES = {
    "enforce": "on",
    "warn": "warn: what would be refused is in the kernel's log",
    "off": "off (--seccomp=off)",
}


class Privileges:
    """Of this process; each step is taken once."""

    def __init__(self, settings: PrivilegeSettings) -> None:
        self._settings = settings
        self._kept: dict[str, str] = {}
        self._capabilities = "as started with"
        self._seccomp = "not yet" if settings.filters else _STATES["off"]

    def before_the_loop(self) -> None:
        """What the event loop must find done."""
        if not self._settings.filters:
            return
        try:
            fp.set_no_new_privileges()
            seccomp.refuse_rings()
        except (OSError, seccomp.Unavailable) as error:
            self._seccomp = f"unavailable: {error}"

    def give_up(self, needs: Needs) -> None:
        """Keep what `needs` says alone; the threads that are started from here on have no more."""
        if self._settings.keep_capabilities:
            self._capabilities = "kept (--keep-capabilities)"
        else:
            self._give_up_capabilities(needs)
        if self._seccomp == "not yet":
            self._filter(needs)
        # It was there before, and would have its rights for good.
        renew_threads()
        facts = self.facts()
        say = _log.warning if "unavailable" in f"{self._capabilities}{self._seccomp}" else _log.info
        say(
            "rights given up",
            capabilities=" ".join(capabilities.names(self._now().permitted)) or "none",
            dropping=facts["dropping"],
            no_new_privs=facts["no_new_privs"],
            seccomp=self._seccomp,
        )
        for name, why in self._kept.items():
            _log.warning("a capability more is kept", capability=name, reason=why)

    def _give_up_capabilities(self, needs: Needs) -> None:
        held = capabilities.names(self._now().permitted)
        try:
            self._kept = {name: why for name, why in needs.kept().items() if name in held}
            capabilities.give_up(capabilities.mask((*ALWAYS, *self._kept)))
            fp.set_no_new_privileges()
            self._capabilities = "on"
        except OSError as error:
            self._capabilities = f"unavailable: {error.strerror}"

    def _filter(self, needs: Needs) -> None:
        groups = [
            *GROUPS,
            *([PLUGINS] if needs.plugins else []),
            *([DEVICE_NODE] if needs.makes_device_node else []),
        ]
        try:
            seccomp.allow_only(groups, refusing=self._settings.seccomp == "enforce")
            self._seccomp = _STATES[self._settings.seccomp]
        except seccomp.Unavailable as error:
            self._seccomp = f"unavailable: {error}"

    @staticmethod
    def _now() -> capabilities.Rights:
        return capabilities.of_thread() or capabilities.Rights("", 0, False, False)

    def facts(self) -> dict[str, object]:
        """For the status document: what the kernel says now, not what was asked of it."""
        now = self._now()
        return {
            "uid": os.geteuid(),
            "capabilities": capabilities.names(now.permitted),
            "dropping": self._capabilities,
            "kept_for": dict(self._kept),
            "no_new_privs": now.no_new_privileges,
            "seccomp": self._seccomp,
            "threads_with_more": sorted(
                each.name
                for each in capabilities.threads()
                if each.permitted & ~now.permitted or now.filtered > each.filtered
            ),
        }
