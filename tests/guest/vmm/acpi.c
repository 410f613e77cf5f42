/*
 * vmm/acpi.c -- ACPI tables for the guest.
 *
 * ACPI Specification 6.4, chapter 5 (tables) and 20 (AML). Debian's kernels
 * are built without the older MP tables, so processors can only be found here:
 *
 *   RSDP -> XSDT -> MADT   local APICs, one I/O APIC, the SCI's trigger mode
 *                -> FADT   PM1 registers, reset port -> DSDT: \_S5 (power-off)
 */
#include <string.h>

#include "kvmm.h"

#define IOAPIC_ADDRESS 0xfec00000u
#define LAPIC_ADDRESS  0xfee00000u

#define FADT_SIZE                244u /* revision 4 */
#define FADT_FLAG_WBINVD         (1u << 0)
#define FADT_FLAG_PROC_C1        (1u << 2)
#define FADT_FLAG_PWR_BUTTON     (1u << 4) /* no fixed power button */
#define FADT_FLAG_SLP_BUTTON     (1u << 5) /* no fixed sleep button */
#define FADT_FLAG_RESET_REG      (1u << 10)
#define FADT_ARCH_LEGACY_DEVICES (1u << 0)
#define FADT_ARCH_NO_VGA         (1u << 2)

#define MADT_FLAG_PCAT_COMPAT  1u /* there are 8259s too */
#define MADT_ACTIVE_HIGH_LEVEL 0x000du

/* Name (\_S5, Package (4) {5, 5, 0, 0}): the SLP_TYP values of power-off. */
static const uint8_t dsdt_aml[] = {
    0x08, '_',  'S', '5', '_', 0x12, 0x08, 0x04, 0x0a, ACPI_SLEEP_TYPE_S5, 0x0a, ACPI_SLEEP_TYPE_S5,
    0x00, 0x00,
};

/* A bump allocator over the guest's ACPI area. */
struct builder {
    uint8_t *base; /* host address of GUEST_ACPI */
    uint32_t used; /* bytes */
};

static void put(uint8_t *at, unsigned offset, uint64_t value, unsigned size)
{
    memcpy(at + offset, &value, size);
}

/* Generic Address Structure of an I/O port. */
static void put_port(uint8_t *at, unsigned offset, uint16_t port, unsigned bits)
{
    put(at, offset, 1, 1); /* system I/O space */
    put(at, offset + 1, bits, 1);
    put(at, offset + 4, port, 8);
}

static uint8_t *allocate(struct builder *builder, uint32_t size)
{
    uint8_t *at = builder->base + builder->used;

    builder->used += (size + 63u) & ~63u;
    return at;
}

static uint64_t address_of(const struct builder *builder, const uint8_t *at)
{
    return GUEST_ACPI + (uint64_t)(at - builder->base);
}

static void set_checksum(uint8_t *at, unsigned offset, uint32_t size)
{
    uint8_t sum = 0;

    at[offset] = 0;
    for (uint32_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + at[i]);
    at[offset] = (uint8_t)-sum;
}

static uint8_t *start_table(struct builder *builder, const char *signature, uint8_t revision, uint32_t size)
{
    uint8_t *at = allocate(builder, size);

    memcpy(at, signature, 4);
    put(at, 4, size, 4);
    put(at, 8, revision, 1);
    memcpy(at + 10, "KVMM  ", 6);
    memcpy(at + 16, "KVMM    ", 8);
    put(at, 24, 1, 4);
    memcpy(at + 28, "KVMM", 4);
    put(at, 32, 1, 4);
    return at;
}

