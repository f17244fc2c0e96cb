"""Lines, secrets in them, and a reader that takes none."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_FORMAT = "udpoverlay/log/format.py"
_LIMITS = "udpoverlay/log/limits.py"
_REDACT = "udpoverlay/redact.py"
_WRITER = "udpoverlay/log/writer.py"

_LOG = ("tests/log/test_log.py",)
_SECRETS = ("tests/test_redact.py",)
_PIPE = ("tests/log/test_writer.py",)

MUTANTS = (
    Mutant(
        name="forged-line",
        bug="a value in the registry with a line end writes a line of its own into the log",
        file=_FORMAT,
        old="    return text if text.isprintable() else",
        new="    return text if text else",
        tests=_LOG,
    ),
    Mutant(
        name="huge-value-logged-whole",
        bug="a value of megabytes fills the disk with one line",
        file=_FORMAT,
        old='    return f"{head[:most]}…(+{max(len(text), len(head)) - most})"\n',
        new="    return text\n",
        tests=_LOG,
    ),
    Mutant(
        name="flood-of-one-line",
        bug="an outage writes the same line ten times a second",
        file=_LIMITS,
        old="        if window.written < self._per_minute:\n",
        new="        if window.written < 1000 * self._per_minute:\n",
        tests=_LOG,
    ),
    Mutant(
        name="held-lines-not-counted",
        bug="nothing says that lines were held back",
        file=_LIMITS,
        old="            window.suppressed += 1\n",
        new="            window.suppressed += 0\n",
        tests=_LOG,
    ),
    Mutant(
        name="full-pipe-blocks",
        bug="a log without a reader stops the daemon: no lease is renewed, SIGTERM does nothing",
        file=_WRITER,
        old="            self._queue.append(data)\n            self._bytes += len(data)\n",
        new="            self._put(data)\n",
        tests=_PIPE,
    ),
    Mutant(
        name="queue-without-end",
        bug="a log without a reader takes memory without end",
        file=_WRITER,
        old="            if self._bytes + len(data) > self._limit:\n",
        new="            if self._bytes + len(data) > 1000 * self._limit:\n",
        tests=_PIPE,
    ),
    Mutant(
        name="lost-lines-not-told",
        bug="lines are missing in the middle of the log and nothing says so",
        file=_WRITER,
        old="            if self._untold:\n                self._queue.append(self._untold)\n"
        "                self._untold = 0\n            self._queue.append(data)",
        new="            self._queue.append(data)",
        tests=_PIPE,
    ),
    Mutant(
        name="non-blocking-descriptor-loses",
        bug="a terminal that another program made non-blocking loses lines at random",
        file=_WRITER,
        old="                waiting.poll()\n",
        new="                return False\n",
        tests=_PIPE,
    ),
    Mutant(
        name="token-in-a-url-shown",
        bug="`?token=…` of an endpoint stands in the log",
        file=_REDACT,
        old="    return text if mark is None else",
        new="    return text if mark is None or mark else",
        tests=_SECRETS,
    ),
    Mutant(
        name="password-up-to-the-first-at",
        bug="of a password with an @ the rest stands in the log",
        file=_REDACT,
        old='        hidden, _, shown = word.rpartition("@")\n',
        new='        hidden, _, shown = word.partition("@")\n',
        tests=_SECRETS,
    ),
    Mutant(
        name="bearer-token-shown",
        bug="a refused request shows its bearer token",
        file=_REDACT,
        old='    return _BEARER.sub(rf"\\1 {HIDDEN}", text)\n',
        new="    return text\n",
        tests=_SECRETS,
    ),
    Mutant(
        name="secret-field-shown",
        bug="a field called password is logged as it is",
        file=_REDACT,
        old="    if is_secret(name):\n        return HIDDEN\n    return redact_url",
        new="    return redact_url",
        tests=(*_SECRETS, *_LOG),
    ),
)
