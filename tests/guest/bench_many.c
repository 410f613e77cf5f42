/*
 * bench_many.c -- does the time of a VM exit depend on how many VMCSs and EPT pointers there are?
 *
 * Options on the command line: loops=N (default 20000 exits), count=N (1 to 64, default 64), and mode=
 *   vmcs   `count` VMCSs, one after the other: VMPTRLD, VMRESUME, exit by CPUID (the default)
 *   ept    the same with an EPT hierarchy for each
 *   vmfunc one VMCS, its guest goes through `count` EPT hierarchies by VMFUNC: loops of switch and load
 * SDM 3C 24.11 "Software Use of the VMCS and Related Structures", 25.5.6.3 "EPTP Switching".
 */
#include "bench.h"
#include "vmx.h"

#define MANY   64
#define WINDOW 0x40000000ul
#define EPT_WB (6ul << 3)

GUEST_CODE(many_cpuid, 64, "1: mov (%rbx), %rax\n cpuid\n jmp 1b");
GUEST_CODE(many_switch, 64,
           "1: xor %ecx, %ecx\n"
           "2: xor %eax, %eax\n vmfunc\n add (%rbx), %rdi\n inc %ecx\n cmp %r9d, %ecx\n jne 2b\n"
           "sub %r9, %r8\n ja 1b");

static void *region[MANY];
static uint64_t eptp[MANY], *list;

/* Own tables for WINDOW, and a frame that holds its number; the rest is shared with `first`. */
static uint64_t hierarchy(uint64_t first, uint64_t number)
{
    uint64_t *pml4 = page_alloc(), *pdpt = page_alloc(), *directory = page_alloc(), *frame = page_alloc();
    memcpy(pml4, (void *)(first & PTE_ADDRESS), PAGE_SIZE);
    memcpy(pdpt, (void *)(pml4[0] & PTE_ADDRESS), PAGE_SIZE);
    memcpy(directory, (void *)(pdpt[WINDOW >> 30] & PTE_ADDRESS), PAGE_SIZE);
    pml4[0] = (uint64_t)pdpt | 7;
    pdpt[WINDOW >> 30] = (uint64_t)directory | 7;
    uint64_t made = (uint64_t)pml4 | 3 << 3 | 6;
    *frame = number;
    *ept_entry(made, WINDOW, 1) = (uint64_t)frame | EPT_WB | 7;
    return made;
}

void guest_main(void)
{
    uint64_t loops = bench_number("loops", 20000), count = bench_number("count", MANY);
    bool ept = bench_is("mode", "ept"), vmfunc = bench_is("mode", "vmfunc"), ok = true;
    count = count > MANY ? MANY : count;
    if (!vmx_start()) {
        return;
    }
    if ((ept || vmfunc) &&
        !vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_EPT | (vmfunc ? PROC2_ENABLE_VMFUNC : 0))) {
        report_skip("bench-many", "SDM 3C 28.2", "no EPT or no VM functions");
        return;
    }
    list = page_alloc();
    uint64_t identity = ept_identity(2);
    for (uint64_t i = 0; i < count; i++) {
        list[i] = eptp[i] = hierarchy(identity, i);
        region[i] = vmx_region();
    }
    for (uint64_t i = 0; i < (vmfunc ? 1 : count); i++) {
        vmx_vmcs = region[i];
        vmx_guest_reset();
        if (ept || vmfunc) {
            vmcs_set(VMCS_EPT_POINTER, eptp[i]);
            vmx_secondary(PROC2_ENABLE_EPT | (vmfunc ? PROC2_ENABLE_VMFUNC : 0));
        }
        vmcs_set(VMCS_GUEST_RIP, (uint64_t)(vmfunc ? many_switch : many_cpuid));
    }
    uint64_t done = 0, sum = 0;
    bench_line("begin");
    if (vmfunc) {
        vmcs_set(VMCS_VMFUNC_CONTROLS, 1);
        vmcs_set(VMCS_EPTP_LIST, (uint64_t)list);
        struct vmx_registers r = {.rbx = WINDOW, .r8 = loops, .r9 = count};
        ok = vmx_enter_raw(&r, true) == VMX_OK && vmcs(VMCS_EXIT_REASON) == EXIT_REASON_VMCALL;
        uint64_t rounds = (loops + count - 1) / count;
        sum = r.rdi;
        ok = ok && sum == rounds * (count * (count - 1) / 2);
        done = rounds * count;
    } else {
        struct vmx_registers r = {.rbx = ept ? WINDOW : (uint64_t)&sum};
        for (; done < loops && ok; done++) {
            uint64_t i = done % count;
            vmx_load((uint64_t)region[i]);
            ok = vmx_enter_raw(&r, done < count) == VMX_OK && vmcs(VMCS_EXIT_REASON) == EXIT_REASON_CPUID &&
                 r.rax == (ept ? i : 0);
            vmcs_set(VMCS_GUEST_RIP, vmcs(VMCS_GUEST_RIP) + vmcs(VMCS_EXIT_INSTRUCTION_LENGTH));
        }
    }
    bench_line("end");
    print("%lu times with %lu\n", done, count);
    report("bench-many", "SDM 3C 24.11, 25.5.6.3: each time with the right hierarchy", ok,
           "after %lu of %lu: reason %lx error %lx sum %lx", done, loops, vmcs(VMCS_EXIT_REASON),
           vmcs(VMCS_INSTRUCTION_ERROR), sum);
    asm volatile("vmxoff");
}
