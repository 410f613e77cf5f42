/*
 * bios/multiboot.c -- Multiboot 1 images: ELF32, ELF64, or placed by the header's address fields; modules.
 *
 * Reference: Multiboot specification 0.6.96. An ELF64 image starts in 32-bit mode like every other, at its
 * entry point's physical address. Tests: tests/unit/test_bios_boot.c
 */
#include "bios/loader.h"

#include <gelf.h>
#include <libelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MAGIC   0x1badb002u
#define LOADER_MAGIC   0x2badb002u
#define HEADER_SEARCH  8192u
#define HEADER_ADDRESS BIT(16) /* the header's address fields are valid */
#define HEADER_KNOWN   (7u | HEADER_ADDRESS)

#define INFO_MEMORY  BIT(0)
#define INFO_COMMAND BIT(2)
#define INFO_MODULES BIT(3)
#define INFO_MAP     BIT(6)
#define INFO_LOADER  BIT(9)
#define INFO_SIZE    0x78u
#define MODULES_MAX  32u

/* Images may not lie on the GDT and the first stack. */
#define LOAD_MIN 0x10000ull

/* Offset of the header, or -1. */
static long header_find(const struct image *im)
{
    size_t end = MIN(im->size, HEADER_SEARCH);
    for (size_t at = 0; at + 12 <= end; at += 4) {
        uint32_t magic = (uint32_t)load_le(im->bytes + at, 4),
                 flags = (uint32_t)load_le(im->bytes + at + 4, 4);
        if (magic == HEADER_MAGIC &&
            (uint32_t)(magic + flags + (uint32_t)load_le(im->bytes + at + 8, 4)) == 0)
            return (long)at;
    }
    return -1;
}

bool multiboot_recognises(const struct image *im)
{
    return header_find(im) >= 0;
}

/* -- Segments ------------------------------------------------------------------------------------------ */

struct multiboot {
    struct loader *l;
    const struct image *im;
    uint64_t end; /* behind everything loaded so far */
    uint64_t entry;
};

static void zero_fill(struct phys *phys, uint64_t at, uint64_t n)
{
    static const uint8_t zeros[PAGE_SIZE];
    for (; n; at += MIN(n, PAGE_SIZE), n -= MIN(n, PAGE_SIZE))
        phys_write(phys, at, zeros, MIN(n, PAGE_SIZE));
}

/* Puts [offset, offset + file_size) of the image at `address`, with zeros up to memory_size. */
static bool load_segment(struct multiboot *m, uint64_t address, uint64_t offset, uint64_t file_size,
                         uint64_t memory_size, struct error *e)
{
    const struct image *im = m->im;
    if (file_size > im->size || offset > im->size - file_size)
        return error_set(e,
                         "kernel '%s': truncated: %llu bytes at offset %#llx are missing, the file has %zu",
                         im->path, (unsigned long long)file_size, (unsigned long long)offset, im->size);
    if (file_size > memory_size || address < LOAD_MIN || address > UINT32_MAX ||
        !memory_map_is_ram(&m->l->map, address, memory_size))
        return error_set(
            e, "kernel '%s': the segment at offset %#llx wants %llu bytes at %#llx, which is not free RAM",
            im->path, (unsigned long long)offset, (unsigned long long)memory_size,
            (unsigned long long)address);
    phys_write(m->l->phys, address, im->bytes + offset, file_size);
    zero_fill(m->l->phys, address + file_size, memory_size - file_size);
    m->end = MAX(m->end, address + memory_size);
    return true;
}

/* By the header's address fields, "a.out kludge". */
static bool load_by_header(struct multiboot *m, size_t at, struct error *e)
{
    const struct image *im = m->im;
    if (at + 32 > im->size)
        return error_set(e, "kernel '%s': truncated in its Multiboot header at offset %#zx", im->path, at);
    uint64_t header = load_le(im->bytes + at + 12, 4), load = load_le(im->bytes + at + 16, 4);
    uint64_t load_end = load_le(im->bytes + at + 20, 4), bss_end = load_le(im->bytes + at + 24, 4);
    if (load > header || header - load > at)
        return error_set(e, "kernel '%s': the Multiboot header at offset %#zx has impossible addresses",
                         im->path, at);
    uint64_t offset = at - (header - load);
    uint64_t size = load_end ? load_end - load : im->size - offset;
    if ((load_end && load_end < load) || (bss_end && bss_end < load + size))
        return error_set(e, "kernel '%s': the Multiboot header at offset %#zx has impossible addresses",
                         im->path, at);
    m->entry = load_le(im->bytes + at + 28, 4);
    return load_segment(m, load, offset, size, bss_end ? bss_end - load : size, e);
}

