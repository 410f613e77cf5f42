/*
 * cpu/ir/alu.h -- results and flags of the integer micro-ops, as plain C.
 *
 * SDM 1, "EFLAGS Register", and each instruction's "Flags Affected". The interpreter calls these; back ends
 * must agree with them. `sz` is log2 of bytes and folds when it is a constant. Operands may have any upper
 * bits; results are zero-extended to 64 bits, and the caller merges them into the register.
 *
 * Flags that the SDM leaves undefined are defined here, once for every host and executor:
 *   shifts, SHLD, SHRD   AF = 0; OF by the formula for a count of one at every count
 *   rotates              OF by the formula for a count of one at every count
 *   SHLD/SHRD size 16    counts over 16 go on around a : b : a
 *   MUL, IMUL            SF, ZF, PF of the low half, AF = 0
 *   DIV, IDIV            kept
 *   BSF, BSR             CF, OF, SF, AF = 0, PF = ZF; a zero source leaves the destination
 *   BT and its kin       kept
 *   BMI, LZCNT, TZCNT    SF, PF of the result, AF = OF = 0
 * Not here: moves and addresses (interp.c), the lazy form itself (cpu/flags.h).
 * Tests: tests/unit/test_ir_alu.c
 */
#ifndef CPU_IR_ALU_H
#define CPU_IR_ALU_H

#include "cpu/flags.h"

/* -- Sizes --------------------------------------------------------------------------------------------- */

static inline unsigned alu_bits(unsigned sz)
{
    return 8u << sz;
}

static inline uint64_t alu_mask(unsigned sz)
{
    return ~0ull >> (64 - alu_bits(sz));
}

static inline uint64_t alu_zx(unsigned sz, uint64_t v)
{
    return v & alu_mask(sz);
}

static inline int64_t alu_sx(unsigned sz, uint64_t v)
{
    unsigned up = 64 - alu_bits(sz);
    return (int64_t)(v << up) >> up;
}

static inline unsigned alu_msb(unsigned sz, uint64_t v)
{
    return (unsigned)(v >> (alu_bits(sz) - 1)) & 1;
}

/* OF of right rotates and shifts: the two top bits differ. */
static inline unsigned alu_top2(unsigned sz, uint64_t v)
{
    return (unsigned)((v >> (alu_bits(sz) - 1)) ^ (v >> (alu_bits(sz) - 2))) & 1;
}

/* Counts of shifts are taken modulo 32, or 64 for 64-bit operands. */
static inline unsigned alu_count(unsigned sz, uint64_t count)
{
    return (unsigned)count & (sz == 3 ? 63 : 31);
}

/* Writes a result to a GPR as x86 does: 8 and 16 bits merge, 32 zero-extends. */
static inline void alu_put(struct cpu *c, unsigned reg, unsigned sz, uint64_t v)
{
    if (sz >= 2)
        c->r[reg] = alu_zx(sz, v);
    else
        c->r[reg] = (c->r[reg] & ~alu_mask(sz)) | alu_zx(sz, v);
}

/* -- Flags --------------------------------------------------------------------------------------------- */

/* All six: ZF, SF, PF of r; AF = 0. */
static inline void alu_flags(struct cpu *c, unsigned sz, uint64_t r, unsigned cf, unsigned of)
{
    c->cc_result = (uint64_t)alu_sx(sz, r);
    c->cc_aux = (uint64_t)(cf & 1) << 63 | (uint64_t)((cf ^ of) & 1) << 62;
}

static inline void alu_flags_logic(struct cpu *c, unsigned sz, uint64_t r)
{
    c->cc_result = (uint64_t)alu_sx(sz, r);
    c->cc_aux = 0;
}

/*
 * `carry` has in each bit the carry (or borrow) out of that bit: bit 3 is AF, the top bit CF, and the bit
 * below it, the carry into the top bit, is CF ^ OF.
 */
static inline void alu_flags_carry(struct cpu *c, unsigned sz, uint64_t r, uint64_t carry)
{
    c->cc_result = (uint64_t)alu_sx(sz, r);
    c->cc_aux = ((carry << (64 - alu_bits(sz))) & (AUX_CF | AUX_PO)) | (carry & AUX_AF);
}

