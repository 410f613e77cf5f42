/*
 * tests/fuzz/fuzz_virtio.c -- a virtio block device with a driver that gets everything wrong: registers,
 * queue addresses, descriptor chains, indirect tables, request headers.
 *
 * Virtio 1.1, "Virtio Over PCI Bus", "Split Virtqueues", "Block Device". Most inputs start from a driver that
 * is right, or the device would never look at a ring.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/lab.h"

#include <stdlib.h>

#define MEMORY   (2ull << 20)
#define DEVFN    (4u << 3)
#define STEPS    40
#define RINGS    0x10000ull /* descriptors, available ring, used ring: a page each */
#define INDIRECT 0x14000ull
#define HEADERS  0x18000ull
#define BUFFERS  0x20000ull

enum { /* common configuration */
       COMMON_FEATURE_SELECT = 8,
       COMMON_FEATURE = 12,
       COMMON_STATUS = 20,
       COMMON_QUEUE_SELECT = 22,
       COMMON_QUEUE_SIZE = 24,
       COMMON_QUEUE_VECTOR = 26,
       COMMON_QUEUE_ENABLE = 28,
       COMMON_QUEUE_DESC = 32,
       COMMON_QUEUE_AVAIL = 40,
       COMMON_QUEUE_USED = 48,
};

struct driver {
    struct dice d;
    struct machine *m;
    uint64_t bar;
    uint16_t available;
    unsigned wrong; /* per cent */
};

uint8_t *fuzz_seed_input(unsigned index, size_t *size)
{
    return index < 8 ? lab_seed(index, 48, size) : NULL;
}

static void put(struct driver *v, unsigned offset, unsigned size, uint64_t value)
{
    if (dice_chance(&v->d, v->wrong))
        value = dice_odd(&v->d);
    bus_write_mmio(&v->m->bus, v->bar + offset, size, value);
}

/* Mostly RAM, also its last bytes, MMIO, the device itself, and nothing at all. */
static uint64_t address(struct driver *v, uint64_t usual)
{
    if (!dice_chance(&v->d, v->wrong))
        return usual;
    switch (dice_below(&v->d, 8)) {
    case 0:
        return MEMORY - dice_below(&v->d, 0x40);
    case 1:
        return v->bar + dice_below(&v->d, 0x4000);
    case 2:
        return 0xfee00000 + dice_below(&v->d, 0x1000);
    case 3:
        return RINGS + dice_below(&v->d, 0x4000);
    case 4:
        return PCI_ECAM_BASE + (DEVFN << 12) + dice_below(&v->d, 0x100);
    default:
        return dice_odd(&v->d);
    }
}

static void start(struct driver *v)
{
    static const uint64_t features[] = {BIT(32), BIT(32) | VIRTIO_F_INDIRECT_DESC,
                                        BIT(32) | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX};
    uint64_t accepted = features[dice_below(&v->d, 3)] | (dice_roll(&v->d) & dice_roll(&v->d) & 0xffff);
    pci_config_write(&v->m->pci, DEVFN, PCI_COMMAND, 2, 6);
    put(v, COMMON_STATUS, 1, 0);
    put(v, COMMON_STATUS, 1, 3);
    for (unsigned i = 0; i < 2; i++) {
        put(v, COMMON_FEATURE_SELECT, 4, i);
        put(v, COMMON_FEATURE, 4, (uint32_t)(accepted >> 32 * i));
    }
    put(v, COMMON_STATUS, 1, 11);
    put(v, COMMON_QUEUE_SELECT, 2, 0);
    put(v, COMMON_QUEUE_SIZE, 2, 1ull << dice_below(&v->d, 9));
    put(v, COMMON_QUEUE_VECTOR, 2, dice_below(&v->d, 3));
    put(v, COMMON_QUEUE_DESC, 8, address(v, RINGS));
    put(v, COMMON_QUEUE_AVAIL, 8, address(v, RINGS + 0x1000));
    put(v, COMMON_QUEUE_USED, 8, address(v, RINGS + 0x2000));
    put(v, COMMON_QUEUE_ENABLE, 2, 1);
    put(v, COMMON_STATUS, 1, 15);
    v->available = 0;
}

static void descriptor(struct driver *v, uint64_t table, unsigned i, uint64_t at, uint64_t length,
                       unsigned flags)
{
    struct phys *p = &v->m->phys;
    if (dice_chance(&v->d, v->wrong))
        length = dice_odd(&v->d);
    if (dice_chance(&v->d, v->wrong))
        flags = (unsigned)dice_roll(&v->d);
    phys_store(p, table + 16ull * i, 8, address(v, at));
    phys_store(p, table + 16ull * i + 8, 4, length);
    phys_store(p, table + 16ull * i + 12, 2, flags);
    phys_store(p, table + 16ull * i + 14, 2, dice_chance(&v->d, v->wrong) ? dice_roll(&v->d) : i + 1);
}

