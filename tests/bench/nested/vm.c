/*
 * tests/bench/nested/vm.c -- the arena, and a virtual machine with one processor in 64-bit mode on it.
 *
 * SDM 3A, "4-Level Paging". The guest has no interrupts and no devices; every way out of it but the two ports
 * is an error.
 */
#include "nested.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { CPUID_MAX = 256 };

/* Guest-physical addresses of what is in the low part. */
#define GPA_PML4        0x1000u
#define GPA_PDPT        0x2000u
#define GPA_PD_LOW      0x3000u
#define GPA_PD_DATA     0x4000u
#define GPA_PML4_SECOND 0x5000u
#define GPA_CODE        0x10000u
#define GPA_PT_DATA     0x200000u /* 512 tables */

#define PRESENT_WRITABLE 3ull
#define LARGE            (1ull << 7)

#define CR0_PE   (1ull << 0)
#define CR0_ET   (1ull << 4)
#define CR0_NE   (1ull << 5)
#define CR0_PG   (1ull << 31)
#define CR4_PAE  (1ull << 5)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)

/* -- Memory -------------------------------------------------------------------------------------------- */

static void *low(uint64_t gpa)
{
    return (void *)(ARENA + gpa);
}

static void map_fixed(uint64_t at, uint64_t size, int protection)
{
    void *got = mmap((void *)at, size, protection,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
    if (got != (void *)at)
        fail("mmap");
}

void arena_create(uint64_t data_size, bool huge)
{
    map_fixed(ARENA, LOW_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
    map_fixed(DATA, data_size, PROT_READ | PROT_WRITE);
    if (madvise((void *)DATA, data_size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) != 0)
        fail("madvise");
    memcpy(low(GPA_CODE), code_begin, (size_t)(code_end - code_begin));

    uint64_t *pml4 = low(GPA_PML4), *pdpt = low(GPA_PDPT), *small = low(GPA_PD_LOW), *data = low(GPA_PD_DATA);
    uint64_t *tables = low(GPA_PT_DATA);
    pml4[ARENA >> 39 & 511] = GPA_PDPT | PRESENT_WRITABLE;
    pdpt[0] = GPA_PD_LOW | PRESENT_WRITABLE;
    pdpt[1] = GPA_PD_DATA | PRESENT_WRITABLE;
    for (uint64_t at = 0; at < LOW_SIZE; at += 2 << 20)
        small[at >> 21] = at | LARGE | PRESENT_WRITABLE;
    for (uint64_t i = 0; i < 512; i++)
        data[i] = (GPA_PT_DATA + i * PAGE_SIZE) | PRESENT_WRITABLE;
    for (uint64_t i = 0; i < DATA_MAX / PAGE_SIZE; i++)
        tables[i] = (DATA_GPA + i * PAGE_SIZE) | PRESENT_WRITABLE;
    memcpy(low(GPA_PML4_SECOND), pml4, PAGE_SIZE);
}

void arena_populate(uint64_t data_size)
{
    if (madvise((void *)DATA, data_size, MADV_POPULATE_WRITE) == 0)
        return;
    for (uint64_t at = 0; at < data_size; at += PAGE_SIZE)
        *(volatile char *)(DATA + at) = 0;
}

uint64_t arena_huge(void)
{
    char line[256], wanted[32];
    unsigned long long kilobytes = 0;
    bool found = false;
    FILE *file = fopen("/proc/self/smaps", "r");

    if (!file)
        fail("/proc/self/smaps");
    snprintf(wanted, sizeof wanted, "%llx-", (unsigned long long)DATA);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, wanted, strlen(wanted)) == 0)
            found = true;
        if (found && sscanf(line, "AnonHugePages: %llu kB", &kilobytes) == 1)
            break;
    }
    fclose(file);
    return kilobytes << 10;
}

uint64_t vm_second_cr3(void)
{
    return GPA_PML4_SECOND;
}

/* -- The virtual machine ------------------------------------------------------------------------------- */

static int control(int fd, unsigned long request, void *argument, const char *what)
{
    int got = ioctl(fd, request, argument);
    if (got < 0)
        fail(what);
    return got;
}

