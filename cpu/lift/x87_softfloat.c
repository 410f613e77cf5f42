/*
 * cpu/lift/x87_softfloat.c -- 80-bit values in integer arithmetic: operands, wide numbers, rounding.
 *
 * SDM 1, "Rounding", "Numeric Overflow Exception (#O)", "Numeric Underflow Exception (#U)". Tininess is found
 * after rounding. An unmasked overflow or underflow leaves a result whose exponent is moved by 24576, and
 * infinity or zero when that is not enough.
 */
#include "cpu/lift/x87_softfloat.h"

#include "cpu/lift/x87_op.h"

typedef f80_u128_t u128;

#define EXPONENT_ADJUST 24576

/* -- Operands ------------------------------------------------------------------------------------------ */

struct f80 f80_load(const uint8_t *b)
{
    return (struct f80){load_le(b, 8), (uint16_t)load_le(b + 8, 2)};
}

void f80_store(uint8_t *b, struct f80 v)
{
    store_le(b, v.m, 8);
    store_le(b + 8, v.se, 2);
}

enum f80_class f80_classify(struct f80 v)
{
    unsigned exponent = v.se & F80_EXPONENT;
    if (exponent == 0)
        return v.m ? F80_DENORMAL : F80_ZERO;
    if (!(v.m & F80_INTEGER))
        return F80_UNSUPPORTED;
    if (exponent != F80_EXPONENT)
        return F80_NORMAL;
    if (!(v.m << 1))
        return F80_INFINITY;
    return v.m << 1 & F80_INTEGER ? F80_QNAN : F80_SNAN;
}

static struct f80 quieted(struct f80 v)
{
    v.m |= F80_INTEGER >> 1;
    return v;
}

/* SDM 1, table "Rules for Handling NaNs". */
static struct f80 nan_of(struct f80 a, enum f80_class ca, struct f80 b, enum f80_class cb)
{
    if (ca < F80_QNAN || (ca == F80_SNAN && cb == F80_QNAN))
        return quieted(b);
    if (cb < F80_QNAN || (cb == F80_SNAN && ca == F80_QNAN))
        return quieted(a);
    if (a.m != b.m)
        return quieted(a.m > b.m ? a : b);
    return quieted(f80_negative(a) ? b : a);
}

bool f80_numbers(struct f80_op *o, unsigned count)
{
    enum f80_class a = f80_classify(o->st0), b = count > 1 ? f80_classify(o->st1) : F80_NORMAL;
    if (a < F80_QNAN && b < F80_QNAN)
        return true;
    if (a == F80_UNSUPPORTED || b == F80_UNSUPPORTED) {
        f80_invalid(o);
        return false;
    }
    if (a == F80_SNAN || b == F80_SNAN)
        o->fsw |= FSW_IE;
    o->st0 = nan_of(o->st0, a, o->st1, b);
    return false;
}

bool f80_denormals(struct f80_op *o, enum f80_class a, enum f80_class b)
{
    if (a != F80_DENORMAL && b != F80_DENORMAL)
        return true;
    o->fsw |= FSW_DE;
    return o->fcw & FSW_DE;
}

void f80_invalid(struct f80_op *o)
{
    o->fsw |= FSW_IE;
    o->st0 = f80_indefinite;
}

void f80_divide_by_zero(struct f80_op *o, bool neg)
{
    o->fsw |= FSW_ZE;
    o->st0 = f80_infinity(neg);
}

/* -- Wide numbers -------------------------------------------------------------------------------------- */

static unsigned leading_zeros(u128 m)
{
    uint64_t high = (uint64_t)(m >> 64);
    return high ? (unsigned)__builtin_clzll(high) : 64 + (unsigned)__builtin_clzll((uint64_t)m);
}

struct f80_wide f80_normalise(bool neg, int32_t exp, u128 m)
{
    if (!m)
        return (struct f80_wide){0, 0, neg};
    unsigned n = leading_zeros(m);
    return (struct f80_wide){m << n, exp - (int32_t)n, neg};
}