static inline void alu_flags_add(struct cpu *c, unsigned sz, uint64_t a, uint64_t b, uint64_t r)
{
    alu_flags_carry(c, sz, r, (a & b) | ((a | b) & ~r));
}

static inline void alu_flags_sub(struct cpu *c, unsigned sz, uint64_t a, uint64_t b, uint64_t r)
{
    alu_flags_carry(c, sz, r, (~a & b) | ((~a | b) & r));
}

static inline void alu_set_cf(struct cpu *c, unsigned cf)
{
    flags_set_cf_of(c, cf, flag_of(c));
}

/* SETF: the arithmetic flags of `mask` from `value`. */
static inline void alu_setf(struct cpu *c, uint64_t value, uint64_t mask)
{
    mask &= FLAGS_ARITH;
    flags_set_arith(c, (flags_arith(c) & ~mask) | (value & mask));
}

/* -- Add, subtract, logic ------------------------------------------------------------------------------ */

static inline uint64_t alu_add(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    uint64_t r = a + b;
    alu_flags_add(c, sz, a, b, r);
    return alu_zx(sz, r);
}

static inline uint64_t alu_adc(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    uint64_t r = a + b + flag_cf(c);
    alu_flags_add(c, sz, a, b, r);
    return alu_zx(sz, r);
}

static inline uint64_t alu_sub(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    uint64_t r = a - b;
    alu_flags_sub(c, sz, a, b, r);
    return alu_zx(sz, r);
}

static inline uint64_t alu_sbb(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    uint64_t r = a - b - flag_cf(c);
    alu_flags_sub(c, sz, a, b, r);
    return alu_zx(sz, r);
}

static inline uint64_t alu_and(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    alu_flags_logic(c, sz, a & b);
    return alu_zx(sz, a & b);
}

static inline uint64_t alu_or(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    alu_flags_logic(c, sz, a | b);
    return alu_zx(sz, a | b);
}

static inline uint64_t alu_xor(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    alu_flags_logic(c, sz, a ^ b);
    return alu_zx(sz, a ^ b);
}

static inline uint64_t alu_inc(struct cpu *c, unsigned sz, uint64_t a)
{
    unsigned cf = flag_cf(c);
    uint64_t r = alu_add(c, sz, a, 1);
    alu_set_cf(c, cf);
    return r;
}

static inline uint64_t alu_dec(struct cpu *c, unsigned sz, uint64_t a)
{
    unsigned cf = flag_cf(c);
    uint64_t r = alu_sub(c, sz, a, 1);
    alu_set_cf(c, cf);
    return r;
}

static inline uint64_t alu_neg(struct cpu *c, unsigned sz, uint64_t a)
{
    return alu_sub(c, sz, 0, a);
}

/* -- Shifts -------------------------------------------------------------------------------------------- */

static inline uint64_t alu_shl(struct cpu *c, unsigned sz, uint64_t a, uint64_t count)
{
    unsigned n = alu_count(sz, count);
    a = alu_zx(sz, a);
    if (n == 0)
        return a;
    uint64_t r = a << n;
    /* Below 64 bits the bit shifted out last is still there; counts beyond the size shift out zeros. */
    unsigned cf = (unsigned)(sz == 3 ? a >> (64 - n) : r >> alu_bits(sz)) & 1;
    alu_flags(c, sz, r, cf, alu_msb(sz, r) ^ cf);
    return alu_zx(sz, r);
}

static inline uint64_t alu_shr(struct cpu *c, unsigned sz, uint64_t a, uint64_t count)
{
    unsigned n = alu_count(sz, count);
    a = alu_zx(sz, a);
    if (n == 0)
        return a;
    uint64_t r = a >> n;
    alu_flags(c, sz, r, (unsigned)(a >> (n - 1)) & 1, alu_top2(sz, r));
    return r;
}

static inline uint64_t alu_sar(struct cpu *c, unsigned sz, uint64_t a, uint64_t count)
{
    unsigned n = alu_count(sz, count);
    if (n == 0)
        return alu_zx(sz, a);
    int64_t s = alu_sx(sz, a), r = s >> n;
    alu_flags(c, sz, (uint64_t)r, (unsigned)(s >> (n - 1)) & 1, 0);
    return alu_zx(sz, (uint64_t)r);
}

