/*
 * devices/pci_bus.c -- PCI bus 0: CF8h/CFCh, ECAM, host bridge, ISA bridge, INTx routing, and what firmware
 * assigns.
 *
 * Reference: PCI Local Bus specification 3.0; PCI Firmware specification (ECAM); Intel ICH9 data sheet (PIRQ
 * routing). INTx of slot s, pin p (INTA = 0) is line (s + p) mod 4: IOAPIC pin 16 + line, and by PIRQA..D an
 * ISA line of the 8259. The DSDT's _PRT says the same. Tests: tests/unit/test_dev_pci.c
 */
#include "devices/pci.h"

#include <string.h>

#define PIRQ_OFF     0x80
#define ISA_PIRQA    0x60 /* configuration of the ISA bridge: PIRQA to D, and E to H at 68h */
#define ISA_PIRQE    0x68
#define HOST_ECAMBAR 0x60

/* -- INTx ---------------------------------------------------------------------------------------------- */

void pci_update_intx(struct pci_bus *b)
{
    uint8_t lines = 0;
    uint16_t pic = 0;
    for (unsigned i = 0; i < 256; i++) {
        const struct pci_device *d = b->devices[i];
        unsigned pin = d ? d->config[PCI_INTERRUPT_PIN] : 0;
        if (pin && d->intx && !(load_le(&d->config[PCI_COMMAND], 2) & PCI_COMMAND_INTX_DISABLE))
            lines |= (uint8_t)(1u << ((i >> 3) + pin - 1) % 4);
    }
    for (unsigned n = 0; n < 4; n++)
        if ((lines >> n & 1) && !(b->pirq[n] & PIRQ_OFF))
            pic |= (uint16_t)(1u << (b->pirq[n] & 15));
    uint8_t changed = lines ^ b->ioapic_lines;
    uint16_t pic_changed = pic ^ b->pic_lines;
    b->ioapic_lines = lines;
    b->pic_lines = pic;
    for (unsigned n = 0; n < 4; n++)
        if ((changed >> n & 1) && b->ioapic.set)
            b->ioapic.set(b->ioapic.owner, PCI_INTX_PIN + n, lines >> n & 1);
    for (unsigned n = 0; n < 16; n++)
        if ((pic_changed >> n & 1) && b->pic.set)
            b->pic.set(b->pic.owner, n, pic >> n & 1);
}

void pci_set_intx(struct pci_device *d, bool level)
{
    if (d->intx == level)
        return;
    d->intx = level;
    pci_update_intx(d->bus);
}

/* -- Access -------------------------------------------------------------------------------------------- */

static uint64_t address_read(void *owner, uint64_t offset, unsigned size)
{
    struct pci_bus *b = owner;
    if (size == 4)
        return b->address;
    if (size == 1 && offset == 1 && b->reset_control)
        return portcf9_read(b->reset_control);
    return size_mask(size);
}

static void address_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_bus *b = owner;
    if (size == 4)
        b->address = (uint32_t)value & 0x80fffffc;
    else if (size == 1 && offset == 1 && b->reset_control)
        portcf9_write(b->reset_control, (uint8_t)value);
}

static bool address_selects(const struct pci_bus *b)
{
    return (b->address & BIT(31)) && !(b->address >> 16 & 0xff);
}

static uint64_t data_read(void *owner, uint64_t offset, unsigned size)
{
    struct pci_bus *b = owner;
    if (!address_selects(b))
        return size_mask(size);
    return pci_config_read(b, (uint8_t)(b->address >> 8), (b->address & 0xfc) + (unsigned)offset, size);
}

static void data_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_bus *b = owner;
    if (address_selects(b))
        pci_config_write(b, (uint8_t)(b->address >> 8), (b->address & 0xfc) + (unsigned)offset, size,
                         (uint32_t)value);
}

/* ECAM address: bus 27..20, device and function 19..12, register 11..0. */
static uint64_t ecam_read(void *owner, uint64_t offset, unsigned size)
{
    struct pci_bus *b = owner;
    if (offset >> 20)
        return size_mask(size);
    return pci_config_read(b, (uint8_t)(offset >> 12), offset & 0xfff, size);
}

static void ecam_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_bus *b = owner;
    if (!(offset >> 20))
        pci_config_write(b, (uint8_t)(offset >> 12), offset & 0xfff, size, (uint32_t)value);
}

/* -- Bridges ------------------------------------------------------------------------------------------- */

static void isa_take_pirq(struct pci_bus *b)
{
    memcpy(&b->pirq[0], &b->isa.config[ISA_PIRQA], 4);
    memcpy(&b->pirq[4], &b->isa.config[ISA_PIRQE], 4);
}

static void isa_written(void *owner, unsigned offset, unsigned size)
{
    struct pci_bus *b = owner;
    (void)size;
    if (offset >= 0x60 && offset < 0x6c) {
        isa_take_pirq(b);
        pci_update_intx(b);
    }
}

