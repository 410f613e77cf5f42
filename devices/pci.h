/*
 * devices/pci.h -- PCI: bus 0, its devices' configuration space, BARs, INTx, MSI and MSI-X.
 *
 * A device embeds a struct pci_device, fills in its header with pci_device_init(), adds BARs and
 * capabilities, and then raises interrupts with pci_set_intx() or pci_msix_notify(). The bus is reached by
 * CF8h/CFCh and by ECAM (one MB a bus; only bus 0 has devices).
 */
#ifndef DEVICES_PCI_H
#define DEVICES_PCI_H

#include "devices/device.h"
#include "devices/ports.h"

#define PCI_ECAM_BASE   0xe0000000ull
#define PCI_ECAM_BUSES  256u
#define PCI_MMIO_BASE   0xc0000000ull /* window for BARs, up to ECAM */
#define PCI_MMIO_END    0xe0000000ull
#define PCI_IO_BASE     0xc000u
#define PCI_MMIO64_BASE 0x8000000000ull /* window for 64-bit BARs in _CRS */
#define PCI_MMIO64_END  0x9000000000ull
#define PCI_INTX_PIN    16u /* IOAPIC pins 16 to 19 */
#define PCI_MSIX_MAX    32u
#define PCI_BARS        6u

#define PCI_DEVFN(slot, fn) ((uint8_t)((slot) << 3 | (fn)))

/* Offsets and bits of the type 0 header (PCI Local Bus specification 3.0, "Configuration Space"). */
enum {
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08,
    PCI_CLASS = 0x09,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR = 0x2c,
    PCI_SUBSYSTEM = 0x2e,
    PCI_CAPABILITIES = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
};
#define PCI_COMMAND_IO           BIT(0)
#define PCI_COMMAND_MEMORY       BIT(1)
#define PCI_COMMAND_MASTER       BIT(2)
#define PCI_COMMAND_INTX_DISABLE BIT(10)
#define PCI_STATUS_INTX          BIT(3)
#define PCI_STATUS_CAPABILITIES  BIT(4)
#define PCI_CAP_MSI              0x05
#define PCI_CAP_VENDOR           0x09
#define PCI_CAP_MSIX             0x11

enum pci_bar_kind { PCI_BAR_MEM32, PCI_BAR_MEM64, PCI_BAR_IO };

struct pci_bar {
    uint64_t size; /* power of two; 0 none */
    uint8_t kind;  /* enum pci_bar_kind */
    bool prefetch;
    int handle; /* region on the bus */
};

struct pci_bus;

struct pci_device {
    uint8_t config[256];
    uint32_t msix_table[PCI_MSIX_MAX * 4]; /* address, address high, data, control (bit 0 masked) */
    uint32_t msix_pending;                 /* bit a vector */
    bool intx;                             /* the function asks for its INTx line */
    /* What follows is made at creation and does not change. */
    uint8_t writable[256];
    uint8_t reset_config[256];
    struct pci_bar bars[PCI_BARS];
    uint8_t devfn;
    uint8_t cap_next, cap_last; /* where the next capability goes, and the last one */
    uint8_t msi_cap, msix_cap;  /* offsets, 0 none */
    uint8_t msix_count;
    const char *name;
    struct pci_bus *bus;
    /* After a write to configuration space; may be NULL. */
    void (*config_written)(void *owner, unsigned offset, unsigned size);
    /* Before a read; lets a capability window show device registers. May be NULL. */
    void (*config_read)(void *owner, unsigned offset, unsigned size);
    void *owner;
};

struct pci_bus {
    uint32_t address;     /* CF8h */
    uint8_t pirq[8];      /* PIRQA to H routing: bit 7 off, low 4 bits ISA line; a view of the ISA bridge */
    uint8_t ioapic_lines; /* INTA to D as last set */
    uint16_t pic_lines;   /* ISA lines as last set by INTx */
    struct pci_device *devices[256]; /* by devfn */
    struct bus *bus;
    const struct intr_sink *sink;
    struct irq_line ioapic; /* set(n = IOAPIC pin) */
    struct irq_line pic;    /* set(n = ISA line), 8259 only */
    struct portcf9 *reset_control;
    struct log *log;
    struct pci_device host, isa; /* 00:00.0 and 00:1f.0 */
};

bool pci_init(struct pci_bus *b, struct bus *bus, const struct intr_sink *sink, struct irq_line ioapic,
              struct irq_line pic, struct portcf9 *reset_control, struct log *log, struct error *e);
/* Resets every function's configuration; call pci_assign() after it to do what firmware does. */
void pci_reset(struct pci_bus *b);
/* Gives every BAR an address, enables decoding and fills in the interrupt lines, as firmware would. */
void pci_assign(struct pci_bus *b);
/* Describes the bus and the two bridges. */
extern const struct state_desc pci_state;

/* Configuration of one function; size 1, 2 or 4. */
uint32_t pci_config_read(struct pci_bus *b, uint8_t devfn, unsigned offset, unsigned size);
void pci_config_write(struct pci_bus *b, uint8_t devfn, unsigned offset, unsigned size, uint32_t value);

/* -- For devices --------------------------------------------------------------------------------------- */

/* class_code is class << 16 | subclass << 8 | interface; pin 1 to 4 is INTA to INTD, 0 none. */
bool pci_device_init(struct pci_device *d, struct pci_bus *b, uint8_t devfn, const char *name,
                     uint16_t vendor, uint16_t device, uint32_t class_code, uint8_t revision, uint8_t pin,
                     struct error *e);
void pci_set_subsystem(struct pci_device *d, uint16_t vendor, uint16_t id);
bool pci_add_bar(struct pci_device *d, unsigned n, uint64_t size, enum pci_bar_kind kind, bool prefetch,
                 const struct bus_ops *ops, void *owner, struct error *e);
/* Reserves a capability of `length` bytes (header included); its offset, or 0 when there is no room. */
uint8_t pci_add_capability(struct pci_device *d, uint8_t id, uint8_t length);
/* 64-bit MSI with one vector and a mask bit. */
bool pci_add_msi(struct pci_device *d);
/* MSI-X: BAR n becomes 4 KB with the table at 0 and the pending bits at 800H. */
bool pci_add_msix(struct pci_device *d, unsigned bar, unsigned vectors, struct error *e);
/* Freezes the configuration as it is now as the reset state. Call last. */
void pci_device_done(struct pci_device *d);
void pci_device_reset(struct pci_device *d);
/* The function's INTx line. */
void pci_set_intx(struct pci_device *d, bool level);
void pci_msi_notify(struct pci_device *d);
void pci_msix_notify(struct pci_device *d, unsigned vector);
bool pci_msi_enabled(const struct pci_device *d);
bool pci_msix_enabled(const struct pci_device *d);
bool pci_bus_master(const struct pci_device *d);
extern const struct state_desc pci_device_state;

/* -- Between pci.c and pci_bus.c ----------------------------------------------------------------------- */

void pci_map_bars(struct pci_device *d);
void pci_unmap_bars(struct pci_device *d);
/* Works out the INTx lines anew. */
void pci_update_intx(struct pci_bus *b);

#endif