static inline uint64_t alu_shld(struct cpu *c, unsigned sz, uint64_t a, uint64_t b, uint64_t count)
{
    unsigned n = alu_count(sz, count), bits = alu_bits(sz), cf;
    uint64_t r;
    a = alu_zx(sz, a);
    b = alu_zx(sz, b);
    if (n == 0)
        return a;
    if (sz == 1) {
        uint64_t x = a << 32 | b << 16 | a;
        r = alu_zx(1, x << n >> 32);
        cf = (unsigned)(x >> (48 - n)) & 1;
    } else {
        r = alu_zx(sz, a << n | b >> (bits - n));
        cf = (unsigned)(a >> (bits - n)) & 1;
    }
    alu_flags(c, sz, r, cf, alu_msb(sz, r) ^ cf);
    return r;
}

static inline uint64_t alu_shrd(struct cpu *c, unsigned sz, uint64_t a, uint64_t b, uint64_t count)
{
    unsigned n = alu_count(sz, count), bits = alu_bits(sz), cf;
    uint64_t r;
    a = alu_zx(sz, a);
    b = alu_zx(sz, b);
    if (n == 0)
        return a;
    if (sz == 1) {
        uint64_t x = a << 32 | b << 16 | a;
        r = alu_zx(1, x >> n);
        cf = (unsigned)(x >> (n - 1)) & 1;
    } else {
        r = alu_zx(sz, a >> n | b << (bits - n));
        cf = (unsigned)(a >> (n - 1)) & 1;
    }
    alu_flags(c, sz, r, cf, alu_top2(sz, r));
    return r;
}

/* -- Rotates ------------------------------------------------------------------------------------------- */

/* A count that is a multiple of the size, but not zero, still sets CF. */
static inline uint64_t alu_rol(struct cpu *c, unsigned sz, uint64_t a, uint64_t count)
{
    unsigned n = alu_count(sz, count), bits = alu_bits(sz), k = n & (bits - 1);
    a = alu_zx(sz, a);
    if (n == 0)
        return a;
    uint64_t r = k ? alu_zx(sz, a << k | a >> (bits - k)) : a;
    flags_set_cf_of(c, (unsigned)r & 1, alu_msb(sz, r) ^ ((unsigned)r & 1));
    return r;
}

static inline uint64_t alu_ror(struct cpu *c, unsigned sz, uint64_t a, uint64_t count)
{
    unsigned n = alu_count(sz, count), bits = alu_bits(sz), k = n & (bits - 1);
    a = alu_zx(sz, a);
    if (n == 0)
        return a;
    uint64_t r = k ? alu_zx(sz, a >> k | a << (bits - k)) : a;
    flags_set_cf_of(c, alu_msb(sz, r), alu_top2(sz, r));
    return r;
}

/* RCL and RCR rotate bits + 1 bits; only sizes 8 and 16 can have counts beyond that. */
static inline uint64_t alu_rcl(struct cpu *c, unsigned sz, uint64_t a, uint64_t count)
{
    unsigned bits = alu_bits(sz), n = alu_count(sz, count) % (bits + 1);
    uint64_t cf_in = flag_cf(c);
    a = alu_zx(sz, a);
    if (n == 0)
        return a;
    uint64_t r = (n == 64 ? 0 : a << n) | cf_in << (n - 1) | (n > 1 ? a >> (bits + 1 - n) : 0);
    unsigned cf = (unsigned)(a >> (bits - n)) & 1;
    r = alu_zx(sz, r);
    flags_set_cf_of(c, cf, alu_msb(sz, r) ^ cf);
    return r;
}

static inline uint64_t alu_rcr(struct cpu *c, unsigned sz, uint64_t a, uint64_t count)
{
    unsigned bits = alu_bits(sz), n = alu_count(sz, count) % (bits + 1);
    uint64_t cf_in = flag_cf(c);
    a = alu_zx(sz, a);
    if (n == 0)
        return a;
    uint64_t r = (n == 64 ? 0 : a >> n) | cf_in << (bits - n) | (n > 1 ? a << (bits + 1 - n) : 0);
    unsigned cf = (unsigned)(a >> (n - 1)) & 1;
    r = alu_zx(sz, r);
    flags_set_cf_of(c, cf, alu_top2(sz, r));
    return r;
}

