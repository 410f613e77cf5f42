/*
 * tests/unit/test_bios_boot.c -- the Linux and Multiboot loaders, with good files and broken ones.
 */
#include "tests/unit/dev_board.h"

#include <elf.h>
#include <stdio.h>
#include <unistd.h>

#include "bios/boot.h"
#include "bios/memory_map.h"

#define MB (1ull << 20)

static char path[64], path2[64];

static void put_file(char *name, const void *bytes, size_t n)
{
    if (!*name) {
        strcpy(name, "/tmp/test_bios_XXXXXX");
        close(mkstemp(name));
    }
    FILE *f = fopen(name, "wb");
    cr_assert(f && fwrite(bytes, 1, n, f) == n);
    fclose(f);
}

static void clean(void)
{
    if (*path)
        unlink(path);
    if (*path2)
        unlink(path2);
}

static bool load(struct board *b, const char *kernel, const char *initrd, const char *append,
                 struct boot_state *s)
{
    struct boot_files files = {kernel, initrd, append, 2};
    memset(&b->error, 0, sizeof(b->error));
    bool ok = bios_load_kernel(&b->phys, &files, s, &b->error);
    cr_assert(ok || b->error.message[0], "a failure has a message");
    return ok;
}

static bool says(const struct board *b, const char *text)
{
    return strstr(b->error.message, text) != NULL;
}

/* A bzImage of our own: 5 setup sectors, 8 KB of kernel. */
static size_t bzimage(uint8_t *p)
{
    size_t size = 5 * 512 + 8192;
    memset(p, 0, size);
    p[0x1f1] = 4;
    store_le(p + 0x1f4, 8192 / 16, 4);
    store_le(p + 0x1fe, 0xaa55, 2);
    p[0x200] = 0xeb, p[0x201] = 0x6a;
    memcpy(p + 0x202, "HdrS", 4);
    store_le(p + 0x206, 0x20f, 2);
    p[0x211] = 1;
    store_le(p + 0x22c, 0x7fffffff, 4);
    store_le(p + 0x230, 0x200000, 4);
    p[0x234] = 1;
    store_le(p + 0x236, 1, 2);
    store_le(p + 0x238, 2047, 4);
    store_le(p + 0x258, 16 * MB, 8);
    store_le(p + 0x260, 4 * MB, 4);
    for (unsigned i = 0; i < 8192; i++)
        p[5 * 512 + i] = (uint8_t)(i * 3);
    return size;
}

Test(bios_boot, linux_image, .fini = clean)
{
    static uint8_t image[16384], initrd[10000];
    struct board *b = board_new(64 * MB);
    struct boot_state s;
    size_t n = bzimage(image);
    memset(initrd, 0xa7, sizeof(initrd));
    put_file(path, image, n), put_file(path2, initrd, sizeof(initrd));
    OK(load(b, path, path2, "console=ttyS0", &s));
    cr_assert_eq(s.mode, BOOT_LONG64);
    cr_assert_eq(s.rip, 16 * MB + 0x200);
    cr_assert_eq(s.segments[BOOT_CS].selector, 0x10);
    cr_assert_eq(s.segments[BOOT_SS].selector, 0x18);
    cr_assert(s.cr0 >> 31 & 1 && s.cr4 >> 5 & 1 && s.efer == 0x500);
    uint64_t zp = s.gpr[6];
    cr_assert_arr_eq(phys_ram(&b->phys, 16 * MB, 8192), image + 5 * 512, 8192);
    cr_assert_str_eq((const char *)phys_ram(&b->phys, phys_load(&b->phys, zp + 0x228, 4), 20),
                     "console=ttyS0");
    uint64_t at = phys_load(&b->phys, zp + 0x218, 4);
    cr_assert_eq(phys_load(&b->phys, zp + 0x21c, 4), sizeof(initrd));
    cr_assert_geq(at, 20 * MB);
    cr_assert_eq(phys_load(&b->phys, at + 9999, 1), 0xa7);
    cr_assert_eq(phys_load(&b->phys, zp + 0x70, 8), MEMORY_RSDP);
    unsigned entries = (unsigned)phys_load(&b->phys, zp + 0x1e8, 1);
    uint64_t ram = 0, last = 0;
    for (unsigned i = 0; i < entries; i++) {
        uint64_t base = phys_load(&b->phys, zp + 0x2d0 + 20 * i, 8);
        uint64_t size = phys_load(&b->phys, zp + 0x2d0 + 20 * i + 8, 8);
        cr_assert_geq(base, last);
        last = base + size;
        if (phys_load(&b->phys, zp + 0x2d0 + 20 * i + 16, 4) == E820_RAM)
            ram += size;
    }
    cr_assert_gt(ram, 63 * MB);
    /* The page tables map what the kernel needs one to one. */
    uint64_t pml4e = phys_load(&b->phys, s.cr3, 8),
             pdpte = phys_load(&b->phys, (pml4e & ~0xfffull) + 8 * 3, 8);
    cr_assert_eq(phys_load(&b->phys, (pdpte & ~0xfffull) + 8 * 511, 8), 0xffe00083);
    cr_assert_eq(phys_load(&b->phys, s.gdt_base + 0x10, 8), 0x00af9b000000ffff);
    board_free(b);
}

