/*
 * tests/unit/test_profile.c -- the rows of --profile: by address and mode, kept when blocks go, bounded in
 * number.
 */
#include <criterion/criterion.h>

#include "cpu/profile.h"

#define HOLE (1u << 20) /* no RAM from here on */

static struct bus bus;
static struct phys phys;
static struct profile *p;

static void setup(void)
{
    struct error e;
    bus_init(&bus, NULL);
    cr_assert(phys_init(&phys, HOLE, HOLE, &bus, &e), "%s", e.message);
    p = profile_new(&e);
    cr_assert(p);
}

static void teardown(void)
{
    profile_free(p);
    phys_free(&phys);
}

/* The row of a block of one instruction of so many bytes. */
static struct profile_row *row(gpa_t gpa, uint32_t key, uint8_t length)
{
    struct ir_insn insn = {.offset = (uint16_t)(gpa & PAGE_MASK), .length = length};
    struct block b = {.gpa = gpa, .key = key, .insn_count = 1, .insns = &insn};
    return profile_row(p, &phys, gpa + 0x1000, &b);
}

Test(profile, rows, .init = setup, .fini = teardown)
{
    struct profile_row *a = row(0x2010, KEY_L | KEY_PE, 3);
    cr_assert_neq(row(0x2010, KEY_PE, 3), a, "another mode is another row");
    cr_assert_neq(row(0x2013, KEY_L | KEY_PE, 3), a);
    cr_assert_eq(row(0x2010, KEY_L | KEY_PE, 3), a, "the same block made again");
    cr_assert_eq(row(0x2010, KEY_L | KEY_PE | KEY_SINGLE, 3), a, "the same instruction alone");
    cr_assert_eq(a->linear, 0x3010);
    cr_assert_eq(a->insn_count, 1);
    uint32_t count;
    profile_rows(p, &count);
    cr_assert_eq(count, 4, "with row 0");
}

Test(profile, bytes, .init = setup, .fini = teardown)
{
    store_le(phys.ram + 0x2010, 0xc3c2c1, 4);
    struct profile_row *a = row(0x2010, KEY_L, 3);
    phys.ram[0x2010] = 0;
    cr_assert_eq(a->length, 3);
    cr_assert_eq(load_le(a->bytes, 2), 0xc2c1, "as they were when the block was made");
    store_le(phys.ram + 0x2010, 0xd4d3d2d1, 4);
    cr_assert_eq(row(0x2010, KEY_L, 4), a);
    cr_assert_eq(a->length, 4);
    cr_assert_eq(load_le(a->bytes, 4), 0xd4d3d2d1);
    cr_assert_null(row(HOLE, KEY_L, 3)->bytes, "not in RAM");
}

Test(profile, full, .init = setup, .fini = teardown)
{
    uint32_t count;
    const struct profile_row *rows = profile_rows(p, &count);
    for (uint32_t i = 1; i < PROFILE_ROWS_MAX; i++)
        cr_assert_eq(row(HOLE + i, KEY_L, 1), &rows[i]);
    cr_assert_eq(row(HOLE + PROFILE_ROWS_MAX, KEY_L, 1), &rows[0], "row 0 takes the rest");
    cr_assert_eq(row(HOLE + 7, KEY_L, 1), &rows[7], "and the others stay");
    profile_rows(p, &count);
    cr_assert_eq(count, PROFILE_ROWS_MAX);
}
