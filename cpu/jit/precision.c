/*
 * cpu/jit/precision.c -- MXCSR.PE and UE of an instruction with an unmasked overflow or underflow.
 *
 * SDM 1, "Numeric Overflow Exception (#O)", "Numeric Underflow Exception (#U)" under "SSE and SSE2
 * Exceptions", and SDM 1, Appendix "Guidelines for Writing SIMD Floating-Point Exception Handlers": with such
 * an exception not masked, PE tells whether the result rounded to the destination's precision with an
 * exponent without bounds is inexact; a masked overflow or a flush to zero is always inexact, and the other
 * elements of a vector count as usual. DPPS and DPPD raise #U for a tiny step too. Stubs run masked and
 * cannot tell, so it is computed here, in integers; rare.
 */
#include "cpu/jit/precision.h"

#include "cpu/lift/x87_softfloat.h"

typedef f80_u128_t u128;

enum {
    MXCSR_DAZ = 1 << 6,
    MXCSR_OM = 1 << 10,
    MXCSR_UM = 1 << 11,
    MXCSR_RC_SHIFT = 13,
    MXCSR_FTZ = 1 << 15,
};

struct format {
    unsigned size, precision; /* bytes; bits with the implicit one */
    int32_t emin, emax;
};

static const struct format f16 = {2, 11, -14, 15}, f32 = {4, 24, -126, 127}, f64 = {8, 53, -1022, 1023};

/* -- Elements ------------------------------------------------------------------------------------------ */

static uint64_t element(const union vreg *v, const struct format *f, unsigned i)
{
    return load_le((const uint8_t *)v + (size_t)i * f->size, f->size);
}

/* False: a NaN or an infinity, with which no result is rounded. */
static bool unpack(uint64_t bits, const struct format *f, uint32_t mxcsr, struct f80_wide *w)
{
    unsigned fraction_bits = f->precision - 1, width = f->size * 8;
    uint64_t fraction = bits & ((1ull << fraction_bits) - 1);
    bool neg = bits >> (width - 1) & 1;
    int32_t exponent = (int32_t)(bits >> fraction_bits & ((1ull << (width - 1 - fraction_bits)) - 1));
    if (exponent == 2 * f->emax + 1)
        return false;
    if (exponent)
        fraction |= 1ull << fraction_bits;
    else if (mxcsr & MXCSR_DAZ)
        fraction = 0;
    *w = f80_normalise(neg, MAX(exponent, 1) - f->emax + 127 - (int32_t)fraction_bits, fraction);
    return true;
}

static bool bits_below(u128 m, int32_t precision)
{
    if (precision <= 0)
        return m != 0;
    return m << precision;
}

/* r (and a little more when sticky) with the bits of format f, its exponent without bounds. */
static struct f80_wide rounded(struct f80_wide r, bool sticky, const struct format *f, uint32_t mxcsr,
                               bool *inexact)
{
    int32_t p = (int32_t)f->precision;
    u128 kept = r.m >> (128 - p), rest = r.m << p, half = (u128)1 << 127;
    bool up = false;
    *inexact = sticky || rest;
    switch (mxcsr >> MXCSR_RC_SHIFT & 3) {
    case 0:
        up = rest > half || (rest == half && (sticky || kept & 1));
        break;
    case 1:
        up = r.neg && *inexact;
        break;
    case 2:
        up = !r.neg && *inexact;
        break;
    default:
        break;
    }
    kept += up;
    if (kept >> p)
        return (struct f80_wide){half, r.exp + 1, r.neg};
    return (struct f80_wide){kept << (128 - p), r.exp, r.neg};
}

/* Is PE raised when r becomes an element of format f? */
static bool is_inexact(struct f80_wide r, bool sticky, const struct format *f, uint32_t mxcsr)
{
    bool inexact;
    if (!r.m)
        return sticky;
    int32_t exp = rounded(r, sticky, f, mxcsr, &inexact).exp;
    if (exp > f->emax)
        return mxcsr & MXCSR_OM || inexact;
    if (exp >= f->emin || !(mxcsr & MXCSR_UM))
        return inexact;
    return mxcsr & MXCSR_FTZ || sticky || bits_below(r.m, (int32_t)f->precision - (f->emin - r.exp));
}

/* -- Operations ---------------------------------------------------------------------------------------- */

enum operation { ADD, SUB, MUL, DIV };

