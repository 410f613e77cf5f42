/*
 * test_x87_exact.c -- x87 operations of ours that have exact results, and the special operands of the others.
 *
 * The values come from the SDM's tables and from integers; on x86-64 hosts tests/isa compares the same
 * instructions with the processor too.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "cpu/lift/x87_op.h"
#include "cpu/lift/x87_softfloat.h"

#define ONE   F80_INTEGER
#define QUIET 0xc000000000000000ull

/* -- FPREM, FPREM1, FXTRACT, FSCALE, FRNDINT ----------------------------------------------------------- */

typedef void operation(struct f80_op *o);

static struct f80 integer(int64_t n)
{
    uint64_t m = n < 0 ? -(uint64_t)n : (uint64_t)n;
    if (!m)
        return f80_zero(false);
    unsigned shift = (unsigned)__builtin_clzll(m);
    return (struct f80){m << shift, (uint16_t)((F80_BIAS + 63 - shift) | (n < 0 ? F80_SIGN : 0))};
}

static void expect(struct f80 r, struct f80 wanted, const char *what)
{
    cr_assert(r.m == wanted.m && r.se == wanted.se, "%s: %04x %016llx, wanted %04x %016llx", what, r.se,
              (unsigned long long)r.m, wanted.se, (unsigned long long)wanted.m);
}

static struct f80_op run(operation *f, struct f80 st0, struct f80 st1, uint16_t fcw)
{
    struct f80_op o = {.st0 = st0, .st1 = st1, .fcw = fcw};
    f(&o);
    return o;
}

Test(x87_exact, remainders_of_integers)
{
    for (int64_t a = -70; a <= 70; a++)
        for (int64_t b = -9; b <= 9; b++) {
            struct f80_op o = run(f80_fprem, integer(a), integer(b), 0x37f);
            if (!b) {
                expect(o.st0, f80_indefinite, "FPREM by zero");
                cr_assert_eq(o.fsw, FSW_IE);
                continue;
            }
            int64_t q = a / b, r = a % b, size = q < 0 ? -q : q;
            struct f80 zero = f80_zero(a < 0);
            expect(o.st0, r ? integer(r) : zero, "FPREM");
            uint16_t bits =
                (uint16_t)((size & 1 ? FSW_C1 : 0) | (size & 2 ? FSW_C3 : 0) | (size & 4 ? FSW_C0 : 0));
            cr_assert_eq(o.fsw, bits, "FPREM %d %d: %04x", (int)a, (int)b, o.fsw);
            /* To nearest: at most half of b is left, an even quotient in the middle. */
            int64_t magnitude = b < 0 ? -b : b, rest = r < 0 ? -r : r;
            if (2 * rest > magnitude || (2 * rest == magnitude && size & 1)) {
                r += r < 0 ? magnitude : -magnitude;
                size++;
            }
            bits = (uint16_t)((size & 1 ? FSW_C1 : 0) | (size & 2 ? FSW_C3 : 0) | (size & 4 ? FSW_C0 : 0));
            o = run(f80_fprem1, integer(a), integer(b), 0x37f);
            expect(o.st0, r ? integer(r) : zero, "FPREM1");
            cr_assert_eq(o.fsw, bits, "FPREM1 %d %d: %04x", (int)a, (int)b, o.fsw);
        }
}

/* Partial remainders go on until C2 is clear: 2^e mod 2^63 - 25 by repeated squaring is the reference. */
Test(x87_exact, partial_remainders)
{
    const uint64_t prime = 0x7fffffffffffffe7ull;
    for (unsigned e = 64; e < 16383; e += 53) {
        f80_u128_t power = 1, square = 2;
        for (unsigned n = e; n; n >>= 1) {
            if (n & 1)
                power = power * square % prime;
            square = square * square % prime;
        }
        struct f80_op o = {
            .st0 = {ONE, (uint16_t)(F80_BIAS + e)}, .st1 = integer((int64_t)prime), .fcw = 0x37f};
        unsigned rounds = 0;
        do {
            o.fsw = 0;
            f80_fprem(&o);
            cr_assert(++rounds < 600);
        } while (o.fsw & FSW_C2);
        expect(o.st0, integer((int64_t)(uint64_t)power), "2^e mod p");
    }
}

