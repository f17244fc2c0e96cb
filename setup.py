"""Lists the compiled extensions; everything else is in pyproject.toml.

UDPOVERLAY_STRICT=1  warnings are errors (CI)
UDPOVERLAY_ASAN=1    AddressSanitizer and UBSan (tests of the C code)
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

# No -march and no instruction-set flag: wide code is chosen at run time (ext/checksum.c).
CFLAGS = ["-std=gnu11", "-O2", "-fno-strict-aliasing", "-pthread", "-Wall", "-Wextra"]
LDFLAGS = ["-pthread"]
if os.environ.get("UDPOVERLAY_STRICT") == "1":
    # Cython's own output is not ours to mend: unused helpers and sign games are its style.
    CFLAGS += ["-Werror", "-Wno-unused-function", "-Wno-unused-parameter", "-Wno-sign-compare"]
if os.environ.get("UDPOVERLAY_ASAN") == "1":
    CFLAGS += ["-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    LDFLAGS += ["-fsanitize=address,undefined"]


def extension(name: str, *units: str) -> Extension:
    """One Cython module of the same name in ext/ plus its C units."""
    sources = [f"ext/{name}.pyx", *(f"ext/{unit}.c" for unit in units)]
    headers = [f"ext/{entry}" for entry in sorted(os.listdir("ext")) if entry.endswith(".h")]
    return Extension(
        f"udpoverlay.{name}",
        sources,
        include_dirs=["ext"],
        depends=headers,
        extra_compile_args=CFLAGS,
        extra_link_args=LDFLAGS,
    )


setup(
    ext_modules=cythonize(
        [
            extension(
                "_fastpath",
                *("verdict", "checksum", "packet", "icmp", "encap", "trie", "peers", "routes"),
                *("vnet", "cut", "fold", "fold_view"),
                *("worker", "outbound", "outbox", "inbound", "refuse"),
            ),
            extension(
                "_pure",
                *("verdict", "checksum", "packet", "icmp", "vnet", "cut", "fold", "fold_view"),
            ),
            extension(
                "_traffic",
                "traffic",
                "traffic_wire",
                "traffic_datagram",
                "traffic_echo",
                "traffic_icmp",
            ),
        ],
        language_level=3,
        compiler_directives={"binding": True, "embedsignature": False},
    )
)
