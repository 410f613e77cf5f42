/*
 * tests/unit/test_dev_ports.c -- small devices: ports 80h, 92h, E9h, debug exit, the 8042, ACPI fixed
 * hardware.
 */
#include "tests/unit/dev_board.h"

#include "devices/acpi_pm.h"
#include "devices/i8042.h"
#include "devices/ports.h"

static bool a20_open;

static void a20(void *owner, bool enabled)
{
    (void)owner;
    a20_open = enabled;
}

static const struct a20_line a20_line = {NULL, a20};

Test(ports, debug_exit)
{
    struct board *b = board_new(0);
    struct debugexit d;
    OK(debugexit_init(&d, &b->bus, 0xf4, 4, &b->power, &b->error));
    bus_write_pio(&b->bus, 0xf4, 4, 0x10);
    cr_assert_eq(b->power_last, POWER_EXIT);
    cr_assert_eq(b->power_status, 0x21);
    cr_assert(!debugexit_init(&d, &b->bus, 0xfffe, 4, &b->power, &b->error));
    cr_assert(!debugexit_init(&d, &b->bus, 0xf4, 4, &b->power, &b->error), "taken");
    board_free(b);
}

Test(ports, port92_and_post)
{
    struct board *b = board_new(0);
    struct port92 p;
    struct port80 post;
    OK(port92_init(&p, &b->bus, &b->power, &a20_line, &b->error));
    OK(port80_init(&post, &b->bus, &b->error));
    out(b, 0x92, 0);
    cr_assert(!a20_open);
    out(b, 0x92, 2);
    cr_assert(a20_open);
    cr_assert_eq(b->power_count, 0);
    out(b, 0x92, 3);
    cr_assert_eq(b->power_last, POWER_RESET);
    cr_assert_eq(b->power_count, 1);
    out(b, 0x80, 0x42);
    cr_assert_eq(in(b, 0x80), 0x42);
    COVERED(port92_state);
    COVERED(port80_state);
    COVERED(portcf9_state);
    board_free(b);
}

static struct i8042 kbd;

static struct board *kbd_new(void)
{
    struct board *b = board_new(0);
    OK(i8042_init(&kbd, &b->bus, board_irq(b, 1), board_irq(b, 12), &b->power, &a20_line, &b->error));
    return b;
}

/* The order in which Linux's driver probes. */
Test(i8042, linux_probe)
{
    struct board *b = kbd_new();
    cr_assert_eq(in(b, 0x64) & 1, 0);
    out(b, 0x64, 0x20);
    cr_assert_eq(in(b, 0x64) & 1, 1);
    uint8_t ctr = (uint8_t)in(b, 0x60);
    out(b, 0x64, 0x60), out(b, 0x60, (ctr | 0x30) & ~3u);
    out(b, 0x64, 0xaa);
    cr_assert_eq(in(b, 0x60), 0x55);
    out(b, 0x64, 0xd3), out(b, 0x60, 0x5a);
    cr_assert_eq(in(b, 0x64) & 0x21, 0x21, "the AUX loop answers as the mouse");
    cr_assert_eq(in(b, 0x60), 0x5a);
    out(b, 0x64, 0xa9);
    cr_assert_eq(in(b, 0x60), 0);
    out(b, 0x64, 0xa7), out(b, 0x64, 0x20);
    cr_assert_eq(in(b, 0x60) & 0x20, 0x20);
    out(b, 0x64, 0xa8), out(b, 0x64, 0x20);
    cr_assert_eq(in(b, 0x60) & 0x20, 0);
    out(b, 0x64, 0x60), out(b, 0x60, 0x03);
    b->rises[1] = 0;
    out(b, 0x60, 0xf2);
    cr_assert(b->level[1]);
    cr_assert_eq(in(b, 0x60), 0xfa);
    cr_assert_eq(in(b, 0x60), 0xab);
    cr_assert_eq(in(b, 0x60), 0x83);
    cr_assert(!b->level[1]);
    cr_assert_eq(b->rises[1], 3, "one edge a byte");
    out(b, 0x64, 0xd4), out(b, 0x60, 0xff);
    cr_assert(b->level[12]);
    cr_assert_eq(in(b, 0x60), 0xfa);
    cr_assert_eq(in(b, 0x60), 0xaa);
    cr_assert_eq(in(b, 0x60), 0x00);
    board_free(b);
}

