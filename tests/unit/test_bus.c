/*
 * tests/unit/test_bus.c -- regions, splitting, straddling, unclaimed accesses, moves.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "mmu/bus.h"

struct device {
    uint8_t bytes[256];
    unsigned reads, writes, last_size;
};

static uint64_t device_read(void *owner, uint64_t offset, unsigned size)
{
    struct device *d = owner;
    d->reads++;
    d->last_size = size;
    cr_assert(offset + size <= sizeof d->bytes);
    return load_le(d->bytes + offset, size);
}

static void device_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct device *d = owner;
    d->writes++;
    d->last_size = size;
    cr_assert(offset + size <= sizeof d->bytes);
    cr_assert_eq(value & ~size_mask(size), 0);
    store_le(d->bytes + offset, value, size);
}

static const struct bus_ops ops_any = {device_read, device_write, 0};
static const struct bus_ops ops_word = {device_read, device_write, 2};

static struct bus bus;
static struct device devices[4];
static struct error err;
static unsigned changes;

static void changed(void *owner, uint64_t base, uint64_t size)
{
    (void)owner, (void)base, (void)size;
    changes++;
}

static void setup(void)
{
    bus_init(&bus, NULL);
    bus.changed = changed;
    for (unsigned i = 0; i < 4; i++)
        for (unsigned j = 0; j < 256; j++)
            devices[i].bytes[j] = (uint8_t)(i * 64 + j);
}

static int add(uint64_t base, uint64_t size, unsigned device)
{
    return bus_add_mmio(&bus, base, size, &ops_any, &devices[device], "device", &err);
}

Test(bus, lookup, .init = setup)
{
    cr_assert_geq(add(0x3000, 0x100, 2), 0);
    cr_assert_geq(add(0x1000, 0x100, 0), 0);
    cr_assert_geq(add(0x2000, 0x100, 1), 0);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(bus_read_mmio(&bus, 0x1000 + i * 0x1000 + 5, 1), i * 64 + 5);
        cr_assert_eq(bus_read_mmio(&bus, 0x1000 + i * 0x1000 + 0x10, 8), load_le(&devices[i].bytes[0x10], 8));
        bus_write_mmio(&bus, 0x1000 + i * 0x1000 + 0x20, 4, 0xffffffff11223344ull);
        cr_assert_eq(load_le(&devices[i].bytes[0x20], 4), 0x11223344);
    }
    cr_assert_eq(bus.mmio.unclaimed, 0);
    cr_assert_eq(changes, 3);
}

Test(bus, refuses, .init = setup)
{
    cr_assert_geq(add(0x1000, 0x1000, 0), 0);
    cr_assert_eq(add(0x1fff, 1, 1), -1);
    cr_assert(strstr(err.message, "overlaps"));
    cr_assert_eq(add(0x0, 0x1001, 1), -1);
    cr_assert_eq(add(0x5000, 0, 1), -1);
    cr_assert_eq(add(~0ull, 2, 1), -1);
    cr_assert_geq(add(~0ull, 1, 1), 0);
    cr_assert_eq(bus_add_pio(&bus, 0xffff, 2, &ops_any, &devices[0], "x", &err), -1);
    for (unsigned i = 2; i < BUS_REGIONS_MAX; i++)
        cr_assert_geq(add(0x10000 + i * 0x1000, 0x100, 1), 0);
    cr_assert_eq(add(0x900000, 0x100, 1), -1);
}

Test(bus, unclaimed, .init = setup)
{
    add(0x1000, 0x100, 0);
    cr_assert_eq(bus_read_mmio(&bus, 0x5000, 1), 0xff);
    cr_assert_eq(bus_read_mmio(&bus, 0x5000, 8), ~0ull);
    cr_assert_eq(bus_read_mmio(&bus, 0xff0, 8), ~0ull);
    bus_write_mmio(&bus, 0x5000, 4, 1);
    cr_assert_eq(bus.mmio.unclaimed, 4);
    cr_assert_eq(bus_read_pio(&bus, 0x80, 1), 0xff);
    cr_assert_eq(bus_read_pio(&bus, 0x80, 2), 0xffff);
    cr_assert_eq(bus_read_pio(&bus, 0xffff, 4), 0xffffffffu);
    bus_write_pio(&bus, 0x80, 4, 1);
    cr_assert_eq(bus.pio.unclaimed, 4);
}

Test(bus, straddles, .init = setup)
{
    add(0x1000, 0x10, 0);
    add(0x1010, 0x10, 1);
    cr_assert_eq(bus_read_mmio(&bus, 0x100c, 8), 0x434241400f0e0d0cull);
    bus_write_mmio(&bus, 0x100e, 4, 0xddccbbaa);
    cr_assert_eq(devices[0].bytes[14], 0xaa);
    cr_assert_eq(devices[0].bytes[15], 0xbb);
    cr_assert_eq(devices[1].bytes[0], 0xcc);
    cr_assert_eq(devices[1].bytes[1], 0xdd);
    /* into the void on either side */
    cr_assert_eq(bus_read_mmio(&bus, 0xffc, 8), 0x03020100ffffffffull);
    cr_assert_eq(bus_read_mmio(&bus, 0x101c, 8), 0xffffffff4f4e4d4cull);
    cr_assert_eq(bus_read_mmio(&bus, ~0ull - 3, 8), ~0ull);
}

