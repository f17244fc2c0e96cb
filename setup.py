"""Lists the compiled extensions; everything else is in pyproject.toml.

UDPOVERLAY_LAB=1     with the traffic generator of `udpoverlay lab` and `bench` (docs/adr/0019)
UDPOVERLAY_STRICT=1  warnings are errors (CI)
UDPOVERLAY_ASAN=1    AddressSanitizer and UBSan (tests of the C code)
"""

import os
import subprocess
import tempfile
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools._distutils.ccompiler import new_compiler
from setuptools._distutils.sysconfig import customize_compiler
from setuptools.command.build_ext import build_ext

# No -march and no instruction-set flag: wide code is chosen at run time (ext/packet/checksum.c).
CFLAGS = ["-std=gnu11", "-O2", "-fno-strict-aliasing", "-pthread", "-Wall", "-Wextra"]
LDFLAGS = ["-pthread"]
if os.environ.get("UDPOVERLAY_STRICT") == "1":
    # Cython's own output is not ours to fix: unused helpers and sign games are its style.
    CFLAGS += ["-Werror", "-Wno-unused-function", "-Wno-unused-parameter", "-Wno-sign-compare"]
if os.environ.get("UDPOVERLAY_ASAN") == "1":
    CFLAGS += ["-g", "-O1", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    CFLAGS += ["-fno-sanitize-recover=all"]
    LDFLAGS += ["-fsanitize=address,undefined"]

ATOMIC = """#include <stdatomic.h>
#include <stdint.h>
int main(int count, char **words) {
    static _Atomic uint64_t whole;
    (void)words;
    return (int)(atomic_fetch_add(&whole, (uint64_t)count) + atomic_load(&whole)); }"""


def links(*flags: str) -> bool:
    """Whether a program with 64-bit atomics becomes executable with these linker flags."""
    compiler = new_compiler()
    customize_compiler(compiler)
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "atomic.c"), Path(folder, "atomic")
        source.write_text(ATOMIC)
        command = [*compiler.linker_exe, *CFLAGS, source, "-o", program, *LDFLAGS, *flags]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


# A CPU without 64-bit atomics (32-bit ARM, MIPS, PowerPC) calls libatomic for them. A shared
# library links without it all the same and then cannot be loaded: hence a whole program.
if not links() and links("-latomic"):
    LDFLAGS += ["-latomic"]


def extension(name: str, *units: str) -> Extension:
    """One Cython module of the same name in ext/ plus its C units."""
    sources = [f"ext/{name}.pyx", *(f"ext/{unit}.c" for unit in units)]
    headers = sorted(glob("ext/**/*.h", recursive=True))
    return Extension(
        f"udpoverlay.{name}",
        sources,
        include_dirs=["ext"],
        depends=headers,
        extra_compile_args=CFLAGS,
        extra_link_args=LDFLAGS,
    )


class BuildExt(build_ext):
    """Leaves out what a host that runs the daemon does not need, save in the source folder."""

    def run(self) -> None:
        """Build them."""
        if not self.inplace and not self.editable_mode:
            left_out = {"udpoverlay._pure"}
            if os.environ.get("UDPOVERLAY_LAB") != "1":
                left_out.add("udpoverlay._traffic")
            self.extensions = [each for each in self.extensions if each.name not in left_out]
        super().run()


PACKET = (
    "verdict",
    *(f"packet/{unit}" for unit in ("checksum", "packet", "icmp", "encap", "probe")),
)
OFFLOAD = (
    "offload/vnet",
    "offload/segment",
    "offload/coalesce",
    "offload/coalesce_view",
    "offload/fallback",
)
ROUTES = (
    "routes/trie",
    "routes/path",
    "routes/peer_counts",
    "routes/peers",
    "routes/senders",
    "routes/routes",
)
WORKER = tuple(
    f"worker/{unit}"
    for unit in (
        "worker",
        "stats",
        "event",
        "impair",
        "impair_queue",
        "impair_rule",
        "device",
        "outbound",
        "tx_batch",
        "inbound",
        "delivery",
        "source_check",
        "refused",
        "probes",
        "probe_reply",
        "icmp_reply",
    )
)
TRACE = ("trace/ring", "trace/recorder", "trace/usdt")
PROCESS = ("process/process",)
TRAFFIC = tuple(
    f"traffic/{unit}" for unit in ("stream", "samples", "wire", "datagram", "echo", "icmp_flood")
)

setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=cythonize(
        [
            extension("_fastpath", *PACKET, *OFFLOAD, *ROUTES, *TRACE, *PROCESS, *WORKER),
            extension("_pure", *PACKET, *OFFLOAD),
            extension("_traffic", *TRAFFIC),
        ],
        language_level=3,
        compiler_directives={"binding": True, "embedsignature": False},
    ),
)
