/*
 * vmm/boot.c -- bzImage and initramfs into memory, and the 64-bit boot protocol.
 *
 * Linux, Documentation/x86/boot.rst, "64-bit Boot Protocol": the kernel is
 * entered at its load address + 200H in 64-bit mode with paging on, memory
 * identity-mapped, flat segments 10H (code) and 18H (data), interrupts off and
 * RSI = boot_params.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvmm.h"

#define SETUP_HEADER        0x1f1u      /* offset of setup_header in file and boot_params */
#define BOOT_MAGIC          0x53726448u /* "HdrS" */
#define BOOT_VERSION_MIN    0x20cu      /* first with xloadflags */
#define BOOT_ENTRY_64       0x200u      /* of the protected-mode part */
#define BOOT_LOADER_UNKNOWN 0xffu       /* type_of_loader */

#define BOOT_CS 0x10u
#define BOOT_DS 0x18u

#define CR0_PE   (1ull << 0)
#define CR0_ET   (1ull << 4)
#define CR0_NE   (1ull << 5)
#define CR0_PG   (1ull << 31)
#define CR4_PAE  (1ull << 5)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)

#define PTE_PRESENT_WRITABLE 3ull
#define PTE_LARGE            (1ull << 7)

struct file {
    const char *path;
    const uint8_t *data;
    uint64_t size; /* bytes */
};

static struct file file_map(const char *path)
{
    struct file file = {.path = path};
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &status) < 0)
        die("%s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode) || status.st_size == 0)
        die("%s: not a file with content", path);
    file.size = (uint64_t)status.st_size;
    file.data = mmap(NULL, file.size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file.data == MAP_FAILED)
        die("%s: %s", path, strerror(errno));
    close(fd);
    return file;
}

static void file_unmap(const struct file *file)
{
    munmap((void *)file->data, file->size);
}

/* Where the protected-mode part starts in the file; dies unless it is a kernel. */
static uint64_t check_kernel(const struct file *file, struct setup_header *header)
{
    uint64_t start;

    if (file->size < SETUP_HEADER + sizeof(*header))
        die("%s: too short for a Linux kernel", file->path);
    memcpy(header, file->data + SETUP_HEADER, sizeof(*header));
    if (header->boot_flag != 0xaa55 || header->header != BOOT_MAGIC)
        die("%s: not a Linux bzImage", file->path);
    if (header->version < BOOT_VERSION_MIN || !(header->xloadflags & XLF_KERNEL_64) ||
        !(header->loadflags & LOADED_HIGH))
        die("%s: a Linux kernel without 64-bit entry", file->path);
    start = ((header->setup_sects ? header->setup_sects : 4u) + 1u) * 512u;
    if (start + BOOT_ENTRY_64 >= file->size || header->syssize * 16ull > file->size - start)
        die("%s: truncated", file->path);
    return start;
}

static void load_initrd(struct vm *vm, struct setup_header *header, uint64_t kernel_end)
{
    struct file file = file_map(vm->options.initrd);
    uint64_t top = vm->low_size, at;

    if (header->initrd_addr_max && top > header->initrd_addr_max + 1ull)
        top = header->initrd_addr_max + 1ull;
    if (file.size > top || ((top - file.size) & ~0xfffull) < kernel_end)
        die("%s: %llu bytes do not fit in memory beside the kernel", file.path,
            (unsigned long long)file.size);
    at = (top - file.size) & ~0xfffull;
    memcpy(vm->ram + at, file.data, file.size);
    header->ramdisk_image = (uint32_t)at;
    header->ramdisk_size = (uint32_t)file.size;
    file_unmap(&file);
}

static void add_e820(struct boot_params *params, uint64_t from, uint64_t to, uint32_t type)
{
    struct boot_e820_entry *entry = &params->e820_table[params->e820_entries++];

    entry->addr = from;
    entry->size = to - from;
    entry->type = type;
}

