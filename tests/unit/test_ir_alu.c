/*
 * tests/unit/test_ir_alu.c -- cpu/ir/alu.h against an oracle that works bit by bit, as the SDM's text
 * describes it.
 *
 * The oracle keeps a value as an array of bits and moves one bit at a time, so it shares no formula with
 * alu.h. Flags that the SDM leaves undefined are checked against what alu.h's head says.
 */
#include <criterion/criterion.h>
#include <string.h>
#include "cpu/ir/alu.h"

static struct cpu cpu;

/* -- Input --------------------------------------------------------------------------------------------- */

static uint64_t random_state = 0x2545f4914f6cdd1dull;
static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint64_t random_value(void)
{
    uint64_t v = random_next();
    switch (random_next() % 7) {
    case 0:
        return v % 3;
    case 1:
        return -(v % 3);
    case 2:
        return 1ull << (v % 64);
    case 3:
        return (1ull << (v % 64)) - 1;
    case 4:
        return v & 0xff;
    default:
        return v;
    }
}

/* -- Oracle -------------------------------------------------------------------------------------------- */

struct oracle {
    unsigned cf, pf, af, zf, sf, of;
};

static struct oracle from_flags(uint64_t f)
{
    return (struct oracle){f & 1, f >> 2 & 1, f >> 4 & 1, f >> 6 & 1, f >> 7 & 1, f >> 11 & 1};
}

static uint64_t to_flags(const struct oracle *o)
{
    return o->cf | (uint64_t)o->pf << 2 | (uint64_t)o->af << 4 | (uint64_t)o->zf << 6 | (uint64_t)o->sf << 7 |
           (uint64_t)o->of << 11;
}

static unsigned bit(uint64_t v, unsigned i)
{
    return (unsigned)(v >> i) & 1;
}

static void set_result(struct oracle *o, uint64_t r, unsigned bits)
{
    unsigned ones = 0, any = 0;
    for (unsigned i = 0; i < bits; i++) {
        any |= bit(r, i);
        if (i < 8)
            ones += bit(r, i);
    }
    o->zf = !any;
    o->pf = ones % 2 == 0;
    o->sf = bit(r, bits - 1);
}

/* a + b + carry, one full adder a bit; subtraction is a + ~b + !borrow with the carries turned round. */
static uint64_t add_bits(struct oracle *o, uint64_t a, uint64_t b, unsigned carry, bool subtract,
                         unsigned bits)
{
    uint64_t r = 0;
    unsigned c = subtract ? !carry : carry, into_top = 0;
    for (unsigned i = 0; i < bits; i++) {
        unsigned x = bit(a, i), y = subtract ? !bit(b, i) : bit(b, i), sum = x + y + c;
        if (i == bits - 1)
            into_top = c;
        r |= (uint64_t)(sum & 1) << i;
        c = sum >> 1;
        if (i == 3)
            o->af = subtract ? !c : c;
    }
    o->cf = subtract ? !c : c;
    o->of = into_top ^ c;
    set_result(o, r, bits);
    return r;
}

static void compare(const char *name, unsigned sz, uint64_t a, uint64_t b, uint64_t got, uint64_t want,
                    const struct oracle *o)
{
    uint64_t f = flags_arith(&cpu);
    cr_assert_eq(got, want, "%s.%u %#lx, %#lx: result %#lx, want %#lx", name, 1u << sz, a, b, got, want);
    cr_assert_eq(f, to_flags(o), "%s.%u %#lx, %#lx: flags %#lx, want %#lx", name, 1u << sz, a, b, f,
                 to_flags(o));
}

#define ROUNDS 3000
#define FOR_EACH(first)                                                                                      \
    for (unsigned sz = (first); sz < 4; sz++)                                                                \
        for (unsigned round = 0; round < ROUNDS; round++)
