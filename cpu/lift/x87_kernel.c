/*
 * cpu/lift/x87_kernel.c -- sine, cosine, tangent, arc tangent, logarithm and power in integer arithmetic.
 *
 * Each function is brought near zero by a table or by pi, and finished by a Taylor series in fixed point with
 * 128 bits of fraction. Relative errors are below 2^-100, so a result that is rounded to 64 bits is within
 * half a unit in the last place, or one with directed rounding, but for less than 2^-35 of it.
 *
 * Departure from the manual: SDM 1, "Approximation of Pi" describes a pi of 66 bits that FSIN, FCOS, FSINCOS
 * and FPTAN reduce their operand with. Here pi has as many bits as the largest operand needs, so the result
 * is that of the mathematical function.
 */
#include "cpu/lift/x87_kernel.h"

#include "cpu/lift/x87_tables.h"

typedef f80_u128_t u128;

static u128 bits_of(struct fraction f)
{
    return (u128)f.high << 64 | f.low;
}

static struct f80_wide wide_of(struct number n)
{
    return (struct f80_wide){(u128)n.high << 64 | n.low, n.exp, n.neg};
}

static struct f80_wide wide_integer(int32_t n)
{
    return f80_normalise(n < 0, 127, (u128)(n < 0 ? -(int64_t)n : n));
}

static struct f80_wide mul(struct f80_wide a, struct f80_wide b)
{
    bool inexact = false;
    return f80_wide_mul(a, b, &inexact);
}

static struct f80_wide add(struct f80_wide a, struct f80_wide b)
{
    bool inexact = false;
    return f80_wide_add(a, b, &inexact);
}

/* -- Series in fixed point ----------------------------------------------------------------------------- */

/* The high half of the product, at most 2 too small. */
static inline u128 high_product(u128 a, u128 b)
{
    uint64_t a0 = (uint64_t)a, a1 = (uint64_t)(a >> 64), b0 = (uint64_t)b, b1 = (uint64_t)(b >> 64);
    u128 p01 = (u128)a0 * b1, p10 = (u128)a1 * b0;
    u128 middle = (u128)(uint64_t)p01 + (uint64_t)p10;
    return (u128)a1 * b1 + (uint64_t)(p01 >> 64) + (uint64_t)(p10 >> 64) + (uint64_t)(middle >> 64);
}

/* |v| < 1 as a fraction. */
static u128 fraction_of(struct f80_wide v)
{
    unsigned shift = (unsigned)(-1 - v.exp);
    return shift < 128 ? v.m >> shift : 0;
}

/* z * (c[0] - z * (c[1] - z * ...)), or with + for -; below 1. */
static inline u128 series(u128 z, const struct fraction *c, unsigned n, bool alternates)
{
    u128 sum = bits_of(c[n - 1]);
    for (unsigned i = n - 1; i-- > 0;) {
        u128 term = high_product(z, sum);
        sum = alternates ? bits_of(c[i]) - term : bits_of(c[i]) + term;
    }
    return high_product(z, sum);
}

/* v * (1 - q), and less than v however small q is. */
static struct f80_wide scale_down(struct f80_wide v, u128 q)
{
    return f80_normalise(v.neg, v.exp, v.m - (q ? high_product(v.m, q) : 0) - 1);
}

/* v * (1 + q) */
static struct f80_wide scale_up(struct f80_wide v, u128 q)
{
    u128 m = v.m + high_product(v.m, q);
    if (m < v.m)
        return (struct f80_wide){m >> 1 | (u128)1 << 127, v.exp + 1, v.neg};
    return (struct f80_wide){m, v.exp, v.neg};
}

/* -- Sine, cosine, tangent ----------------------------------------------------------------------------- */

#define LIMBS 7

/* x = quadrant * pi / 2 + r, |r| <= pi / 4, for pi / 4 < x < 2^63. The fraction of x * 2 / pi has 384 bits,
 * of which at most 65 + 63 are lost to cancellation and to the size of x. */