Test(bios_boot, linux_small_memory_relocates, .fini = clean)
{
    static uint8_t image[16384];
    struct board *b = board_new(8 * MB);
    struct boot_state s;
    put_file(path, image, bzimage(image));
    OK(load(b, path, NULL, NULL, &s));
    cr_assert_eq(s.rip, 2 * MB + 0x200);
    board_free(b);
    b = board_new(4 * MB);
    cr_assert(!load(b, path, NULL, NULL, &s));
    cr_assert(says(b, "needs 4 MB"), "%s", b->error.message);
    board_free(b);
}

Test(bios_boot, linux_broken, .fini = clean)
{
    static uint8_t image[16384], big[32 << 20];
    struct board *b = board_new(32 * MB);
    struct boot_state s;
    size_t n = bzimage(image);
    cr_assert(!load(b, "/nonexistent/vmlinuz", NULL, NULL, &s));
    cr_assert(says(b, "/nonexistent/vmlinuz") && says(b, "No such file"), "%s", b->error.message);
    cr_assert(!load(b, "/tmp", NULL, NULL, &s));
    cr_assert(says(b, "directory"), "%s", b->error.message);
    put_file(path, image, n - 1);
    cr_assert(!load(b, path, NULL, NULL, &s));
    cr_assert(says(b, "truncated") && says(b, "offset 10751"), "%s", b->error.message);
    put_file(path, image, 0x240);
    cr_assert(!load(b, path, NULL, NULL, &s));
    cr_assert(says(b, "truncated"), "%s", b->error.message);
    put_file(path, image, 0);
    cr_assert(!load(b, path, NULL, NULL, &s));
    cr_assert(says(b, "neither a Linux bzImage"), "%s", b->error.message);
    image[0x207] = 1;
    put_file(path, image, n);
    cr_assert(!load(b, path, NULL, NULL, &s));
    cr_assert(says(b, "64-bit"), "%s", b->error.message);
    n = bzimage(image);
    put_file(path, image, n);
    cr_assert(!load(b, path, "/nonexistent/initrd", NULL, &s));
    cr_assert(says(b, "/nonexistent/initrd"), "%s", b->error.message);
    put_file(path2, big, 20 << 20);
    cr_assert(!load(b, path, path2, NULL, &s));
    cr_assert(says(b, "do not fit"), "%s", b->error.message);
    board_free(b);
    b = board_new(16 * MB);
    cr_assert(!load(b, path, path2, NULL, &s));
    cr_assert(says(b, "larger than the guest's memory"), "%s", b->error.message);
    char line[3000];
    memset(line, 'x', sizeof(line) - 1), line[sizeof(line) - 1] = 0;
    cr_assert(!load(b, path, NULL, line, &s));
    cr_assert(says(b, "command line"), "%s", b->error.message);
    cr_assert(!load(b, "/dev/zero", NULL, NULL, &s), "an endless file ends");
    board_free(b);
}

