"""Hides secrets in every text that is shown: log lines, errors, usage messages.

Owns: which names are secret, and which shapes of text carry a secret. By shape: a URL that no
parser accepts is hidden all the same, and what is doubtful is hidden. Must not know: who shows the
text, and how it escapes it.

    user:password@         after `://`, or in a word with a colon
    ?token=…  password=…   a secret name, then `=` or `:`; in a URL, a flag, a JSON object
    Bearer …               also Basic, a JSON web token, a PEM private key

In free text (`redact`) a space or a quote ends a URL, as for a reader. A value that is known to be
a URL (`redact_url`) ends where it ends, so its password may hold any character. All patterns take
linear time: some of these texts come from strangers.
"""

from __future__ import annotations

import re
from itertools import pairwise
from urllib.parse import unquote

__all__ = ["HIDDEN", "is_secret", "redact", "redact_field", "redact_url"]

HIDDEN = "***"

_NAMES = (
    r"(?:pass(?:word|wd|phrase)|secret|token|authorization|credential|api[-_]?key|access[-_]?key)"
)
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
_URL_NAME = re.compile(r"(?:endpoints|api[-_]url|proxy)$", re.IGNORECASE)

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
_URL_IN_LIST = re.compile(rf"(?:^|(?<=,))\s*(?={_SCHEME})")
_URL_IN_TEXT = re.compile(rf"(?<![A-Za-z0-9+.:@-])(?={_SCHEME})")
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.%]*\]?|[^\s:/?#@\"'<>,;()\[\]{}|\\]*)(?::\d{0,5})?")
"""host, host:port, [address]:port. A bracket may be missing: that error must be seen."""
_AFTER_AUTHORITY = re.compile(r"$|[\s\"'<>,;()\[\]{}|\\/?#]|[:.!]+(?:\s|$)")
_WORD = re.compile(r"[^\s\"'<>]+")
_QUERY = re.compile(r"[?#]")
_PARAMETER = re.compile(r"[?&;#]([^=&;#]+)=")

_NAMED = re.compile(
    rf"(?P<name>{_NAMES}[\w.-]{{0,64}}(?:[\"']?=|[\"']\s{{0,8}}:\s{{0,8}}|:(?=[^\s:])))"
    r"(?:(?P<quote>[\"'])(?:\\.|(?!(?P=quote)).)*(?:(?P=quote)|$)|[^\s\"']+)",
    re.IGNORECASE | re.DOTALL,
)
_BEARER = re.compile(
    r"\b([Bb]earer|[Bb]asic)\s{1,8}(?=[a-z]*[A-Z0-9._~+/=-]|[a-z]{20})[A-Za-z0-9._~+/=-]{6,}"
)
"""Words of plain text have neither capitals nor digits inside."""
_HEADER = re.compile(r"(authorization\s{0,8}:\s{0,8}(?:\w+\s{1,8})?)[^\s\"']+", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?")
_PEM = re.compile(
    r"(-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----).*?(-----END [A-Z ]{0,32}PRIVATE KEY-----|$)",
    re.DOTALL,
)


def is_secret(name: str) -> bool:
    """Whether a field, flag, variable or parameter of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


def redact_field(name: str, text: str) -> str:
    """Hide what must not be shown of a value, by the name that it goes by."""
    if not text:
        return text
    if is_secret(name):
        return HIDDEN
    return redact_url(text) if _URL_NAME.search(name) else redact(text)


def redact_url(text: str) -> str:
    """Hide user, password, query and fragment of one URL or of a comma-separated list of them.

    The scheme may be missing. Host and port stay where it is certain which part they are.
    """
    starts = (match.start() for match in _URL_IN_LIST.finditer(text))
    ends = [0, *filter(None, starts), len(text)]
    return "".join(_one_url(text[start:end]) for start, end in pairwise(ends))


def _one_url(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    start = scheme + separator
    if not separator:
        start, rest = "", text
    body = rest.rstrip(", ")
    end = rest[len(body) :]
    before, at, after = body.rpartition("@")
    if at and _QUERY.search(before):
        # A password with a question mark, or a token with an @: no telling which part is the host.
        return f"{start}{HIDDEN}{end}"
    if at:
        return f"{start}{HIDDEN}@{_without_query(after)}{end}"
    if not _is_host(body):
        # What follows the colon is no port: a user and a password without their host.
        host, colon, _ = body.partition(":")
        return f"{start}{host if colon else ''}{colon}{HIDDEN}{end}"
    return f"{start}{_without_query(body)}{end}"


def _is_host(text: str) -> bool:
    """Whether `text` starts with a host and a port, and whatever follows does not belong to it."""
    authority = _AUTHORITY.match(text)
    return authority is not None and _AFTER_AUTHORITY.match(text, authority.end()) is not None


def _without_query(text: str) -> str:
    mark = _QUERY.search(text)
    return text if mark is None else f"{text[: mark.end()]}{HIDDEN}"


def redact(text: str) -> str:
    """Hide what looks like a secret anywhere in free text."""
    if "://" in text:
        starts = [match.start() for match in _URL_IN_TEXT.finditer(text)]
        ends = [*starts, len(text)]
        urls = (_url_in_text(text[start:end]) for start, end in pairwise(ends))
        text = "".join([text[: ends[0]], *urls])
    text = _HEADER.sub(rf"\1{HIDDEN}", _NAMED.sub(_hide_named, text))
    if "@" in text or "%" in text:
        text = _WORD.sub(_redact_word, text)
    if "PRIVATE KEY" in text:
        text = _PEM.sub(rf"\1{HIDDEN}\2", text)
    if "eyJ" in text:
        text = _JWT.sub(HIDDEN, text)
    return _BEARER.sub(rf"\1 {HIDDEN}", text)


def _url_in_text(text: str) -> str:
    """Redact a text that starts with a URL and holds no second one."""
    scheme, separator, rest = text.partition("://")
    start = scheme + separator
    found = _WORD.match(rest)
    word = found[0] if found else ""
    tail = rest[len(word) :]
    if "@" in word:
        hidden, _, shown = word.rpartition("@")
        if _QUERY.search(hidden):
            return f"{start}{HIDDEN}{tail}"
        return f"{start}{HIDDEN}@{_without_secrets(shown)}{tail}"
    if _is_host(word):
        return f"{start}{_without_secrets(word)}{tail}"
    # A password with a space or a quote in it ends at the last @ there is.
    hidden, at, shown = rest.rpartition("@")
    if at:
        return f"{start}{HIDDEN}@{shown}"
    return f"{start}{word.partition(':')[0]}:{HIDDEN}{tail}"


def _without_secrets(word: str) -> str:
    """Hide all that follows the name of the first secret parameter: its value may hold an &."""
    for match in _PARAMETER.finditer(word):
        if is_secret(unquote(match[1])):
            return f"{word[: match.end()]}{HIDDEN}"
    return word


def _redact_word(match: re.Match[str]) -> str:
    """user:password@host without a scheme, and parameters whose name is percent-encoded."""
    word = _without_secrets(match[0])
    before, at, after = word.rpartition("@")
    name, colon, rest = before.partition(":")
    if not at or not colon or rest.startswith("//"):
        return word
    start = max(map(name.rfind, "=,;([{")) + 1
    return f"{name[:start]}{HIDDEN}@{after}"


def _hide_named(match: re.Match[str]) -> str:
    quote = match["quote"] or ""
    return f"{match['name']}{quote}{HIDDEN}{quote}"
