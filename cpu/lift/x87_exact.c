/*
 * cpu/lift/x87_exact.c -- FPREM, FPREM1, FXTRACT, FSCALE, FRNDINT.
 *
 * SDM 2A, these instructions. Their results are exact but for the rounding that FRNDINT is, and for
 * overflow and underflow of FSCALE. A partial remainder takes off N = 32 + D mod 32 bits of quotient, D the
 * difference of the exponents: the manual leaves N between 32 and 63 to the processor.
 */
#include "cpu/lift/x87_softfloat.h"

#include "cpu/lift/x87_op.h"

typedef f80_u128_t u128;

/* -- Remainders ---------------------------------------------------------------------------------------- */

static uint16_t quotient_bits(uint64_t q)
{
    return (uint16_t)((q & 1 ? FSW_C1 : 0) | (q & 2 ? FSW_C3 : 0) | (q & 4 ? FSW_C0 : 0));
}

static void remainder_of(struct f80_op *o, bool nearest)
{
    enum f80_class ca = f80_classify(o->st0), cb = f80_classify(o->st1);
    if (!f80_numbers(o, 2))
        return;
    if (ca == F80_INFINITY || cb == F80_ZERO) {
        f80_invalid(o);
        return;
    }
    if (!f80_denormals(o, ca, cb) || ca == F80_ZERO)
        return;
    struct f80_wide a = f80_unpack(o->st0), b = f80_unpack(o->st1), r = a;
    int32_t d = cb == F80_INFINITY ? -2 : a.exp - b.exp;
    uint64_t ma = (uint64_t)(a.m >> 64), mb = (uint64_t)(b.m >> 64), q = 0;
    if (d >= 0) {
        unsigned n = (unsigned)(d < 64 ? d : 32 + d % 32);
        u128 dividend = (u128)ma << n;
        q = (uint64_t)(dividend / mb);
        uint64_t rest = (uint64_t)(dividend % mb);
        int32_t exp = a.exp - (int32_t)n + 64;
        bool neg = a.neg;
        if (nearest && d < 64 && (rest > mb - rest || (rest == mb - rest && q & 1))) {
            rest = mb - rest;
            neg = !neg;
            q++;
        }
        r = f80_normalise(neg, exp, rest);
    } else if (nearest && d == -1 && ma > mb) { /* above half of b */
        r = f80_normalise(!a.neg, a.exp + 64, ((u128)mb << 1) - ma);
        q = 1;
    }
    o->st0 = r.m ? f80_round(o, r, false) : f80_zero(a.neg);
    o->fsw |= d < 64 ? quotient_bits(q) : FSW_C2;
}

void f80_fprem(struct f80_op *o)
{
    remainder_of(o, false);
}

void f80_fprem1(struct f80_op *o)
{
    remainder_of(o, true);
}

/* -- Exponent and significand -------------------------------------------------------------------------- */

static struct f80 from_integer(int32_t n)
{
    if (!n)
        return f80_zero(false);
    struct f80_wide v = f80_normalise(n < 0, 127, (u128)(n < 0 ? -(int64_t)n : n));
    return (struct f80){(uint64_t)(v.m >> 64), (uint16_t)((v.exp + F80_BIAS) | (v.neg ? F80_SIGN : 0))};
}

void f80_fxtract(struct f80_op *o)
{
    enum f80_class c = f80_classify(o->st0);
    if (!f80_numbers(o, 1)) {
        o->st1 = o->st0;
        return;
    }
    if (c == F80_ZERO) {
        o->fsw |= FSW_ZE;
        o->st1 = f80_infinity(true);
        return;
    }
    if (c == F80_INFINITY) {
        o->st1 = f80_infinity(false);
        return;
    }
    if (!f80_denormals(o, c, c))
        return;
    struct f80_wide v = f80_unpack(o->st0);
    o->st1 = from_integer(v.exp);
    o->st0 = (struct f80){(uint64_t)(v.m >> 64), (uint16_t)(F80_BIAS | (v.neg ? F80_SIGN : 0))};
}

/* SDM 2A, FSCALE, table "FSCALE Results". */
void f80_fscale(struct f80_op *o)
{
    enum f80_class ca = f80_classify(o->st0), cb = f80_classify(o->st1);
    bool neg = f80_negative(o->st0), down = f80_negative(o->st1);
    if (!f80_numbers(o, 2))
        return;
    if (cb == F80_INFINITY) {
        if (down ? ca == F80_INFINITY : ca == F80_ZERO)
            f80_invalid(o);
        else if (f80_denormals(o, ca, cb))
            o->st0 = down ? f80_zero(neg) : f80_infinity(neg);
        return;
    }
    if (!f80_denormals(o, ca, cb) || ca == F80_ZERO || ca == F80_INFINITY)
        return;
    struct f80_wide v = f80_unpack(o->st0), by = f80_unpack(o->st1);
    if (by.m && by.exp >= 0) {
        /* 2^17 is beyond any exponent. */
        int32_t n = by.exp >= 17 ? 1 << 17 : (int32_t)(by.m >> (127 - by.exp));
        v.exp += by.neg ? -n : n;
    }
    o->st0 = f80_round(o, v, false);
}

/* -- Integers ------------------------------------------------------------------------------------------ */

void f80_frndint(struct f80_op *o)
{
    enum f80_class c = f80_classify(o->st0);
    bool neg = f80_negative(o->st0), inexact, up;
    uint64_t n;
    if (!f80_numbers(o, 1) || c == F80_ZERO || c == F80_INFINITY || !f80_denormals(o, c, c))
        return;
    if ((o->st0.se & F80_EXPONENT) >= F80_BIAS + 63)
        return; /* an integer already */
    f80_to_integer(o->fcw, o->st0, &n, &inexact, &up);
    o->fsw |= (inexact ? FSW_PE : 0) | (up ? FSW_C1 : 0);
    if (!n) {
        o->st0 = f80_zero(neg);
        return;
    }
    struct f80_wide v = f80_normalise(neg, 127, n);
    o->st0 = (struct f80){(uint64_t)(v.m >> 64), (uint16_t)((v.exp + F80_BIAS) | (neg ? F80_SIGN : 0))};
}
