#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The C units (ext/) under the sanitizers: every tests/c/test_*.c with AddressSanitizer and UBSan,
# those that start threads with ThreadSanitizer too, and every tests/fuzz/fuzz_NAME.c from the seeds
# in tests/fuzz/corpus/NAME if there are any, with libFuzzer where clang brings it and by replay
# everywhere. With musl-gcc on PATH all of it is built and run with musl, too.
#
#   CC            the compiler (cc)
#   FUZZ_SECONDS  of libFuzzer for each harness (2; 0: replay alone)
#   REPLAY_ROUNDS mutated seeds for each harness (20000)
#   REQUIRE=1     a sanitizer that is missing is a failure, not a skip
#   RUNNER        what runs programs for another CPU; then without sanitizers, statically linked:
#                 CC=s390x-linux-gnu-gcc RUNNER=qemu-s390x tests/c/run.sh
#
# Last line: "N passed, N failed". Exit status 0 only if nothing failed.
set -u
cd "$(dirname "$0")/../.."

CC=${CC:-cc}
FUZZ_SECONDS=${FUZZ_SECONDS:-2}
REPLAY_ROUNDS=${REPLAY_ROUNDS:-20000}
BUILD=$(mktemp -d) || exit 1
trap 'rm -rf "$BUILD"' EXIT
trap 'exit 130' INT TERM

WARNINGS="-std=gnu11 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wvla"
COMMON="-g -O1 -fno-omit-frame-pointer -fno-strict-aliasing -pthread -Iext -Itests/c"
MEMORY="-fsanitize=address,undefined -fno-sanitize-recover=all"
THREADS="-fsanitize=thread"
WRAP="-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc"
export ASAN_OPTIONS="detect_stack_use_after_return=1:strict_string_checks=1"
export UBSAN_OPTIONS="print_stacktrace=1"
export TSAN_OPTIONS="halt_on_error=1"
passed=0
failed=0

# The units without Cython's output and without the generator of the lab's traffic.
UNITS=$(ls ext/*.c ext/*/*.c | grep -v -e '/_' -e '/traffic/')

fail() { failed=$((failed + 1)); echo "FAILED $*" >&2; }

