/*
 * bios/linux.c -- the Linux 64-bit boot protocol: a bzImage, its command line and its initramfs.
 *
 * Reference: Linux, "The Linux/x86 Boot Protocol" and "The x86 zero page", protocol 2.12 and later.
 *
 *   zero page  070 acpi_rsdp_addr | 0C0 ext_ramdisk_image | 1E8 e820_entries | 1F1..268 setup header | 2D0
 * e820 Tests: tests/unit/test_bios_boot.c
 */
#include "bios/loader.h"

#include <string.h>

enum { /* offsets in the file and in the zero page alike */
       HDR_SETUP_SECTS = 0x1f1,
       HDR_SYSSIZE = 0x1f4,
       HDR_VID_MODE = 0x1fa,
       HDR_BOOT_FLAG = 0x1fe,
       HDR_JUMP = 0x200,
       HDR_MAGIC = 0x202,
       HDR_VERSION = 0x206,
       HDR_LOADER = 0x210,
       HDR_LOADFLAGS = 0x211,
       HDR_RAMDISK = 0x218,
       HDR_RAMDISK_SIZE = 0x21c,
       HDR_COMMAND = 0x228,
       HDR_INITRD_MAX = 0x22c,
       HDR_ALIGNMENT = 0x230,
       HDR_RELOCATABLE = 0x234,
       HDR_XLOADFLAGS = 0x236,
       HDR_COMMAND_SIZE = 0x238,
       HDR_SETUP_DATA = 0x250,
       HDR_PREF_ADDRESS = 0x258,
       HDR_INIT_SIZE = 0x260,
       HDR_END = 0x268,
       ZP_RSDP = 0x070,
       ZP_E820_ENTRIES = 0x1e8,
       ZP_E820 = 0x2d0,
};
#define HDRS          0x53726448u
#define LOADED_HIGH   0x01
#define XLF_KERNEL_64 0x01
#define ENTRY_64      0x200u
#define VERSION_64BIT 0x20cu

bool linux_recognises(const struct image *im)
{
    return im->size >= HDR_MAGIC + 4 && load_le(im->bytes + HDR_MAGIC, 4) == HDRS &&
           load_le(im->bytes + HDR_BOOT_FLAG, 2) == 0xaa55;
}

/* What the header says, checked. */
struct bzimage {
    const struct image *im;
    uint64_t offset, size; /* of the protected-mode kernel in the file */
    uint64_t address;      /* where it goes */
    uint64_t init_size;    /* memory it needs from there on */
    uint64_t initrd_max;   /* highest address of an initramfs byte */
    uint32_t command_max;  /* command line's length without its zero */
};

static bool header_parse(struct bzimage *b, const struct image *im, struct error *e)
{
    const uint8_t *h = im->bytes;
    b->im = im;
    if (im->size < HDR_END)
        return error_set(e, "kernel '%s': truncated in its setup header, at offset %#zx of %#x", im->path,
                         im->size, HDR_END);
    unsigned version = (unsigned)load_le(h + HDR_VERSION, 2);
    if (version < VERSION_64BIT || !(load_le(h + HDR_XLOADFLAGS, 2) & XLF_KERNEL_64))
        return error_set(e, "kernel '%s': no 64-bit entry point (boot protocol %u.%u at offset %#x)",
                         im->path, version >> 8, version & 0xff, HDR_VERSION);
    if (!(h[HDR_LOADFLAGS] & LOADED_HIGH))
        return error_set(e, "kernel '%s': a zImage for low memory (offset %#x)", im->path, HDR_LOADFLAGS);
    b->offset = ((h[HDR_SETUP_SECTS] ? h[HDR_SETUP_SECTS] : 4) + 1ull) * 512;
    b->size = load_le(h + HDR_SYSSIZE, 4) * 16;
    if (b->size <= ENTRY_64 || b->size > im->size || b->offset > im->size - b->size)
        return error_set(e, "kernel '%s': truncated: it should have %llu bytes and ends at offset %zu",
                         im->path, (unsigned long long)(b->offset + b->size), im->size);
    b->init_size = MAX(load_le(h + HDR_INIT_SIZE, 4), b->size);
    b->initrd_max = load_le(h + HDR_INITRD_MAX, 4);
    b->command_max = (uint32_t)MIN(load_le(h + HDR_COMMAND_SIZE, 4), BOOT_COMMAND_MAX - 1);
    return true;
}

