/*
 * fpu.c -- the rules around x87, SSE and XSAVE: #NM, #MF, #XM, #UD, state images and their header checks.
 * SDM 3A 2.5, 13; SDM 1 8, 11, 13 "Managing State Using the XSAVE Feature Set".
 */
#include "guest.h"

static uint8_t area[4096] __attribute__((aligned(64))), area2[4096] __attribute__((aligned(64)));

static void device_not_available(void)
{
    static const struct {
        const char *name;
        uint64_t cr0;
        unsigned x87, wait, sse, mmx;
    } list[] = {{"none", 0, VECTOR_NONE, VECTOR_NONE, VECTOR_NONE, VECTOR_NONE},
                {"mp", CR0_MP, VECTOR_NONE, VECTOR_NONE, VECTOR_NONE, VECTOR_NONE},
                {"ts", CR0_TS, EXC_NM, VECTOR_NONE, EXC_NM, EXC_NM},
                {"ts-mp", CR0_TS | CR0_MP, EXC_NM, EXC_NM, EXC_NM, EXC_NM},
                {"em", CR0_EM, EXC_NM, VECTOR_NONE, EXC_UD, EXC_UD},
                {"em-ts", CR0_EM | CR0_TS, EXC_NM, VECTOR_NONE, EXC_UD, EXC_UD},
                {"em-ts-mp", CR0_EM | CR0_TS | CR0_MP, EXC_NM, EXC_NM, EXC_UD, EXC_UD}};
    uint64_t cr0 = read_cr0();
    char name[40];
    for (unsigned i = 0; i < sizeof list / sizeof list[0]; i++) {
        write_cr0((cr0 & ~(CR0_EM | CR0_TS | CR0_MP)) | list[i].cr0);
        struct trap x87 = TRY_ASM("fnop"), wait = TRY_ASM("fwait"), sse = TRY_ASM("xorps %%xmm0, %%xmm0"),
                    mmx = TRY_ASM("pxor %%mm0, %%mm0");
        write_cr0(cr0);
        format_text(name, sizeof name, "x87-%s", list[i].name);
        check_trap(name, "SDM 3A Table 2-2, 6.15 Interrupt 7: x87", x87, list[i].x87, 0);
        format_text(name, sizeof name, "fwait-%s", list[i].name);
        check_trap(name, "SDM 3A Table 2-2: WAIT needs TS and MP", wait, list[i].wait, 0);
        format_text(name, sizeof name, "sse-%s", list[i].name);
        check_trap(name, "SDM 3A 13.1.4: SSE", sse, list[i].sse, 0);
        format_text(name, sizeof name, "mmx-%s", list[i].name);
        check_trap(name, "SDM 3A 12.1: MMX", mmx, list[i].mmx, 0);
    }
    write_cr4(read_cr4() & ~CR4_OSFXSR);
    check_trap("sse-without-osfxsr", "SDM 3A 2.5 CR4.OSFXSR: #UD", TRY_ASM("xorps %%xmm0, %%xmm0"), EXC_UD,
               0);
    check_none("mmx-without-osfxsr", "SDM 3A 2.5 CR4.OSFXSR: MMX does not need it",
               TRY_ASM("pxor %%mm0, %%mm0; emms"));
    write_cr4(read_cr4() | CR4_OSFXSR);
}

