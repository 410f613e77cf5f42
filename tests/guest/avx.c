/*
 * avx.c -- the rules around VEX instructions: #UD and #NM, prefixes, alignment, what becomes of the upper
 * halves, partial gathers, and the AVX component of XSAVE.
 * SDM 1 14 "Programming with Intel AVX", 13 "Managing State Using the XSAVE Feature Set"; SDM 2A 2.3, 2.4.
 */
#include "guest.h"

static uint8_t area[4096] __attribute__((aligned(64)));
static uint8_t memory[256] __attribute__((aligned(64)));

static void xsetbv(uint64_t v)
{
    asm volatile("xsetbv" ::"c"(0), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
}

static uint64_t xgetbv(uint32_t index)
{
    uint32_t lo, hi;
    asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(index));
    return (uint64_t)hi << 32 | lo;
}

/* Bits 255:128 of YMM3, folded. */
static uint64_t upper3(void)
{
    uint64_t v[2] __attribute__((aligned(16)));
    asm volatile("vextractf128 $1, %%ymm3, (%0)" ::"r"(v) : "memory");
    return v[0] | v[1];
}

static void ones3(void)
{
    asm volatile("vpcmpeqd %ymm3, %ymm3, %ymm3");
}

/* -- Who may run them ---------------------------------------------------------------------------------- */

static void check_state(void)
{
    uint64_t cr0 = read_cr0(), cr4 = read_cr4();
    struct trap t;
    write_cr4(cr4 & ~CR4_OSXSAVE);
    check_trap("without-osxsave", "SDM 2A 2.4: #UD if CR4.OSXSAVE=0", TRY_ASM("vzeroupper"), EXC_UD, 0);
    write_cr4(cr4 | CR4_OSXSAVE);
    xsetbv(3);
    check_trap("xcr0-without-avx", "SDM 2A 2.4: #UD if XCR0[2:1] is not 11b",
               TRY_ASM("vaddps %%xmm1, %%xmm2, %%xmm3"), EXC_UD, 0);
    check_none("bmi-without-avx", "SDM 2A 2.5: VEX instructions on general registers need no XCR0",
               TRY_ASM("andn %%eax, %%ecx, %%edx"));
    check_none("sse-without-avx", "SDM 1 13.5.2", TRY_ASM("pxor %%xmm4, %%xmm4"));
    xsetbv(7);
    check_none("with-avx", "SDM 1 14.3", TRY_ASM("vaddps %%ymm4, %%ymm4, %%ymm4"));
    write_cr0(cr0 | CR0_TS);
    t = TRY_ASM("vzeroupper");
    write_cr0(cr0);
    check_trap("ts", "SDM 2A 2.4: #NM if CR0.TS=1", t, EXC_NM, 0);
    write_cr0(cr0 | CR0_EM);
    t = TRY_ASM("vpaddd %%xmm4, %%xmm4, %%xmm4");
    write_cr0(cr0);
    check_none("em", "SDM 2A 2.4: CR0.EM does not count", t);
    write_cr4(read_cr4() & ~CR4_OSFXSR);
    t = TRY_ASM("vpaddd %%xmm4, %%xmm4, %%xmm4");
    write_cr4(read_cr4() | CR4_OSFXSR);
    check_none("osfxsr", "SDM 2A 2.4: CR4.OSFXSR does not count", t);
}

REAL_CODE(real_vex, ".byte 0xc5, 0xf8, 0x77");

static void check_real(void)
{
    struct real r = {0};
    real_run(real_vex, (size_t)(real_vex_end - real_vex), &r);
    check_equal("real-mode", "SDM 2A 2.4: #UD in real-address mode", r.vector, EXC_UD);
}

/* -- Encoding ------------------------------------------------------------------------------------------ */

#define UNDEFINED(name, rule, bytes) check_trap(name, rule, TRY_ASM(".byte " bytes), EXC_UD, 0)