#define INPUT                                                                                                \
    uint64_t a = random_value(), b = random_value(), flags = random_next() & FLAGS_ARITH;                    \
    unsigned bits = 8u << sz;                                                                                \
    struct oracle o = from_flags(flags);                                                                     \
    flags_set_arith(&cpu, flags);                                                                            \
    (void)a, (void)b, (void)bits, (void)o

/* -- Lazy flags ---------------------------------------------------------------------------------------- */

Test(alu, every_flag_combination_round_trips)
{
    for (unsigned f = 0; f < 0x1000; f++) {
        if (f & ~(unsigned)FLAGS_ARITH)
            continue;
        flags_set_arith(&cpu, f);
        cr_assert_eq(flags_arith(&cpu), f);
        for (unsigned cc = 0; cc < 16; cc++) {
            struct oracle o = from_flags(f);
            bool base[8] = {o.of, o.cf, o.zf, o.cf || o.zf, o.sf, o.pf, o.sf != o.of, o.zf || o.sf != o.of};
            cr_assert_eq(flags_condition(&cpu, cc), base[cc >> 1] != (cc & 1));
        }
    }
}

/* -- Add and subtract ---------------------------------------------------------------------------------- */

Test(alu, add_subtract)
{
    FOR_EACH(0)
    {
        INPUT;
        uint64_t want = add_bits(&o, a, b, 0, false, bits);
        compare("add", sz, a, b, alu_add(&cpu, sz, a, b), want, &o);
        want = add_bits(&o, a, b, o.cf, false, bits);
        compare("adc", sz, a, b, alu_adc(&cpu, sz, a, b), want, &o);
        want = add_bits(&o, a, b, o.cf, true, bits);
        compare("sbb", sz, a, b, alu_sbb(&cpu, sz, a, b), want, &o);
        want = add_bits(&o, a, b, 0, true, bits);
        compare("sub", sz, a, b, alu_sub(&cpu, sz, a, b), want, &o);
        unsigned cf = o.cf;
        want = add_bits(&o, a, 1, 0, false, bits);
        o.cf = cf;
        compare("inc", sz, a, b, alu_inc(&cpu, sz, a), want, &o);
        want = add_bits(&o, b, 1, 0, true, bits);
        o.cf = cf;
        compare("dec", sz, b, a, alu_dec(&cpu, sz, b), want, &o);
        want = add_bits(&o, 0, a, 0, true, bits);
        compare("neg", sz, a, b, alu_neg(&cpu, sz, a), want, &o);
    }
}

Test(alu, logic)
{
    FOR_EACH(0)
    {
        INPUT;
        uint64_t both = 0, either = 0, differ = 0;
        for (unsigned i = 0; i < bits; i++) {
            both |= (uint64_t)(bit(a, i) && bit(b, i)) << i;
            either |= (uint64_t)(bit(a, i) || bit(b, i)) << i;
            differ |= (uint64_t)(bit(a, i) != bit(b, i)) << i;
        }
        memset(&o, 0, sizeof(o));
        set_result(&o, both, bits);
        compare("and", sz, a, b, alu_and(&cpu, sz, a, b), both, &o);
        set_result(&o, either, bits);
        compare("or", sz, a, b, alu_or(&cpu, sz, a, b), either, &o);
        set_result(&o, differ, bits);
        compare("xor", sz, a, b, alu_xor(&cpu, sz, a, b), differ, &o);
    }
}

/* -- Shifts and rotates: one step at a time ------------------------------------------------------------ */

static uint64_t step_left(struct oracle *o, uint64_t v, unsigned in, unsigned bits)
{
    uint64_t r = in;
    o->cf = bit(v, bits - 1);
    for (unsigned i = 1; i < bits; i++)
        r |= (uint64_t)bit(v, i - 1) << i;
    return r;
}

static uint64_t step_right(struct oracle *o, uint64_t v, unsigned in, unsigned bits)
{
    uint64_t r = (uint64_t)in << (bits - 1);
    o->cf = bit(v, 0);
    for (unsigned i = 0; i + 1 < bits; i++)
        r |= (uint64_t)bit(v, i + 1) << i;
    return r;
}