Test(bus, splits, .init = setup)
{
    bus_add_mmio(&bus, 0x1000, 0x100, &ops_word, &devices[0], "word", &err);
    devices[0].reads = devices[0].writes = 0;
    cr_assert_eq(bus_read_mmio(&bus, 0x1000, 8), 0x0706050403020100ull);
    cr_assert_eq(devices[0].reads, 4);
    cr_assert_eq(devices[0].last_size, 2);
    bus_write_mmio(&bus, 0x1008, 8, 0x8877665544332211ull);
    cr_assert_eq(devices[0].writes, 4);
    cr_assert_eq(load_le(&devices[0].bytes[8], 8), 0x8877665544332211ull);
    bus_add_pio(&bus, 0xfffe, 2, &ops_word, &devices[1], "end", &err);
    cr_assert_eq(bus_read_pio(&bus, 0xfffe, 4), 0xffff4140u);
}

Test(bus, moves, .init = setup)
{
    int a = add(0x1000, 0x100, 0), b = add(0x2000, 0x100, 1);
    cr_assert(bus_move_mmio(&bus, a, 0x3000, true));
    cr_assert_eq(bus_read_mmio(&bus, 0x1000, 1), 0xff);
    cr_assert_eq(bus_read_mmio(&bus, 0x3001, 1), 1);
    cr_assert_eq(bus_read_mmio(&bus, 0x2001, 1), 65);
    cr_assert_not(bus_move_mmio(&bus, a, 0x20ff, true));
    cr_assert_not(bus.mmio.regions[a].enabled);
    cr_assert_eq(bus_read_mmio(&bus, 0x3001, 1), 0xff);
    cr_assert(bus_move_mmio(&bus, b, 0x2000, false));
    cr_assert_eq(bus_read_mmio(&bus, 0x2001, 1), 0xff);
    cr_assert(bus_move_mmio(&bus, a, 0x20ff, true));
    cr_assert_eq(bus_read_mmio(&bus, 0x2100, 1), 1);
    cr_assert_not(bus_move_mmio(&bus, 99, 0, true));
    cr_assert_not(bus_move_mmio(&bus, -1, 0, true));
    int p = bus_add_pio(&bus, 0x60, 4, &ops_any, &devices[2], "p", &err);
    cr_assert(bus_move_pio(&bus, p, 0xfffc, true));
    cr_assert_not(bus_move_pio(&bus, p, 0xfffd, true));
    /* moving in place keeps it answering */
    cr_assert(bus_move_mmio(&bus, a, 0x20ff, true));
    cr_assert_eq(bus_read_mmio(&bus, 0x2100, 1), 1);
}

/* Random regions against a byte map. */
Test(bus, random, .init = setup)
{
    static int8_t map[4096];
    memset(map, -1, sizeof map);
    uint64_t seed = 88172645463325252ull;
    int handles[BUS_REGIONS_MAX];
    unsigned count = 0;
    for (unsigned round = 0; round < 20000; round++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        uint64_t base = seed % 4000, size = 1 + (seed >> 20) % 64;
        bool is_free = true;
        if (count < 64 && (seed >> 40) % 4 == 0) {
            for (uint64_t i = base; i < base + size; i++)
                is_free &= map[i] < 0;
            int h = add(base, size, (unsigned)(seed >> 50) & 3);
            cr_assert_eq(h >= 0, is_free);
            if (h >= 0) {
                handles[count++] = h;
                for (uint64_t i = base; i < base + size; i++)
                    map[i] = (int8_t)h;
            }
        } else if (count && (seed >> 40) % 4 == 1) {
            int h = handles[(seed >> 44) % count];
            bool on = seed >> 60 & 1;
            for (unsigned i = 0; i < sizeof map; i++)
                map[i] = map[i] == h ? -1 : map[i];
            size = bus.mmio.regions[h].size;
            for (uint64_t i = base; i < base + size; i++)
                is_free &= map[i] < 0;
            cr_assert_eq(bus_move_mmio(&bus, h, base, on), !on || is_free);
            for (uint64_t i = base; on && is_free && i < base + size; i++)
                map[i] = (int8_t)h;
        } else {
            unsigned bytes = 1u << (seed >> 44 & 3);
            uint64_t want = 0;
            for (unsigned i = 0; i < bytes; i++) {
                uint64_t byte = 0xff;
                if (map[base + i] >= 0) {
                    const struct bus_region *r = &bus.mmio.regions[map[base + i]];
                    byte = ((struct device *)r->owner)->bytes[base + i - r->base];
                }
                want |= byte << (i * 8);
            }
            cr_assert_eq(bus_read_mmio(&bus, base, bytes), want);
        }
    }
    cr_assert_gt(count, 10);
}