struct f80_wide f80_unpack(struct f80 v)
{
    int32_t exponent = v.se & F80_EXPONENT;
    return f80_normalise(f80_negative(v), MAX(exponent, 1) - F80_BIAS, (u128)v.m << 64);
}

u128 f80_multiply(u128 a, u128 b, u128 *low)
{
    uint64_t a0 = (uint64_t)a, a1 = (uint64_t)(a >> 64), b0 = (uint64_t)b, b1 = (uint64_t)(b >> 64);
    u128 p00 = (u128)a0 * b0, p01 = (u128)a0 * b1, p10 = (u128)a1 * b0, p11 = (u128)a1 * b1;
    u128 middle = (p00 >> 64) + (uint64_t)p01 + (uint64_t)p10;
    *low = middle << 64 | (uint64_t)p00;
    return p11 + (p01 >> 64) + (p10 >> 64) + (middle >> 64);
}

struct f80_wide f80_wide_mul(struct f80_wide a, struct f80_wide b, bool *inexact)
{
    u128 low, high = f80_multiply(a.m, b.m, &low);
    int32_t exp = a.exp + b.exp + 1;
    if (!high)
        return (struct f80_wide){0, 0, a.neg != b.neg};
    if (!(high >> 127)) {
        high = high << 1 | low >> 127;
        low <<= 1;
        exp--;
    }
    *inexact |= low != 0;
    return (struct f80_wide){high, exp, a.neg != b.neg};
}

/* One digit of 64 bits of n * 2^64 / d, n < d; n becomes the remainder (Knuth, Algorithm D). */
static uint64_t divide_digit(u128 *n, u128 d)
{
    uint64_t d1 = (uint64_t)(d >> 64), d0 = (uint64_t)d;
    u128 q = *n / d1, rest = *n - q * d1;
    while (q >> 64 || (!(rest >> 64) && q * d0 > rest << 64)) {
        q--;
        rest += d1;
    }
    *n = (rest << 64) - q * d0;
    return (uint64_t)q;
}

struct f80_wide f80_wide_div(struct f80_wide a, struct f80_wide b, bool *inexact)
{
    struct f80_wide r = {0, a.exp - b.exp - 1, a.neg != b.neg};
    u128 n = a.m;
    if (!n)
        return (struct f80_wide){0, 0, r.neg};
    bool bit = n >= b.m; /* then the quotient has 129 bits: the last one is made sticky */
    if (bit) {
        n -= b.m;
        r.exp++;
    }
    r.m = (u128)divide_digit(&n, b.m) << 64;
    r.m |= divide_digit(&n, b.m);
    if (bit) {
        *inexact |= (uint64_t)r.m & 1;
        r.m = r.m >> 1 | (u128)1 << 127;
    }
    *inexact |= n != 0;
    return bit ? r : f80_normalise(r.neg, r.exp, r.m);
}

struct f80_wide f80_wide_add(struct f80_wide a, struct f80_wide b, bool *inexact)
{
    if (!a.m || !b.m)
        return a.m ? a : b;
    if (a.exp < b.exp || (a.exp == b.exp && a.m < b.m)) {
        struct f80_wide t = a;
        a = b;
        b = t;
    }
    unsigned shift = (unsigned)(a.exp - b.exp);
    u128 m = shift < 128 ? b.m >> shift : 0;
    bool cut = shift >= 128 || (shift && b.m << (128 - shift));
    *inexact |= cut;
    if (a.neg != b.neg) {
        m = a.m - m - (cut ? 1 : 0); /* cut downwards */
        return f80_normalise(m ? a.neg : false, a.exp, m);
    }
    m += a.m;
    if (m < a.m) {
        *inexact |= m & 1;
        m = m >> 1 | (u128)1 << 127;
        a.exp++;
    }
    return (struct f80_wide){m, a.exp, a.neg};
}

