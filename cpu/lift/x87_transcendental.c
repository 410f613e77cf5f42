/*
 * cpu/lift/x87_transcendental.c -- FSIN, FCOS, FSINCOS, FPTAN, FPATAN, F2XM1, FYL2X, FYL2XP1.
 *
 * SDM 2A and 2B, these instructions, with their result tables; SDM 1, "Transcendental Instruction Accuracy":
 * an error below 1 ulp. Here it is below 1 ulp of the exact result in every rounding mode, that of sine,
 * cosine and tangent with the exact pi (x87_kernel.c), and every host gives the same bits. Not here: stack,
 * tags, pending exceptions (x87_arith.c).
 *
 * Where the manual leaves the result undefined: F2XM1 of an operand outside -1 to 1 leaves it as it is, with
 * PE; FYL2XP1 is y * log2(1 + x) for every x above -1, takes -1 as FYL2X takes 0, and is invalid below.
 */
#include "cpu/lift/x87_kernel.h"
#include "cpu/lift/x87_op.h"

/* -- Sine, cosine, tangent ----------------------------------------------------------------------------- */

/* True: an ordinary number to compute with. Else the result stands in o; *zero: the operand is 0. */
static bool angle_operand(struct f80_op *o, bool *zero)
{
    enum f80_class c = f80_classify(o->st0);
    *zero = c == F80_ZERO;
    if (!f80_numbers(o, 1))
        return false;
    if (c == F80_INFINITY) {
        f80_invalid(o);
        return false;
    }
    if (!f80_denormals(o, c, c) || *zero)
        return false;
    if ((o->st0.se & F80_EXPONENT) >= F80_BIAS + 63) {
        o->fsw |= FSW_C2; /* out of range: the operand stays */
        return false;
    }
    return true;
}

void f80_fsin(struct f80_op *o)
{
    bool zero;
    struct f80_wide sine;
    if (!angle_operand(o, &zero))
        return;
    kernel_trigonometry(f80_unpack(o->st0), &sine, NULL, NULL);
    o->st0 = f80_round(o, sine, true);
}

void f80_fcos(struct f80_op *o)
{
    bool zero;
    struct f80_wide cosine;
    if (angle_operand(o, &zero)) {
        kernel_trigonometry(f80_unpack(o->st0), NULL, &cosine, NULL);
        o->st0 = f80_round(o, cosine, true);
    } else if (zero) {
        o->st0 = f80_one(false);
    }
}

/* C1 is that of the sine: the result that replaces the operand. */
void f80_fsincos(struct f80_op *o)
{
    bool zero;
    struct f80_wide sine, cosine;
    if (angle_operand(o, &zero)) {
        kernel_trigonometry(f80_unpack(o->st0), &sine, &cosine, NULL);
        o->st0 = f80_round(o, cosine, true);
        o->fsw &= (uint16_t)~FSW_C1;
        o->st1 = f80_round(o, sine, true);
        return;
    }
    o->st1 = o->st0;
    if (zero)
        o->st0 = f80_one(false);
}

void f80_fptan(struct f80_op *o)
{
    bool zero;
    struct f80_wide tangent;
    if (angle_operand(o, &zero)) {
        kernel_trigonometry(f80_unpack(o->st0), NULL, NULL, &tangent);
        o->st1 = f80_round(o, tangent, true);
        o->st0 = f80_one(false);
        return;
    }
    o->st1 = o->st0;
    if (zero)
        o->st0 = f80_one(false);
}

/* -- Arc tangent --------------------------------------------------------------------------------------- */

/* SDM 2A, FPATAN, table "FPATAN Results": the angle of (x = ST(0), y = ST(1)), also at zeros and infinities.
 */
void f80_fpatan(struct f80_op *o)
{
    enum f80_class cx = f80_classify(o->st0), cy = f80_classify(o->st1);
    bool left = f80_negative(o->st0), neg = f80_negative(o->st1);
    if (!f80_numbers(o, 2) || !f80_denormals(o, cx, cy))
        return;
    struct f80_wide r;
    if (cy == F80_ZERO || (cx == F80_INFINITY && cy != F80_INFINITY)) {
        if (!left) {
            o->st0 = f80_zero(neg);
            return;
        }
        r = kernel_angle(KERNEL_PI, neg);
    } else if (cy == F80_INFINITY) {
        r = kernel_angle(cx != F80_INFINITY ? KERNEL_PI_2 : left ? KERNEL_3_PI_4 : KERNEL_PI_4, neg);
    } else if (cx == F80_ZERO) {
        r = kernel_angle(KERNEL_PI_2, neg);
    } else {
        r = kernel_atan2(f80_unpack(o->st1), f80_unpack(o->st0));
    }
    o->st0 = f80_round(o, r, true);
}

