/*
 * tests/unit/test_bios_acpi.c -- ACPI and SMBIOS tables: checksums, pointers, and agreement with the devices.
 */
#include "tests/unit/dev_board.h"

#include "bios/loader.h"
#include "devices/acpi_pm.h"
#include "devices/hpet.h"
#include "devices/pci.h"

#define MB (1ull << 20)

static uint64_t rsdp;
static struct memory_map map;

static struct board *acpi_new(uint32_t cpus)
{
    struct board *b = board_new(64 * MB);
    OK(memory_map_make(&map, &b->phys, &b->error));
    rsdp = acpi_write(&b->phys, &map, cpus);
    smbios_write(&b->phys, &map, cpus);
    return b;
}

static uint8_t sum(struct board *b, uint64_t at, uint64_t n)
{
    uint8_t s = 0;
    for (uint64_t i = 0; i < n; i++)
        s += (uint8_t)phys_load(&b->phys, at + i, 1);
    return s;
}

static uint64_t find(struct board *b, const char *signature)
{
    uint64_t xsdt = phys_load(&b->phys, rsdp + 24, 8), size = phys_load(&b->phys, xsdt + 4, 4);
    for (uint64_t i = 36; i < size; i += 8) {
        uint64_t at = phys_load(&b->phys, xsdt + i, 8);
        if (memcmp(phys_ram(&b->phys, at, 4), signature, 4) == 0)
            return at;
    }
    cr_assert(false, "no %s", signature);
    return 0;
}

/* Where `n` bytes of text stand in [p, p + size), or NULL. */
static const uint8_t *search(const uint8_t *p, uint64_t size, const char *text, uint64_t n)
{
    for (uint64_t i = 0; i + n <= size; i++)
        if (memcmp(p + i, text, n) == 0)
            return p + i;
    return NULL;
}

static uint64_t word(struct board *b, uint64_t at, unsigned size)
{
    return phys_load(&b->phys, at, size);
}

Test(acpi, every_table_adds_up)
{
    struct board *b = acpi_new(4);
    cr_assert_eq(sum(b, rsdp, 20), 0);
    cr_assert_eq(sum(b, rsdp, 36), 0);
    uint64_t xsdt = word(b, rsdp + 24, 8), rsdt = word(b, rsdp + 16, 4), n = (word(b, xsdt + 4, 4) - 36) / 8;
    cr_assert_eq(n, 4);
    cr_assert_eq(sum(b, xsdt, word(b, xsdt + 4, 4)), 0);
    cr_assert_eq(sum(b, rsdt, word(b, rsdt + 4, 4)), 0);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = word(b, xsdt + 36 + 8 * i, 8);
        cr_assert_eq(word(b, rsdt + 36 + 4 * i, 4), at);
        cr_assert_eq(sum(b, at, word(b, at + 4, 4)), 0);
        cr_assert(at >= map.acpi && at + word(b, at + 4, 4) <= map.nvs);
    }
    uint64_t dsdt = word(b, find(b, "FACP") + 140, 8);
    cr_assert_eq(sum(b, dsdt, word(b, dsdt + 4, 4)), 0);
    board_free(b);
}

Test(acpi, fadt_agrees_with_the_hardware)
{
    struct board *b = acpi_new(1);
    uint64_t f = find(b, "FACP");
    cr_assert_eq(word(b, f + 4, 4), 276);
    cr_assert_eq(word(b, f + 46, 2), ACPI_SCI_IRQ);
    cr_assert_eq(word(b, f + 56, 4), ACPI_PM1_EVT);
    cr_assert_eq(word(b, f + 152, 8), ACPI_PM1_EVT);
    cr_assert_eq(word(b, f + 176, 8), ACPI_PM1_CNT);
    cr_assert_eq(word(b, f + 212, 8), ACPI_PM_TMR);
    cr_assert_eq(word(b, f + 224, 8), ACPI_GPE0);
    cr_assert_eq(word(b, f + 120, 8), 0xcf9);
    cr_assert_eq(word(b, f + 128, 1), 6);
    cr_assert_eq(word(b, f + 36, 4), map.nvs);
    cr_assert_eq(word(b, map.nvs, 4), 0x53434146, "FACS");
    cr_assert_eq(word(b, find(b, "HPET") + 44, 8), HPET_BASE);
    cr_assert_eq(word(b, find(b, "MCFG") + 44, 8), PCI_ECAM_BASE);
    board_free(b);
}

Test(acpi, madt_lists_processors)
{
    struct board *b = acpi_new(3);
    uint64_t m = find(b, "APIC"), size = word(b, m + 4, 4);
    unsigned cpus = 0, ioapics = 0, overrides = 0;
    cr_assert_eq(word(b, m + 40, 4), 1, "PC-AT compatible");
    for (uint64_t i = 44; i < size; i += word(b, m + i + 1, 1)) {
        cr_assert_gt(word(b, m + i + 1, 1), 1);
        switch (word(b, m + i, 1)) {
        case 0:
            cr_assert_eq(word(b, m + i + 3, 1), cpus);
            cpus++;
            break;
        case 1:
            ioapics++;
            break;
        case 2:
            overrides++;
            break;
        }
    }
    cr_assert_eq(cpus, 3);
    cr_assert_eq(ioapics, 1);
    cr_assert_eq(overrides, 2);
    board_free(b);
}

Test(acpi, dsdt_knows_the_processors_and_the_sleep_type)
{
    struct board *b = acpi_new(5);
    uint64_t at = word(b, find(b, "FACP") + 140, 8), size = word(b, at + 4, 4);
    const uint8_t *p = phys_ram(&b->phys, at, size);
    const uint8_t *ncpu = search(p, size, "NCPU\x0c", 5), *s5 = search(p, size, "_S5_\x12", 5);
    cr_assert(ncpu && load_le(ncpu + 5, 4) == 5);
    cr_assert(s5 != NULL);
    cr_assert_eq(s5[7], 0x0a, "a byte constant");
    cr_assert_eq(s5[8], ACPI_S5_SLP_TYP);
    board_free(b);
}

Test(acpi, smbios_walks_to_its_end)
{
    struct board *b = acpi_new(2);
    cr_assert_eq(sum(b, MEMORY_SMBIOS, 24), 0);
    uint64_t at = word(b, MEMORY_SMBIOS + 16, 8), end = at + word(b, MEMORY_SMBIOS + 12, 4);
    unsigned seen = 0;
    while (at < end) {
        unsigned type = (unsigned)word(b, at, 1);
        seen++;
        at += word(b, at + 1, 1);
        while (word(b, at, 2))
            at++;
        at += 2;
        if (type == 127)
            break;
    }
    cr_assert_eq(at, end);
    cr_assert_eq(seen, 7);
    board_free(b);
}
