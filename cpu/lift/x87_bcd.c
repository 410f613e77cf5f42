/*
 * cpu/lift/x87_bcd.c -- packed BCD: FBLD and FBSTP.
 *
 * SDM 1, "Packed BCD Integers": 18 digits, two a byte, the lowest first; byte 9 has the sign in its bit 7,
 * its other bits are not used. FBLD of digits above 9 is undefined: here a digit counts as its four bits say.
 */
#include "cpu/lift/x87_softfloat.h"

#include <string.h>
#include "cpu/lift/x87_op.h"

#define BCD_DIGITS 18
#define BCD_LIMIT  1000000000000000000ull /* 10^18 */

struct f80 f80_from_bcd(const uint8_t *b)
{
    bool neg = b[9] & 0x80;
    uint64_t n = 0;
    for (unsigned i = BCD_DIGITS; i-- > 0;)
        n = n * 10 + (b[i / 2] >> (i & 1 ? 4 : 0) & 15);
    if (!n)
        return f80_zero(neg);
    struct f80_wide v = f80_normalise(neg, 127, n);
    return (struct f80){(uint64_t)(v.m >> 64), (uint16_t)((v.exp + F80_BIAS) | (neg ? F80_SIGN : 0))};
}

void f80_to_bcd(struct f80_op *o, uint8_t *b)
{
    enum f80_class c = f80_classify(o->st0);
    bool inexact = false, up = false;
    uint64_t n = 0;
    bool fits = c < F80_INFINITY && f80_to_integer(o->fcw, o->st0, &n, &inexact, &up) && n < BCD_LIMIT;
    if (!fits) {
        o->fsw |= FSW_IE;
        memcpy(b, x87_indefinite, 10); /* the packed BCD indefinite has the same bytes */
        return;
    }
    o->fsw |= (inexact ? FSW_PE : 0) | (up ? FSW_C1 : 0);
    for (unsigned i = 0; i < BCD_DIGITS / 2; i++, n /= 100)
        b[i] = (uint8_t)(n / 10 % 10 << 4 | n % 10);
    b[9] = f80_negative(o->st0) ? 0x80 : 0;
}