static bool bridges_init(struct pci_bus *b, struct error *e)
{
    if (!pci_device_init(&b->host, b, PCI_DEVFN(0, 0), "pci host bridge", 0x8086, 0x29c0, 0x060000, 2, 0,
                         e) ||
        !pci_device_init(&b->isa, b, PCI_DEVFN(31, 0), "isa bridge", 0x8086, 0x2918, 0x060100, 2, 0, e))
        return false;
    pci_set_subsystem(&b->host, 0x1af4, 0x1100);
    pci_set_subsystem(&b->isa, 0x1af4, 0x1100);
    /* PCIEXBAR: where ECAM is, 256 buses, enabled; fixed on this board. */
    store_le(&b->host.config[HOST_ECAMBAR], PCI_ECAM_BASE | 1, 8);
    b->isa.config[PCI_HEADER_TYPE] = 0x80; /* multi-function: 1f.2 and 1f.3 may follow */
    for (unsigned n = 0; n < 4; n++) {
        b->isa.config[ISA_PIRQA + n] = b->isa.config[ISA_PIRQE + n] = PIRQ_OFF;
        b->isa.writable[ISA_PIRQA + n] = b->isa.writable[ISA_PIRQE + n] = 0x8f;
    }
    store_le(&b->isa.config[0x40], 0x601, 4); /* PMBASE, fixed */
    b->isa.config[0x44] = 0x80;               /* ACPI_CNTL: enabled, SCI on line 9 */
    b->isa.owner = b;
    b->isa.config_written = isa_written;
    pci_device_done(&b->host);
    pci_device_done(&b->isa);
    isa_take_pirq(b);
    return true;
}

void pci_reset(struct pci_bus *b)
{
    b->address = 0;
    for (unsigned i = 0; i < 256; i++)
        if (b->devices[i])
            pci_device_reset(b->devices[i]);
    isa_take_pirq(b);
    pci_update_intx(b);
}

/* -- What firmware does -------------------------------------------------------------------------------- */

static void assign_bars(struct pci_device *d, uint64_t *mmio, uint32_t *io)
{
    uint16_t command = 0;
    for (unsigned n = 0; n < PCI_BARS; n++) {
        const struct pci_bar *bar = &d->bars[n];
        unsigned reg = PCI_BAR0 + 4 * n;
        if (!bar->size)
            continue;
        if (bar->kind == PCI_BAR_IO) {
            *io = (uint32_t)ALIGN_UP(*io, bar->size);
            store_le(&d->config[reg], *io | 1, 4);
            *io += (uint32_t)bar->size;
            command |= PCI_COMMAND_IO;
        } else if (ALIGN_UP(*mmio, bar->size) + bar->size <= PCI_MMIO_END) {
            *mmio = ALIGN_UP(*mmio, bar->size);
            store_le(&d->config[reg], *mmio | (d->config[reg] & 0xf), 4);
            *mmio += bar->size;
            command |= PCI_COMMAND_MEMORY;
        } /* else: too large for the window below 4 GB; the kernel places it */
    }
    d->config[PCI_COMMAND] |= (uint8_t)command;
}

void pci_assign(struct pci_bus *b)
{
    static const uint8_t isa_lines[4] = {10, 11, 10, 11};
    uint64_t mmio = PCI_MMIO_BASE;
    uint32_t io = PCI_IO_BASE;
    memcpy(&b->isa.config[ISA_PIRQA], isa_lines, 4);
    memcpy(&b->isa.config[ISA_PIRQE], isa_lines, 4);
    isa_take_pirq(b);
    for (unsigned i = 0; i < 256; i++) {
        struct pci_device *d = b->devices[i];
        if (!d)
            continue;
        assign_bars(d, &mmio, &io);
        if (d->config[PCI_INTERRUPT_PIN])
            d->config[PCI_INTERRUPT_LINE] = isa_lines[((i >> 3) + d->config[PCI_INTERRUPT_PIN] - 1) % 4];
        pci_map_bars(d);
    }
    pci_update_intx(b);
}

bool pci_init(struct pci_bus *b, struct bus *bus, const struct intr_sink *sink, struct irq_line ioapic,
              struct irq_line pic, struct portcf9 *reset_control, struct log *log, struct error *e)
{
    static const struct bus_ops address_ops = {address_read, address_write, 4};
    static const struct bus_ops data_ops = {data_read, data_write, 4};
    static const struct bus_ops ecam_ops = {ecam_read, ecam_write, 4};
    memset(b, 0, sizeof(*b));
    b->bus = bus;
    b->sink = sink;
    b->ioapic = ioapic;
    b->pic = pic;
    b->reset_control = reset_control;
    b->log = log;
    return bridges_init(b, e) && device_add_pio(bus, 0xcf8, 4, &address_ops, b, "pci address", e) &&
           device_add_pio(bus, 0xcfc, 4, &data_ops, b, "pci data", e) &&
           device_add_mmio(bus, PCI_ECAM_BASE, (uint64_t)PCI_ECAM_BUSES << 20, &ecam_ops, b, "pci ecam", e);
}

static bool pci_after_load(void *s, struct error *e)
{
    (void)e;
    isa_take_pirq(s);
    return true;
}

static const struct state_field pci_fields[] = {
    STATE(struct pci_bus, address),
    STATE(struct pci_bus, ioapic_lines),
    STATE(struct pci_bus, pic_lines),
    STATE_SUB(struct pci_bus, host, pci_device_state),
    STATE_SUB(struct pci_bus, isa, pci_device_state),
    STATE_SKIP(struct pci_bus, pirq, "a view of the ISA bridge's configuration"),
    STATE_SKIP(struct pci_bus, devices, "wiring"),
    STATE_SKIP(struct pci_bus, bus, "wiring"),
    STATE_SKIP(struct pci_bus, sink, "wiring"),
    STATE_SKIP(struct pci_bus, ioapic, "wiring"),
    STATE_SKIP(struct pci_bus, pic, "wiring"),
    STATE_SKIP(struct pci_bus, reset_control, "wiring"),
    STATE_SKIP(struct pci_bus, log, "wiring"),
};
const struct state_desc pci_state = STATE_DESC("pci", struct pci_bus, 1, pci_fields, pci_after_load);
