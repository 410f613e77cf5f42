/*
 * bios/boot.c -- reads the kernel's file, chooses its loader, and prepares the registers and tables it begins
 * with.
 *
 * Not here: the formats (linux.c, multiboot.c), the firmware tables (acpi.c, smbios.c).
 * Tests: tests/unit/test_bios_boot.c
 */
#include "bios/loader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* -- Files --------------------------------------------------------------------------------------------- */

/* Reads to the end or one byte beyond the limit, whatever kind of file it is. */
static bool read_all(struct image *im, FILE *f, size_t limit)
{
    size_t room = 0;
    for (;;) {
        if (im->size == room) {
            room = MIN(room ? 2 * room : 1u << 20, limit + 1);
            uint8_t *p = realloc(im->bytes, room);
            if (!p)
                return false;
            im->bytes = p;
        }
        size_t n = fread(im->bytes + im->size, 1, room - im->size, f);
        im->size += n;
        if (n == 0 || im->size > limit)
            return !ferror(f);
    }
}

bool image_read(struct image *im, const char *what, const char *path, uint64_t limit, struct error *e)
{
    struct stat st;
    *im = (struct image){.path = path};
    FILE *f = fopen(path, "rb");
    if (!f)
        return error_set(e, "%s '%s': %s", what, path, strerror(errno));
    if (fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode)) {
        fclose(f);
        return error_set(e, "%s '%s': %s", what, path, strerror(EISDIR));
    }
    bool ok = fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size <= limit;
    if (ok && !read_all(im, f, (size_t)limit)) {
        error_set(e, "%s '%s': cannot be read at offset %zu: %s", what, path, im->size, strerror(errno));
        fclose(f);
        image_free(im);
        return false;
    }
    fclose(f);
    if (!ok || im->size > limit) {
        image_free(im);
        return error_set(e, "%s '%s': larger than the guest's memory of %llu MB", what, path,
                         (unsigned long long)limit >> 20);
    }
    return true;
}

void image_free(struct image *im)
{
    free(im->bytes);
    im->bytes = NULL;
    im->size = 0;
}

/* -- Registers ----------------------------------------------------------------------------------------- */

#define CR0_PE     BIT(0)
#define CR0_ET     BIT(4)
#define CR0_NE     BIT(5)
#define CR0_PG     BIT(31)
#define CR4_PAE    BIT(5)
#define EFER_LME   BIT(8)
#define EFER_LMA   BIT(10)
#define PTE_P_W    3ull
#define PDE_PS     0x80ull
#define SEL_CODE32 0x08u
#define SEL_CODE64 0x10u /* __BOOT_CS and __BOOT_DS of the Linux boot protocol */
#define SEL_DATA   0x18u

/* The first 4 GB by 2 MB pages: one PML4, one PDPT, four page directories. */
static void write_page_tables(struct phys *phys)
{
    uint64_t table[512] = {0};
    table[0] = (BOOT_PAGE_TABLES + PAGE_SIZE) | PTE_P_W;
    phys_write(phys, BOOT_PAGE_TABLES, table, sizeof(table));
    for (unsigned i = 0; i < 4; i++)
        table[i] = (BOOT_PAGE_TABLES + (2 + i) * PAGE_SIZE) | PTE_P_W;
    phys_write(phys, BOOT_PAGE_TABLES + PAGE_SIZE, table, sizeof(table));
    for (unsigned d = 0; d < 4; d++) {
        for (unsigned i = 0; i < 512; i++)
            table[i] = (uint64_t)(d * 512 + i) << 21 | PDE_PS | PTE_P_W;
        phys_write(phys, BOOT_PAGE_TABLES + (2 + d) * PAGE_SIZE, table, sizeof(table));
    }
}

static const uint64_t boot_gdt[4] = {0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff};

void boot_flat(struct phys *phys, struct boot_state *s, enum boot_mode mode)
{
    struct boot_segment data = {SEL_DATA, 0, 0xffffffff, 0xc093};
    memset(s, 0, sizeof(*s));
    s->mode = mode;
    s->cr0 = CR0_PE | CR0_ET | CR0_NE;
    s->gdt_base = BOOT_GDT;
    s->gdt_limit = sizeof(boot_gdt) - 1;
    phys_write(phys, BOOT_GDT, boot_gdt, sizeof(boot_gdt));
    for (unsigned i = 0; i < BOOT_SEGMENTS; i++)
        s->segments[i] = data;
    s->segments[BOOT_CS] = (struct boot_segment){SEL_CODE32, 0, 0xffffffff, 0xc09b};
    s->gpr[4] = BOOT_STACK;
    if (mode != BOOT_LONG64)
        return;
    write_page_tables(phys);
    s->segments[BOOT_CS] = (struct boot_segment){SEL_CODE64, 0, 0xffffffff, 0xa09b};
    s->cr0 |= CR0_PG;
    s->cr3 = BOOT_PAGE_TABLES;
    s->cr4 = CR4_PAE;
    s->efer = EFER_LME | EFER_LMA;
}

/* -- Loading ------------------------------------------------------------------------------------------- */

/* The BIOS data area's few words that kernels read without asking: COM1, base memory, EBDA. */
static void write_bda(struct phys *phys)
{
    phys_store(phys, 0x400, 2, 0x3f8);
    phys_store(phys, 0x40e, 2, MEMORY_EBDA >> 4);
    phys_store(phys, 0x413, 2, MEMORY_EBDA >> 10);
    phys_store(phys, MEMORY_EBDA, 1, (0xa0000 - MEMORY_EBDA) >> 10);
}

bool bios_load_kernel(struct phys *phys, const struct boot_files *files, struct boot_state *state,
                      struct error *e)
{
    struct loader l = {.phys = phys, .files = files};
    struct image kernel;
    bool ok;

    if (!memory_map_make(&l.map, phys, e) || !image_read(&kernel, "kernel", files->kernel, phys->ram_size, e))
        return false;
    write_bda(phys);
    l.rsdp = acpi_write(phys, &l.map, files->cpus ? files->cpus : 1);
    smbios_write(phys, &l.map, files->cpus ? files->cpus : 1);
    if (linux_recognises(&kernel))
        ok = linux_load(&l, &kernel, state, e);
    else if (multiboot_recognises(&kernel))
        ok = multiboot_load(&l, &kernel, state, e);
    else
        ok = error_set(
            e,
            "kernel '%s': neither a Linux bzImage (no 'HdrS' at offset 0x202) nor a Multiboot image "
            "(no header in the first 8192 bytes); the file has %zu bytes",
            files->kernel, kernel.size);
    image_free(&kernel);
    return ok;
}
