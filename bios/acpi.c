/*
 * bios/acpi.c -- the ACPI tables: RSDP, RSDT, XSDT, FADT, FACS, MADT, HPET, MCFG, and the DSDT that iasl
 * made.
 *
 * Reference: ACPI specification 6.4; IA-PC HPET specification 1.0a; PCI Firmware specification 3.2 (MCFG).
 * The DSDT's source is bios/acpi/dsdt.asl; its NCPU is set to the number of processors here.
 * Tests: tests/unit/test_bios_acpi.c
 */
#include "bios/loader.h"

#include "bios/acpi/dsdt.h"
#include "devices/acpi_pm.h"
#include "devices/hpet.h"
#include "devices/ioapic.h"
#include "devices/pci.h"

#include <string.h>

#define LAPIC_BASE 0xfee00000u
#define TABLE_MAX  4096u
#define HEADER     36u

/* A table that grows; what does not fit would be our own mistake. */
struct table {
    uint8_t bytes[TABLE_MAX];
    uint32_t size;
};

static uint8_t *extend(struct table *t, uint32_t n)
{
    require(t->size + n <= TABLE_MAX, "ACPI table of more than %u bytes", TABLE_MAX);
    uint8_t *p = t->bytes + t->size;
    memset(p, 0, n);
    t->size += n;
    return p;
}

static void put(struct table *t, uint64_t v, unsigned size)
{
    store_le(extend(t, size), v, size);
}

static uint8_t checksum(const uint8_t *p, size_t n)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += p[i];
    return (uint8_t)-sum;
}

static void table_begin(struct table *t, const char *signature, uint8_t revision)
{
    t->size = 0;
    uint8_t *h = extend(t, HEADER);
    memcpy(h, signature, 4);
    h[8] = revision;
    memcpy(h + 10, "DROSTE", 6);
    memcpy(h + 16, "DROSTEPC", 8);
    store_le(h + 24, 1, 4);
    memcpy(h + 28, "DRST", 4);
    store_le(h + 32, 1, 4);
}

/* Where the next table goes, and the tables so far. */
struct acpi {
    struct phys *phys;
    uint64_t at, end;
    uint64_t list[8];
    unsigned count;
};

static uint64_t place(struct acpi *a, const uint8_t *bytes, uint32_t size)
{
    uint64_t at = ALIGN_UP(a->at, 64);
    require(at + size <= a->end, "ACPI tables do not fit");
    phys_write(a->phys, at, bytes, size);
    a->at = at + size;
    return at;
}

static uint64_t table_end(struct acpi *a, struct table *t)
{
    store_le(t->bytes + 4, t->size, 4);
    t->bytes[9] = 0;
    t->bytes[9] = checksum(t->bytes, t->size);
    return place(a, t->bytes, t->size);
}

/* Generic Address Structure. */
static void gas(uint8_t *p, uint8_t space, uint8_t bits, uint8_t access, uint64_t address)
{
    p[0] = space;
    p[1] = bits;
    p[2] = 0;
    p[3] = access;
    store_le(p + 4, address, 8);
}

enum { SPACE_MEMORY = 0, SPACE_IO = 1 };

static uint64_t write_dsdt(struct acpi *a, uint32_t cpus)
{
    static const uint8_t name[6] = {0x08, 'N', 'C', 'P', 'U', 0x0c}; /* Name (NCPU, dword) */
    uint8_t bytes[sizeof(dsdt_aml)];
    memcpy(bytes, dsdt_aml, sizeof(bytes));
    for (size_t i = 0; i + 10 <= sizeof(bytes); i++)
        if (memcmp(bytes + i, name, sizeof(name)) == 0)
            store_le(bytes + i + 6, cpus, 4);
    bytes[9] = 0;
    bytes[9] = checksum(bytes, sizeof(bytes));
    return place(a, bytes, sizeof(bytes));
}

static void write_facs(struct phys *phys, uint64_t at)
{
    uint8_t facs[64] = "FACS";
    facs[4] = sizeof(facs);
    facs[32] = 2;
    phys_write(phys, at, facs, sizeof(facs));
}

