#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The compiled extension under AddressSanitizer and UBSan, with the tests of the pump, of the data
# plane (real TUN devices, as root) and of the offloads on a real kernel: the only code with threads,
# system calls and borrowed pointers. (The C units alone, and data races: tests/c/run.sh.)
#
#     tests/sanitize.sh [PYTEST ARGUMENTS]    from a set-up .venv (make sanitize)
#
# It works on a copy in build/sanitized, so the built extension of this tree stays as it is. Where a
# finding is, the report stands in the output of the test that died.
set -eu
cd "$(dirname "$0")/.."
ROOT=$PWD
PYTHON=$ROOT/.venv/bin/python
COPY=build/sanitized

runtime=
for library in libasan.so libubsan.so; do
    found=$("${CC:-cc}" -print-file-name="$library")
    if [ ! -e "$found" ]; then
        if [ "${REQUIRE:-0}" = 1 ]; then
            echo "${CC:-cc} has no $library (REQUIRE=1): install gcc's sanitizers" >&2
            exit 1
        fi
        echo "skipped: ${CC:-cc} has no $library"
        exit 0
    fi
    runtime="$runtime $found"
done

mkdir -p "$COPY"
cp -Rp udpoverlay ext tests setup.py pyproject.toml README.md LICENSE "$COPY"
cd "$COPY"
rm -f udpoverlay/*.so
UDPOVERLAY_ASAN=1 "$PYTHON" setup.py -q build_ext --inplace --parallel 2

# Not counted: allocation by malloc (the sanitizer has its own), leaks (those of the interpreter).
export LD_PRELOAD="${runtime# }" PYTHONMALLOC=malloc
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
"$PYTHON" -c '
from udpoverlay import _fastpath
assert "build/sanitized" in _fastpath.__file__, _fastpath.__file__'
[ $# -gt 0 ] || set -- tests/ext/worker tests/ext/routes tests/ext/offload/test_kernel.py \
    tests/dataplane --ignore=tests/ext/worker/test_allocation.py
exec "$PYTHON" -m pytest -q -p no:cacheprovider "$@"
