/*
 * devices/pci.c -- PCI functions: configuration space, BARs, capabilities, MSI and MSI-X.
 *
 * Reference: PCI Local Bus specification 3.0, "Configuration Space", "MSI and MSI-X".
 * A BAR whose place is taken by another region answers nothing until it is moved.
 * Not here: the bus, its access mechanisms and interrupt routing (pci_bus.c).
 * Tests: tests/unit/test_dev_pci.c
 */
#include "devices/pci.h"

#include "devices/msi.h"

#include <string.h>

#define MSI_ENABLE       BIT(0)
#define MSI_64           BIT(7)
#define MSI_PER_VECTOR   BIT(8)
#define MSIX_ENABLE      BIT(15)
#define MSIX_MASK_ALL    BIT(14)
#define MSIX_PBA         0x800u
#define MSIX_VECTOR_MASK 1u

static uint32_t cfg(const struct pci_device *d, unsigned offset, unsigned size)
{
    return (uint32_t)load_le(&d->config[offset], size);
}

bool pci_bus_master(const struct pci_device *d)
{
    return d->config[PCI_COMMAND] & PCI_COMMAND_MASTER;
}

/* -- BARs ---------------------------------------------------------------------------------------------- */

static uint64_t bar_base(const struct pci_device *d, unsigned n)
{
    const struct pci_bar *bar = &d->bars[n];
    uint64_t v = cfg(d, PCI_BAR0 + 4 * n, 4);
    if (bar->kind == PCI_BAR_IO)
        return v & 0xfffc;
    if (bar->kind == PCI_BAR_MEM64)
        v |= (uint64_t)cfg(d, PCI_BAR0 + 4 * n + 4, 4) << 32;
    return v & ~0xfull;
}

