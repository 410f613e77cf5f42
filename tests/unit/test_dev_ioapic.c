/*
 * tests/unit/test_dev_ioapic.c -- I/O APIC: registers, edge and level, remote IRR, EOI.
 */
#include "tests/unit/dev_board.h"

#include "devices/ioapic.h"

static struct ioapic ioapic;

static struct board *ioapic_new(void)
{
    struct board *b = board_new(0);
    OK(ioapic_init(&ioapic, &b->bus, IOAPIC_BASE, 3, &b->sink, &b->log, &b->error));
    return b;
}

static uint32_t get(struct board *b, unsigned reg)
{
    wr32(b, IOAPIC_BASE, reg);
    return rd32(b, IOAPIC_BASE + 0x10);
}

static void put(struct board *b, unsigned reg, uint32_t v)
{
    wr32(b, IOAPIC_BASE, reg);
    wr32(b, IOAPIC_BASE + 0x10, v);
}

Test(ioapic, identity)
{
    struct board *b = ioapic_new();
    cr_assert_eq(get(b, 0), 3u << 24);
    cr_assert_eq(get(b, 1), 0x00170020);
    cr_assert_eq(get(b, 0x10), 0x10000);
    put(b, 0x10, 0xffffffff);
    cr_assert_eq(get(b, 0x10), 0x0001afff, "status and remote IRR are read-only");
    board_free(b);
}

Test(ioapic, edge)
{
    struct board *b = ioapic_new();
    ioapic_set_irq(&ioapic, 4, true), ioapic_set_irq(&ioapic, 4, false);
    put(b, 0x19, 0x02000000), put(b, 0x18, 0x0934); /* logical, lowest priority */
    cr_assert_eq(b->message_count, 0, "a masked edge is lost");
    ioapic_set_irq(&ioapic, 4, true), ioapic_set_irq(&ioapic, 4, true);
    cr_assert_eq(b->message_count, 1);
    cr_assert_eq(b->messages[0].vector, 0x34);
    cr_assert_eq(b->messages[0].dest, 2);
    cr_assert_eq(b->messages[0].mode, INTR_LOWEST);
    cr_assert(b->messages[0].logical && !b->messages[0].level);
    board_free(b);
}

Test(ioapic, level_and_eoi)
{
    struct board *b = ioapic_new();
    put(b, 0x10 + 2 * 16, 0x8050);
    ioapic_set_irq(&ioapic, 16, true);
    cr_assert_eq(b->message_count, 1);
    cr_assert(b->messages[0].level);
    cr_assert_eq(get(b, 0x30) & 0x4000, 0x4000);
    ioapic_set_irq(&ioapic, 16, false), ioapic_set_irq(&ioapic, 16, true);
    cr_assert_eq(b->message_count, 1, "remote IRR holds it");
    ioapic_eoi(&ioapic, 0x51);
    cr_assert_eq(b->message_count, 1);
    ioapic_eoi(&ioapic, 0x50);
    cr_assert_eq(b->message_count, 2, "still asserted: again");
    ioapic_set_irq(&ioapic, 16, false);
    wr32(b, IOAPIC_BASE + 0x40, 0x50);
    cr_assert_eq(b->message_count, 2);
    cr_assert_eq(get(b, 0x30) & 0x4000, 0);
    put(b, 0x30, 0x18050);
    ioapic_set_irq(&ioapic, 16, true);
    cr_assert_eq(b->message_count, 2);
    put(b, 0x30, 0x8050);
    cr_assert_eq(b->message_count, 3, "a level waits behind the mask");
    COVERED(ioapic_state);
    board_free(b);
}
