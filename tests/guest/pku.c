/*
 * pku.c -- protection keys for user-mode pages: SDM 3A 4.6.2 "Protection Keys", RDPKRU, WRPKRU, and PKRU as
 * XSAVE state component 9.
 */
#include "guest.h"

#define AREA    0x8000000000ul /* PML4 slot 1: nothing of the image is there */
#define CR4_PKE (1ul << 22)
#define PF_PK   32
#define KEY(k)  ((uint64_t)(k) << 59)
#define AD(k)   (1u << 2 * (k))
#define WD(k)   (2u << 2 * (k))

USER_CODE(user_read, 64, "mov (%rdi), %al");
USER_CODE(user_write, 64, "mov %al, (%rdi)");
USER_CODE(user_wrpkru, 64,
          "xor %ecx, %ecx\n xor %edx, %edx\n mov %edi, %eax\n wrpkru\n xor %eax, %eax\n rdpkru");

static uint64_t rdpkru(uint32_t ecx)
{
    uint32_t lo, hi = 0x12345678;
    asm volatile("rdpkru" : "=a"(lo), "+d"(hi) : "c"(ecx));
    return (uint64_t)hi << 32 | lo;
}

static void wrpkru(uint32_t value, uint32_t ecx, uint32_t edx)
{
    asm volatile("wrpkru" ::"a"(value), "c"(ecx), "d"(edx) : "memory");
}

static uint64_t *map(uint64_t address, int leaf, uint64_t flags)
{
    uint64_t frame = (uint64_t)(leaf == 1 ? page_alloc() : page_alloc_aligned(0x200000));
    uint64_t *entry = page_entry(boot_pml4, address, leaf);
    for (int level = 4; level > leaf; level--) {
        *page_entry(boot_pml4, address, level) |= PTE_U | PTE_W;
    }
    *entry = frame | PTE_P | flags | (leaf > 1 ? PTE_PS : 0);
    memcpy((void *)frame, "\xc3\0\0\0\0\0\0\0\xcd\x80", 10); /* RET; INT 80H at 8 */
    invlpg(address);
    return entry;
}

/* -- The instructions ---------------------------------------------------------------------------------- */
static void instructions(void)
{
    check_trap("rdpkru-off", "SDM 2 RDPKRU #UD if CR4.PKE = 0", TRY((void)rdpkru(0)), EXC_UD, 0);
    check_trap("wrpkru-off", "SDM 2 WRPKRU #UD if CR4.PKE = 0", TRY(wrpkru(0, 0, 0)), EXC_UD, 0);
    check_trap("rdpkru-off-ecx", "SDM 2 RDPKRU #UD before #GP", TRY((void)rdpkru(1)), EXC_UD, 0);
    check_equal("ospke-off", "SDM 2 CPUID.7.0:ECX[4] is CR4.PKE", cpuid(7, 0).ecx >> 4 & 1, 0);
    write_cr4(read_cr4() | CR4_PKE);
    check_equal("ospke-on", "SDM 2 CPUID.7.0:ECX[4] is CR4.PKE", cpuid(7, 0).ecx >> 4 & 1, 1);
    check_equal("reset", "SDM 3A Table 9-1: PKRU is 0 after reset; RDPKRU clears EDX", rdpkru(0), 0);
    check_trap("rdpkru-ecx", "SDM 2 RDPKRU #GP(0) if ECX is not 0", TRY((void)rdpkru(1)), EXC_GP, 0);
    check_trap("wrpkru-ecx", "SDM 2 WRPKRU #GP(0) if ECX is not 0", TRY(wrpkru(0, 1, 0)), EXC_GP, 0);
    check_trap("wrpkru-edx", "SDM 2 WRPKRU #GP(0) if EDX is not 0", TRY(wrpkru(0, 0, 1)), EXC_GP, 0);
    wrpkru(0xfffffffc, 0, 0);
    check_equal("wrpkru", "SDM 2 WRPKRU", rdpkru(0), 0xfffffffc);
    check_equal("wrpkru-ring3", "SDM 2 WRPKRU at CPL 3", user_run(user_wrpkru, 0x55555554), 0x55555554);
    wrpkru(0, 0, 0);
}