static void check_encoding(void)
{
    static const char *const prefixes = "SDM 2A 2.3.2 to 2.3.4: 66H, F2H, F3H, LOCK or REX before VEX: #UD";
    UNDEFINED("prefix-66", prefixes, "0x66, 0xc5, 0xe8, 0x58, 0xd9");
    UNDEFINED("prefix-f2", prefixes, "0xf2, 0xc5, 0xe8, 0x58, 0xd9");
    UNDEFINED("prefix-f3", prefixes, "0xf3, 0xc5, 0xe8, 0x58, 0xd9");
    UNDEFINED("prefix-lock", prefixes, "0xf0, 0xc5, 0xe8, 0x58, 0xd9");
    UNDEFINED("prefix-rex", prefixes, "0x40, 0xc5, 0xe8, 0x58, 0xd9");
    UNDEFINED("vvvv", "SDM 2A 2.4: VEX.vvvv is not 1111b where it is unused: #UD", "0xc5, 0xe8, 0x28, 0xd9");
    UNDEFINED("vzero-vvvv", "SDM 2C VZEROUPPER #UD: VEX.vvvv", "0xc5, 0xe8, 0x77");
    UNDEFINED("l-of-vmovd", "SDM 2B MOVD #UD: VEX.L=1", "0xc5, 0xfd, 0x6e, 0xc0");
    UNDEFINED("w-of-vtestps", "SDM 2C VTESTPS #UD: VEX.W=1", "0xc4, 0xe2, 0xf9, 0x0e, 0xc1");
    UNDEFINED("l-of-vperm2f128", "SDM 2C VPERM2F128 #UD: VEX.L=0", "0xc4, 0xe3, 0x69, 0x06, 0xd9, 0x00");
    UNDEFINED("gather-same", "SDM 2C VPGATHERDD #UD: mask, index and destination differ",
              "0xc4, 0xe2, 0x69, 0x90, 0x14, 0x18");
    UNDEFINED("evex", "no AVX-512", "0x62, 0xf1, 0x6c, 0x48, 0x58, 0xd9");
    check_none("l-ignored", "SDM 2A VADDSS: VEX.LIG", TRY_ASM(".byte 0xc5, 0xee, 0x58, 0xd9"));
    check_none("w-ignored", "SDM 2A VADDPS: VEX.WIG", TRY_ASM(".byte 0xc4, 0xe1, 0xe8, 0x58, 0xd9"));
}

/* -- Registers and memory ------------------------------------------------------------------------------ */

static void check_upper(void)
{
    ones3();
    asm volatile("paddd %xmm1, %xmm3");
    check_equal("sse-keeps", "SDM 1 14.1.1: legacy SSE leaves bits 255:128", upper3(), ~0ul);
    asm volatile("vpaddd %xmm1, %xmm2, %xmm3");
    check_equal("vex128-clears", "SDM 1 14.1.1: VEX.128 clears bits 255:128", upper3(), 0);
    ones3();
    asm volatile("vmovd %%eax, %%xmm3" ::: "memory");
    check_equal("vmovd-clears", "SDM 2B MOVD", upper3(), 0);
    ones3();
    asm volatile("vmovdqu (%0), %%xmm3" ::"r"(memory) : "memory");
    check_equal("load-clears", "SDM 2B MOVDQU", upper3(), 0);
    ones3();
    asm volatile("vzeroupper");
    uint64_t low;
    asm volatile("movq %%xmm3, %0" : "=r"(low));
    report("vzeroupper", "SDM 2C VZEROUPPER", upper3() == 0 && low == ~0ul, "%lx %lx", upper3(), low);
    ones3();
    asm volatile("vzeroall\n movq %%xmm3, %0" : "=r"(low));
    report("vzeroall", "SDM 2C VZEROALL", upper3() == 0 && low == 0, "%lx %lx", upper3(), low);
}

