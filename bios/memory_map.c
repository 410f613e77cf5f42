/*
 * bios/memory_map.c -- the one table of what is where in guest-physical memory.
 *
 * ECAM must be reserved here or by PNP0C02, or Linux does not use it; it is in both.
 */
#include "bios/memory_map.h"

#include "devices/hpet.h"
#include "devices/ioapic.h"
#include "devices/pci.h"

#define LAPIC_BASE 0xfee00000ull
#define MEMORY_MIN (2ull << 20)

static void add(struct memory_map *m, uint64_t base, uint64_t size, uint32_t type)
{
    m->ranges[m->count++] = (struct memory_range){base, size, type};
}

bool memory_map_make(struct memory_map *m, const struct phys *phys, struct error *e)
{
    uint64_t low = ALIGN_DOWN(phys->low_size, PAGE_SIZE), high = phys->ram_size - phys->low_size;
    if (low < MEMORY_MIN)
        return error_set(e, "memory of %llu KB is too small, a kernel needs at least %llu KB",
                         (unsigned long long)phys->ram_size >> 10, MEMORY_MIN >> 10);
    m->count = 0;
    m->acpi = low - MEMORY_ACPI_SIZE;
    m->nvs = low - PAGE_SIZE;
    m->ram_end = m->acpi;
    add(m, 0, MEMORY_EBDA, E820_RAM);
    add(m, MEMORY_EBDA, 0xa0000 - MEMORY_EBDA, E820_RESERVED);
    add(m, MEMORY_BIOS, 0x100000 - MEMORY_BIOS, E820_RESERVED);
    add(m, 0x100000, m->acpi - 0x100000, E820_RAM);
    add(m, m->acpi, m->nvs - m->acpi, E820_ACPI);
    add(m, m->nvs, PAGE_SIZE, E820_NVS);
    add(m, PCI_ECAM_BASE, (uint64_t)PCI_ECAM_BUSES << 20, E820_RESERVED);
    add(m, IOAPIC_BASE, PAGE_SIZE, E820_RESERVED);
    add(m, HPET_BASE, PAGE_SIZE, E820_RESERVED);
    add(m, LAPIC_BASE, PAGE_SIZE, E820_RESERVED);
    if (high)
        add(m, BIT(32), high, E820_RAM);
    return true;
}

bool memory_map_is_ram(const struct memory_map *m, uint64_t base, uint64_t size)
{
    for (uint32_t i = 0; i < m->count; i++) {
        const struct memory_range *r = &m->ranges[i];
        if (r->type == E820_RAM && base >= r->base && base - r->base < r->size &&
            size <= r->size - (base - r->base))
            return true;
    }
    return false;
}