/* -- Multiply and divide ------------------------------------------------------------------------------- */

/* MUL and IMUL with one operand write rDX:rAX (AX for size 8) themselves. */
static inline void alu_mul(struct cpu *c, unsigned sz, uint64_t a)
{
    unsigned __int128 p = (unsigned __int128)alu_zx(sz, c->r[REG_RAX]) * alu_zx(sz, a);
    uint64_t low = alu_zx(sz, (uint64_t)p), high = (uint64_t)(p >> alu_bits(sz));
    if (sz == 0) {
        alu_put(c, REG_RAX, 1, (uint64_t)p);
    } else {
        alu_put(c, REG_RAX, sz, low);
        alu_put(c, REG_RDX, sz, high);
    }
    alu_flags(c, sz, low, high != 0, high != 0);
}

static inline void alu_imul(struct cpu *c, unsigned sz, uint64_t a)
{
    __int128 p = (__int128)alu_sx(sz, c->r[REG_RAX]) * alu_sx(sz, a);
    uint64_t low = alu_zx(sz, (uint64_t)p), high = alu_zx(sz, (uint64_t)(p >> alu_bits(sz)));
    unsigned over = p != alu_sx(sz, low);
    if (sz == 0) {
        alu_put(c, REG_RAX, 1, (uint64_t)p);
    } else {
        alu_put(c, REG_RAX, sz, low);
        alu_put(c, REG_RDX, sz, high);
    }
    alu_flags(c, sz, low, over, over);
}

/* IMUL2 and IMULI. */
static inline uint64_t alu_imul2(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    __int128 p = (__int128)alu_sx(sz, a) * alu_sx(sz, b);
    uint64_t r = alu_zx(sz, (uint64_t)p);
    unsigned over = p != alu_sx(sz, r);
    alu_flags(c, sz, r, over, over);
    return r;
}

/* False: #DE, nothing written. */
static inline bool alu_div(struct cpu *c, unsigned sz, uint64_t a)
{
    uint64_t d = alu_zx(sz, a), high, low, q, m;
    if (d == 0)
        return false;
    if (sz == 0) {
        low = alu_zx(1, c->r[REG_RAX]);
        q = low / d;
        if (q > 0xff)
            return false;
        alu_put(c, REG_RAX, 1, q | low % d << 8);
        return true;
    }
    high = alu_zx(sz, c->r[REG_RDX]);
    low = alu_zx(sz, c->r[REG_RAX]);
    if (high >= d)
        return false; /* exactly when the quotient does not fit */
    if (sz == 3) {
        if (high == 0) {
            q = low / d;
            m = low % d;
        } else {
            unsigned __int128 n = (unsigned __int128)high << 64 | low;
            q = (uint64_t)(n / d);
            m = (uint64_t)(n % d);
        }
    } else {
        uint64_t n = high << alu_bits(sz) | low;
        q = n / d;
        m = n % d;
    }
    alu_put(c, REG_RAX, sz, q);
    alu_put(c, REG_RDX, sz, m);
    return true;
}

static inline bool alu_idiv(struct cpu *c, unsigned sz, uint64_t a)
{
    int64_t d = alu_sx(sz, a);
    if (d == 0)
        return false;
    if (sz == 3) {
        unsigned __int128 n = (unsigned __int128)c->r[REG_RDX] << 64 | c->r[REG_RAX];
        bool neg_n = c->r[REG_RDX] >> 63, neg_q = neg_n != (d < 0);
        unsigned __int128 un = neg_n ? -n : n;
        uint64_t ud = d < 0 ? -(uint64_t)d : (uint64_t)d;
        if ((uint64_t)(un >> 64) >= ud)
            return false;
        uint64_t q = (uint64_t)(un / ud), m = (uint64_t)(un % ud);
        if (q > (uint64_t)INT64_MAX + neg_q)
            return false;
        c->r[REG_RAX] = neg_q ? -q : q;
        c->r[REG_RDX] = neg_n ? -m : m; /* the remainder has the dividend's sign */
        return true;
    }
    int64_t n;
    if (sz == 0)
        n = alu_sx(1, c->r[REG_RAX]);
    else
        n = alu_sx(sz + 1, alu_zx(sz, c->r[REG_RDX]) << alu_bits(sz) | alu_zx(sz, c->r[REG_RAX]));
    if (d == -1 && n == INT64_MIN)
        return false; /* would trap the host */
    int64_t q = n / d, m = n % d;
    if (q != alu_sx(sz, (uint64_t)q))
        return false;
    if (sz == 0) {
        alu_put(c, REG_RAX, 1, ((uint64_t)q & 0xff) | ((uint64_t)m & 0xff) << 8);
    } else {
        alu_put(c, REG_RAX, sz, (uint64_t)q);
        alu_put(c, REG_RDX, sz, (uint64_t)m);
    }
    return true;
}