/* The preferred address, or, for a relocatable kernel, the lowest that has room. */
static bool place_kernel(struct bzimage *b, const struct memory_map *map, struct error *e)
{
    const uint8_t *h = b->im->bytes;
    uint64_t alignment = load_le(h + HDR_ALIGNMENT, 4);
    b->address = load_le(h + HDR_PREF_ADDRESS, 8);
    if (memory_map_is_ram(map, b->address, b->init_size) && b->address >= 0x100000 &&
        b->address < map->ram_end)
        return true;
    if (h[HDR_RELOCATABLE] && alignment && !(alignment & (alignment - 1))) {
        b->address = ALIGN_UP(0x100000, alignment);
        if (memory_map_is_ram(map, b->address, b->init_size))
            return true;
    }
    return error_set(e, "kernel '%s': needs %llu MB of memory at %#llx, RAM for it ends at %#llx",
                     b->im->path, (unsigned long long)(b->init_size + 0xfffff) >> 20,
                     (unsigned long long)b->address, (unsigned long long)map->ram_end);
}

static bool load_initrd(struct loader *l, const struct bzimage *b, uint8_t *zp, struct error *e)
{
    const char *path = l->files->initrd;
    struct image im;
    if (!path)
        return true;
    if (!image_read(&im, "initramfs", path, l->phys->ram_size, e))
        return false;
    uint64_t top = MIN(l->map.ram_end, b->initrd_max + 1), floor = b->address + b->init_size;
    if (im.size > top || ALIGN_DOWN(top - im.size, PAGE_SIZE) < floor) {
        error_set(e,
                  "initramfs '%s': %zu bytes do not fit between the kernel's end at %#llx and %#llx; give "
                  "the guest "
                  "more memory",
                  path, im.size, (unsigned long long)floor, (unsigned long long)top);
        image_free(&im);
        return false;
    }
    uint64_t at = ALIGN_DOWN(top - im.size, PAGE_SIZE);
    phys_write(l->phys, at, im.bytes, im.size);
    store_le(zp + HDR_RAMDISK, at, 4);
    store_le(zp + HDR_RAMDISK_SIZE, im.size, 4);
    image_free(&im);
    return true;
}

static bool load_command(struct loader *l, const struct bzimage *b, uint8_t *zp, struct error *e)
{
    const char *append = l->files->append ? l->files->append : "";
    size_t n = strlen(append);
    if (n > b->command_max)
        return error_set(e, "kernel '%s': the command line has %zu bytes, the kernel takes %u", b->im->path,
                         n, b->command_max);
    phys_write(l->phys, BOOT_COMMAND, append, n + 1);
    store_le(zp + HDR_COMMAND, BOOT_COMMAND, 4);
    return true;
}

static void fill_e820(const struct memory_map *map, uint8_t *zp)
{
    zp[ZP_E820_ENTRIES] = (uint8_t)map->count;
    for (uint32_t i = 0; i < map->count; i++) {
        uint8_t *entry = zp + ZP_E820 + 20 * i;
        store_le(entry, map->ranges[i].base, 8);
        store_le(entry + 8, map->ranges[i].size, 8);
        store_le(entry + 16, map->ranges[i].type, 4);
    }
}

bool linux_load(struct loader *l, const struct image *im, struct boot_state *s, struct error *e)
{
    struct bzimage b = {0};
    uint8_t zp[PAGE_SIZE] = {0};

    if (!header_parse(&b, im, e) || !place_kernel(&b, &l->map, e))
        return false;
    /* The header's end is where its first jump goes, at most the end of the header's room. */
    size_t end = MIN(MIN((size_t)HDR_MAGIC + im->bytes[HDR_JUMP + 1], im->size), 0x290u);
    memcpy(zp + HDR_SETUP_SECTS, im->bytes + HDR_SETUP_SECTS, end - MIN(end, (size_t)HDR_SETUP_SECTS));
    zp[HDR_LOADER] = 0xff; /* a loader without a number */
    store_le(zp + HDR_VID_MODE, 0xffff, 2);
    store_le(zp + HDR_SETUP_DATA, 0, 8);
    store_le(zp + ZP_RSDP, l->rsdp, 8);
    fill_e820(&l->map, zp);
    if (!load_command(l, &b, zp, e) || !load_initrd(l, &b, zp, e))
        return false;
    phys_write(l->phys, b.address, im->bytes + b.offset, b.size);
    phys_write(l->phys, BOOT_ZERO_PAGE, zp, sizeof(zp));
    boot_flat(l->phys, s, BOOT_LONG64);
    s->rip = b.address + ENTRY_64;
    s->gpr[6] = BOOT_ZERO_PAGE;
    return true;
}
