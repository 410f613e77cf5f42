/*
 * cpu/lift/x87_kernel.h -- elementary functions on wide numbers, to at least 100 bits (x87_kernel.c).
 *
 * Results are never exact unless said otherwise: the caller rounds them with a sticky bit. Where a result
 * differs from a number of 64 bits by less than a wide number shows, it lies on the right side of it.
 */
#ifndef CPU_LIFT_X87_KERNEL_H
#define CPU_LIFT_X87_KERNEL_H

#include "cpu/lift/x87_softfloat.h"

/* x of 64 bits, not zero, |x| < 2^63. Each of sine, cosine, tangent may be NULL. */
void kernel_trigonometry(struct f80_wide x, struct f80_wide *sine, struct f80_wide *cosine,
                         struct f80_wide *tangent);
/* The angle of (x, y), -pi to pi; both of 64 bits and not zero. */
struct f80_wide kernel_atan2(struct f80_wide y, struct f80_wide x);
enum kernel_angle { KERNEL_PI, KERNEL_PI_2, KERNEL_PI_4, KERNEL_3_PI_4 };
struct f80_wide kernel_angle(enum kernel_angle which, bool neg);
/* log2(x), x > 0. *inexact is left alone where it is exact: for powers of two. */
struct f80_wide kernel_log2(struct f80_wide x, bool *inexact);
/* log2(1 + x), x of 64 bits, x > -1 and not zero. */
struct f80_wide kernel_log2_1p(struct f80_wide x, bool *inexact);
/* 2^x - 1, 0 < |x| <= 1; exact for -1 and 1. */
struct f80_wide kernel_exp2_m1(struct f80_wide x, bool *inexact);

#endif
