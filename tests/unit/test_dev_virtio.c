/*
 * tests/unit/test_dev_virtio.c -- virtio-blk over PCI with a ring in test RAM, well-formed and hostile.
 */
#include "tests/unit/dev_board.h"

#include "devices/virtio_blk.h"

#define RAM      (8u << 20)
#define DISK     (1u << 20)
#define DESC     0x10000u
#define AVAIL    0x11000u
#define USED     0x12000u
#define HEADER   0x20000u
#define DATA     0x30000u
#define STATUS   0x21000u
#define INDIRECT 0x22000u

static struct pci_bus pci;
static struct portcf9 cf9;
static struct virtio_blk blk;
static uint8_t disk_bytes[DISK];
static bool disk_fails;

static bool disk_read(void *owner, uint64_t offset, void *buf, size_t n)
{
    (void)owner;
    cr_assert(offset + n <= DISK);
    memcpy(buf, disk_bytes + offset, n);
    return !disk_fails;
}

static bool disk_write(void *owner, uint64_t offset, const void *buf, size_t n)
{
    (void)owner;
    cr_assert(offset + n <= DISK);
    memcpy(disk_bytes + offset, buf, n);
    return !disk_fails;
}

static bool disk_flush(void *owner)
{
    (void)owner;
    return true;
}

static struct blockdev disk = {NULL, DISK, false, disk_read, disk_write, disk_flush};

static void pin(void *owner, unsigned n, bool level)
{
    board_line(owner, 32 + n, level);
}

static uint64_t regs, msix;

static struct board *blk_new(void)
{
    struct board *b = board_new(RAM);
    for (unsigned i = 0; i < DISK; i++)
        disk_bytes[i] = (uint8_t)(i * 7 + (i >> 9));
    portcf9_init(&cf9, &b->power);
    OK(pci_init(&pci, &b->bus, &b->sink, (struct irq_line){b, pin, 0}, board_irq(b, 0), &cf9, &b->log,
                &b->error));
    OK(virtio_blk_init(&blk, &pci, PCI_DEVFN(2, 0), &b->phys, &b->clock, &disk, "serial-0123", &b->log,
                       &b->error));
    pci_reset(&pci), pci_assign(&pci);
    pci_config_write(&pci, PCI_DEVFN(2, 0), 4, 2, 6);
    regs = pci_config_read(&pci, PCI_DEVFN(2, 0), 0x20, 4) & ~15u;
    msix = pci_config_read(&pci, PCI_DEVFN(2, 0), 0x14, 4) & ~15u;
    return b;
}

static void reg(struct board *b, unsigned at, unsigned size, uint64_t v)
{
    bus_write_mmio(&b->bus, regs + at, size, v);
}

static uint64_t get(struct board *b, unsigned at, unsigned size)
{
    return bus_read_mmio(&b->bus, regs + at, size);
}

/* Brings the device up as a driver does. */
static void start(struct board *b, uint64_t features, unsigned size)
{
    reg(b, 0x14, 1, 0), reg(b, 0x14, 1, 1), reg(b, 0x14, 1, 3);
    reg(b, 0x08, 4, 0), reg(b, 0x0c, 4, (uint32_t)features);
    reg(b, 0x08, 4, 1), reg(b, 0x0c, 4, features >> 32);
    reg(b, 0x14, 1, 0x0b);
    cr_assert_eq(get(b, 0x14, 1), 0x0b);
    reg(b, 0x16, 2, 0), reg(b, 0x18, 2, size);
    reg(b, 0x20, 8, DESC), reg(b, 0x28, 8, AVAIL), reg(b, 0x30, 8, USED);
    reg(b, 0x1c, 2, 1);
    reg(b, 0x14, 1, 0x0f);
}

static void desc(struct board *b, uint64_t table, unsigned i, uint64_t addr, uint32_t length, unsigned flags,
                 unsigned next)
{
    phys_store(&b->phys, table + 16 * i, 8, addr), phys_store(&b->phys, table + 16 * i + 8, 4, length);
    phys_store(&b->phys, table + 16 * i + 12, 2, flags), phys_store(&b->phys, table + 16 * i + 14, 2, next);
}

static void header(struct board *b, uint32_t type, uint64_t sector)
{
    phys_store(&b->phys, HEADER, 4, type), phys_store(&b->phys, HEADER + 4, 4, 0);
    phys_store(&b->phys, HEADER + 8, 8, sector);
    phys_store(&b->phys, STATUS, 1, 0xee);
}