static unsigned reduce(struct f80_wide x, struct f80_wide *r)
{
    uint64_t p[LIMBS] = {0}, m = (uint64_t)(x.m >> 64);
    unsigned shift = (unsigned)(x.exp + 1); /* 0 to 63: then p[6] is the integer */
    for (unsigned i = 0; i < LIMBS - 2; i++) {
        u128 t = (u128)m * two_over_pi[i] + p[i];
        p[i] = (uint64_t)t;
        p[i + 1] = (uint64_t)(t >> 64);
    }
    for (unsigned i = LIMBS - 1; shift && i > 0; i--)
        p[i] = p[i] << shift | p[i - 1] >> (64 - shift);
    p[0] <<= shift;

    unsigned quadrant = p[LIMBS - 1] & 3;
    bool neg = p[LIMBS - 2] >> 63;
    if (neg) { /* nearer to the next one */
        quadrant = (quadrant + 1) & 3;
        bool carry = true;
        for (unsigned i = 0; i < LIMBS - 1; i++) {
            p[i] = ~p[i] + carry;
            carry = carry && !p[i];
        }
    }
    unsigned top = LIMBS - 2;
    while (top > 2 && !p[top])
        top--;
    int32_t exp = -1 - 64 * (int32_t)(LIMBS - 2 - top);
    u128 high = (u128)p[top] << 64 | p[top - 1];
    unsigned n = (unsigned)__builtin_clzll(p[top] | 1);
    if (n)
        high = high << n | p[top - 2] >> (64 - n);
    *r = mul((struct f80_wide){high, exp - (int32_t)n, neg}, wide_of(pi_2));
    return quadrant;
}

static struct f80_wide sine_near_zero(struct f80_wide r)
{
    u128 f = fraction_of(r);
    return scale_down(
        r, series(high_product(f, f), inverse_odd_factorial, ARRAY_LEN(inverse_odd_factorial), true));
}

static struct f80_wide cosine_near_zero(struct f80_wide r)
{
    u128 f = fraction_of(r);
    u128 q = series(high_product(f, f), inverse_even_factorial, ARRAY_LEN(inverse_even_factorial), true);
    return f80_normalise(false, -1, -(q ? q : 1));
}

static bool within_pi_4(struct f80_wide x)
{
    return x.exp < pi_4.exp || (x.exp == pi_4.exp && (uint64_t)(x.m >> 64) <= pi_4.high);
}

#define TINY_EXPONENT (-40) /* x^3 / 3 is below all that rounding sees of x */

void kernel_trigonometry(struct f80_wide x, struct f80_wide *sine, struct f80_wide *cosine,
                         struct f80_wide *tangent)
{
    bool neg = x.neg, inexact = false;
    struct f80_wide r = x, s = x, c = x;
    r.neg = false;
    bool small = within_pi_4(x);
    unsigned quadrant = small ? 0 : reduce(r, &r);
    if (tangent && small && r.exp < TINY_EXPONENT) {
        *tangent = x; /* a little more, which the sticky bit says */
        return;
    }
    if (sine || tangent || quadrant & 1)
        s = sine_near_zero(r);
    if (cosine || tangent || quadrant & 1)
        c = cosine_near_zero(r);
    if (quadrant & 1) {
        struct f80_wide t = s;
        s = c;
        c = t;
        c.neg = !c.neg;
    }
    if (quadrant & 2) {
        s.neg = !s.neg;
        c.neg = !c.neg;
    }
    s.neg ^= neg;
    if (sine)
        *sine = s;
    if (cosine)
        *cosine = c;
    if (tangent)
        *tangent = f80_wide_div(s, c, &inexact);
}

/* -- Arc tangent --------------------------------------------------------------------------------------- */

#define ATAN_STEPS 32

static struct f80_wide atan_near_zero(struct f80_wide u)
{
    u128 f = fraction_of(u);
    return scale_down(u, series(high_product(f, f), inverse_odd, ARRAY_LEN(inverse_odd), true));
}

/* atan(a / b), 0 < a <= b: with i = 32 a / b rounded, atan(i / 32) + atan((32 a - i b) / (32 b + i a)). */
static struct f80_wide atan_quotient(struct f80_wide a, struct f80_wide b)
{
    bool inexact = false;
    unsigned shift = (unsigned)(b.exp - a.exp);
    if (shift > 6) {
        struct f80_wide u = f80_wide_div(a, b, &inexact);
        /* A quotient that is cut is farther from 64 bits than u^3 / 3. */
        return u.exp < -66 && inexact ? u : atan_near_zero(u);
    }
    u128 ma = a.m >> 64, mb = (b.m >> 64) << shift;
    unsigned i = (unsigned)((2 * ATAN_STEPS * ma + mb) / (2 * mb));
    u128 up = ATAN_STEPS * ma, down = i * mb, below = ATAN_STEPS * mb + i * ma;
    bool neg = up < down;
    struct f80_wide n = f80_normalise(neg, 0, neg ? down - up : up - down);
    if (!n.m)
        return wide_of(atan_table[i]);
    struct f80_wide u = atan_near_zero(f80_wide_div(n, f80_normalise(false, 0, below), &inexact));
    return add(wide_of(atan_table[i]), u);
}