static bool load_elf(struct multiboot *m, struct error *e)
{
    const struct image *im = m->im;
    GElf_Ehdr ehdr;
    size_t count;
    bool ok = false, entry_found = false;

    elf_version(EV_CURRENT);
    Elf *elf = elf_memory((char *)im->bytes, im->size);
    if (!elf || elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &ehdr) || elf_getphdrnum(elf, &count) != 0) {
        error_set(e,
                  "kernel '%s': has a Multiboot header, but is no ELF file that can be read (offset 0): %s",
                  im->path, elf_errmsg(-1));
        goto out;
    }
    if ((ehdr.e_machine != EM_386 && ehdr.e_machine != EM_X86_64) || ehdr.e_ident[EI_DATA] != ELFDATA2LSB) {
        error_set(e, "kernel '%s': an ELF file for another processor (machine %u at offset 0x12)", im->path,
                  ehdr.e_machine);
        goto out;
    }
    m->entry = ehdr.e_entry;
    for (size_t i = 0; i < count; i++) {
        GElf_Phdr ph;
        if (!gelf_getphdr(elf, (int)i, &ph)) {
            error_set(e, "kernel '%s': program header %zu cannot be read (table at offset %#llx)", im->path,
                      i, (unsigned long long)ehdr.e_phoff);
            goto out;
        }
        if (ph.p_type != PT_LOAD || ph.p_memsz == 0)
            continue;
        if (!load_segment(m, ph.p_paddr, ph.p_offset, ph.p_filesz, ph.p_memsz, e))
            goto out;
        if (!entry_found && ehdr.e_entry >= ph.p_vaddr && ehdr.e_entry - ph.p_vaddr < ph.p_memsz) {
            m->entry = ehdr.e_entry - ph.p_vaddr + ph.p_paddr;
            entry_found = true;
        }
    }
    if (!m->end)
        error_set(e, "kernel '%s': no segment to load", im->path);
    else
        ok = true;
out:
    if (elf)
        elf_end(elf);
    return ok;
}

/* -- Modules and information --------------------------------------------------------------------------- */

struct module {
    uint64_t start, end, string;
};

/* Takes n bytes behind what is loaded, aligned. */
static bool take(struct multiboot *m, uint64_t n, uint64_t alignment, uint64_t *at, const char *what,
                 struct error *e)
{
    *at = ALIGN_UP(m->end, alignment);
    if (*at < 0x100000)
        *at = 0x100000;
    if (!memory_map_is_ram(&m->l->map, *at, n ? n : 1))
        return error_set(
            e, "%s: %llu bytes at %#llx do not fit, RAM ends at %#llx; give the guest more memory", what,
            (unsigned long long)n, (unsigned long long)*at, (unsigned long long)m->l->map.ram_end);
    m->end = *at + n;
    return true;
}

static bool put_string(struct multiboot *m, const char *s, uint64_t *at, struct error *e)
{
    if (!take(m, strlen(s) + 1, 1, at, "command line", e))
        return false;
    phys_write(m->l->phys, *at, s, strlen(s) + 1);
    return true;
}

/* One "file args". The text is ours to cut. */
static bool load_module(struct multiboot *m, char *text, struct module *mod, struct error *e)
{
    struct image im;
    char *space = strchr(text, ' ');
    if (space)
        *space = 0;
    bool ok = image_read(&im, "module", text, m->l->phys->ram_size, e);
    if (!ok)
        return false;
    char what[300];
    snprintf(what, sizeof(what), "module '%s'", text);
    if (space)
        *space = ' ';
    ok = take(m, im.size, PAGE_SIZE, &mod->start, what, e);
    if (ok)
        phys_write(m->l->phys, mod->start, im.bytes, im.size);
    mod->end = mod->start + im.size;
    image_free(&im);
    return ok && put_string(m, text, &mod->string, e);
}

