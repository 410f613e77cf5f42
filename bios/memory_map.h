/*
 * bios/memory_map.h -- the one table of what is where in guest-physical memory, for loaders and ACPI.
 */
#ifndef BIOS_MEMORY_MAP_H
#define BIOS_MEMORY_MAP_H

#include "base/error.h"
#include "base/types.h"
#include "mmu/phys.h"

/* ACPI 6.4, "Address Range Types". */
enum { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };

#define MEMORY_MAP_MAX   16u
#define MEMORY_EBDA      0x9fc00ull
#define MEMORY_BIOS      0xe0000ull /* reserved up to 1 MB */
#define MEMORY_RSDP      0xf0000ull
#define MEMORY_SMBIOS    0xf0040ull /* entry point; the structures follow */
#define MEMORY_ACPI_SIZE 0x20000ull /* tables, and in the last page the FACS */

struct memory_range {
    uint64_t base, size;
    uint32_t type;
};

struct memory_map {
    struct memory_range ranges[MEMORY_MAP_MAX]; /* sorted, without overlap */
    uint32_t count;
    uint64_t acpi;    /* where the ACPI tables go */
    uint64_t nvs;     /* where the FACS goes */
    uint64_t ram_end; /* end of usable RAM from 1 MB up, below 4 GB */
};

bool memory_map_make(struct memory_map *m, const struct phys *phys, struct error *e);
/* All of [base, base + size) is RAM that a kernel may be loaded to. */
bool memory_map_is_ram(const struct memory_map *m, uint64_t base, uint64_t size);

#endif
