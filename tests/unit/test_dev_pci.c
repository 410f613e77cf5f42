/*
 * tests/unit/test_dev_pci.c -- PCI: access mechanisms, BAR sizing and moving, INTx, MSI, MSI-X.
 */
#include "tests/unit/dev_board.h"

#include "devices/pci.h"

static struct pci_bus pci;
static struct pci_device dev;
static struct portcf9 cf9;

static void pin(void *owner, unsigned n, bool level)
{
    board_line(owner, 32 + n, level);
}

static uint64_t bar_read(void *owner, uint64_t offset, unsigned size)
{
    (void)owner, (void)size;
    return 0x1000 + offset;
}

static void bar_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    (void)owner, (void)offset, (void)size, (void)value;
}

static struct board *pci_new(void)
{
    static const struct bus_ops ops = {bar_read, bar_write, 4};
    struct board *b = board_new(0);
    portcf9_init(&cf9, &b->power);
    OK(pci_init(&pci, &b->bus, &b->sink, (struct irq_line){b, pin, 0}, board_irq(b, 0), &cf9, &b->log,
                &b->error));
    OK(pci_device_init(&dev, &pci, PCI_DEVFN(3, 0), "test", 0x1234, 0x5678, 0x020000, 7, 1, &b->error));
    OK(pci_add_bar(&dev, 0, 0x20, PCI_BAR_IO, false, &ops, NULL, &b->error));
    OK(pci_add_bar(&dev, 2, 0x4000, PCI_BAR_MEM64, true, &ops, NULL, &b->error));
    OK(pci_add_msix(&dev, 1, 3, &b->error));
    cr_assert(pci_add_msi(&dev));
    pci_device_done(&dev);
    return b;
}

#define ECAM(reg) (PCI_ECAM_BASE + (3u << 15) + (reg))

static uint32_t cfg(struct board *b, unsigned slot, unsigned reg)
{
    bus_write_pio(&b->bus, 0xcf8, 4, 0x80000000u | slot << 11 | (reg & 0xfc));
    return bus_read_pio(&b->bus, 0xcfc, 4);
}

Test(pci, access)
{
    struct board *b = pci_new();
    cr_assert_eq(cfg(b, 3, 0), 0x56781234);
    cr_assert_eq(cfg(b, 3, 8), 0x02000007);
    cr_assert_eq(cfg(b, 4, 0), 0xffffffff);
    cr_assert_eq(cfg(b, 0, 0), 0x29c08086);
    cr_assert_eq(cfg(b, 31, 8) >> 16, 0x0601);
    cr_assert_eq(rd32(b, ECAM(0)), 0x56781234);
    cr_assert_eq(bus_read_mmio(&b->bus, ECAM(2), 2), 0x5678);
    cr_assert_eq(rd32(b, ECAM(0x100)), 0, "no extended capabilities");
    cr_assert_eq(rd32(b, PCI_ECAM_BASE + (1u << 20)), 0xffffffff, "bus 1 is empty");
    cfg(b, 3, 0);
    cr_assert_eq(bus_read_pio(&b->bus, 0xcfe, 2), 0x5678);
    bus_write_pio(&b->bus, 0xcf8, 4, 3 << 11);
    cr_assert_eq(bus_read_pio(&b->bus, 0xcfc, 4), 0xffffffff, "bit 31 enables");
    out(b, 0xcf9, 2), out(b, 0xcf9, 6);
    cr_assert_eq(b->power_last, POWER_RESET);
    cr_assert_eq(b->power_count, 1);
    board_free(b);
}

Test(pci, bar_sizing_and_moving)
{
    struct board *b = pci_new();
    wr32(b, ECAM(0x10), 0xffffffff), wr32(b, ECAM(0x14), 0xffffffff);
    wr32(b, ECAM(0x18), 0xffffffff), wr32(b, ECAM(0x1c), 0xffffffff), wr32(b, ECAM(0x20), 0xffffffff);
    cr_assert_eq(rd32(b, ECAM(0x10)), 0x0000ffe1);
    cr_assert_eq(rd32(b, ECAM(0x14)), 0xfffff000);
    cr_assert_eq(rd32(b, ECAM(0x18)), 0xffffc00c);
    cr_assert_eq(rd32(b, ECAM(0x1c)), 0xffffffff);
    cr_assert_eq(rd32(b, ECAM(0x20)), 0);
    wr32(b, ECAM(0x10), 0xc001), wr32(b, ECAM(0x18), 0xd0000000), wr32(b, ECAM(0x1c), 0x80);
    cr_assert_eq(bus_read_pio(&b->bus, 0xc004, 4), 0xffffffff, "decoding is off");
    wr32(b, ECAM(4), 3);
    cr_assert_eq(bus_read_pio(&b->bus, 0xc004, 4), 0x1004);
    cr_assert_eq(rd32(b, 0x80d0000010ull), 0x1010);
    wr32(b, ECAM(0x1c), 0);
    cr_assert_eq(rd32(b, 0xd0000010ull), 0x1010);
    cr_assert_eq(rd32(b, 0x80d0000010ull), 0xffffffff);
    wr32(b, ECAM(0x18), PCI_ECAM_BASE);
    cr_assert_eq(rd32(b, ECAM(0)), 0x56781234, "a BAR over ECAM does not answer");
    board_free(b);
}

