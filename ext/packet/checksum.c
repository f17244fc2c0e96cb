/* SPDX-License-Identifier: Apache-2.0 */
#include "packet/checksum.h"

#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define CHECKSUM_AVX2 1
#if defined(__clang__) || __GNUC__ >= 8
#define CHECKSUM_AVX512 1
#endif
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
/* Keeps a loaded vector in its register: GCC would load it from memory for each of its two uses,
 * and loads that cross cache lines, as most do here, are what bounds these loops. */
#define IN_REGISTER(vector) __asm__("" : "+v"(vector))

/*
 * Lanes of 64 bits take in whole words, and others their upper halves alone. What the first lose by
 * overflow does not matter: subtracting the upper halves again, modulo 2^64, leaves exactly the sum
 * of the lower ones, which 2^32 words cannot overflow. That is one operation a word less than
 * taking the halves apart.
 */
__attribute__((target("avx2"))) static uint32_t add_avx2(uint32_t start, const void *data,
                                                         size_t length)
{
    const uint8_t *bytes = data;
    uint64_t sum = start;
    if (length >= 64) {
        __m256i whole = _mm256_setzero_si256(), upper = whole, whole2 = whole, upper2 = whole;
        for (; length >= 64; bytes += 64, length -= 64) {
            __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)bytes);
            __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(bytes + 32));
            IN_REGISTER(a);
            IN_REGISTER(b);
            whole = _mm256_add_epi64(whole, a);
            upper = _mm256_add_epi64(upper, _mm256_srli_epi64(a, 32));
            whole2 = _mm256_add_epi64(whole2, b);
            upper2 = _mm256_add_epi64(upper2, _mm256_srli_epi64(b, 32));
        }
        upper = _mm256_add_epi64(upper, upper2);
        whole = _mm256_sub_epi64(_mm256_add_epi64(whole, whole2), _mm256_slli_epi64(upper, 32));
        uint64_t lanes[4];
        _mm256_storeu_si256((__m256i *)(void *)lanes, _mm256_add_epi64(whole, upper));
        sum += lanes[0] + lanes[1] + lanes[2] + lanes[3];
    }
    return fold64(add_words(sum, bytes, length));
}
#endif

#ifdef CHECKSUM_AVX512
/* As with AVX2, twice as wide; the mask of the last load leaves no tail. */
__attribute__((target("avx512f,avx512bw"))) static uint32_t add_avx512(uint32_t start,
                                                                       const void *data,
                                                                       size_t length)
{
    const uint8_t *bytes = data;
    __m512i whole = _mm512_setzero_si512(), upper = whole, whole2 = whole, upper2 = whole;
    for (; length >= 128; bytes += 128, length -= 128) {
        __m512i a = _mm512_loadu_si512(bytes);
        __m512i b = _mm512_loadu_si512(bytes + 64);
        IN_REGISTER(a);
        IN_REGISTER(b);
        whole = _mm512_add_epi64(whole, a);
        upper = _mm512_add_epi64(upper, _mm512_srli_epi64(a, 32));
        whole2 = _mm512_add_epi64(whole2, b);
        upper2 = _mm512_add_epi64(upper2, _mm512_srli_epi64(b, 32));
    }
    for (; length > 0; bytes += 64) {
        size_t take = length < 64 ? length : 64;
        __m512i a = _mm512_maskz_loadu_epi8(~(__mmask64)0 >> (64 - take), bytes);
        whole = _mm512_add_epi64(whole, a);
        upper = _mm512_add_epi64(upper, _mm512_srli_epi64(a, 32));
        length -= take;
    }
    upper = _mm512_add_epi64(upper, upper2);
    whole = _mm512_sub_epi64(_mm512_add_epi64(whole, whole2), _mm512_slli_epi64(upper, 32));
    whole = _mm512_add_epi64(whole, upper);
    uint64_t lanes[8], sum = start;
    _mm512_storeu_si512(lanes, whole);
    for (unsigned i = 0; i < 8; i++)
        sum += lanes[i];
    return fold64(sum);
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
static struct checksum_implementation usable[4] = {{"portable", add_portable}};

__attribute__((constructor)) static void choose(void)
{
    size_t count = 0;
#ifdef CHECKSUM_AVX2
    __builtin_cpu_init();
#ifdef CHECKSUM_AVX512
    /* Not asked of what is used but of VBMI2: CPUs before it (Skylake) lower the clock of the whole
     * core for wide instructions, which the rest of the work would pay for. */
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi2"))
        usable[count++] = (struct checksum_implementation){"avx512", add_avx512};
#endif
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
    const uint8_t rest[8] = {(uint8_t)(length >> 24),
                             (uint8_t)(length >> 16),
                             (uint8_t)(length >> 8),
                             (uint8_t)length,
                             0,
                             0,
                             0,
                             protocol};
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