static uint8_t *build_madt(struct builder *builder, unsigned cpu_count)
{
    uint32_t size = 44 + 8 * cpu_count + 12 + 10;
    uint8_t *madt = start_table(builder, "APIC", 3, size), *at;

    put(madt, 36, LAPIC_ADDRESS, 4);
    put(madt, 40, MADT_FLAG_PCAT_COMPAT, 4);
    at = madt + 44;
    for (unsigned i = 0; i < cpu_count; i++, at += 8) {
        put(at, 0, 0, 1); /* processor local APIC */
        put(at, 1, 8, 1);
        put(at, 2, i, 1); /* ACPI processor UID */
        put(at, 3, i, 1); /* APIC ID */
        put(at, 4, 1, 4); /* enabled */
    }
    put(at, 0, 1, 1); /* I/O APIC */
    put(at, 1, 12, 1);
    put(at, 2, cpu_count, 1); /* ID */
    put(at, 4, IOAPIC_ADDRESS, 4);
    put(at, 8, 0, 4); /* first GSI */
    at += 12;
    put(at, 0, 2, 1); /* interrupt source override */
    put(at, 1, 10, 1);
    put(at, 3, KVMM_IRQ_SCI, 1);
    put(at, 4, KVMM_IRQ_SCI, 4);
    put(at, 8, MADT_ACTIVE_HIGH_LEVEL, 2);
    set_checksum(madt, 9, size);
    return madt;
}

static uint8_t *build_fadt(struct builder *builder)
{
    uint8_t *facs = allocate(builder, 64), *dsdt, *fadt;
    uint32_t dsdt_size = 36 + sizeof(dsdt_aml);

    memcpy(facs, "FACS", 4);
    put(facs, 4, 64, 4);
    put(facs, 32, 1, 1); /* version */

    dsdt = start_table(builder, "DSDT", 2, dsdt_size);
    memcpy(dsdt + 36, dsdt_aml, sizeof(dsdt_aml));
    set_checksum(dsdt, 9, dsdt_size);

    /* SMI_CMD stays 0: the machine is always in ACPI mode. */
    fadt = start_table(builder, "FACP", 4, FADT_SIZE);
    put(fadt, 36, address_of(builder, facs), 4);
    put(fadt, 40, address_of(builder, dsdt), 4);
    put(fadt, 46, KVMM_IRQ_SCI, 2);
    put(fadt, 56, PORT_PM1_EVENT, 4);
    put(fadt, 64, PORT_PM1_CONTROL, 4);
    put(fadt, 88, 4, 1);      /* PM1_EVT_LEN */
    put(fadt, 89, 2, 1);      /* PM1_CNT_LEN */
    put(fadt, 96, 0xffff, 2); /* no C2 */
    put(fadt, 98, 0xffff, 2); /* no C3 */
    put(fadt, 109, FADT_ARCH_LEGACY_DEVICES | FADT_ARCH_NO_VGA, 2);
    put(fadt, 112,
        FADT_FLAG_WBINVD | FADT_FLAG_PROC_C1 | FADT_FLAG_PWR_BUTTON | FADT_FLAG_SLP_BUTTON |
            FADT_FLAG_RESET_REG,
        4);
    put_port(fadt, 116, 0xcf9, 8);
    put(fadt, 128, 6, 1); /* reset value */
    put(fadt, 140, address_of(builder, dsdt), 8);
    put_port(fadt, 148, PORT_PM1_EVENT, 32);
    put_port(fadt, 172, PORT_PM1_CONTROL, 16);
    set_checksum(fadt, 9, FADT_SIZE);
    return fadt;
}

uint64_t acpi_build(struct vm *vm)
{
    struct builder builder = {.base = vm->ram + GUEST_ACPI};
    uint8_t *rsdp = allocate(&builder, 36);
    uint8_t *fadt = build_fadt(&builder);
    uint8_t *madt = build_madt(&builder, vm->options.cpu_count);
    uint8_t *xsdt = start_table(&builder, "XSDT", 1, 36 + 2 * 8);

    put(xsdt, 36, address_of(&builder, fadt), 8);
    put(xsdt, 44, address_of(&builder, madt), 8);
    set_checksum(xsdt, 9, 36 + 2 * 8);

    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + 9, "KVMM  ", 6);
    put(rsdp, 15, 2, 1);  /* revision */
    put(rsdp, 20, 36, 4); /* length */
    put(rsdp, 24, address_of(&builder, xsdt), 8);
    set_checksum(rsdp, 8, 20);
    set_checksum(rsdp, 32, 36);
    return address_of(&builder, rsdp);
}
