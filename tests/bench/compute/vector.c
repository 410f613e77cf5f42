/*
 * tests/bench/compute/vector.c -- vectors of 128 bits: as the compiler makes them, and integer intrinsics.
 */
#include "compute.h"

#include <emmintrin.h>
#include <string.h>

/* -- What the compiler vectorises (this file: -O3, baseline x86-64) ------------------------------------ */

enum { AUTO_COUNT = 2048, AUTO_ROUNDS = 24000 };
static float *auto_a, *auto_b;
static int32_t *auto_c;

void autovec_prepare(void)
{
    auto_a = memory_new(AUTO_COUNT * sizeof *auto_a);
    auto_b = memory_new(AUTO_COUNT * sizeof *auto_b);
    auto_c = memory_new(AUTO_COUNT * sizeof *auto_c);
}

static __attribute__((noinline)) void auto_step(float *restrict a, const float *restrict b,
                                                int32_t *restrict c, float scale)
{
    for (int i = 0; i < AUTO_COUNT; i++) {
        a[i] = a[i] * scale + b[i];
        c[i] = (c[i] ^ (int32_t)a[i]) + (c[i] >> 3);
    }
}

uint64_t autovec_unit(void)
{
    uint64_t seed = 11, sum = 0;
    for (int i = 0; i < AUTO_COUNT; i++) {
        auto_a[i] = 0;
        auto_b[i] = (float)(random_next(&seed) >> 44);
        auto_c[i] = i;
    }
    for (int round = 0; round < AUTO_ROUNDS; round++)
        auto_step(auto_a, auto_b, auto_c, round % 2 ? 0.5f : 0.25f);
    for (int i = 0; i < AUTO_COUNT; i++)
        sum = mix(sum, (uint32_t)auto_c[i]);
    return sum;
}

/* -- Integer SIMD: differences, comparisons, products, shuffles ---------------------------------------- */

enum { SIMD_COUNT = 1024, SIMD_ROUNDS = 8000 };
static __m128i *simd_a, *simd_b;

void simdint_prepare(void)
{
    uint64_t seed = 12;
    simd_a = memory_new(SIMD_COUNT * sizeof *simd_a);
    simd_b = memory_new(SIMD_COUNT * sizeof *simd_b);
    for (int i = 0; i < 2 * SIMD_COUNT; i++) {
        uint64_t a = random_next(&seed), b = random_next(&seed);
        memcpy((char *)simd_a + 8 * i, &a, 8);
        memcpy((char *)simd_b + 8 * i, &b, 8);
    }
}

uint64_t simdint_unit(void)
{
    __m128i sums = _mm_setzero_si128(), products = _mm_setzero_si128(), picks = _mm_setzero_si128();
    unsigned masks = 0;
    for (int round = 0; round < SIMD_ROUNDS; round++) {
        for (int i = 0; i < SIMD_COUNT; i++) {
            __m128i a = _mm_load_si128(&simd_a[i]), b = _mm_add_epi8(_mm_load_si128(&simd_b[i]), picks);
            sums = _mm_add_epi64(sums, _mm_sad_epu8(a, b));
            products = _mm_add_epi32(products, _mm_madd_epi16(_mm_srai_epi16(a, 2), b));
            __m128i greater = _mm_cmpgt_epi8(a, b);
            __m128i larger = _mm_or_si128(_mm_and_si128(greater, a), _mm_andnot_si128(greater, b));
            picks = _mm_xor_si128(_mm_shuffle_epi32(picks, 0x39), _mm_unpacklo_epi8(larger, a));
            masks += (unsigned)_mm_movemask_epi8(greater);
        }
    }
    uint64_t out[6], sum = masks;
    memcpy(out, &sums, 16);
    memcpy(out + 2, &products, 16);
    memcpy(out + 4, &picks, 16);
    for (int i = 0; i < 6; i++)
        sum = mix(sum, out[i]);
    return sum;
}
