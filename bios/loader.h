/*
 * bios/loader.h -- what the loaders share.
 */
#ifndef BIOS_LOADER_H
#define BIOS_LOADER_H

#include "bios/boot.h"
#include "bios/memory_map.h"

#define BOOT_GDT         0x1000u
#define BOOT_PAGE_TABLES 0x2000u
#define BOOT_STACK       0x9000u
#define BOOT_ZERO_PAGE   0x10000u
#define BOOT_COMMAND     0x11000u
#define BOOT_COMMAND_MAX 0x8000u

/* A file in host memory. */
struct image {
    const char *path;
    uint8_t *bytes;
    size_t size;
};

/* Reads a whole file of at most `limit` bytes (guest memory); `what` begins the error message. */
bool image_read(struct image *im, const char *what, const char *path, uint64_t limit, struct error *e);
void image_free(struct image *im);

struct loader {
    struct phys *phys;
    const struct boot_files *files;
    struct memory_map map;
    uint64_t rsdp; /* address of the ACPI root pointer */
};

/* Fills in the registers of flat 32-bit or 64-bit code, and the tables in low memory that they need. */
void boot_flat(struct phys *phys, struct boot_state *s, enum boot_mode mode);

bool linux_recognises(const struct image *im);
bool linux_load(struct loader *l, const struct image *im, struct boot_state *s, struct error *e);
bool multiboot_recognises(const struct image *im);
bool multiboot_load(struct loader *l, const struct image *im, struct boot_state *s, struct error *e);

/* Writes the ACPI tables; the address of the RSDP. */
uint64_t acpi_write(struct phys *phys, const struct memory_map *map, uint32_t cpus);
void smbios_write(struct phys *phys, const struct memory_map *map, uint32_t cpus);

#endif
