/*
 * tests/unit/test_dev_i8259.c -- the pair of 8259As against the data sheet.
 */
#include "tests/unit/dev_board.h"

#include "devices/i8259.h"

static struct i8259 pic;

static struct board *pic_new(void)
{
    struct board *b = board_new(0);
    OK(i8259_init(&pic, &b->bus, &b->sink, &b->error));
    return b;
}

/* As Linux does it: vectors 30h and 38h, nothing masked. */
static void pic_setup(struct board *b, uint8_t icw4)
{
    out(b, 0x20, 0x11), out(b, 0x21, 0x30), out(b, 0x21, 0x04), out(b, 0x21, icw4);
    out(b, 0xa0, 0x11), out(b, 0xa1, 0x38), out(b, 0xa1, 0x02), out(b, 0xa1, icw4 & 0x0f);
    out(b, 0x21, 0), out(b, 0xa1, 0);
}

Test(i8259, vectors_and_priority)
{
    struct board *b = pic_new();
    pic_setup(b, 1);
    i8259_set_irq(&pic, 4, true);
    i8259_set_irq(&pic, 1, true);
    cr_assert(b->intr);
    cr_assert_eq(i8259_acknowledge(&pic), 0x31);
    cr_assert(!b->intr, "4 waits while 1 is in service");
    out(b, 0x20, 0x20);
    cr_assert(b->intr);
    cr_assert_eq(i8259_acknowledge(&pic), 0x34);
    i8259_set_irq(&pic, 0, true);
    cr_assert(b->intr, "0 interrupts 4");
    cr_assert_eq(i8259_acknowledge(&pic), 0x30);
    out(b, 0x20, 0x0b);
    cr_assert_eq(in(b, 0x20), 0x11, "ISR has 0 and 4");
    out(b, 0x20, 0x60), out(b, 0x20, 0x64);
    cr_assert_eq(in(b, 0x20), 0);
    board_free(b);
}

Test(i8259, slave_and_masks)
{
    struct board *b = pic_new();
    pic_setup(b, 1);
    out(b, 0xa1, 0x10);
    i8259_set_irq(&pic, 12, true);
    cr_assert(!b->intr);
    out(b, 0xa1, 0);
    cr_assert(b->intr);
    i8259_set_irq(&pic, 8, true);
    cr_assert_eq(i8259_acknowledge(&pic), 0x38);
    out(b, 0xa0, 0x20), out(b, 0x20, 0x20);
    cr_assert(b->intr);
    cr_assert_eq(i8259_acknowledge(&pic), 0x3c);
    i8259_set_irq(&pic, 8, false), i8259_set_irq(&pic, 8, true);
    cr_assert(!b->intr, "the master's input 2 is in service, so the slave waits (not special fully nested)");
    out(b, 0x20, 0x62);
    cr_assert(b->intr);
    cr_assert_eq(i8259_acknowledge(&pic), 0x38);
    board_free(b);
}

Test(i8259, special_fully_nested)
{
    struct board *b = pic_new();
    pic_setup(b, 0x11);
    i8259_set_irq(&pic, 12, true);
    cr_assert_eq(i8259_acknowledge(&pic), 0x3c);
    i8259_set_irq(&pic, 9, true);
    cr_assert(b->intr);
    cr_assert_eq(i8259_acknowledge(&pic), 0x39);
    board_free(b);
}

Test(i8259, spurious)
{
    struct board *b = pic_new();
    pic_setup(b, 1);
    i8259_set_irq(&pic, 3, true), i8259_set_irq(&pic, 3, false);
    cr_assert_eq(i8259_acknowledge(&pic), 0x37);
    out(b, 0x20, 0x0b);
    cr_assert_eq(in(b, 0x20), 0, "a spurious vector is not in service");
    board_free(b);
}