/* -- Powers and logarithms ----------------------------------------------------------------------------- */

void f80_f2xm1(struct f80_op *o)
{
    enum f80_class c = f80_classify(o->st0);
    bool inexact = false;
    if (!f80_numbers(o, 1) || !f80_denormals(o, c, c) || c == F80_ZERO)
        return;
    unsigned exponent = o->st0.se & F80_EXPONENT;
    if (exponent > F80_BIAS || (exponent == F80_BIAS && o->st0.m != F80_INTEGER)) {
        if (c == F80_INFINITY && f80_negative(o->st0))
            o->st0 = f80_one(true);
        else if (c != F80_INFINITY)
            o->fsw |= FSW_PE;
        return;
    }
    struct f80_wide r = kernel_exp2_m1(f80_unpack(o->st0), &inexact);
    o->st0 = f80_round(o, r, inexact);
}

/* y * l, where the logarithm l is an infinity or zero. */
static void times_infinity(struct f80_op *o, enum f80_class cx, enum f80_class cy, bool neg)
{
    if (cy == F80_ZERO)
        f80_invalid(o);
    else if (f80_denormals(o, cx, cy))
        o->st0 = f80_infinity(neg);
}

static void times_zero(struct f80_op *o, enum f80_class cx, enum f80_class cy, bool neg)
{
    if (cy == F80_INFINITY)
        f80_invalid(o);
    else if (f80_denormals(o, cx, cy))
        o->st0 = f80_zero(neg);
}

/* y * l, l an ordinary number. */
static void times_logarithm(struct f80_op *o, enum f80_class cy, struct f80_wide l, bool inexact)
{
    bool neg = f80_negative(o->st1) != l.neg;
    if (cy == F80_ZERO)
        o->st0 = f80_zero(neg);
    else if (cy == F80_INFINITY)
        o->st0 = f80_infinity(neg);
    else
        o->st0 = f80_round(o, f80_wide_mul(f80_unpack(o->st1), l, &inexact), inexact);
}

/* The logarithm of zero is -infinity: SDM 2B, FYL2X, table "FYL2X Results". */
static void logarithm_of_zero(struct f80_op *o, enum f80_class cy, bool neg_y)
{
    if (cy == F80_ZERO)
        f80_invalid(o);
    else if (cy == F80_INFINITY)
        o->st0 = f80_infinity(!neg_y);
    else
        f80_divide_by_zero(o, !neg_y);
}

void f80_fyl2x(struct f80_op *o)
{
    enum f80_class cx = f80_classify(o->st0), cy = f80_classify(o->st1);
    bool neg_y = f80_negative(o->st1), inexact = false;
    if (!f80_numbers(o, 2))
        return;
    if (cx == F80_ZERO) {
        logarithm_of_zero(o, cy, neg_y);
    } else if (f80_negative(o->st0)) {
        f80_invalid(o);
    } else if (cx == F80_INFINITY) {
        times_infinity(o, cx, cy, neg_y);
    } else {
        struct f80_wide l = kernel_log2(f80_unpack(o->st0), &inexact);
        if (!l.m)
            times_zero(o, cx, cy, neg_y);
        else if (f80_denormals(o, cx, cy))
            times_logarithm(o, cy, l, inexact);
    }
}

void f80_fyl2xp1(struct f80_op *o)
{
    enum f80_class cx = f80_classify(o->st0), cy = f80_classify(o->st1);
    bool neg_x = f80_negative(o->st0), neg_y = f80_negative(o->st1), inexact = false;
    unsigned exponent = o->st0.se & F80_EXPONENT;
    if (!f80_numbers(o, 2))
        return;
    if (cx == F80_ZERO) {
        times_zero(o, cx, cy, neg_x != neg_y);
    } else if (neg_x && exponent == F80_BIAS && o->st0.m == F80_INTEGER) {
        logarithm_of_zero(o, cy, neg_y);
    } else if (neg_x && exponent >= F80_BIAS) {
        f80_invalid(o);
    } else if (cx == F80_INFINITY) {
        times_infinity(o, cx, cy, neg_y);
    } else if (f80_denormals(o, cx, cy)) {
        struct f80_wide l = kernel_log2_1p(f80_unpack(o->st0), &inexact);
        times_logarithm(o, cy, l, inexact);
    }
}