enum shift { SHL, SHR, SAR, ROL, ROR, RCL, RCR };

static uint64_t shift_bits(enum shift kind, struct oracle *o, uint64_t v, unsigned count, unsigned bits)
{
    for (unsigned i = 0; i < count; i++) {
        unsigned top = bit(v, bits - 1);
        switch (kind) {
        case SHL:
            v = step_left(o, v, 0, bits);
            o->of = bit(v, bits - 1) ^ o->cf;
            break;
        case SHR:
            v = step_right(o, v, 0, bits);
            o->of = top;
            break;
        case SAR:
            v = step_right(o, v, top, bits);
            o->of = 0;
            break;
        case ROL:
            v = step_left(o, v, top, bits);
            o->of = bit(v, bits - 1) ^ o->cf;
            break;
        case ROR:
            v = step_right(o, v, bit(v, 0), bits);
            o->of = bit(v, bits - 1) ^ bit(v, bits - 2);
            break;
        case RCL:
            v = step_left(o, v, o->cf, bits);
            o->of = bit(v, bits - 1) ^ o->cf;
            break;
        case RCR:
            v = step_right(o, v, o->cf, bits);
            o->of = bit(v, bits - 1) ^ bit(v, bits - 2);
            break;
        }
    }
    if (count && kind <= SAR) {
        set_result(o, v, bits);
        o->af = 0;
    }
    return v;
}

Test(alu, shifts_and_rotates)
{
    static uint64_t (*const ops[])(struct cpu *, unsigned, uint64_t, uint64_t) = {
        alu_shl, alu_shr, alu_sar, alu_rol, alu_ror, alu_rcl, alu_rcr};
    static const char *const names[] = {"shl", "shr", "sar", "rol", "ror", "rcl", "rcr"};
    for (unsigned kind = 0; kind < ARRAY_LEN(ops); kind++)
        FOR_EACH(0)
        {
            INPUT;
            unsigned count = (unsigned)b & (sz == 3 ? 63 : 31);
            bool through_carry = kind == RCL || kind == RCR;
            unsigned steps = through_carry ? count % (bits + 1) : count;
            uint64_t v = a & size_mask(bits / 8), want = shift_bits((enum shift)kind, &o, v, steps, bits);
            uint64_t got = ops[kind](&cpu, sz, a, b);
            if (count > 1 && kind == SHR) /* the formula of alu.h for counts over one */
                o.of = bit(want, bits - 1) ^ bit(want, bits - 2);
            compare(names[kind], sz, a, b, got, want, &o);
        }
}

/* One long register: left shifts bring in b's top bits first, right shifts its low bits. */
Test(alu, double_shifts)
{
    FOR_EACH(1)
    {
        INPUT;
        uint64_t c = random_next(), x = a & size_mask(bits / 8), y = b & size_mask(bits / 8), v = x;
        unsigned count = (unsigned)c & (sz == 3 ? 63 : 31);
        struct oracle start = o;
        for (unsigned i = 0; i < count; i++)
            v = step_left(&o, v, i < bits ? bit(y, bits - 1 - i) : bit(x, 2 * bits - 1 - i), bits);
        if (count) {
            set_result(&o, v, bits);
            o.af = 0;
            o.of = bit(v, bits - 1) ^ o.cf;
        }
        compare("shld", sz, a, b, alu_shld(&cpu, sz, a, b, c), v, &o);
        o = start;
        flags_set_arith(&cpu, flags);
        v = x;
        for (unsigned i = 0; i < count; i++)
            v = step_right(&o, v, i < bits ? bit(y, i) : bit(x, i - bits), bits);
        if (count) {
            set_result(&o, v, bits);
            o.af = 0;
            o.of = bit(v, bits - 1) ^ bit(v, bits - 2);
        }
        compare("shrd", sz, a, b, alu_shrd(&cpu, sz, a, b, c), v, &o);
    }
}