static bool bar_decodes(const struct pci_device *d, unsigned n)
{
    uint16_t command = (uint16_t)cfg(d, PCI_COMMAND, 2);
    uint64_t base = bar_base(d, n);
    bool io = d->bars[n].kind == PCI_BAR_IO;
    /* All ones is the sizing pattern, zero an address never given; neither may answer. */
    uint64_t sizing = (io ? 0x10000 : d->bars[n].kind == PCI_BAR_MEM64 ? 0 : BIT(32)) - d->bars[n].size;
    return (command & (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) && base != 0 && base != sizing;
}

void pci_unmap_bars(struct pci_device *d)
{
    for (unsigned n = 0; n < PCI_BARS; n++) {
        if (!d->bars[n].size)
            continue;
        if (d->bars[n].kind == PCI_BAR_IO)
            bus_move_pio(d->bus->bus, d->bars[n].handle, 0, false);
        else
            bus_move_mmio(d->bus->bus, d->bars[n].handle, 0, false);
    }
}

void pci_map_bars(struct pci_device *d)
{
    for (unsigned n = 0; n < PCI_BARS; n++) {
        if (!d->bars[n].size)
            continue;
        uint64_t base = bar_base(d, n);
        bool on = bar_decodes(d, n);
        bool ok = d->bars[n].kind == PCI_BAR_IO ? bus_move_pio(d->bus->bus, d->bars[n].handle, base, on)
                                                : bus_move_mmio(d->bus->bus, d->bars[n].handle, base, on);
        if (!ok)
            log_warn(d->bus->log, "%s: BAR %u at %#llx overlaps another device and does not answer", d->name,
                     n, (unsigned long long)base);
    }
}

bool pci_add_bar(struct pci_device *d, unsigned n, uint64_t size, enum pci_bar_kind kind, bool prefetch,
                 const struct bus_ops *ops, void *owner, struct error *e)
{
    struct pci_bar *bar = &d->bars[n];
    uint64_t mask = ~(size - 1);
    unsigned reg = PCI_BAR0 + 4 * n;
    *bar = (struct pci_bar){.size = size, .kind = kind, .prefetch = prefetch};
    /* A region starts enabled, so it is parked where nothing is and switched off at once. */
    if (kind == PCI_BAR_IO) {
        bar->handle =
            bus_add_pio(d->bus->bus, (uint16_t)(0x10000 - size), (uint32_t)size, ops, owner, d->name, e);
        if (bar->handle < 0)
            return false;
        bus_move_pio(d->bus->bus, bar->handle, 0, false);
        d->config[reg] = 1;
        store_le(&d->writable[reg], mask & 0xfffc, 4);
        return true;
    }
    bar->handle = bus_add_mmio(d->bus->bus, BIT(63), size, ops, owner, d->name, e);
    if (bar->handle < 0)
        return false;
    bus_move_mmio(d->bus->bus, bar->handle, 0, false);
    d->config[reg] = (uint8_t)((kind == PCI_BAR_MEM64 ? 4 : 0) | (prefetch ? 8 : 0));
    store_le(&d->writable[reg], mask & 0xfffffff0, 4);
    if (kind == PCI_BAR_MEM64)
        store_le(&d->writable[reg + 4], mask >> 32, 4);
    return true;
}

/* -- MSI ----------------------------------------------------------------------------------------------- */

bool pci_msi_enabled(const struct pci_device *d)
{
    return d->msi_cap && (cfg(d, d->msi_cap + 2u, 2) & MSI_ENABLE);
}

bool pci_add_msi(struct pci_device *d)
{
    uint8_t at = pci_add_capability(d, PCI_CAP_MSI, 24);
    if (!at)
        return false;
    d->msi_cap = at;
    store_le(&d->config[at + 2], MSI_64 | MSI_PER_VECTOR, 2);
    d->writable[at + 2] = MSI_ENABLE;
    store_le(&d->writable[at + 4], 0xfffffffc, 4);
    store_le(&d->writable[at + 8], 0xffffffff, 4);
    store_le(&d->writable[at + 12], 0xffff, 2);
    d->writable[at + 16] = 1; /* mask; pending at +20 is read-only */
    return true;
}

void pci_msi_notify(struct pci_device *d)
{
    unsigned at = d->msi_cap;
    if (!pci_msi_enabled(d))
        return;
    if (d->config[at + 16] & 1) {
        d->config[at + 20] |= 1;
        return;
    }
    if (pci_bus_master(d))
        msi_deliver(d->bus->sink, d->bus->log, cfg(d, at + 4, 4) | (uint64_t)cfg(d, at + 8, 4) << 32,
                    cfg(d, at + 12, 2));
}

static void msi_written(struct pci_device *d)
{
    unsigned at = d->msi_cap;
    if (!at || !(d->config[at + 20] & 1) || (d->config[at + 16] & 1) || !pci_msi_enabled(d))
        return;
    d->config[at + 20] &= ~1;
    pci_msi_notify(d);
}

/* -- MSI-X --------------------------------------------------------------------------------------------- */

bool pci_msix_enabled(const struct pci_device *d)
{
    return d->msix_cap && (cfg(d, d->msix_cap + 2u, 2) & MSIX_ENABLE);
}

static bool msix_masked(const struct pci_device *d, unsigned vector)
{
    return (cfg(d, d->msix_cap + 2u, 2) & MSIX_MASK_ALL) ||
           (d->msix_table[4 * vector + 3] & MSIX_VECTOR_MASK);
}

void pci_msix_notify(struct pci_device *d, unsigned vector)
{
    if (!pci_msix_enabled(d) || vector >= d->msix_count)
        return;
    if (msix_masked(d, vector)) {
        d->msix_pending |= 1u << vector;
        return;
    }
    const uint32_t *entry = &d->msix_table[4 * vector];
    if (pci_bus_master(d))
        msi_deliver(d->bus->sink, d->bus->log, entry[0] | (uint64_t)entry[1] << 32, entry[2]);
}

/* Sends what waited, now that a mask may be gone. */
static void msix_flush(struct pci_device *d)
{
    for (unsigned v = 0; v < d->msix_count; v++) {
        if (!(d->msix_pending >> v & 1) || !pci_msix_enabled(d) || msix_masked(d, v))
            continue;
        d->msix_pending &= ~(1u << v);
        pci_msix_notify(d, v);
    }
}

static uint64_t msix_read(void *owner, uint64_t offset, unsigned size)
{
    const struct pci_device *d = owner;
    uint64_t end = 16ull * d->msix_count;
    if (offset + size <= end)
        return load_le((const uint8_t *)d->msix_table + offset, size);
    if (offset >= MSIX_PBA && offset < MSIX_PBA + 8)
        return (uint64_t)d->msix_pending >> (offset - MSIX_PBA) * 8;
    return 0;
}

static void msix_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_device *d = owner;
    if ((size != 4 && size != 8) || (offset & (size - 1)) || offset + size > 16ull * d->msix_count)
        return; /* the specification knows aligned 32-bit and 64-bit accesses only; pending bits are read-only
                 */
    for (unsigned i = 0; i < size / 4; i++) {
        unsigned word = (unsigned)offset / 4 + i;
        uint32_t v = (uint32_t)(value >> 32 * i);
        if (word % 4 == 0)
            v &= ~3u;
        else if (word % 4 == 3)
            v &= MSIX_VECTOR_MASK;
        d->msix_table[word] = v;
    }
    msix_flush(d);
}

