/*
 * tests/fuzz/fuzz_kernel.c -- kernel images: a bzImage and the kinds of Multiboot image, mutated, into 16 MB
 * of memory.
 *
 * The input is the file; its last byte chooses the command line and the second file. What is refused is
 * refused with a message; what is accepted starts in RAM.
 */
#define _GNU_SOURCE
#include "bios/boot.h"
#include "tests/fuzz/fuzz.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY   (16ull << 20)
#define PCI_HOLE 0xc0000000ull

enum { BZIMAGE, ELF_32, ELF_64, BY_ADDRESS, BZIMAGE_LOW, KINDS };

static void multiboot_header(uint8_t *p, uint32_t flags)
{
    store_le(p, 0x1badb002, 4);
    store_le(p + 4, flags, 4);
    store_le(p + 8, 0u - 0x1badb002 - flags, 4);
}

static size_t make_bzimage(uint8_t *p, uint64_t address)
{
    p[0x1f1] = 1;
    store_le(p + 0x1f4, 2048 / 16, 4);
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
    store_le(p + 0x258, address, 8);
    store_le(p + 0x260, 0x200000, 4);
    return 1024 + 2048;
}

static size_t make_elf32(uint8_t *p)
{
    Elf32_Ehdr h = {.e_type = ET_EXEC,
                    .e_machine = EM_386,
                    .e_version = 1,
                    .e_entry = 0x100010,
                    .e_phoff = 52,
                    .e_ehsize = 52,
                    .e_phentsize = 32,
                    .e_phnum = 2,
                    .e_shentsize = 40};
    Elf32_Phdr ph[2] = {{PT_LOAD, 0x100, 0x100000, 0x100000, 0x200, 0x400, 5, 0x1000},
                        {PT_LOAD, 0x200, 0x200000, 0x102000, 0x80, 0x10000, 6, 0x1000}};
    memcpy(h.e_ident, "\177ELF\1\1\1", 7);
    memcpy(p, &h, sizeof(h));
    memcpy(p + 52, ph, sizeof(ph));
    multiboot_header(p + 0x100, 3);
    return 0x300;
}

static size_t make_elf64(uint8_t *p)
{
    Elf64_Ehdr h = {.e_type = ET_EXEC,
                    .e_machine = EM_X86_64,
                    .e_version = 1,
                    .e_entry = 0xffffffff80100010,
                    .e_phoff = 64,
                    .e_ehsize = 64,
                    .e_phentsize = 56,
                    .e_phnum = 2,
                    .e_shentsize = 64};
    Elf64_Phdr ph[2] = {{PT_LOAD, 5, 0x100, 0xffffffff80100000, 0x100000, 0x200, 0x400, 0x1000},
                        {PT_NOTE, 6, 0x200, 0x200000, 0x102000, 0x80, 0x100, 4}};
    memcpy(h.e_ident, "\177ELF\2\1\1", 7);
    memcpy(p, &h, sizeof(h));
    memcpy(p + 64, ph, sizeof(ph));
    multiboot_header(p + 0x100, 3);
    return 0x300;
}

static size_t make_by_address(uint8_t *p)
{
    multiboot_header(p + 0x40, BIT(16) | 3);
    store_le(p + 0x4c, 0x100040, 4);
    store_le(p + 0x50, 0x100000, 4);
    store_le(p + 0x54, 0x100200, 4);
    store_le(p + 0x58, 0x101000, 4);
    store_le(p + 0x5c, 0x100080, 4);
    return 0x300;
}

uint8_t *fuzz_seed_input(unsigned index, size_t *size)
{
    if (index >= 2 * KINDS)
        return NULL;
    uint8_t *p = calloc(1, 4096);
    switch (index % KINDS) {
    case BZIMAGE:
        *size = make_bzimage(p, 0x200000);
        break;
    case BZIMAGE_LOW:
        *size = make_bzimage(p, 0x1000000);
        break;
    case ELF_32:
        *size = make_elf32(p);
        break;
    case ELF_64:
        *size = make_elf64(p);
        break;
    default:
        *size = make_by_address(p);
    }
    p[*size - 1] = index < KINDS ? 0 : 0xa5;
    return p;
}

/* A file that exists as long as its descriptor. */
static int memory_file(const uint8_t *data, size_t size, char *path, size_t path_size)
{
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || (size && write(fd, data, size) != (ssize_t)size))
        abort();
    snprintf(path, path_size, "/proc/self/fd/%d", fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t sizes[] = {0, 1, 4096, 100001, MEMORY - 0x300000, MEMORY + 1};
    uint8_t choice = size ? data[size - 1] : 0;
    char kernel[32], second[32], list[128], append[5000];
    struct boot_files files = {.kernel = kernel, .cpus = 1 + (choice & 1)};
    struct boot_state state;
    struct phys phys;
    struct bus bus;
    struct error e = {""};
    int fd = memory_file(data, size, kernel, sizeof(kernel)), fd2 = -1;

    bus_init(&bus, NULL);
    if (!phys_init(&phys, MEMORY, PCI_HOLE, &bus, &e))
        abort();
    memset(append, 'x', sizeof(append));
    append[choice & 2 ? sizeof(append) - 1 : choice] = 0;
    files.append = choice & 4 ? append : NULL;
    if (choice & 8) {
        fd2 = memory_file(NULL, 0, second, sizeof(second));
        if (ftruncate(fd2, (off_t)sizes[(choice >> 4) % ARRAY_LEN(sizes)]))
            abort();
        snprintf(list, sizeof(list), choice & 0x80 ? "%s" : "%s some args,%s", second, second);
        files.initrd = list;
    }
    if (!bios_load_kernel(&phys, &files, &state, &e)) {
        if (!e.message[0] || strchr(e.message, '\n'))
            abort();
    } else if (!phys_page(&phys, state.rip) || state.mode > BOOT_LONG64) {
        abort();
    }
    phys_free(&phys);
    close(fd);
    if (fd2 >= 0)
        close(fd2);
    return 0;
}