static void kick(struct board *b, unsigned head, unsigned size)
{
    unsigned idx = (unsigned)phys_load(&b->phys, AVAIL + 2, 2);
    phys_store(&b->phys, AVAIL + 4 + 2 * (idx % size), 2, head);
    phys_store(&b->phys, AVAIL + 2, 2, (idx + 1) & 0xffff);
    reg(b, 0x3000, 2, 0);
    board_run(b, VIRTIO_BLK_LATENCY);
}

/* Header, one buffer, status. */
static unsigned request(struct board *b, uint32_t type, uint64_t sector, uint32_t length)
{
    header(b, type, sector);
    desc(b, DESC, 0, HEADER, 16, 1, 1);
    desc(b, DESC, 1, DATA, length, type == 0 || type == 8 ? 3 : 1, 2);
    desc(b, DESC, 2, STATUS, 1, 2, 0);
    kick(b, 0, 16);
    return (unsigned)phys_load(&b->phys, STATUS, 1);
}

Test(virtio, identity_and_capabilities)
{
    struct board *b = blk_new();
    cr_assert_eq(pci_config_read(&pci, PCI_DEVFN(2, 0), 0, 4), 0x10421af4);
    cr_assert_eq(get(b, 0x12, 2), 1);
    reg(b, 0, 4, 0);
    cr_assert_eq(get(b, 4, 4), 0x30000244);
    reg(b, 0, 4, 1);
    cr_assert_eq(get(b, 4, 4), 1);
    reg(b, 0, 4, 2);
    cr_assert_eq(get(b, 4, 4), 0);
    cr_assert_eq(get(b, 0x2000, 4), DISK / 512);
    cr_assert_eq(get(b, 0x2014, 4), 512);
    /* The window in configuration space reads the same. */
    unsigned cap = blk.virtio.cfg_cap;
    pci_config_write(&pci, PCI_DEVFN(2, 0), cap + 4, 1, 4);
    pci_config_write(&pci, PCI_DEVFN(2, 0), cap + 8, 4, 0x2000);
    pci_config_write(&pci, PCI_DEVFN(2, 0), cap + 12, 4, 4);
    cr_assert_eq(pci_config_read(&pci, PCI_DEVFN(2, 0), cap + 16, 4), DISK / 512);
    board_free(b);
}

Test(virtio, features_are_checked)
{
    struct board *b = blk_new();
    reg(b, 0x14, 1, 3);
    reg(b, 0x14, 1, 0x0b);
    cr_assert_eq(get(b, 0x14, 1), 3, "VERSION_1 is required");
    reg(b, 0x08, 4, 1), reg(b, 0x0c, 4, 3);
    reg(b, 0x14, 1, 0x0b);
    cr_assert_eq(get(b, 0x14, 1), 3, "a feature that was not offered");
    board_free(b);
}

Test(virtio, read_write_flush_id)
{
    struct board *b = blk_new();
    uint8_t buf[4096];
    start(b, VIRTIO_F_VERSION_1, 16);
    cr_assert_eq(request(b, 0, 3, 4096), 0);
    phys_read(&b->phys, DATA, buf, 4096);
    cr_assert_arr_eq(buf, disk_bytes + 3 * 512, 4096);
    cr_assert_eq(phys_load(&b->phys, USED + 2, 2), 1);
    cr_assert_eq(phys_load(&b->phys, USED + 4 + 4, 4), 4097);
    cr_assert(b->level[32 + 18], "INTA of slot 2");
    cr_assert_eq(get(b, 0x1000, 1), 1);
    cr_assert(!b->level[32 + 18]);
    memset(buf, 0x5c, sizeof(buf));
    phys_write(&b->phys, DATA, buf, 4096);
    cr_assert_eq(request(b, 1, 8, 4096), 0);
    cr_assert_arr_eq(disk_bytes + 8 * 512, buf, 4096);
    cr_assert_eq(request(b, 4, 0, 0), 0);
    cr_assert_eq(request(b, 8, 0, 20), 0);
    phys_read(&b->phys, DATA, buf, 20);
    cr_assert_arr_eq(buf, "serial-0123\0\0\0\0\0\0\0\0", 20);
    cr_assert_eq(request(b, 77, 0, 0), 2, "unsupported");
    cr_assert_eq(request(b, 0, DISK / 512 - 1, 1024), 1, "beyond the end");
    cr_assert_eq(request(b, 0, ~0ull, 512), 1);
    cr_assert_eq(request(b, 0, 0, 100), 1, "not whole sectors");
    disk_fails = true;
    cr_assert_eq(request(b, 0, 0, 512), 1);
    disk_fails = false;
    disk.read_only = true;
    cr_assert_eq(request(b, 1, 0, 512), 1);
    disk.read_only = false;
    board_free(b);
}