static void check_alignment(void)
{
    uint8_t *odd = memory + 16;
    check_trap("vmovaps-32", "SDM 2B MOVAPS #GP(0): not 32-byte aligned",
               TRY(asm volatile("vmovaps (%0), %%ymm4" ::"r"(odd))), EXC_GP, 0);
    check_trap("vmovntdq-32", "SDM 2B MOVNTDQ #GP(0)", TRY(asm volatile("vmovntdq %%ymm4, (%0)" ::"r"(odd))),
               EXC_GP, 0);
    check_trap("vmovdqa-16", "SDM 2B MOVDQA #GP(0)",
               TRY(asm volatile("vmovdqa %%xmm4, (%0)" ::"r"(memory + 8))), EXC_GP, 0);
    check_none("vaddps-unaligned", "SDM 2A 2.4.1: VEX operands need no alignment",
               TRY(asm volatile("vaddps (%0), %%ymm4, %%ymm4" ::"r"(memory + 1))));
    check_none("vmovups-unaligned", "SDM 2B MOVUPS",
               TRY(asm volatile("vmovups %%ymm4, (%0)" ::"r"(odd + 1))));
}

#define PLACE 0x600000000000ul /* two pages of our own */

/* The second element is on a page that is not present. */
static void check_gather(void)
{
    static const char *const rule = "SDM 2C VPGATHERDD: elements before the fault are done, their mask is 0";
    uint64_t *pml4 = (uint64_t *)(read_cr3() & ~0xffful);
    uint8_t *page = (uint8_t *)PLACE;
    uint64_t first = (uint64_t)page_alloc(), second = (uint64_t)page_alloc();
    page_map(pml4, PLACE, first | PTE_P | PTE_W, 1);
    page_map(pml4, PLACE + 4096, second | PTE_P | PTE_W, 1);
    uint64_t *entry = page_entry(pml4, PLACE + 4096, 1);
    uint32_t index[4] = {0, 4096, 4, 8}, got[4], mask[4];
    uint64_t saved;
    for (unsigned i = 0; i < 4; i++)
        ((uint32_t *)page)[i] = 0x11111111u * (i + 1);
    ((uint32_t *)page)[1024] = 0x99999999;
    saved = *entry;
    *entry = 0;
    invlpg((uint64_t)page + 4096);
    asm volatile("vpxor %xmm4, %xmm4, %xmm4\n vpcmpeqd %xmm5, %xmm5, %xmm5");
    asm volatile("vmovdqu (%0), %%xmm6" ::"r"(index));
    struct trap t = TRY(asm volatile("vpgatherdd %%xmm5, (%0,%%xmm6), %%xmm4" ::"r"(page)));
    check_fault("gather-fault", rule, t, 0, (uint64_t)page + 4096);
    asm volatile("vmovdqu %%xmm4, (%0)\n vmovdqu %%xmm5, (%1)" ::"r"(got), "r"(mask) : "memory");
    report("gather-partial", rule, got[0] == 0x11111111 && got[1] == 0 && mask[0] == 0 && mask[1] >> 31,
           "%x %x, mask %x %x", got[0], got[1], mask[0], mask[1]);
    *entry = saved;
    invlpg((uint64_t)page + 4096);
    check_none("gather-restart", rule,
               TRY(asm volatile("vpgatherdd %%xmm5, (%0,%%xmm6), %%xmm4" ::"r"(page))));
    asm volatile("vmovdqu %%xmm4, (%0)\n vmovdqu %%xmm5, (%1)" ::"r"(got), "r"(mask) : "memory");
    report("gather-done", rule,
           got[0] == 0x11111111 && got[1] == 0x99999999 && got[2] == 0x22222222 && got[3] == 0x33333333 &&
               !(mask[0] | mask[1] | mask[2] | mask[3]),
           "%x %x %x %x", got[0], got[1], got[2], got[3]);
    *entry = 0;
    invlpg((uint64_t)page + 4096);
    asm volatile("vpcmpeqd %xmm5, %xmm5, %xmm5\n vpsrldq $12, %xmm5, %xmm5");
    check_none("maskmov", "SDM 2C VMASKMOV: elements whose mask is 0 do not fault",
               TRY(asm volatile("vmaskmovps (%0), %%xmm5, %%xmm4" ::"r"(page + 4092))));
    check_none("maskmov-store", "SDM 2C VMASKMOV",
               TRY(asm volatile("vmaskmovps %%xmm4, %%xmm5, (%0)" ::"r"(page + 4092))));
    asm volatile("vpcmpeqd %xmm5, %xmm5, %xmm5");
    ((uint32_t *)page)[1023] = 0x55;
    t = TRY(asm volatile("vmaskmovps %%xmm4, %%xmm5, (%0)" ::"r"(page + 4092) : "memory"));
    check_fault("maskmov-store-fault", "SDM 2C VMASKMOV", t, 2, (uint64_t)page + 4096);
    check_equal("maskmov-store-whole", "SDM 2C VMASKMOV: a fault leaves nothing done",
                ((volatile uint32_t *)page)[1023], 0x55);
    *entry = saved;
    invlpg((uint64_t)page + 4096);
}