Test(x87_exact, scaling_and_parts)
{
    struct f80 three = integer(3), half = {ONE, F80_BIAS - 1};
    struct f80_op o = run(f80_fscale, three, integer(-16446), 0x37f); /* 3 * 2^-16446 = 1.5 ulp: even is 2 */
    expect(o.st0, (struct f80){2, 0}, "FSCALE into a denormal");
    cr_assert_eq(o.fsw, FSW_UE | FSW_PE | FSW_C1);
    o = run(f80_fscale, three, integer(-16445), 0x37f);
    expect(o.st0, (struct f80){3, 0}, "FSCALE into an exact denormal");
    cr_assert_eq(o.fsw, 0);
    o = run(f80_fscale, three, integer(-16445), 0x37f & ~FSW_UE); /* unmasked: exponent plus 24576 */
    expect(o.st0, (struct f80){QUIET, F80_BIAS + 1 - 16445 + 24576}, "FSCALE, #U");
    cr_assert_eq(o.fsw, FSW_UE);
    o = run(f80_fscale, three, integer(20000), 0x37f);
    expect(o.st0, f80_infinity(false), "FSCALE, overflow");
    cr_assert_eq(o.fsw, FSW_OE | FSW_PE | FSW_C1);
    o = run(f80_fscale, integer(-3), integer(20000), 0xf7f); /* chopped */
    expect(o.st0, (struct f80){~0ull, 0xfffe}, "FSCALE, overflow, chopped");
    o = run(f80_fscale, three, integer(20000), 0x37f & ~FSW_OE);
    expect(o.st0, (struct f80){QUIET, F80_BIAS + 1 + 20000 - 24576}, "FSCALE, #O");
    o = run(f80_fscale, three, integer(1 << 20), 0x37f & ~FSW_OE);
    expect(o.st0, f80_infinity(false), "FSCALE, massive overflow");
    o = run(f80_fscale, f80_zero(true), f80_infinity(false), 0x37f);
    cr_assert_eq(o.fsw, FSW_IE);

    o = run(f80_fxtract, integer(-40), three, 0x37f);
    expect(o.st1, integer(5), "FXTRACT, exponent");
    expect(o.st0, (struct f80){0xa000000000000000ull, F80_BIAS | F80_SIGN}, "FXTRACT, significand");
    o = run(f80_fxtract, (struct f80){1, 0}, three, 0x37f);
    expect(o.st1, integer(-16445), "FXTRACT of a denormal");
    cr_assert_eq(o.fsw, FSW_DE);
    o = run(f80_fxtract, f80_zero(true), three, 0x37f);
    expect(o.st1, f80_infinity(true), "FXTRACT of zero");
    cr_assert_eq(o.fsw, FSW_ZE);

    static const int8_t rounded[4][4] = {/* nearest, down, up, chop of */ {2, 1, 2, 1} /* 1.5 */,
                                         {2, 2, 3, 2} /* 2.5 */,
                                         {-2, -2, -1, -1} /* -1.5 */,
                                         {0, 0, 1, 0} /* 0.5 */};
    struct f80 values[4] = {
        {QUIET, F80_BIAS}, {0xa000000000000000ull, F80_BIAS + 1}, {QUIET, F80_BIAS | F80_SIGN}, half};
    for (unsigned i = 0; i < 4; i++)
        for (unsigned rc = 0; rc < 4; rc++) {
            o = run(f80_frndint, values[i], three, (uint16_t)(0x37f | rc << 10));
            expect(o.st0, integer(rounded[i][rc]), "FRNDINT");
            cr_assert_eq(o.fsw & 0x3f, FSW_PE);
        }
}

/* -- Packed BCD ---------------------------------------------------------------------------------------- */

Test(x87_exact, bcd)
{
    uint64_t n = 1;
    for (unsigned i = 0; i < 20000; i++) {
        n = n * 6364136223846793005ull + 1442695040888963407ull;
        uint64_t value = (n >> 1) % 1000000000000000000ull >> (i % 60);
        bool neg = n & 1;
        uint8_t wanted[10] = {0}, b[10];
        uint64_t rest = value;
        for (unsigned k = 0; k < 18; k++, rest /= 10)
            wanted[k / 2] |= (uint8_t)(rest % 10 << (k & 1 ? 4 : 0));
        wanted[9] = neg ? 0x80 : 0;
        struct f80 v = f80_from_bcd(wanted);
        struct f80 same = integer((int64_t)value);
        same.se |= neg ? F80_SIGN : 0;
        expect(v, same, "FBLD");
        struct f80_op o = {.st0 = v, .fcw = 0x37f};
        f80_to_bcd(&o, b);
        cr_assert_arr_eq(b, wanted, 10);
        cr_assert_eq(o.fsw, 0);
    }
}