Test(bios_boot, garbage, .fini = clean)
{
    static uint8_t image[16384];
    struct board *b = board_new(32 * MB);
    struct boot_state s;
    uint32_t x = 7;
    for (unsigned i = 0; i < 2000; i++) {
        size_t n = bzimage(image);
        for (unsigned k = 0; k < 6; k++) { /* a header with wrong bytes */
            x = x * 1664525 + 1013904223;
            image[0x1f1 + (x >> 8) % 0x77] = (uint8_t)(x >> 24);
        }
        put_file(path, image, n);
        load(b, path, NULL, "a", &s);
    }
    board_free(b);
}

static uint64_t multiboot_header(uint8_t *p, uint32_t flags)
{
    store_le(p, 0x1badb002, 4), store_le(p + 4, flags, 4), store_le(p + 8, -(0x1badb002 + flags), 4);
    return 12;
}

/* An ELF32 with one segment: 4 KB of file, 12 KB of memory, physical 1 MB, virtual at 3 GB. */
static size_t elf32(uint8_t *p)
{
    Elf32_Ehdr *h = (Elf32_Ehdr *)p;
    Elf32_Phdr *ph = (Elf32_Phdr *)(p + sizeof(*h));
    memset(p, 0, 8192);
    memcpy(h->e_ident, ELFMAG, 4);
    h->e_ident[EI_CLASS] = ELFCLASS32, h->e_ident[EI_DATA] = ELFDATA2LSB, h->e_ident[EI_VERSION] = 1;
    h->e_type = ET_EXEC, h->e_machine = EM_386, h->e_version = 1, h->e_entry = 0xc0100020;
    h->e_phoff = sizeof(*h), h->e_ehsize = sizeof(*h), h->e_phentsize = sizeof(*ph), h->e_phnum = 1;
    *ph = (Elf32_Phdr){PT_LOAD, 4096, 0xc0100000, 0x100000, 4096, 12288, 7, 4096};
    multiboot_header(p + 4096, 3);
    p[8191] = 0x99;
    return 8192;
}

Test(bios_boot, multiboot_elf32, .fini = clean)
{
    static uint8_t image[8192];
    struct board *b = board_new(32 * MB);
    struct boot_state s;
    put_file(path, image, elf32(image)), put_file(path2, "module!", 7);
    char modules[200];
    snprintf(modules, sizeof(modules), "%s one two,%s", path2, path2);
    memset(b->phys.ram + 1 * MB, 0xff, 65536);
    OK(load(b, path, modules, "quiet", &s));
    cr_assert_eq(s.mode, BOOT_PROTECTED32);
    cr_assert_eq(s.rip, 0x100020, "the entry's physical address");
    cr_assert_eq(s.gpr[0], 0x2badb002);
    cr_assert_eq(s.cr0 & 0x80000001, 1);
    cr_assert_eq(phys_load(&b->phys, 0x100fff, 1), 0x99);
    cr_assert_eq(phys_load(&b->phys, 0x102fff, 1), 0, "bss is cleared");
    uint64_t info = s.gpr[3], mods = phys_load(&b->phys, info + 24, 4);
    cr_assert_eq(phys_load(&b->phys, info, 4) & 0x4d, 0x4d);
    cr_assert_eq(phys_load(&b->phys, info + 20, 4), 2);
    uint64_t start = phys_load(&b->phys, mods, 4), string = phys_load(&b->phys, mods + 8, 4);
    cr_assert_eq(start & 0xfff, 0);
    cr_assert_geq(start, 0x103000);
    cr_assert_eq(phys_load(&b->phys, mods + 4, 4) - start, 7);
    cr_assert_arr_eq(phys_ram(&b->phys, start, 7), "module!", 7);
    cr_assert(strstr((const char *)phys_ram(&b->phys, string, 60), " one two"));
    const char *command = (const char *)phys_ram(&b->phys, phys_load(&b->phys, info + 16, 4), 100);
    cr_assert(strstr(command, " quiet"));
    uint64_t map = phys_load(&b->phys, info + 48, 4);
    cr_assert_eq(phys_load(&b->phys, map, 4), 20);
    cr_assert_eq(phys_load(&b->phys, map + 4 + 16, 4), 1);
    board_free(b);
}

