/*
 * tests/fuzz/fuzz_devices.c -- reads and writes of any size at every port and MMIO register of the board,
 * while time passes and the processors' local APICs get what comes out of it.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/lab.h"

#include <stdlib.h>

#define STEPS 600

uint8_t *fuzz_seed_input(unsigned index, size_t *size)
{
    return index < 8 ? lab_seed(index, 48, size) : NULL;
}

/* An address in, or now and then just outside, one of the regions that are there now. */
static uint64_t pick(struct dice *d, const struct bus_space *s)
{
    const struct bus_region *r = &s->regions[dice_below(d, s->count)];
    uint64_t offset = dice_chance(d, 70) ? dice_below(d, MIN(r->size, 0x1000u)) : dice_roll(d) % r->size;
    if (dice_chance(d, 50))
        offset = dice_below(d, MIN(r->size, 0x40u));
    return r->base + offset - (dice_chance(d, 3) ? dice_below(d, 8) : 0);
}

static void step(struct dice *d, struct machine *m)
{
    unsigned size = 1u << dice_below(d, 4);
    uint64_t value = dice_odd(d), at;
    switch (dice_below(d, 10)) {
    case 0:
    case 1:
        bus_read_pio(&m->bus, (uint16_t)pick(d, &m->bus.pio), MIN(size, 4u));
        break;
    case 2:
    case 3:
    case 4:
        bus_write_pio(&m->bus, (uint16_t)pick(d, &m->bus.pio), MIN(size, 4u), (uint32_t)value);
        break;
    case 5:
        bus_read_mmio(&m->bus, pick(d, &m->bus.mmio), size);
        break;
    case 6:
    case 7:
        bus_write_mmio(&m->bus, pick(d, &m->bus.mmio), size, value);
        break;
    case 8:
        at = m->cpus[0].msr.apic_base & ~PAGE_MASK;
        at += dice_below(d, 0x400) & (dice_chance(d, 90) ? ~15ull : ~0ull);
        if (dice_chance(d, 60))
            cpu_phys_write(&m->cpus[0], at, size, value);
        else
            cpu_phys_read(&m->cpus[0], at, size);
        break;
    default:
        m->clock.now += dice_chance(d, 80) ? dice_below(d, 3000000) : dice_roll(d) >> (8 + dice_below(d, 50));
        clock_run(&m->clock);
        if (dice_chance(d, 20)) {
            uint8_t bytes[4] = {(uint8_t)value};
            uart_receive(&m->uart, bytes, sizeof(bytes));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dice d = dice_make(data, size);
    struct machine *m = lab_machine(2ull << 20, 1 + (unsigned)dice_below(&d, 2), dice_chance(&d, 50));
    struct error e;
    watchdog_start(20);
    for (unsigned i = 0; i < STEPS; i++)
        step(&d, m);
    /* Whatever state that was: the machine runs on from it, and a reset leads out of it. */
    machine_run(m, m->clock.now + dice_below(&d, 100000));
    if (!machine_reset(m, &e))
        abort();
    machine_run(m, m->clock.now + 1000);
    lab_free(m);
    return 0;
}