Test(x87_exact, bcd_edges)
{
    static const struct {
        struct f80 v;
        uint16_t fcw, fsw;
        uint8_t low, high; /* bytes 0 and 9 */
    } rows[] = {
        {{QUIET, F80_BIAS}, 0x37f, FSW_PE | FSW_C1, 0x02, 0},               /* 1.5 */
        {{QUIET, F80_BIAS}, 0xf7f, FSW_PE, 0x01, 0},                        /* chopped */
        {{QUIET, F80_BIAS | F80_SIGN}, 0x77f, FSW_PE | FSW_C1, 0x02, 0x80}, /* down */
        {{1, 0}, 0x37f, FSW_PE, 0, 0},                                      /* a denormal: no DE */
        {{1, 0}, 0xb7f, FSW_PE | FSW_C1, 0x01, 0},                          /* up */
        {{0, F80_SIGN}, 0x37f, 0, 0, 0x80},                                 /* -0 */
        {{0xde0b6b3a763fffffull, F80_BIAS + 59}, 0x37f, FSW_IE, 0, 0xff},   /* 10^18 - 1/16, rounded up */
        {{0xde0b6b3a763fffffull, F80_BIAS + 59}, 0xf7f, FSW_PE, 0x99, 0},   /* chopped: it fits */
        {{0xde0b6b3a76400000ull, F80_BIAS + 59}, 0x37f, FSW_IE, 0, 0xff},   /* 10^18 */
        {{ONE, F80_EXPONENT}, 0x37f, FSW_IE, 0, 0xff},                      /* infinity */
        {{QUIET, F80_EXPONENT}, 0x37f, FSW_IE, 0, 0xff},                    /* a quiet NaN */
        {{1, F80_BIAS}, 0x37f, FSW_IE, 0, 0xff},                            /* unsupported */
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t b[10];
        struct f80_op o = {.st0 = rows[i].v, .fcw = rows[i].fcw};
        f80_to_bcd(&o, b);
        cr_assert_eq(o.fsw, rows[i].fsw, "row %u: status %04x", i, o.fsw);
        cr_assert_eq(b[0], rows[i].low, "row %u", i);
        cr_assert_eq(b[9], rows[i].high, "row %u", i);
    }
}

/* -- Special operands of the transcendentals ----------------------------------------------------------- */

enum { PZ, NZ, P1, N1, P2, N2, PINF, NINF, QNAN, SNAN, BAD, DEN, BIG, IND, PI2, PI1, PI3_4, PI1_4, HALF_N };
static const struct f80 special[] = {
    [PZ] = {0, 0},
    [NZ] = {0, F80_SIGN},
    [P1] = {ONE, F80_BIAS},
    [N1] = {ONE, F80_BIAS | F80_SIGN},
    [P2] = {ONE, F80_BIAS + 1},
    [N2] = {ONE, (F80_BIAS + 1) | F80_SIGN},
    [PINF] = {ONE, F80_EXPONENT},
    [NINF] = {ONE, F80_EXPONENT | F80_SIGN},
    [QNAN] = {QUIET | 5, F80_EXPONENT},
    [SNAN] = {ONE | 5, F80_EXPONENT},
    [BAD] = {1, F80_BIAS},
    [DEN] = {1, 0},
    [BIG] = {ONE, F80_BIAS + 63},
    [IND] = {QUIET, F80_EXPONENT | F80_SIGN},
    [PI2] = {0xc90fdaa22168c235ull, F80_BIAS},
    [PI1] = {0xc90fdaa22168c235ull, F80_BIAS + 1},
    [PI3_4] = {0x96cbe3f9990e91a8ull, F80_BIAS + 1},
    [PI1_4] = {0xc90fdaa22168c235ull, F80_BIAS - 1},
    [HALF_N] = {ONE, (F80_BIAS - 1) | F80_SIGN},
};
#define NEG 0x100 /* of the result */