Test(pci, firmware_assigns)
{
    struct board *b = pci_new();
    pci_reset(&pci), pci_assign(&pci);
    uint32_t io = rd32(b, ECAM(0x10)) & ~1u, mem = rd32(b, ECAM(0x18)) & ~15u;
    cr_assert_geq(io, PCI_IO_BASE);
    cr_assert_eq(mem % 0x4000, 0);
    cr_assert_eq(bus_read_pio(&b->bus, (uint16_t)io, 4), 0x1000);
    cr_assert_eq(rd32(b, mem), 0x1000);
    cr_assert_eq(rd32(b, ECAM(0x3c)) & 0xffff, 0x010b, "INTA of slot 3 is line D: 11");
    board_free(b);
}

Test(pci, intx)
{
    struct board *b = pci_new();
    pci_assign(&pci);
    pci_set_intx(&dev, true);
    cr_assert(b->level[32 + 19]);
    cr_assert(b->level[11]);
    cr_assert_eq(rd32(b, ECAM(4)) >> 16 & 8, 8);
    wr32(b, ECAM(4), 0x400);
    cr_assert(!b->level[32 + 19]);
    wr32(b, ECAM(4), 0);
    bus_write_mmio(&b->bus, PCI_ECAM_BASE + (31u << 15) + 0x63, 1, 0x05);
    cr_assert(!b->level[11] && b->level[5], "PIRQD moved");
    pci_set_intx(&dev, false);
    cr_assert(!b->level[32 + 19] && !b->level[5]);
    board_free(b);
}

static unsigned find_cap(struct board *b, unsigned id)
{
    unsigned at = rd32(b, ECAM(0x34)) & 0xff;
    for (unsigned n = 0; at && n < 16; n++) {
        uint32_t v = rd32(b, ECAM(at));
        if ((v & 0xff) == id)
            return at;
        at = v >> 8 & 0xff;
    }
    return 0;
}

Test(pci, msix)
{
    struct board *b = pci_new();
    pci_assign(&pci);
    unsigned cap = find_cap(b, PCI_CAP_MSIX);
    uint32_t table = rd32(b, ECAM(0x14));
    cr_assert_eq(rd32(b, ECAM(cap)) >> 16, 2);
    cr_assert_eq(rd32(b, ECAM(cap + 4)), 1);
    cr_assert_eq(rd32(b, ECAM(cap + 8)), 0x801);
    wr32(b, ECAM(4), 6);
    cr_assert_eq(rd32(b, table + 12), 1, "masked after reset");
    bus_write_mmio(&b->bus, table + 16, 8, 0xfee0500c), wr32(b, table + 24, 0x4061);
    wr32(b, ECAM(cap), 0x80000000);
    pci_msix_notify(&dev, 1);
    cr_assert_eq(b->message_count, 0);
    cr_assert_eq(rd32(b, table + 0x800), 2, "pending");
    wr32(b, table + 28, 0);
    cr_assert_eq(b->message_count, 1);
    cr_assert_eq(b->messages[0].vector, 0x61);
    cr_assert_eq(b->messages[0].dest, 5);
    cr_assert(b->messages[0].logical);
    cr_assert_eq(rd32(b, table + 0x800), 0);
    wr32(b, ECAM(cap), 0xc0000000);
    pci_msix_notify(&dev, 1);
    cr_assert_eq(b->message_count, 1, "function mask");
    wr32(b, ECAM(cap), 0x80000000);
    cr_assert_eq(b->message_count, 2);
    wr32(b, ECAM(4), 2);
    pci_msix_notify(&dev, 1);
    cr_assert_eq(b->message_count, 2, "no bus master, no write");
    board_free(b);
}

Test(pci, msi)
{
    struct board *b = pci_new();
    unsigned cap = find_cap(b, PCI_CAP_MSI);
    wr32(b, ECAM(4), 4);
    wr32(b, ECAM(cap + 4), 0xfee02000), wr32(b, ECAM(cap + 12), 0x55), wr32(b, ECAM(cap + 16), 1);
    wr32(b, ECAM(cap), 1u << 16);
    pci_msi_notify(&dev);
    cr_assert_eq(b->message_count, 0);
    cr_assert_eq(rd32(b, ECAM(cap + 20)), 1);
    wr32(b, ECAM(cap + 16), 0);
    cr_assert_eq(b->message_count, 1);
    cr_assert_eq(b->messages[0].vector, 0x55);
    cr_assert_eq(b->messages[0].dest, 2);
    board_free(b);
}

Test(pci, state)
{
    struct board *b = pci_new();
    static struct board_bytes s;
    COVERED(pci_state);
    COVERED(pci_device_state);
    pci_assign(&pci);
    uint32_t mem = rd32(b, ECAM(0x18)) & ~15u;
    SAVE(pci_device_state, &dev, s);
    pci_reset(&pci);
    cr_assert_eq(rd32(b, mem), 0xffffffff);
    LOAD(pci_device_state, &dev, s);
    cr_assert_eq(rd32(b, mem), 0x1000, "regions come back with their BARs");
    board_free(b);
}