static bool load_modules(struct multiboot *m, struct module *mods, unsigned *count, struct error *e)
{
    *count = 0;
    if (!m->l->files->initrd || !*m->l->files->initrd)
        return true;
    char *list = strdup(m->l->files->initrd), *rest = list;
    bool ok = list || error_set(e, "out of memory");
    while (ok && rest) {
        char *text = strsep(&rest, ",");
        while (*text == ' ')
            text++;
        if (*count == MODULES_MAX)
            ok = error_set(e, "-initrd: more than %u modules", MODULES_MAX);
        else
            ok = load_module(m, text, &mods[(*count)++], e);
    }
    free(list);
    return ok;
}

static bool write_info(struct multiboot *m, const struct module *mods, unsigned count, uint64_t *info_at,
                       struct error *e)
{
    struct phys *phys = m->l->phys;
    const struct memory_map *map = &m->l->map;
    uint8_t info[INFO_SIZE] = {0}, table[MODULES_MAX * 16] = {0}, ranges[MEMORY_MAP_MAX * 24];
    uint64_t at, command, name;
    char line[4096];

    const char *append = m->l->files->append ? m->l->files->append : "";
    if ((size_t)snprintf(line, sizeof(line), "%s %s", m->im->path, append) >= sizeof(line))
        return error_set(e, "kernel '%s': the command line is longer than %zu bytes", m->im->path,
                         sizeof(line) - 1);
    if (!put_string(m, line, &command, e) || !put_string(m, "droste", &name, e))
        return false;
    store_le(info, INFO_MEMORY | INFO_COMMAND | INFO_MODULES | INFO_MAP | INFO_LOADER, 4);
    store_le(info + 4, MEMORY_EBDA >> 10, 4);
    store_le(info + 8, (map->ram_end - 0x100000) >> 10, 4);
    store_le(info + 16, command, 4);
    store_le(info + 64, name, 4);

    for (unsigned i = 0; i < count; i++) {
        store_le(table + 16 * i, mods[i].start, 4);
        store_le(table + 16 * i + 4, mods[i].end, 4);
        store_le(table + 16 * i + 8, mods[i].string, 4);
    }
    if (!take(m, 16ull * count, 16, &at, "module table", e))
        return false;
    phys_write(phys, at, table, 16ull * count);
    store_le(info + 20, count, 4);
    store_le(info + 24, at, 4);

    for (unsigned i = 0; i < map->count; i++) { /* each entry's size does not count its size field */
        store_le(ranges + 24 * i, 20, 4);
        store_le(ranges + 24 * i + 4, map->ranges[i].base, 8);
        store_le(ranges + 24 * i + 12, map->ranges[i].size, 8);
        store_le(ranges + 24 * i + 20, map->ranges[i].type, 4);
    }
    if (!take(m, 24ull * map->count, 16, &at, "memory map", e))
        return false;
    phys_write(phys, at, ranges, 24ull * map->count);
    store_le(info + 44, 24ull * map->count, 4);
    store_le(info + 48, at, 4);

    if (!take(m, sizeof(info), 16, info_at, "Multiboot information", e))
        return false;
    phys_write(phys, *info_at, info, sizeof(info));
    return true;
}

bool multiboot_load(struct loader *l, const struct image *im, struct boot_state *s, struct error *e)
{
    struct multiboot m = {.l = l, .im = im};
    struct module mods[MODULES_MAX];
    size_t at = (size_t)header_find(im);
    uint32_t flags = (uint32_t)load_le(im->bytes + at + 4, 4);
    unsigned count;
    uint64_t info = 0;

    if (flags & 0xffff & ~HEADER_KNOWN)
        return error_set(e, "kernel '%s': the Multiboot header at offset %#zx requires unknown features %#x",
                         im->path, at, flags & 0xffff & ~(unsigned)HEADER_KNOWN);
    /* An ELF file is loaded as one even if the address fields are there too: it says more. */
    bool elf = im->size >= 4 && memcmp(im->bytes, "\177ELF", 4) == 0;
    if (elf || !(flags & HEADER_ADDRESS) ? !load_elf(&m, e) : !load_by_header(&m, at, e))
        return false;
    if (m.entry > UINT32_MAX || !memory_map_is_ram(&l->map, m.entry, 1))
        return error_set(e, "kernel '%s': the entry point %#llx is not in RAM", im->path,
                         (unsigned long long)m.entry);
    if (!load_modules(&m, mods, &count, e) || !write_info(&m, mods, count, &info, e))
        return false;
    boot_flat(l->phys, s, BOOT_PROTECTED32);
    s->rip = m.entry;
    s->gpr[0] = LOADER_MAGIC;
    s->gpr[3] = info;
    return true;
}