Test(bios_boot, multiboot_by_address, .fini = clean)
{
    static uint8_t image[4096];
    struct board *b = board_new(32 * MB);
    struct boot_state s;
    multiboot_header(image + 64, 0x10000);
    store_le(image + 64 + 12, 0x200040, 4), store_le(image + 64 + 16, 0x200000, 4);
    store_le(image + 64 + 24, 0x202000, 4), store_le(image + 64 + 28, 0x200100, 4);
    image[0x100] = 0xf4;
    put_file(path, image, sizeof(image));
    OK(load(b, path, NULL, NULL, &s));
    cr_assert_eq(s.rip, 0x200100);
    cr_assert_eq(phys_load(&b->phys, s.rip, 1), 0xf4);
    store_le(image + 64 + 16, 0x300000, 4);
    put_file(path, image, sizeof(image));
    cr_assert(!load(b, path, NULL, NULL, &s));
    cr_assert(says(b, "impossible addresses"), "%s", b->error.message);
    board_free(b);
}

Test(bios_boot, multiboot_broken, .fini = clean)
{
    static uint8_t image[8192];
    struct board *b = board_new(32 * MB);
    struct boot_state s;
    size_t n = elf32(image);
    put_file(path, image, n - 100);
    cr_assert(!load(b, path, NULL, NULL, &s));
    cr_assert(says(b, "truncated") && says(b, "0x1000"), "%s", b->error.message);
    multiboot_header(image + 4096, 0x8003);
    put_file(path, image, n);
    cr_assert(!load(b, path, NULL, NULL, &s));
    cr_assert(says(b, "unknown features"), "%s", b->error.message);
    elf32(image);
    store_le(image + sizeof(Elf32_Ehdr) + 12, 0xfee00000, 4);
    put_file(path, image, n);
    cr_assert(!load(b, path, NULL, NULL, &s));
    cr_assert(says(b, "not free RAM"), "%s", b->error.message);
    elf32(image);
    put_file(path, image, n);
    cr_assert(!load(b, path, "/nonexistent/module a", NULL, &s));
    cr_assert(says(b, "/nonexistent/module'"), "%s", b->error.message);
    uint32_t x = 77;
    for (unsigned i = 0; i < 3000; i++) {
        elf32(image);
        for (unsigned k = 0; k < 3; k++) {
            x = x * 1664525 + 1013904223;
            image[(x >> 8) % 84] = (uint8_t)(x >> 24);
        }
        put_file(path, image, n);
        load(b, path, NULL, NULL, &s);
    }
    board_free(b);
}

/* A real kernel: the file named by the environment, or what scripts/guest-files has put into the build
 * folder. */
Test(bios_boot, real_kernel)
{
    const char *kernel = getenv("DROSTE_TEST_KERNEL");
    if (!kernel)
        kernel = "guest/vmlinuz";
    if (access(kernel, R_OK) != 0)
        cr_skip_test("skipped: no kernel at %s (DROSTE_TEST_KERNEL names another)", kernel);
    struct board *b = board_new(256 * MB);
    struct boot_state s;
    OK(load(b, kernel, NULL, "console=ttyS0", &s));
    cr_assert_eq(s.rip & 0xfff, 0x200);
    cr_assert_neq(phys_load(&b->phys, s.rip, 4), 0);
    board_free(b);
}