# library NAME FLAGS...: all units as $BUILD/NAME/units.a
library() {
    name=$1; shift
    mkdir -p "$BUILD/$name"
    for unit in $UNITS; do
        "$@" -c "$unit" -o "$BUILD/$name/$(basename "$unit" .c).o" || return 1
    done
    ar rcs "$BUILD/$name/units.a" "$BUILD/$name"/*.o
}

# run_tests NAME PREFIX SOURCES COMPILER...: builds and runs test programs, adds up their counts
run_tests() {
    name=$1; prefix=$2; sources=$3; shift 3
    for source in $sources; do
        program=$BUILD/$name/$(basename "$source" .c)
        if ! "$@" "$source" tests/c/harness.c "$BUILD/$name/units.a" -o "$program" $WRAP; then
            fail "$name: $source does not build"
            continue
        fi
        # shellcheck disable=SC2086 # the prefix may be empty
        $prefix "$program" > "$program.out" 2> "$program.err"
        status=$?
        count=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$program.out")
        if [ -z "$count" ] || { [ $status -ne 0 ] && [ "${count#* }" = 0 ]; }; then
            cat "$program.err" >&2
            fail "$name: $(basename "$program") ended with status $status"
            continue
        fi
        [ $status -eq 0 ] || cat "$program.err" >&2
        passed=$((passed + ${count% *}))
        failed=$((failed + ${count#* }))
        echo "$name: $(basename "$program"): ${count% *} passed, ${count#* } failed"
    done
}

missing() {
    if [ "${REQUIRE:-0}" = 1 ]; then
        fail "$1 is missing (REQUIRE=1)"
    else
        echo "skipped: $1 is missing"
    fi
}

# works FLAGS...: a program built so starts here
works() {
    echo 'int main(void) { return 0; }' > "$BUILD/probe.c"
    "$@" "$BUILD/probe.c" -o "$BUILD/probe" 2> /dev/null
}

# What a program with 64-bit atomics needs to be linked with on a CPU that has none (setup.py).
atomic_library() {
    echo '#include <stdatomic.h>
          #include <stdint.h>
          int main(int n, char **w) { static _Atomic uint64_t x; (void)w;
                                      return (int)atomic_fetch_add(&x, (uint64_t)n); }' > "$BUILD/atomic.c"
    "$@" "$BUILD/atomic.c" -o "$BUILD/atomic" 2> /dev/null || echo -latomic
}

# ---- another CPU: byte order, word size, its own vector instructions
if [ -n "${RUNNER:-}" ]; then
    if library plain $CC $WARNINGS $COMMON -O2; then
        WRAP="$WRAP $(atomic_library $CC $COMMON -static)"
        run_tests plain "$RUNNER" "$(ls tests/c/test_*.c)" $CC $WARNINGS $COMMON -O2 -static
    else
        fail "plain: the units do not build"
    fi
    echo "$passed passed, $failed failed"
    exit $((failed > 0))
fi

# ---- another C library; the kernel's headers stand beside its own
if command -v musl-gcc > /dev/null; then
    MUSL="musl-gcc $WARNINGS $COMMON -O2 -static -idirafter /usr/include"
    MUSL="$MUSL -idirafter /usr/include/$($CC -dumpmachine)"
    if library musl $MUSL; then
        run_tests musl "" "$(ls tests/c/test_*.c)" $MUSL
        # There it is a loop of sendmsg: each datagram would be a system call.
        if nm "$BUILD/musl/units.a" 2> /dev/null | grep -qw 'U sendmmsg'; then
            fail "musl: the units send with musl's sendmmsg"
        else
            passed=$((passed + 1))
        fi
    else
        fail "musl: the units do not build"
    fi
else
    missing "musl-gcc"
fi

# ---- memory and undefined behaviour
if works $CC $MEMORY && "$BUILD/probe"; then
    if library memory $CC $WARNINGS $COMMON $MEMORY; then
        run_tests memory "" "$(ls tests/c/test_*.c)" $CC $WARNINGS $COMMON $MEMORY
        replay=memory
    else
        fail "memory: the units do not build"
    fi
else
    missing "AddressSanitizer"
fi

# ---- data races; with many bits of address randomization its shadow needs a fixed layout
if works $CC $THREADS; then
    fixed=
    "$BUILD/probe" > /dev/null 2>&1 || fixed="setarch $(uname -m) -R"
    if $fixed "$BUILD/probe" > /dev/null 2>&1; then
        if library threads $CC $WARNINGS $COMMON $THREADS; then
            run_tests threads "$fixed" "$(grep -l pthread_create tests/c/test_*.c)" \
                $CC $WARNINGS $COMMON $THREADS
        else
            fail "threads: the units do not build"
        fi
    else
        missing "a ThreadSanitizer that starts here"
    fi
else
    missing "ThreadSanitizer"
fi

# ---- fuzz harnesses
fuzzer=
if [ "$FUZZ_SECONDS" != 0 ] && command -v clang > /dev/null; then
    echo 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n); int
          LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { (void)d; return n > 9; }' \
        > "$BUILD/fuzzer.c"
    clang -fsanitize=fuzzer,address "$BUILD/fuzzer.c" -o "$BUILD/probe" 2> /dev/null && fuzzer=clang
fi
[ -z "$fuzzer" ] || library fuzz clang $COMMON $MEMORY -fsanitize=fuzzer-no-link ||
    fail "fuzz: the units do not build"
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    corpus=tests/fuzz/corpus/${name#fuzz_}
    if [ ! -d "$corpus" ]; then # begins with nothing
        corpus=$BUILD/seeds
        mkdir -p "$corpus" && : > "$corpus/empty"
    fi
    if [ -n "${replay:-}" ]; then
        if $CC $WARNINGS $COMMON $MEMORY "$source" tests/fuzz/replay.c "$BUILD/memory/units.a" \
            -o "$BUILD/$name" && "$BUILD/$name" "$REPLAY_ROUNDS" "$corpus"/*; then
            passed=$((passed + 1))
            echo "replay: $name: $REPLAY_ROUNDS inputs"
        else
            fail "replay: $name"
        fi
    fi
    if [ -n "$fuzzer" ]; then
        mkdir -p "$BUILD/found/$name"
        if clang $COMMON $MEMORY -fsanitize=fuzzer "$source" "$BUILD/fuzz/units.a" \
            -o "$BUILD/$name.fuzz" &&
            "$BUILD/$name.fuzz" -max_total_time="$FUZZ_SECONDS" -max_len=2048 -print_final_stats=1 \
                -artifact_prefix="${TMPDIR:-/tmp}/$name-" "$BUILD/found/$name" "$corpus" \
                2> "$BUILD/$name.log"; then
            passed=$((passed + 1))
            echo "fuzz: $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$BUILD/$name.log") inputs"
        else
            tail -40 "$BUILD/$name.log" >&2
            fail "fuzz: $name"
        fi
    fi
done

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
