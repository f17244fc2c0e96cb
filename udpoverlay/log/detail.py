"""How much is written: -v, -vmodule and -log_backtrace_at, by klog's rules.

Owns: their syntax, and the one object that every logger asks. Must not know: lines, streams.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SETTINGS", "Settings", "parse_backtrace_at", "parse_vmodule"]


def parse_vmodule(text: str) -> tuple[tuple[str, int], ...]:
    """Read `pattern=N,…`: file names without .py, or paths with a slash. Raises ValueError."""
    rules = []
    for item in filter(None, text.split(",")):
        pattern, equals, level = item.partition("=")
        if not (pattern and equals and level.isascii() and level.isdigit() and len(level) < 10):
            raise ValueError("expect a comma-separated list of filename=N")
        rules.append((pattern, int(level)))
    return tuple(rules)


def parse_backtrace_at(text: str) -> tuple[str, int] | None:
    """Read `file.py:N`; None for an empty text. Raises ValueError."""
    if not text:
        return None
    file, _, line = text.partition(":")
    number = int(line) if line.isascii() and line.isdigit() and len(line) < 10 else 0
    if "." not in file or number == 0:
        raise ValueError("expect file.py:234")
    return file, number


@dataclass(slots=True)
class Settings:
    """What `configure` set; read by every logger, hence one object for the process."""

    verbosity: int = 0
    vmodule: tuple[tuple[str, int], ...] = ()
    backtrace_at: tuple[str, int] | None = None

    def level_of(self, path: str) -> int:
        """Detail of the module at `path`; a pattern with a slash matches all of it, as in klog."""
        if not self.vmodule:
            return self.verbosity
        from fnmatch import fnmatchcase  # noqa: PLC0415 - few ask for -vmodule

        stem = path.rpartition("/")[2]
        for pattern, level in self.vmodule:
            if fnmatchcase(path if "/" in pattern else stem, pattern):
                return level
        return self.verbosity


SETTINGS = Settings()