static uint64_t write_fadt(struct acpi *a, uint64_t facs, uint64_t dsdt)
{
    struct table t;
    table_begin(&t, "FACP", 6);
    uint8_t *f = extend(&t, 276 - HEADER) - HEADER;
    store_le(f + 36, facs, 4);
    store_le(f + 40, dsdt, 4);
    f[45] = 4; /* preferred profile: enterprise server */
    store_le(f + 46, ACPI_SCI_IRQ, 2);
    store_le(f + 48, ACPI_SMI_CMD, 4);
    f[52] = ACPI_ENABLE_CMD;
    f[53] = ACPI_DISABLE_CMD;
    store_le(f + 56, ACPI_PM1_EVT, 4);
    store_le(f + 64, ACPI_PM1_CNT, 4);
    store_le(f + 76, ACPI_PM_TMR, 4);
    store_le(f + 80, ACPI_GPE0, 4);
    f[88] = 4;
    f[89] = 2;
    f[91] = 4;
    f[92] = ACPI_GPE0_LENGTH;
    store_le(f + 96, 0xffff, 2);  /* no C2 */
    store_le(f + 98, 0xffff, 2);  /* no C3 */
    f[108] = 0x32;                /* century in CMOS */
    store_le(f + 109, 0x0007, 2); /* legacy devices, 8042, no VGA */
    /* WBINVD, PROC_C1, no sleep button, no RTC wake in fixed hardware, 32-bit PM timer, reset register */
    store_le(f + 112, BIT(0) | BIT(2) | BIT(5) | BIT(6) | BIT(8) | BIT(10), 4);
    gas(f + 116, SPACE_IO, 8, 1, 0xcf9);
    f[128] = 0x06;
    f[131] = 4; /* minor version */
    store_le(f + 132, facs, 8);
    store_le(f + 140, dsdt, 8);
    gas(f + 148, SPACE_IO, 32, 2, ACPI_PM1_EVT);
    gas(f + 172, SPACE_IO, 16, 2, ACPI_PM1_CNT);
    gas(f + 208, SPACE_IO, 32, 3, ACPI_PM_TMR);
    gas(f + 220, SPACE_IO, 8 * ACPI_GPE0_LENGTH, 1, ACPI_GPE0);
    return table_end(a, &t);
}

static void madt_override(struct table *t, uint8_t irq, uint32_t gsi, uint16_t flags)
{
    put(t, 2, 1), put(t, 10, 1), put(t, 0, 1), put(t, irq, 1), put(t, gsi, 4), put(t, flags, 2);
}

static uint64_t write_madt(struct acpi *a, uint32_t cpus)
{
    struct table t;
    table_begin(&t, "APIC", 5);
    put(&t, LAPIC_BASE, 4);
    put(&t, 1, 4); /* PC-AT compatible: there is a pair of 8259s */
    for (uint32_t i = 0; i < cpus; i++)
        put(&t, 0, 1), put(&t, 8, 1), put(&t, i, 1), put(&t, i, 1), put(&t, 1, 4);
    put(&t, 1, 1), put(&t, 12, 1), put(&t, BIOS_IOAPIC_ID, 1), put(&t, 0, 1), put(&t, IOAPIC_BASE, 4),
        put(&t, 0, 4);
    madt_override(&t, 0, 2, 0);                                                   /* the 8254 is on pin 2 */
    madt_override(&t, ACPI_SCI_IRQ, ACPI_SCI_IRQ, 0x0d);                          /* active high, level */
    put(&t, 4, 1), put(&t, 6, 1), put(&t, 0xff, 1), put(&t, 0, 2), put(&t, 1, 1); /* NMI on LINT1 of all */
    return table_end(a, &t);
}

static uint64_t write_hpet(struct acpi *a)
{
    struct table t;
    table_begin(&t, "HPET", 1);
    put(&t, HPET_ID, 4);
    gas(extend(&t, 12), SPACE_MEMORY, 64, 0, HPET_BASE);
    put(&t, 0, 1);   /* number */
    put(&t, 128, 2); /* shortest period without lost interrupts, in ticks */
    put(&t, 0, 1);
    return table_end(a, &t);
}

static uint64_t write_mcfg(struct acpi *a)
{
    struct table t;
    table_begin(&t, "MCFG", 1);
    put(&t, 0, 8);
    put(&t, PCI_ECAM_BASE, 8);
    put(&t, 0, 2), put(&t, 0, 1), put(&t, PCI_ECAM_BUSES - 1, 1), put(&t, 0, 4);
    return table_end(a, &t);
}

static uint64_t write_root(struct acpi *a, const char *signature, unsigned entry)
{
    struct table t;
    table_begin(&t, signature, 1);
    for (unsigned i = 0; i < a->count; i++)
        put(&t, a->list[i], entry);
    return table_end(a, &t);
}

uint64_t acpi_write(struct phys *phys, const struct memory_map *map, uint32_t cpus)
{
    struct acpi a = {.phys = phys, .at = map->acpi, .end = map->nvs};
    uint8_t rsdp[36] = "RSD PTR ";

    cpus = MIN(cpus, 255u); /* xAPIC identities */
    write_facs(phys, map->nvs);
    uint64_t dsdt = write_dsdt(&a, cpus);
    a.list[a.count++] = write_fadt(&a, map->nvs, dsdt);
    a.list[a.count++] = write_madt(&a, cpus);
    a.list[a.count++] = write_hpet(&a);
    a.list[a.count++] = write_mcfg(&a);
    uint64_t rsdt = write_root(&a, "RSDT", 4), xsdt = write_root(&a, "XSDT", 8);

    memcpy(rsdp + 9, "DROSTE", 6);
    rsdp[15] = 2;
    store_le(rsdp + 16, rsdt, 4);
    store_le(rsdp + 20, sizeof(rsdp), 4);
    store_le(rsdp + 24, xsdt, 8);
    rsdp[8] = checksum(rsdp, 20);
    rsdp[32] = checksum(rsdp, sizeof(rsdp));
    phys_write(phys, MEMORY_RSDP, rsdp, sizeof(rsdp));
    return MEMORY_RSDP;
}