struct f80_wide kernel_angle(enum kernel_angle which, bool neg)
{
    static const struct number *const angles[] = {&pi, &pi_2, &pi_4, &pi_3_4};
    struct f80_wide r = wide_of(*angles[which]);
    r.neg = neg;
    return r;
}

struct f80_wide kernel_atan2(struct f80_wide y, struct f80_wide x)
{
    bool neg = y.neg, left = x.neg;
    bool steep = y.exp > x.exp || (y.exp == x.exp && y.m > x.m);
    y.neg = x.neg = false;
    struct f80_wide r = steep ? atan_quotient(x, y) : atan_quotient(y, x);
    if (steep) {
        r.neg ^= !left;
        r = add(wide_of(pi_2), r);
    } else if (left) {
        r.neg = !r.neg;
        r = add(wide_of(pi), r);
    }
    r.neg = neg;
    return r;
}

/* -- Logarithm and power ------------------------------------------------------------------------------- */

#define LOG_STEPS  64
#define LOG_LOWEST 45
#define EXP_STEPS  32

/* 2 / ln 2 * atanh(s) = log2((1 + s) / (1 - s)), |s| < 1/128 */
static struct f80_wide log2_by_atanh(struct f80_wide s)
{
    u128 f = fraction_of(s);
    return mul(scale_up(s, series(high_product(f, f), inverse_odd, 9, false)), wide_of(two_over_ln2));
}

/* x = 2^k * f, f about 1; with c = i / 64 near f: k + log2(c) + log2(f / c), f / c = (1 + s) / (1 - s). */
struct f80_wide kernel_log2(struct f80_wide x, bool *inexact)
{
    int32_t k = x.exp;
    uint64_t high = (uint64_t)(x.m >> 64);
    bool upper = high > 0xb504f333f9de6484ull; /* the square root of 2 */
    struct f80_wide f = {x.m, upper ? -1 : 0, false};
    k += upper;
    int32_t i = (int32_t)(((high >> (upper ? 57 : 56)) + 1) >> 1);
    struct f80_wide c = f80_normalise(true, 127, (u128)i), result = wide_of(log2_table[i - LOG_LOWEST]);
    c.exp -= 6;
    struct f80_wide up = add(f, c);
    c.neg = false;
    *inexact |= i != LOG_STEPS || up.m;
    bool cut = false;
    if (up.m)
        result = add(result, log2_by_atanh(f80_wide_div(up, add(f, c), &cut)));
    return add(wide_integer(k), result);
}

struct f80_wide kernel_log2_1p(struct f80_wide x, bool *inexact)
{
    struct f80_wide one = wide_integer(1);
    if (x.exp >= -7)
        return kernel_log2(f80_wide_add(one, x, inexact), inexact);
    *inexact = true;
    bool cut = false;
    return log2_by_atanh(f80_wide_div(x, add(wide_integer(2), x), &cut));
}

/* With i = 32 x rounded, r = x - i / 32 and e = 2^r - 1: (2^(i / 32) - 1) + 2^(i / 32) * e. */
struct f80_wide kernel_exp2_m1(struct f80_wide x, bool *inexact)
{
    int32_t i = 0;
    struct f80_wide r = x;
    if (x.exp >= -6) {
        i = (int32_t)((((uint64_t)(x.m >> 64) >> (57 - x.exp)) + 1) >> 1);
        i = x.neg ? -i : i;
        struct f80_wide part = wide_integer(-i);
        part.exp -= part.m ? 5 : 0;
        r = add(x, part);
    }
    struct f80_wide low = wide_of(exp2_minus_one_table[i + EXP_STEPS]);
    *inexact |= r.m || (i != EXP_STEPS && i != -EXP_STEPS);
    if (!r.m)
        return low;
    struct f80_wide t = mul(r, wide_of(ln2));
    u128 q = series(fraction_of(t), inverse_factorial, ARRAY_LEN(inverse_factorial), t.neg);
    t = t.neg ? scale_down(t, q) : scale_up(t, q);
    return i ? add(low, mul(t, wide_of(exp2_table[i + EXP_STEPS]))) : t;
}
