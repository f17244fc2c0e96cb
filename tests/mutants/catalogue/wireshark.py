"""wireshark/: what Wireshark runs."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_EXTCAP = "udpoverlay/wireshark/extcap.py"
_TESTS = ("tests/wireshark/test_extcap.py",)

MUTANTS = (
    Mutant(
        name="host-is-an-option-of-ssh",
        bug="a host named -oProxyCommand=... runs a program on the analyst's computer",
        file=_EXTCAP,
        old='        raise ValueError(f"{args.ssh!r} is no [user@]host")\n',
        new="        pass\n",
        tests=_TESTS,
    ),
    Mutant(
        name="filter-is-a-command-there",
        bug="what is typed into the filter runs as a command on the host that is looked at",
        file=_EXTCAP,
        old="args.ssh, shlex.join(trace)]",
        new='args.ssh, " ".join(trace)]',
        tests=_TESTS,
    ),
    Mutant(
        name="section-in-the-middle",
        bug="another filter begins a second section, and Wireshark mixes up the points",
        file=_EXTCAP,
        old="            if not (began and _kind(block) in {_SECTION, _INTERFACE}):\n",
        new="            if True:\n",
        tests=_TESTS,
    ),
    Mutant(
        name="file-of-another-replaced",
        bug="install writes over a program of another that has the name of ours",
        file="udpoverlay/cli/wireshark.py",
        old="    if path.exists() and not _is_ours(path):\n",
        new="    if False:\n",
        tests=("tests/cli/test_wireshark.py",),
    ),
)