static void set_memory_map(const struct vm *vm, struct boot_params *params)
{
    enum { RAM = 1, RESERVED = 2 };
    uint64_t high = vm->options.memory - vm->low_size;

    add_e820(params, 0, GUEST_EBDA, RAM);
    add_e820(params, GUEST_EBDA, 0xa0000, RESERVED);
    add_e820(params, GUEST_ACPI, GUEST_ACPI + GUEST_ACPI_SIZE, RESERVED);
    add_e820(params, 0x100000, vm->low_size, RAM);
    add_e820(params, GUEST_KVM_IDENTITY_MAP, GUEST_KVM_TSS + 0x3000, RESERVED);
    if (high)
        add_e820(params, GUEST_HIGH_BASE, GUEST_HIGH_BASE + high, RAM);
}

/* The first 4 GB mapped to themselves in 2 MB pages. */
static void build_page_tables(struct vm *vm)
{
    uint64_t *pml4 = (uint64_t *)(vm->ram + GUEST_PML4);
    uint64_t *pdpt = pml4 + 512, *directory = pdpt + 512;

    pml4[0] = (GUEST_PML4 + 0x1000) | PTE_PRESENT_WRITABLE;
    for (uint64_t i = 0; i < 4; i++)
        pdpt[i] = (GUEST_PML4 + 0x2000 + i * 0x1000) | PTE_PRESENT_WRITABLE;
    for (uint64_t i = 0; i < 4 * 512; i++)
        directory[i] = i << 21 | PTE_LARGE | PTE_PRESENT_WRITABLE;
}

struct boot_entry boot_load(struct vm *vm)
{
    struct file file = file_map(vm->options.kernel);
    struct boot_params *params = (struct boot_params *)(vm->ram + GUEST_BOOT_PARAMS);
    struct setup_header *header = &params->hdr;
    struct setup_header in_file;
    uint64_t start = check_kernel(&file, &in_file), size = file.size - start, at, end;

    /* Its preferred address spares the kernel a relocation. */
    at = in_file.pref_address ? in_file.pref_address : 0x100000;
    end = at + (in_file.init_size > size ? in_file.init_size : size);
    if (!vm_low_ram(vm, at, end - at))
        die("%s needs memory up to %lluM; see -m", file.path, (unsigned long long)(end >> 20));
    memcpy(vm->ram + at, file.data + start, size);

    memset(params, 0, sizeof(*params));
    *header = in_file;
    header->type_of_loader = BOOT_LOADER_UNKNOWN;
    header->cmd_line_ptr = GUEST_CMDLINE;
    if (strlen(vm->options.append) > header->cmdline_size)
        die("-append is longer than the %u bytes that this kernel takes", header->cmdline_size);
    strcpy((char *)vm->ram + GUEST_CMDLINE, vm->options.append);
    params->acpi_rsdp_addr = acpi_build(vm);
    set_memory_map(vm, params);
    if (vm->options.initrd)
        load_initrd(vm, header, end);
    build_page_tables(vm);
    file_unmap(&file);
    return (struct boot_entry){.rip = at + BOOT_ENTRY_64, .rsi = GUEST_BOOT_PARAMS};
}

static struct kvm_segment flat_segment(uint16_t selector, bool code)
{
    return (struct kvm_segment){
        .limit = 0xffffffff,
        .selector = selector,
        .type = code ? 11 : 3, /* accessed; execute and read, or read and write */
        .present = 1,
        .s = 1,
        .g = 1,
        .l = code,
        .db = !code,
    };
}

void boot_set_registers(struct vcpu *vcpu, const struct boot_entry *entry)
{
    struct kvm_regs regs = {.rip = entry->rip, .rsi = entry->rsi, .rflags = 2};
    struct kvm_sregs sregs;
    uint64_t *gdt = (uint64_t *)(vcpu->vm->ram + GUEST_GDT);

    gdt[BOOT_CS / 8] = 0x00af9b000000ffff;
    gdt[BOOT_DS / 8] = 0x00cf93000000ffff;

    if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
        die("KVM_GET_SREGS: %s", strerror(errno));
    sregs.cs = flat_segment(BOOT_CS, true);
    sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = flat_segment(BOOT_DS, false);
    sregs.gdt.base = GUEST_GDT;
    sregs.gdt.limit = BOOT_DS + 7;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
    sregs.cr3 = GUEST_PML4;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME | EFER_LMA;
    if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0)
        die("KVM_SET_SREGS: %s", strerror(errno));
    if (ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
        die("KVM_SET_REGS: %s", strerror(errno));
}