/* Header, one to three buffers, status byte; in a table of its own or in the queue's. */
static void request(struct driver *v)
{
    static const uint8_t types[] = {0, 0, 1, 1, 4, 8, 11, 13, 14, 2};
    struct phys *p = &v->m->phys;
    bool indirect = dice_chance(&v->d, 40);
    unsigned head = (unsigned)dice_below(&v->d, 8), i = indirect ? 0 : head,
             buffers = (unsigned)dice_below(&v->d, 4);
    uint64_t table = indirect ? INDIRECT : RINGS, header = HEADERS + 16 * head;
    uint64_t type =
        dice_chance(&v->d, v->wrong) ? dice_odd(&v->d) : types[dice_below(&v->d, ARRAY_LEN(types))];
    unsigned first = i, writes = type == 1 || type == 11 || type == 13 ? 0 : 2;

    phys_store(p, header, 8, type & 0xffffffff);
    phys_store(p, header + 8, 8, dice_chance(&v->d, v->wrong) ? dice_odd(&v->d) : dice_below(&v->d, 70));
    descriptor(v, table, i++, header, 16, 1);
    while (buffers--)
        descriptor(v, table, i++, BUFFERS + dice_below(&v->d, 0x1000), 512 * dice_below(&v->d, 8),
                   1 | writes);
    descriptor(v, table, i++, HEADERS + 0x800 + head, 1, 2);
    if (indirect)
        descriptor(v, RINGS, head, INDIRECT, 16ull * (i - first), 4);
    phys_store(p, RINGS + 0x1004 + 2ull * v->available, 2,
               dice_chance(&v->d, v->wrong) ? dice_roll(&v->d) : head);
    v->available = (uint16_t)(v->available + 1) & 255;
    phys_store(p, RINGS + 0x1002, 2, dice_chance(&v->d, v->wrong) ? dice_roll(&v->d) : v->available);
}

static void step(struct driver *v)
{
    struct machine *m = v->m;
    unsigned size = 1u << dice_below(&v->d, 4);
    switch (dice_below(&v->d, 12)) {
    case 0:
        bus_write_mmio(&m->bus, v->bar + dice_below(&v->d, 0x4000), size, dice_odd(&v->d));
        break;
    case 1:
        bus_read_mmio(&m->bus, v->bar + dice_below(&v->d, 0x4000), size);
        break;
    case 2:
        bus_write_mmio(&m->bus, v->bar + dice_below(&v->d, 64), size, dice_odd(&v->d));
        break;
    case 3:
        if (dice_chance(&v->d, 20))
            pci_config_write(&m->pci, DEVFN, (unsigned)dice_below(&v->d, 256), 1u << dice_below(&v->d, 3),
                             (uint32_t)dice_odd(&v->d));
        else
            pci_config_read(&m->pci, DEVFN, (unsigned)dice_below(&v->d, 256), 1u << dice_below(&v->d, 3));
        break;
    case 4:
        if (dice_chance(&v->d, 30))
            start(v);
        break;
    case 5:
    case 6:
        m->clock.now += dice_below(&v->d, 4 * VIRTIO_BLK_LATENCY);
        clock_run(&m->clock);
        break;
    default:
        request(v);
        bus_write_mmio(&m->bus, v->bar + 0x3000 + (dice_chance(&v->d, 5) ? dice_below(&v->d, 0x1000) : 0), 2,
                       0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t wrong[] = {0, 1, 3, 10, 40};
    struct driver v = {.d = dice_make(data, size), .m = lab_machine(MEMORY, 1, true)};
    watchdog_start(20);
    v.wrong = wrong[dice_below(&v.d, ARRAY_LEN(wrong))];
    v.bar = (pci_config_read(&v.m->pci, DEVFN, PCI_BAR0 + 16, 4) & ~15u) |
            (uint64_t)pci_config_read(&v.m->pci, DEVFN, PCI_BAR0 + 20, 4) << 32;
    start(&v);
    for (unsigned i = 0; i < STEPS; i++)
        step(&v);
    for (unsigned i = 0; i < 20; i++) {
        v.m->clock.now += VIRTIO_BLK_LATENCY;
        clock_run(&v.m->clock);
    }
    lab_free(v.m);
    return 0;
}