/* Returns the high half, *low the low half of rDX * a. */
static inline uint64_t alu_mulx(struct cpu *c, unsigned sz, uint64_t a, uint64_t *low)
{
    unsigned __int128 p = (unsigned __int128)alu_zx(sz, c->r[REG_RDX]) * alu_zx(sz, a);
    *low = alu_zx(sz, (uint64_t)p);
    return (uint64_t)(p >> alu_bits(sz));
}

/* -- Bits ---------------------------------------------------------------------------------------------- */

static inline void alu_bt(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    alu_set_cf(c, (unsigned)(a >> (b & (alu_bits(sz) - 1))) & 1);
}

static inline uint64_t alu_bts(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    alu_bt(c, sz, a, b);
    return alu_zx(sz, a | 1ull << (b & (alu_bits(sz) - 1)));
}

static inline uint64_t alu_btr(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    alu_bt(c, sz, a, b);
    return alu_zx(sz, a & ~(1ull << (b & (alu_bits(sz) - 1))));
}

static inline uint64_t alu_btc(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    alu_bt(c, sz, a, b);
    return alu_zx(sz, a ^ 1ull << (b & (alu_bits(sz) - 1)));
}

/* False: the source is zero, the destination is left alone, upper half included. */
static inline bool alu_bsf(struct cpu *c, unsigned sz, uint64_t a, uint64_t *r)
{
    a = alu_zx(sz, a);
    c->cc_result = a != 0;
    c->cc_aux = 0;
    if (a == 0)
        return false;
    *r = (uint64_t)__builtin_ctzll(a);
    return true;
}

static inline bool alu_bsr(struct cpu *c, unsigned sz, uint64_t a, uint64_t *r)
{
    a = alu_zx(sz, a);
    c->cc_result = a != 0;
    c->cc_aux = 0;
    if (a == 0)
        return false;
    *r = 63 - (uint64_t)__builtin_clzll(a);
    return true;
}

static inline uint64_t alu_popcnt(struct cpu *c, unsigned sz, uint64_t a)
{
    a = alu_zx(sz, a);
    c->cc_result = a != 0;
    c->cc_aux = (uint64_t)(a == 0) << 8; /* PF is 0 in both cases */
    return (uint64_t)__builtin_popcountll(a);
}

static inline uint64_t alu_lzcnt(struct cpu *c, unsigned sz, uint64_t a)
{
    a = alu_zx(sz, a);
    uint64_t r = a ? (uint64_t)__builtin_clzll(a) - (64 - alu_bits(sz)) : alu_bits(sz);
    alu_flags(c, sz, r, a == 0, 0);
    return r;
}

static inline uint64_t alu_tzcnt(struct cpu *c, unsigned sz, uint64_t a)
{
    a = alu_zx(sz, a);
    uint64_t r = a ? (uint64_t)__builtin_ctzll(a) : alu_bits(sz);
    alu_flags(c, sz, r, a == 0, 0);
    return r;
}

static inline uint64_t alu_bswap(unsigned sz, uint64_t a)
{
    return sz == 3   ? __builtin_bswap64(a)
           : sz == 2 ? __builtin_bswap32((uint32_t)a)
                     : __builtin_bswap16((uint16_t)a);
}

static inline uint64_t alu_andn(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    return alu_and(c, sz, ~a, b);
}