Test(virtio, indirect_event_idx_msix)
{
    struct board *b = blk_new();
    start(b, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX, 16);
    wr32(b, msix + 16, 0xfee00000), wr32(b, msix + 24, 0x71), wr32(b, msix + 28, 0);
    for (unsigned at = 0x40; at < 0x100; at += 4) /* enable MSI-X wherever it is */
        if (at == blk.virtio.pci.msix_cap)
            pci_config_write(&pci, PCI_DEVFN(2, 0), at + 2, 2, 0x8000);
    reg(b, 0x1a, 2, 1);
    cr_assert_eq(get(b, 0x1a, 2), 1);
    reg(b, 0x10, 2, 9);
    cr_assert_eq(get(b, 0x10, 2), 0xffff, "there is no vector 9");
    header(b, 0, 0);
    desc(b, DESC, 5, INDIRECT, 64, 4, 0);
    desc(b, INDIRECT, 0, HEADER, 16, 1, 2);
    desc(b, INDIRECT, 2, DATA, 1000, 3, 1);
    desc(b, INDIRECT, 1, DATA + 1000, 536, 3, 3);
    desc(b, INDIRECT, 3, STATUS, 1, 2, 0);
    phys_store(&b->phys, AVAIL + 4 + 32, 2, 0);
    kick(b, 5, 16);
    cr_assert_eq(phys_load(&b->phys, STATUS, 1), 0);
    uint8_t buf[1536];
    phys_read(&b->phys, DATA, buf, sizeof(buf));
    cr_assert_arr_eq(buf, disk_bytes, sizeof(buf));
    cr_assert_eq(b->message_count, 1);
    cr_assert_eq(b->messages[0].vector, 0x71);
    cr_assert_eq(phys_load(&b->phys, USED + 4 + 8 * 16, 2), 1, "avail_event");
    phys_store(&b->phys, AVAIL + 4 + 32, 2, 2); /* tell me after the third */
    kick(b, 5, 16);
    cr_assert_eq(b->message_count, 1);
    kick(b, 5, 16);
    cr_assert_eq(b->message_count, 2);
    board_free(b);
}

/* Each way to break a ring ends in NEEDS_RESET, and a reset repairs it. */
static void breaks(struct board *b, unsigned head, const char *what)
{
    kick(b, head, 16);
    cr_assert_eq(get(b, 0x14, 1) & 0x40, 0x40, "%s", what);
    memset(b->phys.ram + DESC, 0, 0x3000);
    start(b, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC, 16);
    cr_assert_eq(request(b, 0, 0, 512), 0, "after %s", what);
    memset(b->phys.ram + DESC, 0, 0x3000);
    start(b, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC, 16);
}

Test(virtio, broken_rings)
{
    struct board *b = blk_new();
    start(b, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC, 16);
    breaks(b, 16, "a head outside the ring");
    desc(b, DESC, 0, HEADER, 16, 1, 1), desc(b, DESC, 1, HEADER, 16, 1, 0);
    breaks(b, 0, "a loop");
    desc(b, DESC, 0, HEADER, 16, 1, 99);
    breaks(b, 0, "a next outside the ring");
    desc(b, DESC, 0, 0xfee00000, 16, 0, 0);
    breaks(b, 0, "a buffer in MMIO");
    desc(b, DESC, 0, RAM - 8, 16, 0, 0);
    breaks(b, 0, "a buffer over the end of RAM");
    desc(b, DESC, 0, ~0ull - 4, 16, 0, 0);
    breaks(b, 0, "a buffer that wraps");
    desc(b, DESC, 0, HEADER, 4, 0, 0);
    breaks(b, 0, "a short header");
    desc(b, DESC, 0, HEADER, 16, 0, 0);
    breaks(b, 0, "no status");
    desc(b, DESC, 0, STATUS, 1, 3, 1), desc(b, DESC, 1, HEADER, 16, 0, 0);
    breaks(b, 0, "writable before readable");
    desc(b, DESC, 0, INDIRECT, 17, 4, 0);
    breaks(b, 0, "an odd indirect table");
    desc(b, DESC, 0, INDIRECT, 16, 5, 1);
    breaks(b, 0, "indirect and next");
    desc(b, DESC, 0, INDIRECT, 16, 4, 0), desc(b, INDIRECT, 0, INDIRECT, 16, 4, 0);
    breaks(b, 0, "indirect in indirect");
    desc(b, DESC, 0, 0xf0000000, 1u << 30, 4, 0);
    breaks(b, 0, "an enormous indirect table");
    phys_store(&b->phys, AVAIL + 2, 2, 500);
    breaks(b, 0, "an index too far ahead");
    board_free(b);
}

