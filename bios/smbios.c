/*
 * bios/smbios.c -- SMBIOS 3.0 tables: what the machine calls itself.
 *
 * Reference: DMTF DSP0134, System Management BIOS specification 3.2. Entry point at F0040H, structures behind
 * it.
 */
#include "bios/loader.h"

#include <string.h>

struct smbios {
    uint8_t bytes[2048];
    uint32_t size;
    uint16_t handle;
};

/* A structure: the formatted part, then its strings (a list of strings that ends with NULL). */
static void structure(struct smbios *s, uint8_t type, const uint8_t *body, uint8_t length,
                      const char *const *strings)
{
    uint8_t *p = s->bytes + s->size;
    size_t need = 4u + length + 2;
    for (const char *const *t = strings; t && *t; t++)
        need += strlen(*t) + 1;
    require(s->size + need <= sizeof(s->bytes), "SMBIOS tables do not fit");
    p[0] = type;
    p[1] = (uint8_t)(length + 4);
    store_le(p + 2, s->handle++, 2);
    if (length)
        memcpy(p + 4, body, length);
    s->size += 4u + length;
    if (!strings || !*strings)
        s->bytes[s->size++] = 0;
    for (; strings && *strings; strings++) {
        size_t n = strlen(*strings) + 1;
        memcpy(s->bytes + s->size, *strings, n);
        s->size += (uint32_t)n;
    }
    s->bytes[s->size++] = 0;
}

static void firmware_and_system(struct smbios *s)
{
    static const char *const bios_strings[] = {"droste", "0.1", "01/01/2024", NULL};
    static const char *const system_strings[] = {"droste", "Droste PC", "0.1", NULL};
    static const char *const chassis_strings[] = {"droste", NULL};
    uint8_t bios[0x18 - 4] = {1, 2};
    bios[4] = 3;                   /* date; start segment 0 and size 64 KB say "none" */
    store_le(bios + 6, BIT(3), 8); /* characteristics are not known */
    bios[15] = 1u << 2 | 1u << 4;  /* targeted content distribution; a virtual machine is what it is */
    structure(s, 0, bios, sizeof(bios), bios_strings);
    uint8_t system[0x1b - 4] = {1, 2, 3, 0};
    system[20] = 6; /* woken by the power switch */
    structure(s, 1, system, sizeof(system), system_strings);
    uint8_t chassis[0x15 - 4] = {1, 1};       /* type "other" */
    chassis[5] = chassis[6] = chassis[7] = 3; /* safe */
    chassis[8] = 2;
    structure(s, 3, chassis, sizeof(chassis), chassis_strings);
}

static void processor(struct smbios *s, uint32_t cpus)
{
    static const char *const strings[] = {"CPU 0", "Intel", NULL};
    uint8_t cpu[0x30 - 4] = {1, 3, 0xfe, 2};
    store_le(cpu + 4 + 4 + 4 + 2 + 2, 1000, 2); /* MHz: most, and now */
    store_le(cpu + 4 + 4 + 4 + 2 + 4, 1000, 2);
    cpu[20] = 0x41; /* socket populated, enabled */
    cpu[21] = 1;
    memset(cpu + 22, 0xff, 6); /* no cache structures */
    cpu[31] = cpu[32] = cpu[33] = (uint8_t)MIN(cpus, 255u);
    store_le(cpu + 34, BIT(2), 2); /* 64-bit */
    store_le(cpu + 36, 0xfe, 2);
    structure(s, 4, cpu, sizeof(cpu), strings);
}

static void memory(struct smbios *s, uint64_t bytes)
{
    static const char *const strings[] = {"DIMM 0", NULL};
    uint16_t array_handle = s->handle;
    uint8_t array[0x17 - 4] = {3, 3, 3}; /* system board, system memory, no correction */
    store_le(array + 3, bytes >> 10 < BIT(31) ? bytes >> 10 : BIT(31), 4);
    store_le(array + 7, 0xfffe, 2);
    store_le(array + 9, 1, 2);
    store_le(array + 11, bytes >> 10 < BIT(31) ? 0 : bytes, 8);
    structure(s, 16, array, sizeof(array), NULL);
    uint8_t device[0x28 - 4] = {0};
    uint64_t mb = bytes >> 20;
    store_le(device, array_handle, 2);
    store_le(device + 2, 0xfffe, 2);
    store_le(device + 4, 64, 2);
    store_le(device + 6, 64, 2);
    store_le(device + 8, mb < 0x7fff ? mb : 0x7fff, 2);
    device[10] = 9; /* DIMM */
    device[12] = 1;
    device[14] = 7; /* RAM */
    store_le(device + 24, mb < 0x7fff ? 0 : mb, 4);
    structure(s, 17, device, sizeof(device), strings);
}

void smbios_write(struct phys *phys, const struct memory_map *map, uint32_t cpus)
{
    struct smbios s = {0};
    uint8_t entry[24] = "_SM3_", sum = 0;
    (void)map;

    firmware_and_system(&s);
    processor(&s, cpus);
    memory(&s, phys->ram_size);
    structure(&s, 127, NULL, 0, NULL);
    entry[6] = sizeof(entry);
    entry[7] = 3;
    entry[8] = 2;
    entry[10] = 1; /* entry point revision */
    store_le(entry + 12, s.size, 4);
    store_le(entry + 16, MEMORY_SMBIOS + 0x40, 8);
    for (unsigned i = 0; i < sizeof(entry); i++)
        sum += entry[i];
    entry[5] = (uint8_t)-sum;
    phys_write(phys, MEMORY_SMBIOS, entry, sizeof(entry));
    phys_write(phys, MEMORY_SMBIOS + 0x40, s.bytes, s.size);
}