Test(i8042, reset_a20_and_noise)
{
    struct board *b = kbd_new();
    static struct board_bytes s;
    out(b, 0x64, 0xdd);
    cr_assert(!a20_open);
    out(b, 0x64, 0xd1), out(b, 0x60, 0xdf);
    cr_assert(a20_open);
    out(b, 0x64, 0xfe);
    cr_assert_eq(b->power_last, POWER_RESET);
    cr_assert_eq(b->power_count, 1);
    uint32_t x = 99;
    for (unsigned i = 0; i < 50000; i++) {
        x = x * 1664525 + 1013904223;
        if (x & 0x100)
            out(b, 0x60 + (x >> 9 & 4), x >> 16);
        else
            in(b, 0x60 + (x >> 9 & 4));
    }
    COVERED(i8042_state);
    SAVE(i8042_state, &kbd, s);
    uint64_t hash = state_hash(&i8042_state, &kbd, 0);
    i8042_reset(&kbd);
    LOAD(i8042_state, &kbd, s);
    cr_assert_eq(state_hash(&i8042_state, &kbd, 0), hash);
    board_free(b);
}

static struct acpi_pm pm;

static struct board *pm_new(void)
{
    struct board *b = board_new(0);
    OK(acpi_pm_init(&pm, &b->bus, &b->clock, board_irq(b, 9), &b->power, &b->log, &b->error));
    return b;
}

Test(acpi_pm, timer_runs_at_3579545_hz)
{
    struct board *b = pm_new();
    uint32_t t = bus_read_pio(&b->bus, ACPI_PM_TMR, 4);
    board_run(b, 1000000000);
    cr_assert_eq(bus_read_pio(&b->bus, ACPI_PM_TMR, 4) - t, 3579545);
    bus_write_pio(&b->bus, ACPI_PM1_EVT + 2, 2, 1);
    board_run(b, 600ull * 1000000000);
    cr_assert(b->level[9], "the top bit changed");
    bus_write_pio(&b->bus, ACPI_PM1_EVT, 2, 1);
    cr_assert(!b->level[9]);
    board_free(b);
}

Test(acpi_pm, modes_and_power_off)
{
    struct board *b = pm_new();
    cr_assert_eq(bus_read_pio(&b->bus, ACPI_PM1_CNT, 2) & 1, 1);
    out(b, ACPI_SMI_CMD, ACPI_DISABLE_CMD);
    cr_assert_eq(bus_read_pio(&b->bus, ACPI_PM1_CNT, 2) & 1, 0);
    out(b, ACPI_SMI_CMD, ACPI_ENABLE_CMD);
    bus_write_pio(&b->bus, ACPI_PM1_CNT, 2, 5u << 10 | 1u << 13);
    cr_assert_eq(b->power_count, 0);
    bus_write_pio(&b->bus, ACPI_PM1_CNT, 2, ACPI_S5_SLP_TYP << 10);
    cr_assert_eq(b->power_count, 0);
    bus_write_pio(&b->bus, ACPI_PM1_CNT, 2, ACPI_S5_SLP_TYP << 10 | 1u << 13);
    cr_assert_eq(b->power_last, POWER_OFF);
    board_free(b);
}

Test(acpi_pm, power_button_and_gpe)
{
    struct board *b = pm_new();
    acpi_pm_power_button(&pm);
    cr_assert(!b->level[9]);
    bus_write_pio(&b->bus, ACPI_PM1_EVT + 2, 2, 0x100);
    cr_assert(b->level[9]);
    bus_write_pio(&b->bus, ACPI_PM1_EVT, 2, 0x100);
    cr_assert(!b->level[9]);
    out(b, ACPI_GPE0 + 8, 4);
    acpi_pm_gpe(&pm, 2);
    cr_assert(b->level[9]);
    out(b, ACPI_GPE0, 4);
    cr_assert(!b->level[9]);
    COVERED(acpi_pm_state);
    board_free(b);
}
