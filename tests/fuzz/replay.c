/* SPDX-License-Identifier: Apache-2.0
 *
 * replay: runs a fuzz harness without libFuzzer.
 *
 *     fuzz_NAME ROUNDS FILE...     each file as it is, then ROUNDS inputs made from them: bytes
 *                                  changed, segmenter, doubled, at random but the same on every run
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 4096 };

static uint64_t state = 0x9E3779B97F4A7C15U;

static uint32_t pseudo_random(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)(state * 0x2545F4914F6CDD1DU >> 32);
}

static size_t load(const char *path, uint8_t *input)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(2);
    }
    size_t size = fread(input, 1, INPUT_MAX, file);
    fclose(file);
    return size;
}

static size_t mutate(uint8_t *input, size_t size)
{
    if (size == 0) { /* nothing to begin with: noise */
        size = 1 + pseudo_random() % 256;
        for (size_t i = 0; i < size; i++)
            input[i] = (uint8_t)(pseudo_random() >> 24);
    }
    for (uint32_t changes = 1 + pseudo_random() % 8; changes > 0; changes--) {
        uint32_t what = pseudo_random() % 4;
        if (what == 0 && size < INPUT_MAX / 2) { /* doubled */
            memcpy(input + size, input, size);
            size *= 2;
        } else if (what == 1 && size > 0) { /* cut */
            size -= pseudo_random() % size;
        } else if (size > 0) { /* a byte: often one of the extremes */
            static const uint8_t extremes[] = {0, 1, 0x3F, 0x7F, 0x80, 0xFF};
            uint32_t pick = pseudo_random();
            input[pseudo_random() % size] =
                what == 2 ? extremes[pick % sizeof(extremes)] : (uint8_t)pick;
        }
    }
    return size;
}

int main(int argc, char **argv)
{
    static uint8_t input[INPUT_MAX];
    if (argc < 3) {
        fprintf(stderr, "usage: %s ROUNDS FILE...\n", argv[0]);
        return 2;
    }
    for (int i = 2; i < argc; i++)
        LLVMFuzzerTestOneInput(input, load(argv[i], input));
    for (long round = strtol(argv[1], NULL, 10); round > 0; round--) {
        const char *path = argv[2 + pseudo_random() % (uint32_t)(argc - 2)];
        LLVMFuzzerTestOneInput(input, mutate(input, load(path, input)));
    }
    return 0;
}
