/*
 * bios/boot.h -- how a machine starts without firmware: kernel images, and the registers they begin with.
 *
 * Low memory as the loaders use it (all of it is RAM to the kernel once it has read what it needs):
 *   01000H GDT | 02000H page tables | 09000H top of the first stack | 10000H zero page, command line
 *   9FC00H EBDA | F0000H RSDP and SMBIOS | top of RAM below 4 GB: ACPI tables
 */
#ifndef BIOS_BOOT_H
#define BIOS_BOOT_H

#include "base/error.h"
#include "base/types.h"
#include "mmu/phys.h"

enum boot_mode { BOOT_REAL, BOOT_PROTECTED32, BOOT_LONG64 };

/* In the order of the SDM's segment numbers. */
enum { BOOT_ES, BOOT_CS, BOOT_SS, BOOT_DS, BOOT_FS, BOOT_GS, BOOT_SEGMENTS };

struct boot_segment {
    uint16_t selector;
    uint64_t base;
    uint32_t limit; /* bytes */
    uint32_t ar;    /* access rights as in the VMCS: 3:0 type, 4 S, 6:5 DPL, 7 P, 13 L, 14 D/B, 15 G */
};

/* Registers that a loader asks for; all others are as after reset. RFLAGS is 2: interrupts are off. */
struct boot_state {
    enum boot_mode mode;
    uint64_t gpr[16]; /* RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15 */
    uint64_t rip;
    uint64_t cr0, cr3, cr4, efer;
    struct boot_segment segments[BOOT_SEGMENTS];
    uint64_t gdt_base;
    uint16_t gdt_limit;
};

/* What the user gave. */
struct boot_files {
    const char *kernel; /* path */
    const char *initrd; /* Linux: path. Multiboot: "file args,file2 args". NULL none */
    const char *append; /* command line, NULL none */
    uint32_t cpus;      /* processors, for the ACPI tables; APIC IDs are 0, 1, 2, ... */
};

#define BIOS_IOAPIC_ID 0u

/*
 * Loads the kernel (a Linux bzImage or a Multiboot image, told apart by content) with its files, and writes
 * the ACPI and SMBIOS tables. False: e->message is one line that names the file and, within it, the offset.
 */
bool bios_load_kernel(struct phys *phys, const struct boot_files *files, struct boot_state *state,
                      struct error *e);

#endif