static void add_memory(const struct vm *vm, uint32_t slot, uint64_t gpa, uint64_t size)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .guest_phys_addr = gpa,
        .memory_size = size,
        .userspace_addr = ARENA + gpa,
    };
    control(vm->fd, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
}

static void set_cpuid(const struct vm *vm)
{
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + CPUID_MAX * sizeof cpuid->entries[0]);
    if (!cpuid)
        fail("memory");
    cpuid->nent = CPUID_MAX;
    control(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid, "KVM_GET_SUPPORTED_CPUID");
    control(vm->cpu_fd, KVM_SET_CPUID2, cpuid, "KVM_SET_CPUID2");
    free(cpuid);
}

static struct kvm_segment flat(uint16_t selector, bool code)
{
    return (struct kvm_segment){
        .limit = 0xffffffff,
        .selector = selector,
        .type = code ? 11 : 3,
        .present = 1,
        .s = 1,
        .g = 1,
        .l = code,
        .db = !code,
    };
}

void vm_create(struct vm *vm, uint64_t data_size)
{
    uint64_t identity_map = 0xfffbc000;

    vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (vm->kvm_fd < 0)
        fail("/dev/kvm");
    vm->fd = control(vm->kvm_fd, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
    /* Pages that kvm_intel needs where the guest cannot run unrestricted. */
    control(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map, "KVM_SET_IDENTITY_MAP_ADDR");
    control(vm->fd, KVM_SET_TSS_ADDR, (void *)0xfffbd000, "KVM_SET_TSS_ADDR");
    add_memory(vm, 0, 0, LOW_SIZE);
    add_memory(vm, 1, DATA_GPA, data_size);
    vm->cpu_fd = control(vm->fd, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
    int size = control(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
    vm->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->cpu_fd, 0);
    if (vm->run == MAP_FAILED)
        fail("kvm_run");
    set_cpuid(vm);

    struct kvm_sregs sregs;
    control(vm->cpu_fd, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
    sregs.cs = flat(8, true);
    sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = flat(16, false);
    sregs.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
    sregs.cr3 = GPA_PML4;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME | EFER_LMA;
    control(vm->cpu_fd, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
}

static uint64_t code_address(const char *code)
{
    return ARENA + GPA_CODE + (uint64_t)(code - code_begin);
}

uint64_t vm_run(struct vm *vm, const char *code, struct registers *r)
{
    volatile struct kvm_run *run = vm->run;
    struct kvm_regs regs = {
        .rip = code_address(code),
        .rflags = 2,
        .rdi = r->base,
        .rsi = r->count,
        .rdx = r->other,
        .r9 = r->state,
    };
    uint64_t worked = 0;

    control(vm->cpu_fd, KVM_SET_REGS, &regs, "KVM_SET_REGS");
    for (;;) {
        if (ioctl(vm->cpu_fd, KVM_RUN, 0) != 0) {
            if (errno == EINTR || errno == EAGAIN)
                continue;
            fail("KVM_RUN");
        }
        if (run->exit_reason == KVM_EXIT_IO && run->io.port == PORT_WORK) {
            worked++;
            continue;
        }
        if (run->exit_reason == KVM_EXIT_IO && run->io.port == PORT_DONE)
            break;
        fprintf(stderr, "nested: the guest left with exit reason %u\n", run->exit_reason);
        exit(1);
    }
    control(vm->cpu_fd, KVM_GET_REGS, &regs, "KVM_GET_REGS");
    r->count = regs.rsi;
    r->state = regs.r9;
    return worked;
}

void l1_run(const char *code, struct registers *r)
{
    register uint64_t in_l1 __asm__("r8") = 1;
    register uint64_t state __asm__("r9") = r->state;
    uint64_t base = r->base, count = r->count, other = r->other;

    /* Below the red zone, as the call writes to the stack. */
    __asm__ volatile("sub $128, %%rsp\n call *%[code]\n add $128, %%rsp"
                     : "+D"(base), "+S"(count), "+d"(other), "+r"(in_l1), "+r"(state)
                     : [code] "b"(code_address(code))
                     : "rax", "rcx", "r10", "r11", "memory", "cc");
    r->count = count;
    r->state = state;
}