/* Often enough that a translator takes part; a stack that wraps round, with a hole at ST(1). */
static void stack_faults(void)
{
    uint16_t both = 0, under = 0, over = 0, indefinite[5] = {0};
    bool same = true;
    for (unsigned i = 0; i < 100; i++) {
        uint16_t b, u, o, value[5];
        asm volatile("fninit; fldz; fldz; fldz; fldz; fldz; fldz; fldz; fldz; ffree %%st(1)\n"
                     "fld %%st(1); fnstsw %0; fnclex; fstpt %3\n"
                     "fninit; fld %%st(1); fnstsw %1; fninit\n"
                     "fldz; fldz; fldz; fldz; fldz; fldz; fldz; fld1; fld %%st(1); fnstsw %2; fninit"
                     : "=m"(b), "=m"(u), "=m"(o), "=m"(value));
        if (!i)
            both = b, under = u, over = o, __builtin_memcpy(indefinite, value, 10);
        same = same && b == both && u == under && o == over && !__builtin_memcmp(value, indefinite, 10);
    }
    check_equal("fld-underflow", "SDM 1 8.5.1.1: IE, SF; C1 = 0 for an underflow", under & 0x27f, 0x41);
    check_equal("fld-overflow", "SDM 1 8.5.1.1: IE, SF; C1 = 1 for an overflow", over & 0x27f, 0x241);
    check_equal("fld-both", "SDM 2 FLD: C1 = 1 if stack overflow occurred, also with an empty source",
                both & 0x27f, 0x241);
    report("fld-both-value", "SDM 1 8.5.1.1: the indefinite value",
           same && indefinite[4] == 0xffff && indefinite[3] == 0xc000 && !indefinite[0], "%x %x, %s",
           indefinite[4], indefinite[3], same ? "always" : "not always");
}

static void exceptions(void)
{
    uint16_t control = 0x037b; /* zero divide unmasked */
    uint32_t mxcsr = 0x1d80;   /* zero divide unmasked */
    struct trap t = TRY(asm volatile("fninit; fldcw %0; fld1; fldz; fdivrp" ::"m"(control)));
    check_none("mf-deferred", "SDM 3A 6.15 Interrupt 16: not at the faulting instruction", t);
    t = TRY_ASM("fwait");
    check_trap("mf-at-next", "SDM 3A 6.15 Interrupt 16: at the next waiting instruction, with CR0.NE", t,
               EXC_MF, 0);
    t = TRY_ASM("fld1");
    check_trap("mf-still-pending", "SDM 1 8.7: pending until cleared", t, EXC_MF, 0);
    check_none("mf-fnstsw", "SDM 1 8.3.11: non-waiting instructions do not raise it",
               TRY_ASM("fnstsw %%ax; fnclex"));
    check_none("mf-cleared", "SDM 2 FNCLEX", TRY_ASM("fwait"));
    asm volatile("fninit");
    write_cr4(read_cr4() | CR4_OSXMMEXCPT);
    t = TRY(asm volatile("ldmxcsr %0; xorps %%xmm1, %%xmm1; pcmpeqd %%xmm0, %%xmm0; psrld $25, %%xmm0; pslld "
                         "$23, %%xmm0; divss %%xmm1, %%xmm0" ::"m"(mxcsr)));
    check_trap("xm", "SDM 3A 6.15 Interrupt 19", t, EXC_XM, 0);
    uint32_t seen;
    asm volatile("stmxcsr %0" : "=m"(seen));
    check_equal("xm-flag", "SDM 1 11.5.2.2 MXCSR.ZE is set", seen, mxcsr | 4);
    write_cr4(read_cr4() & ~CR4_OSXMMEXCPT);
    t = TRY_ASM("divss %%xmm1, %%xmm0");
    check_trap("xm-without-osxmmexcpt", "SDM 3A 6.15 Interrupt 6: #UD if CR4.OSXMMEXCPT=0", t, EXC_UD, 0);
    mxcsr = 0x1f80;
    asm volatile("ldmxcsr %0" ::"m"(mxcsr));
    mxcsr = 0x10000;
    check_trap("ldmxcsr-reserved", "SDM 2 LDMXCSR #GP(0): reserved bits",
               TRY(asm volatile("ldmxcsr %0" ::"m"(mxcsr))), EXC_GP, 0);
    check_trap("movaps-misaligned", "SDM 2 MOVAPS #GP(0): not 16-byte aligned",
               TRY(asm volatile("movaps (%0), %%xmm0" ::"r"(area + 8))), EXC_GP, 0);
    check_none("movups-misaligned", "SDM 2 MOVUPS", TRY(asm volatile("movups (%0), %%xmm0" ::"r"(area + 8))));
}