/* -- Rights -------------------------------------------------------------------------------------------- */
static void rights(void)
{
    const char *rule = "SDM 3A 4.6.2 Protection Keys";
    uint64_t *entry = map(AREA, 1, PTE_W | PTE_U | KEY(5)), cr0 = read_cr0();
    write_cr0(cr0 | CR0_WP);
    check_none("allowed-read", rule, TRY(user_run(user_read, AREA + 16)));
    check_none("allowed-write", rule, TRY(user_run(user_write, AREA + 16)));
    wrpkru(AD(5), 0, 0);
    check_fault("ad-user-read", rule, TRY(user_run(user_read, AREA + 16)), PF_PK | PF_U | PF_P, AREA + 16);
    check_fault("ad-user-write", rule, TRY(user_run(user_write, AREA + 16)), PF_PK | PF_U | PF_W | PF_P,
                AREA + 16);
    check_fault("ad-supervisor-read", "SDM 3A 4.6.2: AD holds for supervisor-mode accesses too",
                TRY(load8(AREA + 16)), PF_PK | PF_P, AREA + 16);
    check_fault("ad-supervisor-write", "SDM 3A 4.6.2: AD holds for supervisor-mode accesses too",
                TRY(store8(AREA + 16, 1)), PF_PK | PF_W | PF_P, AREA + 16);
    check_none("ad-user-fetch", "SDM 3A 4.6.2: instruction fetches have no keys",
               TRY(user_run((void *)(AREA + 8), 0)));
    check_none("ad-supervisor-fetch", "SDM 3A 4.6.2: instruction fetches have no keys", TRY(call_at(AREA)));
    wrpkru(WD(5), 0, 0);
    check_none("wd-user-read", rule, TRY(user_run(user_read, AREA + 16)));
    check_fault("wd-user-write", rule, TRY(user_run(user_write, AREA + 16)), PF_PK | PF_U | PF_W | PF_P,
                AREA + 16);
    check_none("wd-supervisor-read", rule, TRY(load8(AREA + 16)));
    check_fault("wd-supervisor-write", "SDM 3A 4.6.2: WD holds for supervisor mode if CR0.WP = 1",
                TRY(store8(AREA + 16, 1)), PF_PK | PF_W | PF_P, AREA + 16);
    write_cr0(cr0 & ~CR0_WP);
    check_none("wd-supervisor-write-wp0", "SDM 3A 4.6.2: WD does not hold for supervisor mode if CR0.WP = 0",
               TRY(store8(AREA + 16, 1)));
    check_fault("wd-user-write-wp0", rule, TRY(user_run(user_write, AREA + 16)), PF_PK | PF_U | PF_W | PF_P,
                AREA + 16);
    write_cr0(cr0 | CR0_WP);
    wrpkru(~(AD(5) | WD(5)) & ~(AD(0) | WD(0)), 0, 0);
    check_none("other-keys", "SDM 3A 4.6.2: each key has its own two bits",
               TRY(user_run(user_write, AREA + 16)));
    wrpkru(AD(15), 0, 0);
    *entry = (*entry & ~KEY(15)) | KEY(15);
    invlpg(AREA);
    check_fault("key-15", rule, TRY(user_run(user_read, AREA + 16)), PF_PK | PF_U | PF_P, AREA + 16);
    wrpkru(AD(0), 0, 0);
    check_none("key-0-other", rule, TRY(load8(AREA + 16)));
    wrpkru(0, 0, 0);
    /* Together with other violations. */
    *entry = (*entry & ~(KEY(15) | PTE_W)) | KEY(5);
    invlpg(AREA);
    wrpkru(WD(5), 0, 0);
    check_fault("read-only-and-wd", "SDM 3A 4.7: PK is set when the key denies, whatever else does",
                TRY(user_run(user_write, AREA + 16)), PF_PK | PF_U | PF_W | PF_P, AREA + 16);
    wrpkru(0, 0, 0);
    check_fault("read-only", "SDM 3A 4.7", TRY(user_run(user_write, AREA + 16)), PF_U | PF_W | PF_P,
                AREA + 16);
    wrpkru(AD(5), 0, 0);
    *entry &= ~PTE_U;
    invlpg(AREA);
    check_none("supervisor-page", "SDM 3A 4.6.2: supervisor-mode addresses have no keys",
               TRY(load8(AREA + 16)));
    check_fault("supervisor-page-user", "SDM 3A 4.7: PK is for user-mode addresses",
                TRY(user_run(user_read, AREA + 16)), PF_U | PF_P, AREA + 16);
    *entry = 0;
    invlpg(AREA);
    check_fault("not-present", "SDM 3A 4.7: PK needs a translation", TRY(user_run(user_read, AREA + 16)),
                PF_U, AREA + 16);
    /* A 2 MB page. */
    map(AREA + 0x40000000, 2, PTE_W | PTE_U | KEY(5));
    check_fault("large-page", "SDM 3A Table 4-17: bits 62:59 of a PDE that maps a page",
                TRY(user_run(user_read, AREA + 0x40012345)), PF_PK | PF_U | PF_P, AREA + 0x40012345);
    wrpkru(0, 0, 0);
    check_none("large-page-allowed", rule, TRY(user_run(user_read, AREA + 0x40012345)));
    /* Without CR4.PKE the register has no effect, and it keeps its value. */
    entry = map(AREA, 1, PTE_W | PTE_U | KEY(5));
    wrpkru(AD(5), 0, 0);
    write_cr4(read_cr4() & ~CR4_PKE);
    check_none("pke-off", "SDM 3A 4.6.2: no effect if CR4.PKE = 0", TRY(user_run(user_read, AREA + 16)));
    write_cr4(read_cr4() | CR4_PKE);
    invlpg(AREA);
    check_equal("pke-on-again", "SDM 3A 2.7 PKRU", rdpkru(0), AD(5));
    check_fault("pke-on-again-read", rule, TRY(user_run(user_read, AREA + 16)), PF_PK | PF_U | PF_P,
                AREA + 16);
    write_cr0(cr0);
    wrpkru(0, 0, 0);
}