static bool binary_inexact(enum operation op, uint64_t x, uint64_t y, const struct format *f, uint32_t mxcsr)
{
    struct f80_wide a, b, r;
    bool cut = false;
    if (!unpack(x, f, mxcsr, &a) || !unpack(y, f, mxcsr, &b) || (op == DIV && !b.m))
        return false;
    switch (op) {
    case MUL:
        r = f80_wide_mul(a, b, &cut);
        break;
    case DIV:
        r = f80_wide_div(a, b, &cut);
        break;
    default:
        b.neg ^= op == SUB;
        r = f80_wide_add(a, b, &cut);
        break;
    }
    return is_inexact(r, cut, f, mxcsr);
}

static bool fma_inexact(uint8_t opcode, const uint64_t v[3], unsigned i, const struct format *f,
                        uint32_t mxcsr)
{
    /* 9x: 1 * 3 + 2; Ax: 2 * 1 + 3; Bx: 2 * 3 + 1. Low digit: 6 ADDSUB, 7 SUBADD, then ADD, SUB, N.ADD,
     * N.SUB. */
    static const uint8_t order[3][3] = {{0, 2, 1}, {1, 0, 2}, {1, 2, 0}};
    const uint8_t *o = order[(opcode >> 4) - 9];
    unsigned kind = opcode & 15;
    struct f80_wide a, b, c;
    bool cut = false;
    if (!unpack(v[o[0]], f, mxcsr, &a) || !unpack(v[o[1]], f, mxcsr, &b) || !unpack(v[o[2]], f, mxcsr, &c))
        return false;
    a.neg ^= kind >= 12;
    c.neg ^= kind == 6 ? !(i & 1) : kind == 7 ? i & 1 : kind >> 1 & 1;
    struct f80_wide product = f80_wide_mul(a, b, &cut);
    struct f80_wide r = f80_wide_add(product, c, &cut);
    return is_inexact(r, cut, f, mxcsr);
}

static bool narrowing_inexact(uint64_t x, const struct format *from, const struct format *to, uint32_t mxcsr)
{
    struct f80_wide a;
    return unpack(x, from, mxcsr, &a) && is_inexact(a, false, to, mxcsr);
}

static bool vector_fma(const struct stub_request *q, uint32_t mxcsr, const struct precision_operands *o)
{
    bool scalar = (q->opcode & 15) >= 9 && q->opcode & 1, inexact = false;
    const struct format *f = q->vex_w ? &f64 : &f32;
    unsigned n = scalar ? 1 : (q->vex_l ? 32 : 16) / f->size;
    for (unsigned i = 0; i < n; i++) {
        uint64_t v[3] = {element(o->reg, f, i), element(o->vvvv, f, i), element(o->rm, f, i)};
        inexact |= fma_inexact(q->opcode, v, i, f, mxcsr);
    }
    return inexact;
}

/* VCVTPS2PH: rounding is in the immediate, FTZ has no effect (SDM 2, VCVTPS2PH). */
static bool vector_to_half(const struct stub_request *q, uint32_t mxcsr, const struct precision_operands *o)
{
    bool inexact = false;
    if (!(q->imm & 4))
        mxcsr = (mxcsr & ~(3u << MXCSR_RC_SHIFT)) | (q->imm & 3u) << MXCSR_RC_SHIFT;
    for (unsigned i = 0; i < (q->vex_l ? 8u : 4u); i++)
        inexact |= narrowing_inexact(element(o->reg, &f32, i), &f32, &f16, mxcsr & ~(uint32_t)MXCSR_FTZ);
    return inexact;
}

static bool vector_to_single(const struct stub_request *q, uint32_t mxcsr, const struct precision_operands *o)
{
    bool inexact = false;
    unsigned n = q->prefix == 0xf2 ? 1 : q->vex && q->vex_l ? 4 : 2;
    for (unsigned i = 0; i < n; i++)
        inexact |= narrowing_inexact(element(o->rm, &f64, i), &f64, &f32, mxcsr);
    return inexact;
}

/* HADD, HSUB: neighbours of one operand and of the other. */
static bool vector_horizontal(enum operation op, const union vreg *v, const struct format *f, unsigned n,
                              uint32_t mxcsr)
{
    bool inexact = false;
    for (unsigned i = 0; i < n; i += 2)
        inexact |= binary_inexact(op, element(v, f, i), element(v, f, i + 1), f, mxcsr);
    return inexact;
}