bool pci_add_msix(struct pci_device *d, unsigned bar, unsigned vectors, struct error *e)
{
    static const struct bus_ops ops = {msix_read, msix_write, 8};
    uint8_t at = pci_add_capability(d, PCI_CAP_MSIX, 12);
    if (!at || vectors == 0 || vectors > PCI_MSIX_MAX)
        return error_set(e, "%s: no room for MSI-X with %u vectors", d->name, vectors);
    d->msix_cap = at;
    d->msix_count = (uint8_t)vectors;
    store_le(&d->config[at + 2], vectors - 1, 2);
    store_le(&d->writable[at + 2], MSIX_ENABLE | MSIX_MASK_ALL, 2);
    store_le(&d->config[at + 4], bar, 4);
    store_le(&d->config[at + 8], MSIX_PBA | bar, 4);
    return pci_add_bar(d, bar, 0x1000, PCI_BAR_MEM32, false, &ops, d, e);
}

/* -- Configuration space ------------------------------------------------------------------------------- */

uint8_t pci_add_capability(struct pci_device *d, uint8_t id, uint8_t length)
{
    unsigned at = d->cap_next, next = (at + length + 3u) & ~3u;
    if (next > 256)
        return 0;
    d->config[at] = id;
    d->config[d->cap_last ? d->cap_last + 1u : PCI_CAPABILITIES] = (uint8_t)at;
    d->config[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
    d->cap_last = (uint8_t)at;
    d->cap_next = (uint8_t)MIN(next, 255u);
    return (uint8_t)at;
}

uint32_t pci_config_read(struct pci_bus *b, uint8_t devfn, unsigned offset, unsigned size)
{
    struct pci_device *d = b->devices[devfn];
    if (!d)
        return (uint32_t)size_mask(size);
    if (offset >= 256)
        return offset < 4096 ? 0 : (uint32_t)size_mask(size); /* no extended capabilities */
    if (offset + size > 256)
        return (uint32_t)size_mask(size);
    if (d->config_read)
        d->config_read(d->owner, offset, size);
    uint32_t v = cfg(d, offset, size);
    /* The interrupt status bit is live. */
    for (unsigned i = 0; i < size; i++)
        if (offset + i == PCI_STATUS && d->intx)
            v |= (uint32_t)PCI_STATUS_INTX << 8 * i;
    return v;
}

void pci_config_write(struct pci_bus *b, uint8_t devfn, unsigned offset, unsigned size, uint32_t value)
{
    struct pci_device *d = b->devices[devfn];
    if (!d || offset + size > 256)
        return;
    for (unsigned i = 0; i < size; i++) {
        uint8_t w = d->writable[offset + i];
        d->config[offset + i] = (uint8_t)((d->config[offset + i] & ~w) | (value >> 8 * i & w));
    }
    if (offset < PCI_BAR0 + 4 * PCI_BARS && offset + size > PCI_COMMAND)
        pci_map_bars(d);
    if (offset < PCI_STATUS && offset + size > PCI_COMMAND)
        pci_update_intx(b);
    if (d->msi_cap && offset >= d->msi_cap && offset < d->msi_cap + 24u)
        msi_written(d);
    if (d->msix_cap && offset >= d->msix_cap && offset < d->msix_cap + 12u)
        msix_flush(d);
    if (d->config_written)
        d->config_written(d->owner, offset, size);
}

bool pci_device_init(struct pci_device *d, struct pci_bus *b, uint8_t devfn, const char *name,
                     uint16_t vendor, uint16_t device, uint32_t class_code, uint8_t revision, uint8_t pin,
                     struct error *e)
{
    if (b->devices[devfn])
        return error_set(e, "%s: PCI slot %u.%u is taken by %s", name, devfn >> 3, devfn & 7,
                         b->devices[devfn]->name);
    memset(d, 0, sizeof(*d));
    d->name = name;
    d->bus = b;
    d->devfn = devfn;
    d->cap_next = 0x40;
    store_le(&d->config[PCI_VENDOR_ID], vendor, 2);
    store_le(&d->config[PCI_DEVICE_ID], device, 2);
    d->config[PCI_REVISION] = revision;
    store_le(&d->config[PCI_CLASS], class_code, 2);
    d->config[PCI_CLASS + 2] = (uint8_t)(class_code >> 16);
    d->config[PCI_INTERRUPT_PIN] = pin;
    store_le(&d->writable[PCI_COMMAND],
             PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | BIT(6) | BIT(8) |
                 PCI_COMMAND_INTX_DISABLE,
             2);
    d->writable[0x0c] = 0xff; /* cache line size */
    d->writable[PCI_INTERRUPT_LINE] = 0xff;
    b->devices[devfn] = d;
    return true;
}

void pci_set_subsystem(struct pci_device *d, uint16_t vendor, uint16_t id)
{
    store_le(&d->config[PCI_SUBSYSTEM_VENDOR], vendor, 2);
    store_le(&d->config[PCI_SUBSYSTEM], id, 2);
}

void pci_device_done(struct pci_device *d)
{
    memcpy(d->reset_config, d->config, sizeof(d->config));
    pci_device_reset(d);
}

void pci_device_reset(struct pci_device *d)
{
    memcpy(d->config, d->reset_config, sizeof(d->config));
    memset(d->msix_table, 0, sizeof(d->msix_table));
    for (unsigned v = 0; v < PCI_MSIX_MAX; v++)
        d->msix_table[4 * v + 3] = MSIX_VECTOR_MASK;
    d->msix_pending = 0;
    d->intx = false;
    pci_map_bars(d);
    pci_update_intx(d->bus);
}

static bool pci_device_after_load(void *s, struct error *e)
{
    struct pci_device *d = s;
    /* What software cannot change must be what this machine was made with, or it is another machine's file.
     */
    for (unsigned i = 0; i < 256; i++) {
        uint8_t fixed = (uint8_t)~d->writable[i];
        if (i == PCI_STATUS || d->config_read || (d->msi_cap && i == d->msi_cap + 20u))
            continue;
        if ((d->config[i] ^ d->reset_config[i]) & fixed)
            return error_set(e, "%s: configuration byte %#x is another device's", d->name, i);
    }
    /* Every function again: an early one may have found its place taken by one not yet loaded. */
    for (unsigned i = 0; i < 256; i++)
        if (d->bus->devices[i])
            pci_unmap_bars(d->bus->devices[i]);
    for (unsigned i = 0; i < 256; i++)
        if (d->bus->devices[i])
            pci_map_bars(d->bus->devices[i]);
    return true;
}

static const struct state_field pci_device_fields[] = {
    STATE(struct pci_device, config),
    STATE(struct pci_device, msix_table),
    STATE(struct pci_device, msix_pending),
    STATE(struct pci_device, intx),
    STATE_SKIP(struct pci_device, writable, "made at creation"),
    STATE_SKIP(struct pci_device, reset_config, "made at creation"),
    STATE_SKIP(struct pci_device, bars, "made at creation"),
    STATE_SKIP(struct pci_device, devfn, "made at creation"),
    STATE_SKIP(struct pci_device, cap_next, "made at creation"),
    STATE_SKIP(struct pci_device, cap_last, "made at creation"),
    STATE_SKIP(struct pci_device, msi_cap, "made at creation"),
    STATE_SKIP(struct pci_device, msix_cap, "made at creation"),
    STATE_SKIP(struct pci_device, msix_count, "made at creation"),
    STATE_SKIP(struct pci_device, name, "made at creation"),
    STATE_SKIP(struct pci_device, bus, "wiring"),
    STATE_SKIP(struct pci_device, config_written, "wiring"),
    STATE_SKIP(struct pci_device, config_read, "wiring"),
    STATE_SKIP(struct pci_device, owner, "wiring"),
};
const struct state_desc pci_device_state =
    STATE_DESC("pci_device", struct pci_device, 1, pci_device_fields, pci_device_after_load);