/* -- XSAVE --------------------------------------------------------------------------------------------- */

#define XSAVE_OP(name, op)                                                                                   \
    static void name(uint64_t mask)                                                                          \
    {                                                                                                        \
        asm volatile(op " (%0)" ::"r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");   \
    }
XSAVE_OP(xsave, "xsave64")
XSAVE_OP(xsaveopt, "xsaveopt64")
XSAVE_OP(xsavec, "xsavec64")
XSAVE_OP(xrstor, "xrstor64")

static void check_xsave(void)
{
    uint64_t *header = (uint64_t *)(area + 512), *upper = (uint64_t *)(area + 576 + 3 * 16);
    struct cpuid leaf = cpuid(0xd, 2);
    report("cpuid-component", "SDM 1 13.2 CPUID.0DH.2", leaf.eax == 256 && leaf.ebx == 576, "%u %u", leaf.eax,
           leaf.ebx);
    check_equal("cpuid-size", "SDM 1 13.2 CPUID.0DH.0:EBX", cpuid(0xd, 0).ebx, 832);
    memset(area, 0, sizeof area);
    asm volatile("vzeroall");
    ones3();
    xsave(7);
    report("xsave", "SDM 1 13.7: upper halves at 576",
           (header[0] & 4) && upper[0] == ~0ul && upper[1] == ~0ul, "%lx %lx", header[0], upper[0]);
    upper[0] = upper[1] = 0x1234;
    xrstor(4);
    check_equal("xrstor", "SDM 1 13.8", upper3(), 0x1234);
    header[0] &= ~4ul;
    xrstor(4);
    check_equal("xrstor-init", "SDM 1 13.8.1: XSTATE_BV[2]=0 initializes", upper3(), 0);
    if (cpuid(0xd, 1).eax & 4)
        check_equal("xinuse-init", "SDM 1 13.6: AVX is not in use when all upper halves are 0", xgetbv(1) & 4,
                    0);
    if (cpuid(0xd, 1).eax & 1) {
        upper[0] = 0x77;
        xsaveopt(4);
        report("xsaveopt-init", "SDM 1 13.9: the init optimization", !(header[0] & 4) && upper[0] == 0x77,
               "%lx %lx", header[0], upper[0]);
    }
    if (cpuid(0xd, 1).eax & 2) {
        ones3();
        memset(area, 0, sizeof area);
        xsavec(6);
        report("xsavec", "SDM 1 13.10", header[0] == 6 && header[1] == (1ul << 63 | 6) && upper[1] == ~0ul,
               "%lx %lx %lx", header[0], header[1], upper[1]);
        asm volatile("vzeroall");
        xrstor(4);
        check_equal("xrstor-compacted", "SDM 1 13.8.2", upper3(), ~0ul);
    }
    asm volatile("vzeroall");
}

void guest_main(void)
{
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    if (!(cpuid(1, 0).ecx & 1u << 28) || !(cpuid(7, 0).ebx & 1u << 5)) {
        report_skip("avx", "SDM 1 14.3", "no AVX or no AVX2");
        return;
    }
    check_real();
    write_cr4(read_cr4() | CR4_OSXSAVE);
    check_state();
    check_encoding();
    check_upper();
    check_alignment();
    check_gather();
    check_xsave();
}
