/*
 * test_x87_transcendental.c -- FSIN to FYL2XP1 against functions of 113 bits, in every rounding mode.
 *
 * The reference is libquadmath, with 49 bits more than a register: the error of a result is known to 2^-45
 * ulp. Each function gets RANDOM_COUNT random operands and a few dozen edges; the largest error is printed. A
 * result rounded to nearest must be within half an ulp, a directed one within one and on the right side of
 * the exact result. Integers, powers of two and the like have exact results, with PE clear.
 */
#include <criterion/criterion.h>
#include <quadmath.h>
#include <stdio.h>
#include <string.h>

#include "cpu/lift/x87_op.h"
#include "cpu/lift/x87_softfloat.h"

#define RANDOM_COUNT 100000u
/* What the reference and the kernels may be wrong by, in ulp. */
#define SLACK 0x1p-40

enum { NEAREST, DOWN, UP, CHOP };
#define FCW(rounding) ((uint16_t)(0x37f | (rounding) << 10))

/* -- Values -------------------------------------------------------------------------------------------- */

static uint64_t random_state = 0x2545f4914f6cdd1dull;
static uint64_t random_next(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* A number whose exponent lies in [low, high], at times with few bits. */
static struct f80 random_number(int low, int high, bool may_be_negative)
{
    struct f80 v = {random_next() | F80_INTEGER, 0};
    unsigned kind = random_next() % 8;
    if (kind == 0)
        v.m &= ~0ull << (random_next() % 64);
    else if (kind == 1)
        v.m |= ~0ull >> (random_next() % 63 + 1);
    v.se = (uint16_t)(F80_BIAS + low + (int)(random_next() % (unsigned)(high - low + 1)));
    if (may_be_negative && random_next() & 1)
        v.se |= F80_SIGN;
    return v;
}

static __float128 quad_of(struct f80 v)
{
    int exponent = v.se & F80_EXPONENT;
    __float128 q = scalbnq((__float128)v.m, MAX(exponent, 1) - F80_BIAS - 63);
    return f80_negative(v) ? -q : q;
}

static struct f80 number(uint64_t m, int exponent, bool neg)
{
    return (struct f80){m, (uint16_t)((exponent + F80_BIAS) | (neg ? F80_SIGN : 0))};
}

/* One unit in the last place of an exact result. */
static __float128 ulp_of(__float128 q)
{
    int e;
    frexpq(q, &e);
    return scalbnq(1, MAX(e - 1, 1 - F80_BIAS) - 63);
}

/* -- Comparison ---------------------------------------------------------------------------------------- */

struct errors {
    const char *name;
    double most[4];
    unsigned count;
};

static void check_result(struct errors *s, struct f80_op in, struct f80_op out, struct f80 r,
                         __float128 exact, unsigned rounding)
{
    __float128 error = (quad_of(r) - exact) / ulp_of(exact);
    double e = (double)error, size = e < 0 ? -e : e;
    bool side = rounding == DOWN   ? e <= SLACK
                : rounding == UP   ? e >= -SLACK
                : rounding == CHOP ? (exact < 0 ? e >= -SLACK : e <= SLACK)
                                   : size <= 0.5 + SLACK;
    cr_assert(size <= 1 + SLACK && side,
              "%s, rounding %u: ST0 %04x %016llx, ST1 %04x %016llx: %04x %016llx is off by %g ulp", s->name,
              rounding, in.st0.se, (unsigned long long)in.st0.m, in.st1.se, (unsigned long long)in.st1.m,
              r.se, (unsigned long long)r.m, e);
    cr_assert(f80_classify(r) <= F80_NORMAL);
    cr_assert(!(out.fsw & (FSW_IE | FSW_ZE | FSW_C2)), "%s: status %04x", s->name, out.fsw);
    if (size > SLACK) {
        cr_assert(out.fsw & FSW_PE, "%s: an inexact result without PE", s->name);
        /* C1: the magnitude was rounded up. */
        cr_assert_eq(!!(out.fsw & FSW_C1), exact < 0 ? e < 0 : e > 0, "%s: C1", s->name);
    }
    s->most[rounding] = MAX(s->most[rounding], size);
    s->count++;
}

static void print_errors(const struct errors *s)
{
    printf("%-8s %7u results, largest error in ulp: nearest %.6f down %.6f up %.6f chop %.6f\n", s->name,
           s->count, s->most[NEAREST], s->most[DOWN], s->most[UP], s->most[CHOP]);
}

typedef void operation(struct f80_op *o);
typedef __float128 reference(__float128 st0, __float128 st1);

static void check(struct errors *s, operation *run, reference *exact, struct f80 st0, struct f80 st1)
{
    __float128 q = exact(quad_of(st0), quad_of(st1));
    for (unsigned rounding = NEAREST; rounding <= CHOP; rounding++) {
        struct f80_op in = {.st0 = st0, .st1 = st1, .fcw = FCW(rounding)}, out = in;
        run(&out);
        check_result(s, in, out, out.st0, q, rounding);
    }
}

/* -- Sine, cosine, tangent ----------------------------------------------------------------------------- */

static __float128 exact_sin(__float128 x, __float128 y)
{
    (void)y;
    return sinq(x);
}
static __float128 exact_cos(__float128 x, __float128 y)
{
    (void)y;
    return cosq(x);
}
static __float128 exact_tan(__float128 x, __float128 y)
{
    (void)y;
    return tanq(x);
}

/* FSINCOS and FPTAN leave two results. */
static void sine_of_sincos(struct f80_op *o)
{
    uint16_t up;
    struct f80_op sine = *o, cosine = *o;
    f80_fsincos(o);
    f80_fsin(&sine);
    f80_fcos(&cosine);
    up = o->fsw & FSW_C1;
    cr_assert_eq(up, sine.fsw & FSW_C1);
    cr_assert(o->st1.m == sine.st0.m && o->st1.se == sine.st0.se);
    cr_assert(o->st0.m == cosine.st0.m && o->st0.se == cosine.st0.se);
    o->st0 = o->st1;
}
static void tangent_of_ptan(struct f80_op *o)
{
    f80_fptan(o);
    cr_assert(o->st0.m == F80_INTEGER && o->st0.se == F80_BIAS);
    o->st0 = o->st1;
}

static void check_angles(const char *name, operation *run, reference *exact)
{
    struct errors s = {.name = name};
    struct f80 none = {0, 0};
    for (unsigned i = 0; i < RANDOM_COUNT; i++) {
        static const int ranges[][2] = {{-16382, -1}, {-70, -10}, {-10, 5}, {-2, 2}, {0, 62}, {40, 62}};
        unsigned k = random_next() % ARRAY_LEN(ranges);
        check(&s, run, exact, random_number(ranges[k][0], ranges[k][1], true), none);
    }
    /* Multiples of pi / 2 cut to 64 bits: what is left of them is the worst case of the reduction. */
    for (unsigned n = 1; n < 2000; n++) {
        __float128 q = M_PI_2q * n;
        int e;
        uint64_t m = (uint64_t)scalbnq(frexpq(q, &e), 64);
        for (uint64_t near = m - 1; near <= m + 1; near++)
            check(&s, run, exact, number(near, e - 1, n & 1), none);
    }
    for (int e = -16382; e <= 62; e++) { /* powers of two, their neighbours */
        check(&s, run, exact, number(F80_INTEGER, e, false), none);
        check(&s, run, exact, number(F80_INTEGER | 1, e, true), none);
        check(&s, run, exact, number(~0ull, e, true), none);
    }
    print_errors(&s);
}

Test(x87_transcendental, fsin)
{
    check_angles("FSIN", f80_fsin, exact_sin);
}
Test(x87_transcendental, fcos)
{
    check_angles("FCOS", f80_fcos, exact_cos);
}
Test(x87_transcendental, fsincos)
{
    check_angles("FSINCOS", sine_of_sincos, exact_sin);
}
Test(x87_transcendental, fptan)
{
    check_angles("FPTAN", tangent_of_ptan, exact_tan);
}

/* -- Arc tangent --------------------------------------------------------------------------------------- */

static __float128 exact_atan2(__float128 x, __float128 y)
{
    return atan2q(y, x);
}

Test(x87_transcendental, fpatan)
{
    struct errors s = {.name = "FPATAN"};
    for (unsigned i = 0; i < RANDOM_COUNT; i++) {
        static const int spans[] = {0, 1, 4, 8, 70, 300, 8000};
        int span = spans[random_next() % ARRAY_LEN(spans)];
        struct f80 x = random_number(-span, span, true), y = random_number(-span, span, true);
        if (random_next() % 8 == 0)
            y.m = x.m;
        check(&s, f80_fpatan, exact_atan2, x, y);
    }
    for (uint64_t i = 1; i <= 64; i++) /* quotients of the table, and between */
        for (uint64_t n = 1; n <= 64; n++) {
            struct f80 x = number(n << (__builtin_clzll(n)), 63 - __builtin_clzll(n), i & 1),
                       y = number(i << (__builtin_clzll(i)), 63 - __builtin_clzll(i), n & 1);
            check(&s, f80_fpatan, exact_atan2, x, y);
        }
    for (int e = -16300; e < 0; e += 17) { /* a quotient that is exact, with a little less */
        check(&s, f80_fpatan, exact_atan2, number(F80_INTEGER, 0, false),
              number(0xc000000000000001ull, e, false));
        check(&s, f80_fpatan, exact_atan2, number(~0ull, 0, false), number(~0ull, e, true));
        check(&s, f80_fpatan, exact_atan2, number(~0ull, 0, true), number(F80_INTEGER, e, true));
    }
    print_errors(&s);
}

/* -- Powers and logarithms ----------------------------------------------------------------------------- */

static __float128 exact_2xm1(__float128 x, __float128 y)
{
    (void)y;
    return expm1q(x * M_LN2q);
}

Test(x87_transcendental, f2xm1)
{
    struct errors s = {.name = "F2XM1"};
    struct f80 none = {0, 0};
    for (unsigned i = 0; i < RANDOM_COUNT; i++) {
        static const int lowest[] = {-1, -6, -12, -70, -16380};
        check(&s, f80_f2xm1, exact_2xm1, random_number(lowest[random_next() % ARRAY_LEN(lowest)], -1, true),
              none);
    }
    for (unsigned i = 1; i <= 64; i++) /* the table's arguments and their neighbours */
        for (int near = -1; near <= 1; near++) {
            unsigned n = (unsigned)__builtin_clzll(i);
            struct f80 x = number((uint64_t)i << n, 57 - (int)n, i & 1);
            if (near && (x.se & F80_EXPONENT) < F80_BIAS)
                x.m += near > 0 ? 1 : x.m == F80_INTEGER ? 1 : -1ull;
            check(&s, f80_f2xm1, exact_2xm1, x, none);
        }
    print_errors(&s);
}

/* log2q would round twice near 1; log1pq of an exact difference does not. */
static __float128 exact_yl2x(__float128 x, __float128 y)
{
    int k = 0;
    if (x < M_SQRT1_2q || x > M_SQRT2q) {
        x = frexpq(x, &k);
        if (x < M_SQRT1_2q) {
            x *= 2;
            k--;
        }
    }
    return y * (k + log1pq(x - 1) / M_LN2q);
}
static __float128 exact_yl2xp1(__float128 x, __float128 y)
{
    return y * (log1pq(x) / M_LN2q);
}

Test(x87_transcendental, fyl2x)
{
    struct errors s = {.name = "FYL2X"};
    for (unsigned i = 0; i < RANDOM_COUNT; i++) {
        static const int spans[] = {0, 1, 2, 60, 16380};
        int span = spans[random_next() % ARRAY_LEN(spans)];
        struct f80 x = random_number(-span, span, false), y = random_number(-300, 300, true);
        if (span == 0) { /* near 1 */
            uint64_t d = random_next() >> (1 + random_next() % 62);
            x = random_next() & 1 ? number(F80_INTEGER + d, 0, false)
                                  : number(-(d | 1) | F80_INTEGER, -1, false);
        }
        if (x.m == F80_INTEGER && (x.se & F80_EXPONENT) == F80_BIAS)
            continue; /* zero */
        check(&s, f80_fyl2x, exact_yl2x, x, y);
    }
    for (int e = -16382; e <= 16383; e += 7) {
        if (e)
            check(&s, f80_fyl2x, exact_yl2x, number(F80_INTEGER, e, false), number(~0ull, -3, true));
        check(&s, f80_fyl2x, exact_yl2x, number(F80_INTEGER | 1, e, false), number(~0ull, 5, false));
        check(&s, f80_fyl2x, exact_yl2x, number(~0ull, e, false), number(0xc000000000000000ull, 0, false));
    }
    print_errors(&s);
}

Test(x87_transcendental, fyl2xp1)
{
    struct errors s = {.name = "FYL2XP1"};
    for (unsigned i = 0; i < RANDOM_COUNT; i++) {
        static const int ranges[][2] = {{-2, -2}, {-8, -2}, {-64, -2}, {-16000, -2}, {-1, 70}};
        unsigned k = random_next() % ARRAY_LEN(ranges);
        struct f80 x = random_number(ranges[k][0], ranges[k][1], true), y = random_number(-300, 300, true);
        if ((x.se & F80_EXPONENT) >= F80_BIAS)
            x.se &= F80_EXPONENT;
        check(&s, f80_fyl2xp1, exact_yl2xp1, x, y);
    }
    print_errors(&s);
}

/* -- Tiny results -------------------------------------------------------------------------------------- */

/* Denormal operands and results: the ulp is that of the smallest normal number. */
Test(x87_transcendental, underflow)
{
    struct errors sine = {.name = "FSIN, tiny"}, power = {.name = "F2XM1, tiny"},
                  angle = {.name = "FPATAN, tiny"}, logarithm = {.name = "FYL2X, tiny"};
    for (unsigned i = 0; i < 20000; i++) {
        struct f80 d = {random_next() >> (1 + random_next() % 62) | 1, (uint16_t)(i & 1 ? F80_SIGN : 0)};
        check(&sine, f80_fsin, exact_sin, d, f80_zero(false));
        check(&power, f80_f2xm1, exact_2xm1, d, f80_zero(false));
        check(&angle, f80_fpatan, exact_atan2, random_number(-2, 30, false), d);
        check(&logarithm, f80_fyl2x, exact_yl2x, random_number(-1, 1, false), d);
        struct f80_op o = {.st0 = d, .fcw = FCW(NEAREST)};
        f80_fsin(&o);
        cr_assert_eq(o.fsw & 0x3f, FSW_DE | FSW_UE | FSW_PE);
    }
    print_errors(&sine);
    print_errors(&power);
    print_errors(&angle);
    print_errors(&logarithm);
}
