/*
 * tests/unit/test_lift_helpers.c -- integer instructions that are C helpers: decimal adjustment against the
 * SDM's pseudocode for every input, CMPXCHG8B, BOUND's comparisons that do not raise.
 */
#include <criterion/criterion.h>
#include <string.h>
#include "cpu/flags.h"
#include "cpu/ir/helper.h"

static struct cpu cpu;

struct decimal {
    unsigned ax, cf, af;
};

/* SDM 2A, DAA and DAS, "Operation". */
static struct decimal daa(struct decimal s)
{
    unsigned al = s.ax & 0xff, old_al = al, old_cf = s.cf;
    s.cf = 0;
    if ((al & 0xf) > 9 || s.af) {
        s.cf = old_cf || al + 6 > 0xff;
        al = (al + 6) & 0xff;
        s.af = 1;
    } else {
        s.af = 0;
    }
    if (old_al > 0x99 || old_cf) {
        al = (al + 0x60) & 0xff;
        s.cf = 1;
    } else {
        s.cf = 0;
    }
    s.ax = (s.ax & 0xff00) | al;
    return s;
}

static struct decimal das(struct decimal s)
{
    unsigned al = s.ax & 0xff, old_al = al, old_cf = s.cf;
    s.cf = 0;
    if ((al & 0xf) > 9 || s.af) {
        s.cf = old_cf || al < 6;
        al = (al - 6) & 0xff;
        s.af = 1;
    } else {
        s.af = 0;
    }
    if (old_al > 0x99 || old_cf) {
        al = (al - 0x60) & 0xff;
        s.cf = 1;
    }
    s.ax = (s.ax & 0xff00) | al;
    return s;
}

/* SDM 2A, AAA and AAS. */
static struct decimal aaa(struct decimal s)
{
    s.cf = s.af = (s.ax & 0xf) > 9 || s.af;
    if (s.af)
        s.ax = (s.ax + 0x106) & 0xffff;
    s.ax &= 0xff0f;
    return s;
}

static struct decimal aas(struct decimal s)
{
    s.cf = s.af = (s.ax & 0xf) > 9 || s.af;
    if (s.af) {
        s.ax = (s.ax - 6) & 0xffff;
        s.ax = (s.ax - 0x100) & 0xffff;
    }
    s.ax &= 0xff0f;
    return s;
}

static void check_decimal(const char *name, helper_fn *fn, struct decimal (*oracle)(struct decimal))
{
    struct uop u = {0};
    for (unsigned ax = 0; ax < 0x10000; ax += ax < 0x200 ? 1 : 0x101)
        for (unsigned f = 0; f < 4; f++) {
            struct decimal want = oracle((struct decimal){ax, f & 1, f >> 1});
            cpu.r[REG_RAX] = 0x123456789abc0000ull | ax;
            flags_set_arith(&cpu, (f & 1 ? FLAG_CF : 0) | (f & 2 ? FLAG_AF : 0));
            fn(&cpu, &u);
            cr_assert_eq(cpu.r[REG_RAX], 0x123456789abc0000ull | want.ax, "%s ax=%#x f=%u: %#lx", name, ax, f,
                         cpu.r[REG_RAX]);
            cr_assert_eq(flag_cf(&cpu), want.cf, "%s ax=%#x f=%u: CF", name, ax, f);
            cr_assert_eq(flag_af(&cpu), want.af, "%s ax=%#x f=%u: AF", name, ax, f);
            cr_assert_eq(flag_zf(&cpu), (want.ax & 0xff) == 0);
            cr_assert_eq(flag_sf(&cpu), want.ax >> 7 & 1);
            cr_assert_eq(flag_pf(&cpu), !__builtin_parity(want.ax & 0xff));
        }
}

Test(lift_helpers, decimal_adjustment)
{
    check_decimal("daa", helper_daa, daa);
    check_decimal("das", helper_das, das);
    check_decimal("aaa", helper_aaa, aaa);
    check_decimal("aas", helper_aas, aas);
}

Test(lift_helpers, aam_aad)
{
    struct uop u = {.imm = 10};
    for (unsigned al = 0; al < 256; al++) {
        cpu.r[REG_RAX] = 0x7700 | al;
        helper_aam(&cpu, &u);
        cr_assert_eq(cpu.r[REG_RAX], (al / 10) << 8 | al % 10);
        helper_aad(&cpu, &u);
        cr_assert_eq(cpu.r[REG_RAX], al);
        cr_assert_eq(flag_zf(&cpu), al == 0);
    }
}

Test(lift_helpers, cmpxchg8b)
{
    struct uop u = {.size = 3, .a = REG_T0, .d = REG_T1};
    cpu.r[REG_RAX] = 0xffffffff11111111ull;
    cpu.r[REG_RDX] = 0xffffffff22222222ull;
    cpu.r[REG_RBX] = 0xffffffff33333333ull;
    cpu.r[REG_RCX] = 0xffffffff44444444ull;
    cpu.r[REG_T0] = 0x2222222211111111ull;
    flags_set_arith(&cpu, FLAGS_ARITH & ~FLAG_ZF);
    helper_cmpxchg8b(&cpu, &u);
    cr_expect_eq(cpu.r[REG_T1], 0x4444444433333333ull);
    cr_expect_eq(cpu.r[REG_RAX], 0xffffffff11111111ull, "equal: EDX:EAX are not written");
    cr_expect_eq(flags_arith(&cpu), FLAGS_ARITH, "only ZF changes");
    cpu.r[REG_T0]++;
    helper_cmpxchg8b(&cpu, &u);
    cr_expect_eq(cpu.r[REG_T1], 0x2222222211111112ull, "the old value is written back");
    cr_expect_eq(cpu.r[REG_RAX], 0x11111112);
    cr_expect_eq(cpu.r[REG_RDX], 0x22222222);
    cr_expect_eq(flags_arith(&cpu), FLAGS_ARITH & ~FLAG_ZF);
}

Test(lift_helpers, bound_inside)
{
    struct uop u = {.size = 1, .a = REG_RAX, .b = REG_T0, .c = REG_T1};
    cpu.r[REG_T0] = 0xfff0; /* -16 */
    cpu.r[REG_T1] = 5;
    for (int i = -16; i <= 5; i++) {
        cpu.r[REG_RAX] = (uint64_t)i & 0xffff;
        helper_bound(&cpu, &u); /* returns */
    }
}