Test(i8259, edge_and_level)
{
    struct board *b = pic_new();
    pic_setup(b, 1);
    out(b, 0x4d0, 0xff), out(b, 0x4d1, 0xff);
    cr_assert_eq(in(b, 0x4d0), 0xf8);
    cr_assert_eq(in(b, 0x4d1), 0xde);
    out(b, 0x4d0, 0x20), out(b, 0x4d1, 0);
    i8259_set_irq(&pic, 5, true);
    cr_assert_eq(i8259_acknowledge(&pic), 0x35);
    out(b, 0x20, 0x20);
    cr_assert(b->intr, "a level asks again");
    i8259_set_irq(&pic, 5, false);
    cr_assert(!b->intr);
    i8259_set_irq(&pic, 6, true);
    cr_assert_eq(i8259_acknowledge(&pic), 0x36);
    out(b, 0x20, 0x20);
    cr_assert(!b->intr, "an edge does not");
    board_free(b);
}

Test(i8259, rotation_aeoi_poll_and_special_mask)
{
    struct board *b = pic_new();
    pic_setup(b, 1);
    out(b, 0x20, 0xc3); /* 3 gets the lowest priority */
    i8259_set_irq(&pic, 3, true), i8259_set_irq(&pic, 4, true);
    cr_assert_eq(i8259_acknowledge(&pic), 0x34);
    out(b, 0x20, 0xa0); /* rotate on non-specific EOI */
    cr_assert_eq(i8259_acknowledge(&pic), 0x33);
    out(b, 0x20, 0x20);

    pic_setup(b, 3);
    i8259_set_irq(&pic, 6, true);
    cr_assert_eq(i8259_acknowledge(&pic), 0x36);
    out(b, 0x20, 0x0b);
    cr_assert_eq(in(b, 0x20), 0, "automatic EOI");

    pic_setup(b, 1);
    i8259_set_irq(&pic, 7, true);
    out(b, 0x20, 0x0c);
    cr_assert_eq(in(b, 0x20), 0x87, "poll");
    out(b, 0x20, 0x0c);
    cr_assert_eq(in(b, 0x20) & 0x80, 0);
    out(b, 0x20, 0x20);

    pic_setup(b, 1);
    i8259_set_irq(&pic, 1, false), i8259_set_irq(&pic, 1, true);
    cr_assert_eq(i8259_acknowledge(&pic), 0x31);
    i8259_set_irq(&pic, 5, false), i8259_set_irq(&pic, 5, true);
    cr_assert(!b->intr);
    out(b, 0x21, 0x02), out(b, 0x20, 0x68); /* mask 1, special mask mode */
    cr_assert(b->intr);
    cr_assert_eq(i8259_acknowledge(&pic), 0x35);
    board_free(b);
}

/* What would be asked for if a line rose now, without raising it. */
Test(i8259, would_request)
{
    struct board *b = pic_new();
    pic_setup(b, 1);
    cr_assert(i8259_would_request(&pic, 0) && i8259_would_request(&pic, 8));
    i8259_set_irq(&pic, 1, true);
    cr_assert_eq(i8259_acknowledge(&pic), 0x31);
    cr_assert(i8259_would_request(&pic, 0), "of higher priority than the one in service");
    cr_assert(!i8259_would_request(&pic, 5) && !i8259_would_request(&pic, 8), "of lower priority");
    out(b, 0x20, 0x20);
    out(b, 0x21, 0x01);
    cr_assert(!i8259_would_request(&pic, 0) && i8259_would_request(&pic, 5), "input 0 is masked");
    out(b, 0x21, 0x04);
    cr_assert(!i8259_would_request(&pic, 8) && i8259_would_request(&pic, 0), "the cascade is masked");
    cr_assert(!b->intr);
    board_free(b);
}

Test(i8259, state)
{
    struct board *b = pic_new();
    static struct board_bytes s;
    COVERED(i8259_state);
    pic_setup(b, 1);
    i8259_set_irq(&pic, 10, true);
    uint64_t hash = state_hash(&i8259_state, &pic, 0);
    SAVE(i8259_state, &pic, s);
    i8259_reset(&pic);
    LOAD(i8259_state, &pic, s);
    cr_assert_eq(state_hash(&i8259_state, &pic, 0), hash);
    cr_assert_eq(i8259_acknowledge(&pic), 0x3a);
    board_free(b);
}