static bool vector_binary(const struct stub_request *q, uint32_t mxcsr, const struct precision_operands *o)
{
    bool special = q->opcode == 0xd0 || q->opcode == 0x7c || q->opcode == 0x7d;
    bool scalar = !special && (q->prefix == 0xf2 || q->prefix == 0xf3), inexact = false;
    const struct format *f = q->prefix == 0x66 || (scalar && q->prefix == 0xf2) ? &f64 : &f32;
    unsigned n = scalar ? 1 : (q->vex && q->vex_l ? 32 : 16) / f->size;
    const union vreg *a = q->vex ? o->vvvv : o->reg, *b = o->rm;
    if (q->opcode == 0x7c || q->opcode == 0x7d) {
        enum operation op = q->opcode == 0x7c ? ADD : SUB;
        inexact = vector_horizontal(op, a, f, n, mxcsr);
        return vector_horizontal(op, b, f, n, mxcsr) || inexact;
    }
    for (unsigned i = 0; i < n; i++) {
        enum operation op = q->opcode == 0x58   ? ADD
                            : q->opcode == 0x59 ? MUL
                            : q->opcode == 0x5c ? SUB
                            : q->opcode == 0x5e ? DIV
                            : i & 1             ? ADD
                                                : SUB; /* ADDSUB */
        inexact |= binary_inexact(op, element(a, f, i), element(b, f, i), f, mxcsr);
    }
    return inexact;
}

bool precision_inexact(const struct stub_request *q, uint32_t mxcsr, const struct precision_operands *o,
                       bool masked)
{
    if (q->map == STUB_MAP_0F38)
        return q->vex && q->opcode >= 0x96 && q->opcode <= 0xbf ? vector_fma(q, mxcsr, o) : masked;
    if (q->map == STUB_MAP_0F3A)
        return q->vex && q->opcode == 0x1d ? vector_to_half(q, mxcsr, o) : masked;
    switch (q->opcode) {
    case 0x58:
    case 0x59:
    case 0x5c:
    case 0x5e:
    case 0x7c:
    case 0x7d:
    case 0xd0:
        return vector_binary(q, mxcsr, o);
    case 0x5a:
        return q->prefix == 0x66 || q->prefix == 0xf2 ? vector_to_single(q, mxcsr, o) : masked;
    default:
        return masked;
    }
}

/* -- Dot products -------------------------------------------------------------------------------------- */

/* What a step of DPPS or DPPD gave. */
struct partial {
    struct f80_wide v;
    bool special; /* a NaN or an infinity: nothing that comes of it is tiny */
};

/* Rounds v; true when it is tiny. */
static bool step(struct partial *r, struct f80_wide v, bool sticky, const struct format *f, uint32_t mxcsr)
{
    bool inexact;
    *r = (struct partial){v, false};
    if (!v.m)
        return false;
    r->v = rounded(v, sticky, f, mxcsr, &inexact);
    if (r->v.exp > f->emax) /* the largest number or infinity: a sum with either is not tiny */
        r->v = (struct f80_wide){~(u128)0 << (128 - f->precision), f->emax, v.neg};
    return r->v.exp < f->emin;
}

static bool add_partials(struct partial *r, const struct partial *a, const struct partial *b,
                         const struct format *f, uint32_t mxcsr)
{
    bool cut = false;
    if (a->special || b->special) {
        *r = (struct partial){.special = true};
        return false;
    }
    struct f80_wide v = f80_wide_add(a->v, b->v, &cut);
    return step(r, v, cut, f, mxcsr);
}

/* One lane; `first`: its first element. SDM 2A, DPPS and DPPD: products, sums of two, the sum of all. */
static bool lane_tiny(const struct stub_request *q, uint32_t mxcsr, const union vreg *a, const union vreg *b,
                      const struct format *f, unsigned first)
{
    struct partial t[4] = {0}, low, high, all;
    unsigned n = 16 / f->size;
    bool tiny = false;
    for (unsigned i = 0; i < n; i++) {
        struct f80_wide x, y;
        bool cut = false;
        if (!(q->imm >> (4 + i) & 1))
            continue;
        t[i].special = !unpack(element(a, f, first + i), f, mxcsr, &x) ||
                       !unpack(element(b, f, first + i), f, mxcsr, &y);
        if (!t[i].special)
            tiny |= step(&t[i], f80_wide_mul(x, y, &cut), cut, f, mxcsr);
    }
    tiny |= add_partials(&low, &t[0], &t[1], f, mxcsr);
    if (n == 2)
        return tiny;
    tiny |= add_partials(&high, &t[2], &t[3], f, mxcsr);
    return add_partials(&all, &low, &high, f, mxcsr) || tiny;
}

bool precision_dot_tiny(const struct stub_request *q, uint32_t mxcsr, const struct precision_operands *o)
{
    if (q->map != STUB_MAP_0F3A || (q->opcode != 0x40 && q->opcode != 0x41))
        return false;
    const struct format *f = q->opcode == 0x40 ? &f32 : &f64;
    const union vreg *a = q->vex ? o->vvvv : o->reg;
    bool tiny = lane_tiny(q, mxcsr, a, o->rm, f, 0);
    return (q->vex && q->vex_l && lane_tiny(q, mxcsr, a, o->rm, f, 16 / f->size)) || tiny;
}