/* -- Multiply: shift and add; divide: multiplied back -------------------------------------------------- */

static void multiply_bits(uint64_t a, uint64_t b, unsigned bits, uint64_t *high, uint64_t *low)
{
    unsigned __int128 sum = 0, x = a & size_mask(bits / 8);
    for (unsigned i = 0; i < bits; i++)
        if (bit(b, i))
            sum += x << i;
    *low = (uint64_t)sum & size_mask(bits / 8);
    *high = (uint64_t)(sum >> bits) & size_mask(bits / 8);
}

static uint64_t product_high(unsigned sz)
{
    return sz == 0 ? cpu.r[REG_RAX] >> 8 & 0xff : cpu.r[REG_RDX] & size_mask(1u << sz);
}

Test(alu, multiply)
{
    FOR_EACH(0)
    {
        INPUT;
        uint64_t high, low;
        multiply_bits(a, b, bits, &high, &low);
        cpu.r[REG_RAX] = a;
        cpu.r[REG_RDX] = flags;
        alu_mul(&cpu, sz, b);
        memset(&o, 0, sizeof(o));
        o.cf = o.of = high != 0;
        set_result(&o, low, bits);
        compare("mul", sz, a, b, cpu.r[REG_RAX] & size_mask(bits / 8), low, &o);
        cr_assert_eq(product_high(sz), high);

        /* Signed: the unsigned product less the other operand's value for each negative one. */
        high -= bit(a, bits - 1) ? b : 0;
        high -= bit(b, bits - 1) ? a : 0;
        high &= size_mask(bits / 8);
        cpu.r[REG_RAX] = a;
        alu_imul(&cpu, sz, b);
        o.cf = o.of = high != (bit(low, bits - 1) ? size_mask(bits / 8) : 0);
        compare("imul", sz, a, b, cpu.r[REG_RAX] & size_mask(bits / 8), low, &o);
        cr_assert_eq(product_high(sz), high);
        compare("imul2", sz, a, b, alu_imul2(&cpu, sz, a, b), low, &o);
    }
}

Test(alu, divide)
{
    FOR_EACH(0)
    {
        INPUT;
        uint64_t mask = size_mask(bits / 8), d = b & mask, q, m, high, low;
        uint64_t old_high = round % 4 ? random_value() % (d ? d : 1) : random_value();
        cpu.r[REG_RAX] = a;
        cpu.r[REG_RDX] = old_high;
        if (sz == 0)
            cpu.r[REG_RAX] = (a & 0xff) | (old_high & 0xff) << 8;
        uint64_t n_low = a & mask, n_high = old_high & mask;
        bool ok = alu_div(&cpu, sz, b);
        cr_assert_eq(ok, d != 0 && n_high < d);
        cr_assert_eq(flags_arith(&cpu), flags);
        if (!ok)
            continue;
        q = sz == 0 ? cpu.r[REG_RAX] & 0xff : cpu.r[REG_RAX] & mask;
        m = product_high(sz);
        cr_assert_lt(m, d);
        multiply_bits(q, d, bits, &high, &low);
        unsigned __int128 back = ((unsigned __int128)high << bits | low) + m;
        cr_assert_eq((uint64_t)back & mask, n_low);
        cr_assert_eq((uint64_t)(back >> bits) & mask, n_high);
    }
}