static inline uint64_t alu_bextr(struct cpu *c, unsigned sz, uint64_t a, uint64_t control)
{
    unsigned start = control & 0xff, length = control >> 8 & 0xff;
    a = alu_zx(sz, a);
    uint64_t r = start < 64 ? a >> start : 0;
    if (length < 64)
        r &= (1ull << length) - 1;
    alu_flags_logic(c, sz, r);
    return r;
}

static inline uint64_t alu_blsi(struct cpu *c, unsigned sz, uint64_t a)
{
    a = alu_zx(sz, a);
    uint64_t r = a & -a;
    alu_flags(c, sz, r, a != 0, 0);
    return r;
}

static inline uint64_t alu_blsmsk(struct cpu *c, unsigned sz, uint64_t a)
{
    a = alu_zx(sz, a);
    uint64_t r = alu_zx(sz, a ^ (a - 1));
    alu_flags(c, sz, r, a == 0, 0);
    return r;
}

static inline uint64_t alu_blsr(struct cpu *c, unsigned sz, uint64_t a)
{
    a = alu_zx(sz, a);
    uint64_t r = a & (a - 1);
    alu_flags(c, sz, r, a == 0, 0);
    return r;
}

static inline uint64_t alu_bzhi(struct cpu *c, unsigned sz, uint64_t a, uint64_t index)
{
    unsigned n = index & 0xff;
    a = alu_zx(sz, a);
    uint64_t r = n < alu_bits(sz) ? a & ((1ull << n) - 1) : a;
    alu_flags(c, sz, r, n >= alu_bits(sz), 0);
    return r;
}

static inline uint64_t alu_pdep(unsigned sz, uint64_t a, uint64_t mask)
{
    uint64_t r = 0;
    for (mask = alu_zx(sz, mask); mask; mask &= mask - 1, a >>= 1)
        if (a & 1)
            r |= mask & -mask;
    return r;
}

static inline uint64_t alu_pext(unsigned sz, uint64_t a, uint64_t mask)
{
    uint64_t r = 0, bit = 1;
    for (mask = alu_zx(sz, mask); mask; mask &= mask - 1, bit <<= 1)
        if (a & mask & -mask)
            r |= bit;
    return r;
}

static inline uint64_t alu_rorx(unsigned sz, uint64_t a, uint64_t count)
{
    unsigned bits = alu_bits(sz), n = (unsigned)count & (bits - 1);
    a = alu_zx(sz, a);
    return n ? alu_zx(sz, a >> n | a << (bits - n)) : a;
}

static inline uint64_t alu_sarx(unsigned sz, uint64_t a, uint64_t count)
{
    return alu_zx(sz, (uint64_t)(alu_sx(sz, a) >> alu_count(sz, count)));
}

static inline uint64_t alu_shlx(unsigned sz, uint64_t a, uint64_t count)
{
    return alu_zx(sz, a << alu_count(sz, count));
}

static inline uint64_t alu_shrx(unsigned sz, uint64_t a, uint64_t count)
{
    return alu_zx(sz, a) >> alu_count(sz, count);
}

static inline uint64_t alu_adcx(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    unsigned __int128 r = (unsigned __int128)alu_zx(sz, a) + alu_zx(sz, b) + flag_cf(c);
    alu_set_cf(c, (unsigned)(r >> alu_bits(sz)) & 1);
    return alu_zx(sz, (uint64_t)r);
}

static inline uint64_t alu_adox(struct cpu *c, unsigned sz, uint64_t a, uint64_t b)
{
    unsigned __int128 r = (unsigned __int128)alu_zx(sz, a) + alu_zx(sz, b) + flag_of(c);
    flags_set_cf_of(c, flag_cf(c), (unsigned)(r >> alu_bits(sz)) & 1);
    return alu_zx(sz, (uint64_t)r);
}

/* CRC32C (polynomial 11EDC6F41H, bits reflected) of the low bytes of b, going on from a. */
static inline uint64_t alu_crc32(unsigned sz, uint64_t a, uint64_t b)
{
    uint32_t crc = (uint32_t)a;
    for (unsigned byte = 0; byte < 1u << sz; byte++, b >>= 8) {
        crc ^= (uint32_t)b & 0xff;
        for (unsigned i = 0; i < 8; i++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

#endif