static void fxsave(void)
{
    memset(area, 0xaa, 512);
    asm volatile("fninit; fld1; pcmpeqd %%xmm7, %%xmm7; fxsave64 (%0)" ::"r"(area) : "memory");
    uint16_t *w = (uint16_t *)area;
    uint32_t *d = (uint32_t *)area;
    report("fxsave-image", "SDM 1 10.5.1 FXSAVE Area",
           w[0] == 0x37f && w[1] == 0x3800 && area[4] == 0x80 && d[6] == 0x1f80 &&
               *(uint64_t *)(area + 32) == 0x8000000000000000ul && w[20] == 0x3fff &&
               *(uint64_t *)(area + 160 + 7 * 16) == ~0ul,
           "FCW %x FSW %x FTW %x MXCSR %x", w[0], w[1], area[4], d[6]);
    report("fxsave-mask", "SDM 1 11.6.6 MXCSR_MASK", (d[7] & 0xffbf) == 0xffbf, "%x", d[7]);
    report("fxsave-unused", "SDM 1 10.5.1: bytes 464 to 511 are not written",
           area[464] == 0xaa && area[511] == 0xaa, "%x", area[464]);
    *(uint64_t *)(area + 160) = 0x123456789abcdef0;
    uint64_t x;
    asm volatile("fxrstor64 (%1); movq %%xmm0, %0" : "=r"(x) : "r"(area));
    check_equal("fxrstor", "SDM 2 FXRSTOR", x, 0x123456789abcdef0);
    d[6] |= 0x10000;
    check_trap("fxrstor-mxcsr", "SDM 2 FXRSTOR #GP(0): reserved MXCSR bits",
               TRY(asm volatile("fxrstor64 (%0)" ::"r"(area))), EXC_GP, 0);
    check_trap("fxsave-misaligned", "SDM 2 FXSAVE #GP(0): not 16-byte aligned",
               TRY(asm volatile("fxsave64 (%0)" ::"r"(area + 8)
                                : "memory")),
               EXC_GP, 0);
    asm volatile("fninit");
}