Test(alu, divide_signed_limits)
{
    for (unsigned sz = 0; sz < 4; sz++) {
        unsigned bits = 8u << sz;
        uint64_t most_negative = 1ull << (bits - 1);
        struct {
            int64_t high;
            uint64_t low, d;
            bool ok;
            uint64_t q, m;
        } t[] = {
            {-1, most_negative, -1ull, false, 0, 0}, /* -2^(n-1) / -1 */
            {-1, most_negative, 1, true, most_negative, 0},
            {-1, -7ull, 2, true, -3ull, -1ull},
            {0, 7, -2ull, true, -3ull, 1},
            {0, most_negative, 1, false, 0, 0},
            {0, most_negative, -1ull, true, most_negative, 0},
            {0, 5, 0, false, 0, 0},
            {(int64_t)most_negative, 0, -1ull, false, 0, 0}, /* the most negative dividend of all */
        };
        for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
            uint64_t mask = size_mask(bits / 8), high = (uint64_t)t[i].high;
            cpu.r[REG_RDX] = high;
            cpu.r[REG_RAX] = sz ? t[i].low : (t[i].low & 0xff) | (high & 0xff) << 8;
            cr_assert_eq(alu_idiv(&cpu, sz, t[i].d), t[i].ok, "size %u case %u", 1u << sz, i);
            if (t[i].ok) {
                cr_assert_eq(cpu.r[REG_RAX] & mask, t[i].q & mask, "size %u case %u", 1u << sz, i);
                cr_assert_eq(product_high(sz), t[i].m & mask, "size %u case %u", 1u << sz, i);
            }
        }
    }
}

/* -- Bits ---------------------------------------------------------------------------------------------- */

Test(alu, bit_tests)
{
    FOR_EACH(1)
    {
        INPUT;
        unsigned i = (unsigned)b % bits;
        uint64_t x = a & size_mask(bits / 8), one = 1ull << i;
        o.cf = bit(a, i);
        compare("bts", sz, a, b, alu_bts(&cpu, sz, a, b), x | one, &o);
        compare("btr", sz, a, b, alu_btr(&cpu, sz, a, b), (x | one) - one, &o);
        compare("btc", sz, a, b, alu_btc(&cpu, sz, a, b), bit(a, i) ? x - one : x + one, &o);
        alu_bt(&cpu, sz, a, b);
        compare("bt", sz, a, b, 0, 0, &o);
    }
}

Test(alu, scans_and_counts)
{
    FOR_EACH(1)
    {
        INPUT;
        unsigned ones = 0, lowest = bits, highest = bits;
        uint64_t r;
        for (unsigned i = 0; i < bits; i++)
            if (bit(a, i)) {
                ones++;
                highest = i;
                if (lowest == bits)
                    lowest = i;
            }
        bool zero = ones == 0;
        o = (struct oracle){.zf = zero, .pf = zero};
        r = bits;
        cr_assert_eq(alu_bsf(&cpu, sz, a, &r), !zero);
        compare("bsf", sz, a, b, r, lowest, &o);
        r = bits;
        cr_assert_eq(alu_bsr(&cpu, sz, a, &r), !zero);
        compare("bsr", sz, a, b, r, highest, &o);
        o = (struct oracle){.zf = zero};
        compare("popcnt", sz, a, b, alu_popcnt(&cpu, sz, a), ones, &o);
        o = (struct oracle){.cf = zero};
        set_result(&o, lowest, bits);
        compare("tzcnt", sz, a, b, alu_tzcnt(&cpu, sz, a), lowest, &o);
        unsigned leading = zero ? bits : bits - 1 - highest;
        set_result(&o, leading, bits);
        compare("lzcnt", sz, a, b, alu_lzcnt(&cpu, sz, a), leading, &o);
    }
}

