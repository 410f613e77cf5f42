/*
 * bench_exit.c -- what a VM exit costs: a CPUID loop in L2 under the smallest hypervisor there can be.
 *
 * Options on the command line: loops=N (default 20000), and mode=
 *   pair     VM exit, VMRESUME; L2's RIP stays at CPUID, so nothing else happens (the default)
 *   skip     as a teaching hypervisor does: VMREAD length and RIP, VMWRITE RIP behind CPUID, VMRESUME
 *   handler  as a hypervisor in C does: also VMREAD of the reason; all registers saved and loaded by
 * vmx_enter_raw() vmread, vmwrite, none: eight of these instructions a loop, or nothing but the loop Prints
 * the virtual ticks of the run; the host's time is measured from outside, between the lines of lib/bench.h.
 */
#include "bench.h"
#include "vmx.h"

extern char bench_exit_point[], bench_skip_point[];
/* bool bench_pair(uint64_t loops): true when VMRESUME failed. */
bool bench_pair(uint64_t loops);
asm(".text\n"
    "bench_pair:\n"
    "  push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "  mov $0x6c14, %eax\n" /* HOST_RSP */
    "  vmwrite %rsp, %rax\n"
    "  mov %rdi, %r15\n"
    "  vmlaunch\n"
    "  jmp 2f\n"
    "bench_exit_point:\n"
    "  dec %r15\n"
    "  jz 1f\n"
    "  vmresume\n"
    "  jmp 2f\n"
    "bench_skip_point:\n"
    "  dec %r15\n"
    "  jz 1f\n"
    "  mov $0x440c, %eax\n" /* VM-exit instruction length */
    "  vmread %rax, %rcx\n"
    "  mov $0x681e, %eax\n" /* guest RIP */
    "  vmread %rax, %rdx\n"
    "  add %rcx, %rdx\n"
    "  vmwrite %rdx, %rax\n"
    "  vmresume\n"
    "2: mov $1, %eax\n"
    "  jmp 3f\n"
    "1: xor %eax, %eax\n"
    "3: pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
    "  ret\n");

/* In the host's own text, so that the two do not meet in one set of any cache of translations. */
extern char cpuid_loop[];
asm(".text\n"
    "cpuid_loop:\n"
    "1: cpuid\n"
    "  jmp 1b\n");

static void eight_reads(void)
{
    uint64_t v;
    asm volatile("vmread %1, %0\n vmread %2, %0\n vmread %3, %0\n vmread %1, %0\n"
                 "vmread %2, %0\n vmread %3, %0\n vmread %1, %0\n vmread %2, %0"
                 : "=&r"(v)
                 : "r"((uint64_t)VMCS_EXIT_REASON), "r"((uint64_t)VMCS_GUEST_RIP),
                   "r"((uint64_t)VMCS_GUEST_CS_ACCESS)
                 : "cc");
}

static void eight_writes(void)
{
    asm volatile(
        "vmwrite %0, %1\n vmwrite %0, %2\n vmwrite %0, %1\n vmwrite %0, %2\n"
        "vmwrite %0, %1\n vmwrite %0, %2\n vmwrite %0, %1\n vmwrite %0, %2" ::"r"((uint64_t)cpuid_loop),
        "r"((uint64_t)VMCS_GUEST_RIP), "r"((uint64_t)VMCS_GUEST_SYSENTER_EIP)
        : "cc");
}

void guest_main(void)
{
    uint64_t loops = bench_number("loops", 20000);
    if (!vmx_start()) {
        return;
    }
    vmx_guest_reset();
    bool ok = true;
    bench_line("begin");
    uint64_t begin = rdtsc();
    if (bench_is("mode", "handler")) {
        struct vmx_registers r = {0};
        vmcs_set(VMCS_GUEST_RIP, (uint64_t)cpuid_loop);
        for (uint64_t i = 0; i < loops && ok; i++) {
            ok = vmx_enter_raw(&r, i == 0) == VMX_OK && vmcs(VMCS_EXIT_REASON) == EXIT_REASON_CPUID;
            vmcs_set(VMCS_GUEST_RIP, vmcs(VMCS_GUEST_RIP) + vmcs(VMCS_EXIT_INSTRUCTION_LENGTH));
        }
    } else if (bench_is("mode", "vmread")) {
        for (uint64_t i = 0; i < loops; i++) {
            eight_reads();
        }
    } else if (bench_is("mode", "vmwrite")) {
        for (uint64_t i = 0; i < loops; i++) {
            eight_writes();
        }
    } else if (bench_is("mode", "none")) {
        for (uint64_t i = 0; i < loops; i++) {
            asm volatile("");
        }
    } else {
        vmcs_set(VMCS_GUEST_RIP, (uint64_t)cpuid_loop);
        bool skip = bench_is("mode", "skip");
        vmcs_set(VMCS_HOST_RIP, (uint64_t)(skip ? bench_skip_point : bench_exit_point));
        ok = !bench_pair(loops) && vmcs(VMCS_EXIT_REASON) == EXIT_REASON_CPUID &&
             vmcs(VMCS_GUEST_RIP) == (uint64_t)cpuid_loop;
    }
    uint64_t ticks = rdtsc() - begin;
    bench_line("end");
    print("%lu loops, %lu ticks\n", loops, ticks);
    report("bench-exit", "SDM 3C 25.1.2 CPUID exits, each time", ok, "reason %lx error %lx",
           vmcs(VMCS_EXIT_REASON), vmcs(VMCS_INSTRUCTION_ERROR));
    asm volatile("vmxoff");
}
