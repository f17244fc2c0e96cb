/* SPDX-License-Identifier: Apache-2.0 */
#include "checksum.h"

#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define CHECKSUM_AVX2 1
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(__AARCH64EB__)
#define CHECKSUM_NEON 1
#include <arm_neon.h>
#endif

/* 64 to 32 bits; the end-around carry keeps the one's complement sum. */
static inline uint32_t fold64(uint64_t sum)
{
    sum = (sum & 0xFFFFFFFFU) + (sum >> 32);
    sum = (sum & 0xFFFFFFFFU) + (sum >> 32);
    return (uint32_t)sum;
}

/* Fewer than 8 bytes. A last odd byte is the first one of a word whose other byte is zero. */
static inline uint64_t add_tail(uint64_t sum, const uint8_t *data, size_t length)
{
    uint32_t four;
    uint16_t two;
    if (length & 4) {
        memcpy(&four, data, 4);
        sum += four;
        data += 4;
    }
    if (length & 2) {
        memcpy(&two, data, 2);
        sum += two;
        data += 2;
    }
    if (length & 1) {
        two = 0;
        memcpy(&two, data, 1);
        sum += two;
    }
    return sum;
}

static inline uint64_t add_words(uint64_t sum, const uint8_t *data, size_t length)
{
    /* Two accumulators of 32-bit halves: no carry can be lost, 2^32 words fit. */
    uint64_t other = 0;
    for (; length >= 16; data += 16, length -= 16) {
        uint64_t words[2];
        memcpy(words, data, 16);
        sum += (words[0] & 0xFFFFFFFFU) + (words[0] >> 32);
        other += (words[1] & 0xFFFFFFFFU) + (words[1] >> 32);
    }
    sum += other;
    if (length & 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        sum += (word & 0xFFFFFFFFU) + (word >> 32);
        data += 8;
    }
    return add_tail(sum, data, length & 7);
}

static uint32_t add_portable(uint32_t sum, const void *data, size_t length)
{
    return fold64(add_words(sum, data, length));
}

#ifdef CHECKSUM_AVX2
__attribute__((target("avx2"))) static uint32_t add_avx2(uint32_t start, const void *data,
                                                         size_t length)
{
    const uint8_t *bytes = data;
    uint64_t sum = start;
    if (length >= 64) {
        const __m256i low = _mm256_set1_epi64x(0xFFFFFFFF);
        __m256i even = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
        __m256i even2 = even, odd2 = odd;
        for (; length >= 64; bytes += 64, length -= 64) {
            __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)bytes);
            __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(bytes + 32));
            even = _mm256_add_epi64(even, _mm256_and_si256(a, low));
            odd = _mm256_add_epi64(odd, _mm256_srli_epi64(a, 32));
            even2 = _mm256_add_epi64(even2, _mm256_and_si256(b, low));
            odd2 = _mm256_add_epi64(odd2, _mm256_srli_epi64(b, 32));
        }
        uint64_t lanes[4];
        __m256i all = _mm256_add_epi64(_mm256_add_epi64(even, odd), _mm256_add_epi64(even2, odd2));
        _mm256_storeu_si256((__m256i *)(void *)lanes, all);
        sum += lanes[0] + lanes[1] + lanes[2] + lanes[3];
    }
    return fold64(add_words(sum, bytes, length));
}
#endif

#ifdef CHECKSUM_NEON
static uint32_t add_neon(uint32_t start, const void *data, size_t length)
{
    const uint8_t *bytes = data;
    uint64_t sum = start;
    if (length >= 64) {
        uint64x2_t a = vdupq_n_u64(0), b = a, c = a, d = a;
        for (; length >= 64; bytes += 64, length -= 64) {
            a = vpadalq_u32(a, vreinterpretq_u32_u8(vld1q_u8(bytes)));
            b = vpadalq_u32(b, vreinterpretq_u32_u8(vld1q_u8(bytes + 16)));
            c = vpadalq_u32(c, vreinterpretq_u32_u8(vld1q_u8(bytes + 32)));
            d = vpadalq_u32(d, vreinterpretq_u32_u8(vld1q_u8(bytes + 48)));
        }
        uint64x2_t all = vaddq_u64(vaddq_u64(a, b), vaddq_u64(c, d));
        sum += vgetq_lane_u64(all, 0) + vgetq_lane_u64(all, 1);
    }
    return fold64(add_words(sum, bytes, length));
}
#endif

/* Written once, before main or dlopen returns; read-only afterwards. */
static struct checksum_implementation usable[3] = {{"portable", add_portable}};

__attribute__((constructor)) static void choose(void)
{
    size_t count = 0;
#ifdef CHECKSUM_AVX2
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        usable[count++] = (struct checksum_implementation){"avx2", add_avx2};
#endif
#ifdef CHECKSUM_NEON
    usable[count++] = (struct checksum_implementation){"neon", add_neon};
#endif
    usable[count] = (struct checksum_implementation){"portable", add_portable};
}

const struct checksum_implementation *checksum_implementations(void)
{
    return usable;
}

uint32_t checksum_add(uint32_t sum, const void *data, size_t length)
{
    return usable[0].add(sum, data, length);
}

uint32_t checksum_pseudo(const uint8_t *addresses, size_t addresses_length, uint8_t protocol,
                         uint32_t length)
{
    /* The words that stand in no packet, in network order: length, then zeros and protocol. */
    const uint8_t rest[8] = {(uint8_t)(length >> 24), (uint8_t)(length >> 16),
                             (uint8_t)(length >> 8), (uint8_t)length, 0, 0, 0, protocol};
    return fold64(add_words(add_words(0, addresses, addresses_length), rest, sizeof(rest)));
}

uint16_t checksum_fold(uint32_t sum)
{
    sum = (sum & 0xFFFFU) + (sum >> 16);
    return (uint16_t)((sum & 0xFFFFU) + (sum >> 16));
}

uint16_t checksum_finish(uint32_t sum)
{
    return (uint16_t)~checksum_fold(sum);
}