Test(alu, bmi)
{
    FOR_EACH(2)
    {
        INPUT;
        uint64_t andn = 0, bextr = 0, blsi = 0, blsmsk = 0, blsr = 0, bzhi = 0, pdep = 0, pext = 0;
        unsigned start = b & 0xff, length = b >> 8 & 0xff, seen = 0, k = 0, any = 0;
        for (unsigned i = 0; i < bits; i++) {
            uint64_t at = 1ull << i;
            andn |= !bit(a, i) && bit(b, i) ? at : 0;
            if (i < length && start + i < bits && bit(a, start + i))
                bextr |= at;
            if (bit(a, i) && !seen)
                blsi = at;
            blsmsk |= !seen ? at : 0;
            blsr |= seen && bit(a, i) ? at : 0;
            seen |= bit(a, i);
            bzhi |= i < start && bit(a, i) ? at : 0;
            if (bit(b, i)) {
                pdep |= bit(a, k) ? at : 0;
                pext |= bit(a, i) ? 1ull << k : 0;
                k++;
            }
            any |= bit(a, i);
        }
        o = (struct oracle){0};
        set_result(&o, andn, bits);
        compare("andn", sz, a, b, alu_andn(&cpu, sz, a, b), andn, &o);
        set_result(&o, bextr, bits);
        compare("bextr", sz, a, b, alu_bextr(&cpu, sz, a, b), bextr, &o);
        o.cf = any;
        set_result(&o, blsi, bits);
        compare("blsi", sz, a, b, alu_blsi(&cpu, sz, a), blsi, &o);
        o.cf = !any;
        set_result(&o, blsmsk, bits);
        compare("blsmsk", sz, a, b, alu_blsmsk(&cpu, sz, a), blsmsk, &o);
        set_result(&o, blsr, bits);
        compare("blsr", sz, a, b, alu_blsr(&cpu, sz, a), blsr, &o);
        o.cf = start >= bits;
        set_result(&o, bzhi, bits);
        compare("bzhi", sz, a, b, alu_bzhi(&cpu, sz, a, b), bzhi, &o);
        compare("pdep", sz, a, b, alu_pdep(sz, a, b), pdep, &o);
        compare("pext", sz, a, b, alu_pext(sz, a, b), pext, &o);
        struct oracle none = {0};
        unsigned count = (unsigned)b % bits;
        uint64_t x = a & size_mask(bits / 8);
        compare("shlx", sz, a, b, alu_shlx(sz, a, b), shift_bits(SHL, &none, x, count, bits), &o);
        compare("shrx", sz, a, b, alu_shrx(sz, a, b), shift_bits(SHR, &none, x, count, bits), &o);
        compare("sarx", sz, a, b, alu_sarx(sz, a, b), shift_bits(SAR, &none, x, count, bits), &o);
        compare("rorx", sz, a, b, alu_rorx(sz, a, b), shift_bits(ROR, &none, x, count, bits), &o);
        uint64_t high, low, got_low, got_high;
        cpu.r[REG_RDX] = b;
        multiply_bits(a, b, bits, &high, &low);
        got_high = alu_mulx(&cpu, sz, a, &got_low);
        compare("mulx", sz, a, b, got_high, high, &o);
        cr_assert_eq(got_low, low);
    }
}

Test(alu, adcx_adox)
{
    FOR_EACH(2)
    {
        INPUT;
        struct oracle sum = o;
        uint64_t want = add_bits(&sum, a, b, o.cf, false, bits);
        o.cf = sum.cf;
        compare("adcx", sz, a, b, alu_adcx(&cpu, sz, a, b), want, &o);
        want = add_bits(&sum, a, b, o.of, false, bits);
        o.of = sum.cf;
        compare("adox", sz, a, b, alu_adox(&cpu, sz, a, b), want, &o);
    }
}

/* CRC32C of "123456789" is E3069283H; the instruction neither presets nor inverts. */
Test(alu, crc32)
{
    uint64_t crc = 0xffffffff;
    for (const char *p = "123456789"; *p; p++)
        crc = alu_crc32(0, crc, (uint8_t)*p);
    cr_assert_eq(crc ^ 0xffffffff, 0xe3069283);
    uint64_t v = 0x0123456789abcdefull, by_bytes = 7;
    for (unsigned i = 0; i < 8; i++)
        by_bytes = alu_crc32(0, by_bytes, v >> (8 * i));
    cr_assert_eq(alu_crc32(3, 7, v), by_bytes);
    cr_assert_eq(alu_crc32(2, alu_crc32(2, 7, v), v >> 32), by_bytes);
    cr_assert_eq(alu_bswap(2, v), 0xefcdab89);
    cr_assert_eq(alu_bswap(3, v), 0xefcdab8967452301ull);
}