static const struct {
    operation *f;
    uint8_t st0, st1;
    uint16_t result, fsw;
} specials[] = {
    {f80_fsin, NZ, PZ, NZ, 0},
    {f80_fcos, NZ, PZ, P1, 0},
    {f80_fsin, PINF, PZ, IND, FSW_IE},
    {f80_fcos, NINF, PZ, IND, FSW_IE},
    {f80_fptan, PINF, PZ, IND, FSW_IE},
    {f80_fsin, SNAN, PZ, QNAN, FSW_IE},
    {f80_fsin, QNAN, PZ, QNAN, 0},
    {f80_fcos, BAD, PZ, IND, FSW_IE},
    {f80_fsin, BIG, PZ, BIG, FSW_C2},
    {f80_fcos, BIG, PZ, BIG, FSW_C2},
    {f80_fptan, BIG, PZ, BIG, FSW_C2},
    {f80_fcos, DEN, PZ, P1, FSW_DE | FSW_PE | FSW_C1},
    {f80_f2xm1, NZ, PZ, NZ, 0},
    {f80_f2xm1, P1, PZ, P1, 0},
    {f80_f2xm1, N1, PZ, HALF_N, 0},
    {f80_f2xm1, NINF, PZ, N1, 0},
    {f80_f2xm1, PINF, PZ, PINF, 0},
    /* FPATAN: ST(0) is x, ST(1) is y. */
    {f80_fpatan, PINF, PINF, PI1_4, FSW_PE | FSW_C1},
    {f80_fpatan, NINF, PINF, PI3_4, FSW_PE | FSW_C1},
    {f80_fpatan, NINF, NINF, PI3_4 | NEG, FSW_PE | FSW_C1},
    {f80_fpatan, P1, PINF, PI2, FSW_PE | FSW_C1},
    {f80_fpatan, NZ, N1, PI2 | NEG, FSW_PE | FSW_C1},
    {f80_fpatan, N1, NZ, PI1 | NEG, FSW_PE | FSW_C1},
    {f80_fpatan, NZ, PZ, PI1, FSW_PE | FSW_C1},
    {f80_fpatan, PZ, NZ, NZ, 0},
    {f80_fpatan, NINF, P1, PI1, FSW_PE | FSW_C1},
    {f80_fpatan, PINF, N1, NZ, 0},
    {f80_fpatan, P1, P1, PI1_4, FSW_PE | FSW_C1},
    {f80_fpatan, SNAN, QNAN, QNAN, FSW_IE},
    /* FYL2X: ST(1) * log2(ST(0)). */
    {f80_fyl2x, PZ, P1, NINF, FSW_ZE},
    {f80_fyl2x, NZ, N1, PINF, FSW_ZE},
    {f80_fyl2x, PZ, PINF, NINF, 0},
    {f80_fyl2x, PZ, PZ, IND, FSW_IE},
    {f80_fyl2x, P1, P2, PZ, 0},
    {f80_fyl2x, P1, N2, NZ, 0},
    {f80_fyl2x, P1, PINF, IND, FSW_IE},
    {f80_fyl2x, PINF, N1, NINF, 0},
    {f80_fyl2x, PINF, PZ, IND, FSW_IE},
    {f80_fyl2x, N1, P1, IND, FSW_IE},
    {f80_fyl2x, P2, N2, N2, 0},
    {f80_fyl2x, P2, NINF, NINF, 0},
    /* FYL2XP1: ST(1) * log2(ST(0) + 1). */
    {f80_fyl2xp1, NZ, P1, NZ, 0},
    {f80_fyl2xp1, NZ, N1, PZ, 0},
    {f80_fyl2xp1, PZ, PINF, IND, FSW_IE},
    {f80_fyl2xp1, P1, P2, P2, 0},
    {f80_fyl2xp1, HALF_N, P2, N2, 0},
    {f80_fyl2xp1, QNAN, PINF, QNAN, 0},
};

Test(x87_exact, special_operands)
{
    for (unsigned i = 0; i < ARRAY_LEN(specials); i++) {
        struct f80_op o = run(specials[i].f, special[specials[i].st0], special[specials[i].st1], 0x37f);
        struct f80 wanted = special[specials[i].result & 0xff];
        wanted.se ^= specials[i].result & NEG ? F80_SIGN : 0;
        struct f80 r = specials[i].f == f80_fptan && !(o.fsw & FSW_C2) ? o.st1 : o.st0;
        cr_assert(r.m == wanted.m && r.se == wanted.se, "row %u: %04x %016llx", i, r.se,
                  (unsigned long long)r.m);
        cr_assert_eq(o.fsw, specials[i].fsw, "row %u: status %04x", i, o.fsw);
    }
}

/* #D that is not masked computes nothing. */
Test(x87_exact, unmasked_denormal)
{
    static operation *const all[] = {f80_fsin,  f80_fcos,  f80_fsincos, f80_fptan,   f80_fpatan, f80_f2xm1,
                                     f80_fyl2x, f80_fprem, f80_fprem1,  f80_fxtract, f80_fscale, f80_frndint};
    for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
        struct f80_op o = run(all[i], special[DEN], special[P2], 0x37f & ~FSW_DE);
        cr_assert_eq(o.fsw, FSW_DE, "%u: status %04x", i, o.fsw);
    }
}
