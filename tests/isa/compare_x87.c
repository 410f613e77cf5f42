/*
 * tests/isa/compare_x87.c -- the transcendentals: what of their results counts
 * against the host's.
 *
 * The exact reference is tests/unit/test_x87_transcendental.c. Here special
 * operands must give the host's bits and flags, ordinary ones a result within 1
 * ulp of the exact one on both sides, thus within 2 of each other. The host
 * reduces angles with a pi of 66 bits (SDM 1, "Approximation of Pi"), droste
 * with the exact one: that moves the angle by up to |x| * 2^-66.
 */
#include "isa.h"
#include <math.h>
#include <string.h>

#define FSW_INEXACT (0x8080 | 1 << 5 | 1 << 4) /* PE, UE, and the summaries */
#define FSW_C1      (1 << 9)

static long double value_of(const uint8_t *b)
{
    long double v = 0;
    memcpy(&v, b, 10);
    return v;
}

static bool is_finite(const uint8_t *b)
{
    return (load_le(b + 8, 2) & 0x7fff) != 0x7fff;
}

static bool is_power_of_two(long double v)
{
    int e;
    return frexpl(v, &e) == 0.5L;
}

void ignore_x87(const struct insn *in, const struct isa_state *before, struct ignore *ig)
{
    long double x = value_of(before->st[0]);
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_FSIN:
    case ZYDIS_MNEMONIC_FCOS:
    case ZYDIS_MNEMONIC_FSINCOS:
    case ZYDIS_MNEMONIC_FPTAN:
        ig->x87_angle = isfinite(x) && fabsl(x) > 0.75L ? fabsl(x) * 0x1p-65L : 0;
        ig->x87_tangent = in->zi.mnemonic == ZYDIS_MNEMONIC_FPTAN;
        break;
    case ZYDIS_MNEMONIC_F2XM1:
    case ZYDIS_MNEMONIC_FYL2X:
        if (is_power_of_two(fabsl(x)))
            ig->fsw |= FSW_INEXACT; /* AMD reports results that are exact as inexact */
        break;
    case ZYDIS_MNEMONIC_FYL2XP1:
        if (x <= -1)
            ig->why = "FYL2XP1 of an operand up to -1 is undefined";
        if (is_power_of_two(1 + x))
            ig->fsw |= FSW_INEXACT;
        break;
    case ZYDIS_MNEMONIC_FPATAN:
        break;
    default:
        return;
    }
    ig->x87_ulp = 2;
    ig->fsw |= FSW_C1; /* how the last bit was rounded */
}

bool x87_nearly_equal(const uint8_t *a, const uint8_t *b, const struct ignore *ig)
{
    if (!ig->x87_ulp || !is_finite(a) || !is_finite(b))
        return false;
    long double va = value_of(a), vb = value_of(b);
    int e;
    frexpl(va, &e);
    long double ulp = ldexpl(1, (e > -16381 ? e : -16381) - 64);
    long double angle = ig->x87_angle;
    if (ig->x87_tangent && angle > 0)
        angle *= 1 + va * va;
    return fabsl(va - vb) <= ig->x87_ulp * ulp + angle;
}