Test(virtio, rings_outside_ram)
{
    struct board *b = blk_new();
    static const uint64_t places[] = {0xfee00000, RAM - 4, ~0ull, 0xffffffffffff0000, 0x100000000};
    for (unsigned i = 0; i < ARRAY_LEN(places) * 3; i++) {
        start(b, VIRTIO_F_VERSION_1, 16);
        reg(b, 0x14, 1, 0), reg(b, 0x14, 1, 3), reg(b, 0x08, 4, 1), reg(b, 0x0c, 4, 1), reg(b, 0x14, 1, 0x0b);
        reg(b, 0x20, 8, DESC), reg(b, 0x28, 8, AVAIL), reg(b, 0x30, 8, USED);
        reg(b, 0x20 + 8 * (i % 3), 8, places[i / 3]);
        reg(b, 0x1c, 2, 1), reg(b, 0x14, 1, 0x0f);
        reg(b, 0x3000, 2, 0);
        board_run(b, VIRTIO_BLK_LATENCY);
        cr_assert_eq(get(b, 0x14, 1) & 0x40, 0x40);
    }
    board_free(b);
}

static uint64_t seed = 0x9e3779b97f4a7c15ull;

static uint64_t rnd(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % n;
}

/* Random rings and random register writes: nothing crashes, hangs or leaves RAM. */
Test(virtio, fuzz, .timeout = 60)
{
    struct board *b = blk_new();
    static const uint64_t bases[] = {DESC,   AVAIL,    USED,     HEADER,     DATA,
                                     STATUS, INDIRECT, RAM - 64, 0xfee00000, 0};
    start(b, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX, 16);
    for (unsigned i = 0; i < 30000; i++) {
        for (unsigned k = 0; k < 4; k++) {
            uint64_t addr = bases[rnd(10)] + rnd(4096), length = rnd(4) ? rnd(2048) : seed >> 32;
            desc(b, rnd(2) ? DESC : INDIRECT, (unsigned)rnd(16), addr, (uint32_t)length, (unsigned)rnd(8),
                 (unsigned)rnd(18));
        }
        header(b, (uint32_t)rnd(10), rnd(3) ? rnd(DISK / 512) : seed);
        if (rnd(3) == 0)
            desc(b, DESC, (unsigned)rnd(16), HEADER, 16, 1, (unsigned)rnd(16));
        if (rnd(8) == 0)
            reg(b, (unsigned)rnd(0x40), 1u << rnd(3), seed >> 20);
        kick(b, (unsigned)rnd(18), 16);
        if ((get(b, 0x14, 1) & 0x4f) != 0x0f)
            start(b, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | (rnd(2) ? VIRTIO_F_EVENT_IDX : 0), 16);
        if (rnd(50) == 0) {
            memset(b->phys.ram + AVAIL, 0, 0x2000);
            start(b, VIRTIO_F_VERSION_1, 16);
        }
    }
    cr_assert_gt(blk.reads + blk.errors, 10, "the fuzzer reaches the disk");
    board_free(b);
}

Test(virtio, state)
{
    struct board *b = blk_new();
    static struct board_bytes s;
    COVERED(virtio_blk_state);
    COVERED(virtio_pci_state);
    COVERED(virtq_state);
    start(b, VIRTIO_F_VERSION_1, 16);
    cr_assert_eq(request(b, 0, 0, 512), 0);
    reg(b, 0x3000, 2, 0);
    SAVE(virtio_blk_state, &blk, s);
    virtio_blk_reset(&blk);
    pci_reset(&pci);
    LOAD(virtio_blk_state, &blk, s);
    cr_assert_neq(b->clock.next, CLOCK_NEVER);
    cr_assert_eq(request(b, 0, 1, 512), 0);
    board_free(b);
}