/* -- XSAVE --------------------------------------------------------------------------------------------- */
static uint8_t area[4096] __attribute__((aligned(64)));
#define XSAVE_OP(name, op)                                                                                   \
    static void name(uint64_t mask)                                                                          \
    {                                                                                                        \
        asm volatile(op " (%0)" ::"r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");   \
    }
XSAVE_OP(xsave, "xsave64")
XSAVE_OP(xrstor, "xrstor64")
XSAVE_OP(xsavec, "xsavec64")

static void xsave_component(void)
{
    const char *rule = "SDM 1 13.5.7 PKRU State";
    const uint64_t pkru = 1 << 9;
    struct cpuid c = cpuid(0xd, 9);
    if (!(cpuid(0xd, 0).eax & pkru)) {
        report("cpuid-xcr0", rule, false, "CPUID.0DH:EAX %x", cpuid(0xd, 0).eax);
        return;
    }
    if (!report("cpuid-component", rule, c.eax == 8 && c.ebx >= 576 && c.ebx <= 4096 - 8 && !(c.ecx & 1),
                "size %u offset %u ECX %x", c.eax, c.ebx, c.ecx)) {
        return;
    }
    write_cr4(read_cr4() | CR4_OSXSAVE);
    asm volatile("xsetbv" ::"c"(0), "a"(3 | (uint32_t)pkru), "d"(0));
    check_equal("cpuid-size", "SDM 1 13.2: CPUID.0DH.0:EBX for XCR0", cpuid(0xd, 0).ebx, c.ebx + 8);
    uint64_t *header = (uint64_t *)(area + 512);
    volatile uint32_t *saved = (uint32_t *)(area + c.ebx);
    memset(area, 0, sizeof area);
    saved[1] = 0xffffffff;
    wrpkru(0x12345678, 0, 0);
    xsave(pkru);
    report("xsave", rule,
           saved[0] == 0x12345678 && saved[1] == 0 && header[0] == pkru && *(uint64_t *)area == 0,
           "%x %x XSTATE_BV %lx", saved[0], saved[1], header[0]);
    wrpkru(0, 0, 0);
    saved[0] = 0x0abcdef4;
    xrstor(pkru);
    check_equal("xrstor", rule, rdpkru(0), 0x0abcdef4);
    xrstor(3);
    check_equal("xrstor-others", "SDM 1 13.8: components not asked for stay", rdpkru(0), 0x0abcdef4);
    header[0] = 0;
    xrstor(pkru);
    check_equal("xrstor-init", "SDM 1 13.6: PKRU's initial configuration is 0", rdpkru(0), 0);
    /* It takes effect at once. */
    map(AREA, 1, PTE_W | PTE_U | KEY(5));
    check_none("xrstor-before", rule, TRY(load8(AREA + 16)));
    header[0] = pkru;
    saved[0] = AD(5);
    xrstor(pkru);
    check_fault("xrstor-effect", "SDM 3A 4.6.2: a new PKRU has effect at once", TRY(load8(AREA + 16)),
                PF_PK | PF_P, AREA + 16);
    if (cpuid(0xd, 1).eax & 2) {
        memset(area, 0x55, sizeof area);
        xsavec(pkru);
        report("xsavec", "SDM 1 13.4.3: compacted, right behind the header",
               *(uint64_t *)(area + 576) == AD(5) && header[0] == pkru && header[1] == (1ul << 63 | pkru) &&
                   *(uint64_t *)(area + 584) == 0x5555555555555555,
               "%lx XSTATE_BV %lx XCOMP_BV %lx", *(uint64_t *)(area + 576), header[0], header[1]);
        wrpkru(0, 0, 0);
        xrstor(pkru);
        check_equal("xrstor-compacted", "SDM 1 13.8.2", rdpkru(0), AD(5));
    }
    wrpkru(0, 0, 0);
}

void guest_main(void)
{
    if (!(cpuid(7, 0).ecx & 8)) {
        report_skip("pku", "SDM 3A 4.6.2", "no protection keys");
        check_trap("cr4-pke", "SDM 2 MOV CR4 #GP(0)", TRY(write_cr4(read_cr4() | CR4_PKE)), EXC_GP, 0);
        guest_finish();
    }
    instructions();
    rights();
    xsave_component();
    guest_finish();
}
