"""TCP's options in words. RFC 9293 §3.1, RFC 7323, RFC 2018."""

from __future__ import annotations

__all__ = ["tcp_options"]

_END, _NOTHING = 0, 1
_MSS, _SCALE, _SACK_PERMITTED, _SACK, _TIMESTAMPS = 2, 3, 4, 5, 8


def tcp_options(data: bytes) -> str:
    """For example "MSS 1432, window scale 7"; what is cut ends with "…"."""
    words = []
    at = 0
    while at < len(data):
        kind = data[at]
        if kind == _END:
            break
        if kind == _NOTHING:
            at += 1
            continue
        size = data[at + 1] if at + 1 < len(data) else 0
        if size < 2 or at + size > len(data):
            words.append("…")
            break
        words.append(_words(kind, data[at + 2 : at + size]))
        at += size
    return ", ".join(words)


def _words(kind: int, value: bytes) -> str:
    number = int.from_bytes(value, "big")
    if kind == _MSS:
        return f"MSS {number}"
    if kind == _SCALE:
        return f"window scale {number}"
    if kind == _SACK_PERMITTED:
        return "SACK permitted"
    if kind == _SACK:
        return f"SACK of {len(value) // 8} {'range' if len(value) // 8 == 1 else 'ranges'}"
    if kind == _TIMESTAMPS:
        return "timestamps"
    return f"option {kind}"
