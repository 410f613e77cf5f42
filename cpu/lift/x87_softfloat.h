/*
 * cpu/lift/x87_softfloat.h -- 80-bit values in integer arithmetic: classes, NaN rules, rounding to a
 * register.
 *
 * SDM 1, "Real Number and Floating-Point Formats", "Operating on SNaNs and QNaNs", "x87 FPU Floating-Point
 * Exception Conditions". No host floating point: every host computes the same bits. Precision control has no
 * effect on the instructions that are computed here (SDM 1, "Precision Control Field").
 *
 *     struct f80_op o = {.st0 = f80_load(a), .st1 = f80_load(b), .fcw = fcw};
 *     f80_fpatan(&o);     o.st0: the result; o.fsw: exceptions and condition codes
 *
 * Tests: tests/unit/test_x87_transcendental.c, tests/isa.
 */
#ifndef CPU_LIFT_X87_SOFTFLOAT_H
#define CPU_LIFT_X87_SOFTFLOAT_H

#include "base/types.h"

__extension__ typedef unsigned __int128 f80_u128_t;

#define F80_BIAS     16383
#define F80_INTEGER  (1ull << 63) /* the explicit integer bit */
#define F80_EXPONENT 0x7fff
#define F80_SIGN     0x8000

struct f80 {
    uint64_t m;  /* significand with its integer bit */
    uint16_t se; /* sign in bit 15, biased exponent */
};

/* In the order of precedence of SDM 1, "Floating-Point Exception Priority". */
enum f80_class {
    F80_ZERO,
    F80_DENORMAL, /* pseudo-denormals too */
    F80_NORMAL,
    F80_INFINITY,
    F80_QNAN,
    F80_SNAN,
    F80_UNSUPPORTED, /* unnormals, pseudo-infinities, pseudo-NaNs */
};

/* One instruction on plain values. */
struct f80_op {
    struct f80 st0, st1; /* in: operands; out: st0 the result, st1 a second one */
    uint16_t fcw;        /* in: rounding control and masks */
    uint16_t fsw;        /* out: exceptions, C0 to C3 */
};

/* A finite number with 128 bits: (-1)^neg * m * 2^(exp - 127). m is 0 or has its top bit set. */
struct f80_wide {
    f80_u128_t m;
    int32_t exp;
    bool neg;
};

static const struct f80 f80_indefinite = {0xc000000000000000ull, 0xffff};

struct f80 f80_load(const uint8_t *b);
void f80_store(uint8_t *b, struct f80 v);
enum f80_class f80_classify(struct f80 v);

static inline bool f80_negative(struct f80 v)
{
    return v.se & F80_SIGN;
}
static inline struct f80 f80_zero(bool neg)
{
    return (struct f80){0, neg ? F80_SIGN : 0};
}
static inline struct f80 f80_infinity(bool neg)
{
    return (struct f80){F80_INTEGER, (uint16_t)(F80_EXPONENT | (neg ? F80_SIGN : 0))};
}
static inline struct f80 f80_one(bool neg)
{
    return (struct f80){F80_INTEGER, (uint16_t)(F80_BIAS | (neg ? F80_SIGN : 0))};
}

/* -- Operands ------------------------------------------------------------------------------------------ */

/* False: an operand is a NaN or unsupported, and the result and IE stand in o. `count` operands: 1 or 2. */
bool f80_numbers(struct f80_op *o, unsigned count);
/* Raises DE when a or b is denormal; false: it is not masked, and nothing is computed. */
bool f80_denormals(struct f80_op *o, enum f80_class a, enum f80_class b);
/* #IA and #Z: the result is the masked response. */
void f80_invalid(struct f80_op *o);
void f80_divide_by_zero(struct f80_op *o, bool neg);

/* -- Wide numbers -------------------------------------------------------------------------------------- */

struct f80_wide f80_unpack(struct f80 v); /* finite v */
struct f80_wide f80_normalise(bool neg, int32_t exp, f80_u128_t m);
/* The high half of a 256-bit product; *low takes the other one. */
f80_u128_t f80_multiply(f80_u128_t a, f80_u128_t b, f80_u128_t *low);
/* The results are cut; *inexact is set (never cleared) when something was cut off. */
struct f80_wide f80_wide_mul(struct f80_wide a, struct f80_wide b, bool *inexact);
struct f80_wide f80_wide_div(struct f80_wide a, struct f80_wide b, bool *inexact);
struct f80_wide f80_wide_add(struct f80_wide a, struct f80_wide b, bool *inexact);

/* -- Results ------------------------------------------------------------------------------------------- */

/* Rounds |v| + something below its last bit when sticky; sets OE, UE, PE and C1. */
struct f80 f80_round(struct f80_op *o, struct f80_wide v, bool sticky);
/* Round v to an integer by rounding control: true and *n when it is below 2^64; *inexact, *up: how. */
bool f80_to_integer(uint16_t fcw, struct f80 v, uint64_t *n, bool *inexact, bool *up);

/* -- Instructions -------------------------------------------------------------------------------------- */

/* Exact ones (x87_exact.c). */
void f80_fprem(struct f80_op *o);
void f80_fprem1(struct f80_op *o);
void f80_fxtract(struct f80_op *o); /* st1: exponent, st0: significand */
void f80_fscale(struct f80_op *o);
void f80_frndint(struct f80_op *o);

/* Transcendentals (x87_transcendental.c). */
void f80_fsin(struct f80_op *o);
void f80_fcos(struct f80_op *o);
void f80_fsincos(struct f80_op *o); /* st1: sine, st0: cosine */
void f80_fptan(struct f80_op *o);   /* st1: tangent, st0: 1 */
void f80_fpatan(struct f80_op *o);
void f80_f2xm1(struct f80_op *o);
void f80_fyl2x(struct f80_op *o);
void f80_fyl2xp1(struct f80_op *o);

/* Packed BCD (x87_bcd.c). */
struct f80 f80_from_bcd(const uint8_t *b);
/* The 10 bytes that FBSTP stores; status in o. */
void f80_to_bcd(struct f80_op *o, uint8_t *b);

#endif