/* -- Rounding ------------------------------------------------------------------------------------------ */

/* Is a magnitude with these bits behind its last place rounded up? below: half has come, rest is not zero. */
static bool rounds_up(uint16_t fcw, bool neg, bool odd, bool half, bool rest)
{
    switch (fcw >> 10 & 3) {
    case 0:
        return half && (rest || odd);
    case 1:
        return neg && (half || rest);
    case 2:
        return !neg && (half || rest);
    default:
        return false;
    }
}

struct rounded {
    uint64_t m;
    bool carry, inexact, up;
};

/* m cut to its high 64 bits. */
static struct rounded round_high(uint16_t fcw, bool neg, u128 m, bool sticky)
{
    uint64_t high = (uint64_t)(m >> 64), low = (uint64_t)m;
    bool half = low >> 63, rest = low << 1 || sticky;
    struct rounded r = {high, false, half || rest, rounds_up(fcw, neg, high & 1, half, rest)};
    r.m += r.up;
    if (r.up && !r.m) {
        r.m = F80_INTEGER;
        r.carry = true;
    }
    return r;
}

static struct f80 overflow(struct f80_op *o, struct f80_wide v)
{
    /* Rounding that stops short of infinity leaves the largest finite number. */
    bool up = rounds_up(o->fcw, v.neg, true, true, true);
    o->fsw |= FSW_PE | (up ? FSW_C1 : 0);
    if (up)
        return f80_infinity(v.neg);
    return (struct f80){~0ull, (uint16_t)(0x7ffe | (v.neg ? F80_SIGN : 0))};
}

struct f80 f80_round(struct f80_op *o, struct f80_wide v, bool sticky)
{
    uint16_t sign = v.neg ? F80_SIGN : 0;
    if (!v.m)
        return f80_zero(v.neg);
    struct rounded r = round_high(o->fcw, v.neg, v.m, sticky);
    int32_t exponent = v.exp + F80_BIAS + r.carry;
    if (exponent < 1) {
        if (!(o->fcw & FSW_UE)) {
            o->fsw |= FSW_UE;
            exponent += EXPONENT_ADJUST;
            if (exponent < 1) {
                o->fsw |= FSW_PE;
                return f80_zero(v.neg);
            }
        } else {
            unsigned shift = (unsigned)MIN(1 - (v.exp + F80_BIAS), 128);
            u128 m = shift < 128 ? v.m >> shift : 0;
            sticky |= (shift == 128 ? v.m : v.m << (128 - shift)) != 0;
            r = round_high(o->fcw, v.neg, m, sticky);
            exponent = r.m >> 63;
            o->fsw |= r.inexact ? FSW_UE : 0;
        }
    } else if (exponent >= F80_EXPONENT) {
        o->fsw |= FSW_OE;
        exponent -= EXPONENT_ADJUST;
        if (o->fcw & FSW_OE)
            return overflow(o, v);
        if (exponent >= F80_EXPONENT) {
            o->fsw |= FSW_PE | FSW_C1;
            return f80_infinity(v.neg);
        }
    }
    o->fsw |= (r.inexact ? FSW_PE : 0) | (r.up ? FSW_C1 : 0);
    return (struct f80){r.m, (uint16_t)(sign | exponent)};
}

bool f80_to_integer(uint16_t fcw, struct f80 v, uint64_t *n, bool *inexact, bool *up)
{
    int32_t exp = (v.se & F80_EXPONENT) - F80_BIAS;
    if (exp > 63)
        return false;
    u128 m = (u128)v.m << 64;
    unsigned shift = (unsigned)MIN(63 - exp, 127);
    bool sticky = shift && m << (128 - shift);
    struct rounded r = round_high(fcw, f80_negative(v), m >> shift, sticky);
    *n = r.m;
    *inexact = r.inexact;
    *up = r.up;
    return !r.carry;
}