#define XSAVE_OP(name, op)                                                                                   \
    static void name(void *p, uint64_t mask)                                                                 \
    {                                                                                                        \
        asm volatile(op " (%0)" ::"r"(p), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");      \
    }
XSAVE_OP(xsave, "xsave64")
XSAVE_OP(xrstor, "xrstor64")
XSAVE_OP(xsaveopt, "xsaveopt64")
XSAVE_OP(xsavec, "xsavec64")
XSAVE_OP(xsaves, "xsaves64")
XSAVE_OP(xrstors, "xrstors64")
static void xsetbv(uint32_t index, uint64_t v)
{
    asm volatile("xsetbv" ::"c"(index), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
}
static uint64_t xgetbv(uint32_t index)
{
    uint32_t lo, hi;
    asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(index));
    return (uint64_t)hi << 32 | lo;
}
USER_CODE(user_xsetbv, 64, "xor %ecx, %ecx\n xor %edx, %edx\n mov $1, %eax\n xsetbv");

static void refused(const char *name, const char *rule)
{
    check_trap(name, rule, TRY(xrstor(area, 3)), EXC_GP, 0);
}

static void xsave_family(void)
{
    if (!(cpuid(1, 0).ecx & 1u << 26)) {
        report_skip("xsave", "SDM 1 13", "no XSAVE");
        return;
    }
    check_trap("xgetbv-without-osxsave", "SDM 2 XGETBV #UD if CR4.OSXSAVE=0", TRY((void)xgetbv(0)), EXC_UD,
               0);
    check_trap("xsave-without-osxsave", "SDM 2 XSAVE #UD if CR4.OSXSAVE=0", TRY(xsave(area, 3)), EXC_UD, 0);
    write_cr4(read_cr4() | CR4_OSXSAVE);
    check_equal("xcr0-reset", "SDM 1 13.3: XCR0 is 1 after reset", xgetbv(0), 1);
    check_trap("xsetbv-x87-clear", "SDM 2 XSETBV #GP(0): bit 0 must be 1", TRY(xsetbv(0, 2)), EXC_GP, 0);
    check_trap("xsetbv-avx-without-sse", "SDM 2 XSETBV #GP(0): AVX needs SSE", TRY(xsetbv(0, 5)), EXC_GP, 0);
    check_trap("xsetbv-reserved", "SDM 2 XSETBV #GP(0): bits not in CPUID.0DH", TRY(xsetbv(0, 3 | 1ul << 62)),
               EXC_GP, 0);
    check_trap("xsetbv-xcr1", "SDM 2 XSETBV #GP(0): XCR1", TRY(xsetbv(1, 1)), EXC_GP, 0);
    check_trap("xsetbv-ring3", "SDM 2 XSETBV #GP(0) if CPL > 0", TRY(user_run(user_xsetbv, 0)), EXC_GP, 0);
    xsetbv(0, 3);
    check_equal("xsetbv", "SDM 2 XSETBV", xgetbv(0), 3);
    check_equal("cpuid-0d-size", "SDM 1 13.2 CPUID.0DH.0:EBX size for XCR0", cpuid(0xd, 0).ebx, 576);
    asm volatile("fninit; fld1; pcmpeqd %xmm3, %xmm3");
    memset(area, 0, sizeof area);
    xsave(area, 3);
    uint64_t *header = (uint64_t *)(area + 512);
    report("xsave-header", "SDM 1 13.4.2 XSAVE Header: XSTATE_BV", (header[0] & 3) == 3 && header[1] == 0,
           "%lx %lx", header[0], header[1]);
    check_equal("xsave-xmm3", "SDM 1 13.4.1 Legacy Region", *(uint64_t *)(area + 160 + 48), ~0ul);
    memset(area2, 0x55, sizeof area2);
    *(uint64_t *)(area2 + 512) = 0x8;
    xsave(area2, 2);
    report("xsave-partial", "SDM 1 13.7: components not asked for, and their XSTATE_BV bits, are untouched",
           *(uint64_t *)area2 == 0x5555555555555555 && (*(uint64_t *)(area2 + 512) & ~2ul) == 8, "%lx %lx",
           *(uint64_t *)area2, *(uint64_t *)(area2 + 512));
    /* XRSTOR. */
    header[0] = 1; /* SSE bit clear: initial configuration */
    xrstor(area, 3);
    uint64_t x;
    asm volatile("movq %%xmm3, %0" : "=r"(x));
    check_equal("xrstor-init", "SDM 1 13.8.1: a component whose XSTATE_BV bit is 0 is initialized", x, 0);
    header[0] = 3;
    xrstor(area, 3);
    asm volatile("movq %%xmm3, %0" : "=r"(x));
    check_equal("xrstor", "SDM 1 13.8.1", x, ~0ul);
    header[0] = 7;
    refused("xrstor-xstate-bv", "SDM 1 13.8.1 #GP: XSTATE_BV has a bit that XCR0 has not");
    header[0] = 3;
    header[1] = 1;
    refused("xrstor-xcomp-bv", "SDM 1 13.8 #GP: XCOMP_BV bits without bit 63");
    header[1] = 0;
    header[2] = 1;
    refused("xrstor-header-reserved", "SDM 1 13.8.1 #GP: bytes 23:16 of the header");
    header[2] = 0;
    *(uint32_t *)(area + 24) = 0x80000000;
    refused("xrstor-mxcsr", "SDM 1 13.8.1 #GP: reserved MXCSR bits");
    *(uint32_t *)(area + 24) = 0x1f80;
    check_trap("xsave-misaligned", "SDM 2 XSAVE #GP(0): not 64-byte aligned", TRY(xsave(area + 16, 3)),
               EXC_GP, 0);
    write_cr0(read_cr0() | CR0_TS);
    check_trap("xsave-ts", "SDM 2 XSAVE #NM if CR0.TS=1", TRY(xsave(area, 3)), EXC_NM, 0);
    asm volatile("clts");
    uint32_t more = cpuid(0xd, 1).eax;
    if (more & 1) {
        asm volatile("pcmpeqd %xmm3, %xmm3");
        memset(area2, 0, sizeof area2);
        xsaveopt(area2, 3);
        check_equal("xsaveopt", "SDM 1 13.9", *(uint64_t *)(area2 + 160 + 48), ~0ul);
    } else {
        report_skip("xsaveopt", "SDM 1 13.9", "no XSAVEOPT");
    }
    if (more & 2) {
        memset(area2, 0x55, sizeof area2);
        memset(area2 + 512, 0, 64);
        asm volatile("fninit; pcmpeqd %xmm3, %xmm3");
        xsavec(area2, 3);
        uint64_t *h = (uint64_t *)(area2 + 512);
        report("xsavec-header", "SDM 1 13.10: XCOMP_BV has bit 63 and the requested components",
               h[1] == (1ul << 63 | 3) && (h[0] & 2), "%lx %lx", h[0], h[1]);
        /* XINUSE may be 1 for a component in its initial state; but what is not marked is not written. */
        report("xsavec-init-optimization",
               "SDM 1 13.10: a component is written if and only if its XSTATE_BV bit is set",
               (h[0] & 1) == (*(uint16_t *)area2 == 0x37f), "%lx %lx", h[0], *(uint64_t *)area2);
        asm volatile("pxor %xmm3, %xmm3");
        xrstor(area2, 3);
        asm volatile("movq %%xmm3, %0" : "=r"(x));
        check_equal("xrstor-compacted", "SDM 1 13.8.2 Compacted Form of XRSTOR", x, ~0ul);
        h[1] = 1ul << 63 | 1;
        check_trap("xrstor-compacted-subset", "SDM 1 13.8.2 #GP: XSTATE_BV bit without its XCOMP_BV bit",
                   TRY(xrstor(area2, 3)), EXC_GP, 0);
        h[1] = 1ul << 63 | 3;
        h[4] = 1;
        check_trap("xrstor-compacted-reserved", "SDM 1 13.8.2 #GP: bytes 63:16 of the header",
                   TRY(xrstor(area2, 3)), EXC_GP, 0);
        h[4] = 0;
    } else {
        report_skip("xsavec", "SDM 1 13.10", "no XSAVEC");
    }
    if (more & 4) {
        check_equal("xgetbv-1", "SDM 1 13.6: XGETBV with ECX=1: XCR0 and XINUSE", xgetbv(1) & ~3ul, 0);
    }
    if (more & 8) {
        memset(area2, 0, sizeof area2);
        asm volatile("pcmpeqd %xmm3, %xmm3");
        xsaves(area2, 3);
        uint64_t *h = (uint64_t *)(area2 + 512);
        report("xsaves", "SDM 1 13.11", h[1] == (1ul << 63 | 3) && *(uint64_t *)(area2 + 160 + 48) == ~0ul,
               "%lx", h[1]);
        asm volatile("pxor %xmm3, %xmm3");
        xrstors(area2, 3);
        asm volatile("movq %%xmm3, %0" : "=r"(x));
        check_equal("xrstors", "SDM 1 13.12", x, ~0ul);
        h[1] = 0;
        check_trap("xrstors-standard", "SDM 1 13.12 #GP: XCOMP_BV bit 63 must be 1", TRY(xrstors(area2, 3)),
                   EXC_GP, 0);
        check_equal("xss-reset", "SDM 1 13.3 IA32_XSS is 0 after reset", rdmsr(IA32_XSS), 0);
        check_trap("xss-reserved", "SDM 2 WRMSR #GP(0): IA32_XSS", TRY(wrmsr(IA32_XSS, 1)), EXC_GP, 0);
    } else {
        report_skip("xsaves", "SDM 1 13.11", "no XSAVES");
    }
    write_cr4(read_cr4() & ~CR4_OSXSAVE);
}

void guest_main(void)
{
    write_cr4(read_cr4() | CR4_OSFXSR);
    asm volatile("fninit");
    device_not_available();
    exceptions();
    stack_faults();
    fxsave();
    xsave_family();
}
