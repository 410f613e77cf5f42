/*
 * bench_cr3.c -- what MOV CR3 costs, alone and with the page touches behind it.
 *
 * Two address spaces map the same eight linear pages to pages of their own; a loop changes from one to the
 * other. Options on the command line: loops=N changes of CR3 (default 20000), pages=N touched after each
 * (default 8; 0: none), where=l1 (default) or where=l2: as a VMX guest with EPT, where MOV CR3 does not exit.
 * The host's time is measured from outside, between the lines of lib/bench.h.
 */
#include "bench.h"
#include "vmx.h"

enum { PAGES = 8 };
#define WINDOW (1ul << 39) /* linear address of the pages, by itself in a PML4 entry */

/*
 * RSI changes of CR3, beginning with RAX, then RBX, and so on. Behind each, cr3_touch adds what the eight
 * pages at RDI hold to R8; cr3_alone touches nothing but the stack's page, at the end.
 */
extern char cr3_touch_l2[], cr3_alone_l2[];
asm(".text\n"
    "cr3_touch:\n"
    "1: mov %rax, %cr3\n"
    "  mov (%rdi), %rcx\n"
    "  add 0x1000(%rdi), %rcx\n"
    "  add 0x2000(%rdi), %rcx\n"
    "  add 0x3000(%rdi), %rcx\n"
    "  add 0x4000(%rdi), %rcx\n"
    "  add 0x5000(%rdi), %rcx\n"
    "  add 0x6000(%rdi), %rcx\n"
    "  add 0x7000(%rdi), %rcx\n"
    "  add %rcx, %r8\n"
    "  xchg %rax, %rbx\n"
    "  dec %rsi\n"
    "  jnz 1b\n"
    "  ret\n"
    "cr3_alone:\n"
    "1: mov %rax, %cr3\n"
    "  xchg %rax, %rbx\n"
    "  dec %rsi\n"
    "  jnz 1b\n"
    "  ret\n"
    "cr3_touch_l2: call cr3_touch\n vmcall\n"
    "cr3_alone_l2: call cr3_alone\n vmcall\n");

static uint64_t address_space(uint64_t value)
{
    uint64_t *pml4 = page_alloc();
    pml4[0] = boot_pml4[0];
    for (uint64_t i = 0; i < PAGES; i++) {
        uint64_t *page = page_alloc();
        page[0] = value;
        *page_entry(pml4, WINDOW + i * PAGE_SIZE, 1) = (uint64_t)page | PTE_P | PTE_W;
    }
    return (uint64_t)pml4;
}

static uint64_t loop_in_l1(uint64_t a, uint64_t b, uint64_t loops, bool touch)
{
    uint64_t sum = 0;
    register uint64_t r8 asm("r8") = 0;
    uint64_t home = read_cr3(), window = WINDOW;
    if (touch) {
        asm volatile("call cr3_touch"
                     : "+a"(a), "+b"(b), "+S"(loops), "+D"(window), "+r"(r8)::"rcx", "memory", "cc");
        sum = r8;
    } else {
        asm volatile("call cr3_alone" : "+a"(a), "+b"(b), "+S"(loops)::"memory", "cc");
    }
    write_cr3(home);
    return sum;
}

static bool loop_in_l2(uint64_t a, uint64_t b, uint64_t loops, bool touch, uint64_t *sum)
{
    vmx_guest = (struct vmx_registers){.rax = a, .rbx = b, .rsi = loops, .rdi = WINDOW};
    struct vmx_exit e = vmx_run(touch ? cr3_touch_l2 : cr3_alone_l2);
    *sum = vmx_guest.r8;
    return e.result == VMX_OK && e.reason == EXIT_REASON_VMCALL && vmx_guest.rsi == 0;
}

void guest_main(void)
{
    uint64_t loops = bench_number("loops", 20000), sum = 0;
    bool l2 = bench_is("where", "l2"), touch = !bench_is("pages", "0"), ok = true;
    uint64_t a = address_space(1), b = address_space(3);
    if (l2) {
        if (!vmx_start()) {
            return;
        }
        if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_EPT)) {
            report_skip("bench-cr3", "SDM 3C 28.3 EPT", "not supported");
            return;
        }
        vmx_guest_reset();
        vmx_secondary(PROC2_ENABLE_EPT);
        vmcs_set(VMCS_EPT_POINTER, ept_identity(4));
    }
    bench_line("begin");
    if (l2) {
        ok = loop_in_l2(a, b, loops, touch, &sum);
    } else {
        sum = loop_in_l1(a, b, loops, touch);
    }
    bench_line("end");
    uint64_t want = touch ? PAGES * (loops / 2 * 4 + (loops & 1)) : 0;
    report("bench-cr3", "SDM 3A 4.10.4 MOV to CR3, each time", ok && sum == want, "sum %lx, want %lx", sum,
           want);
    if (l2) {
        asm volatile("vmxoff");
    }
}
