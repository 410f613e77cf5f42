/*
 * paging.c -- address translation: SDM 3A chapter 4, "Paging".
 *
 * 4-level paging with 4K, 2M and 1G pages, then 32-bit and PAE paging in protected mode. Stale translations
 * are never required (they are permitted, not promised): every change of an entry is followed by INVLPG or a
 * CR3 load.
 */
#include "guest.h"

#define AREA 0x8000000000ul /* PML4 slot 1 and up: nothing of the image is there */

USER_CODE(user_read, 64, "mov (%rdi), %al");
USER_CODE(user_write, 64, "mov %al, (%rdi)");
USER_CODE(user_invlpg, 64, "invlpg (%rdi)");
USER_CODE(user_stac, 64, "stac");

struct area {
    uint64_t address;
    int leaf;           /* 1, 2 or 3: 4K, 2M, 1G */
    uint64_t *entry[5]; /* [1] PTE .. [4] PML4E */
};

/* The 1G page maps physical memory from 0, so its first bytes are not ours: all areas use offset 9000H. */
static struct area area_make(uint64_t address, int leaf)
{
    static uint8_t *frame_2m;
    struct area a = {.address = address + (leaf == 3 ? 0x9000 : 0), .leaf = leaf};
    if (!frame_2m) {
        frame_2m = page_alloc_aligned(0x200000);
    }
    uint64_t frame = leaf == 1 ? (uint64_t)page_alloc() : leaf == 2 ? (uint64_t)frame_2m : 0;
    *page_entry(boot_pml4, address, leaf) = frame | PTE_P | PTE_W | PTE_U | (leaf > 1 ? PTE_PS : 0);
    for (int level = leaf; level <= 4; level++) {
        a.entry[level] = page_entry(boot_pml4, address, level);
    }
    uint8_t *code = (uint8_t *)(leaf == 3 ? 0x9000 : frame);
    memcpy(code, "\xc3\0\0\0\0\0\0\0\xcd\x80", 10); /* RET; INT 80H at 8 */
    invlpg(a.address);
    return a;
}

static bool has_1g(void)
{
    return cpuid(0x80000001, 0).edx & 1u << 26;
}

/* -- Rights: every combination of R/W, U/S and XD at two levels, under WP, SMEP, SMAP ------------------ */
enum access { READ, WRITE, FETCH };

static struct trap access_run(const struct area *a, enum access access, bool user, bool ac)
{
    if (user) {
        if (access == FETCH) {
            return TRY(user_run((void *)(a->address + 8), 0));
        }
        return TRY(user_run(access == READ ? user_read : user_write, a->address + 16));
    }
    if (access == FETCH) {
        return TRY(call_at(a->address));
    }
    return TRY({
        if (ac) {
            asm volatile("stac");
        }
        if (access == READ) {
            load8(a->address + 16);
        } else {
            store8(a->address + 16, 1);
        }
        if (ac) {
            asm volatile("clac");
        }
    });
}

/* SDM 3A 4.6.1 "Determination of Access Rights", 4.7 "Page-Fault Exceptions": the error code, or -1 for no
 * fault. */
static int rights_expected(uint64_t upper, uint64_t leaf, enum access access, bool user, bool ac,
                           uint64_t cr0, uint64_t cr4)
{
    bool w = upper & leaf & PTE_W, u = upper & leaf & PTE_U, nx = (upper | leaf) & PTE_NX, fault;
    if (user) {
        fault = !u || (access == WRITE && !w) || (access == FETCH && nx);
    } else if (access == FETCH) {
        fault = nx || (u && (cr4 & CR4_SMEP));
    } else {
        fault = (u && (cr4 & CR4_SMAP) && !ac) || (access == WRITE && !w && (cr0 & CR0_WP));
    }
    return !fault ? -1
                  : PF_P | (access == WRITE ? PF_W : 0) | (user ? PF_U : 0) | (access == FETCH ? PF_I : 0);
}

static void rights_sweep(const struct area *a, int upper_level, uint64_t cr4_extra, bool wp)
{
    static const char *const size[] = {"", "4k", "2m", "1g"};
    uint64_t cr0 = wp ? read_cr0() | CR0_WP : read_cr0() & ~CR0_WP, cr4 = read_cr4() | cr4_extra;
    uint64_t old0 = read_cr0(), old4 = read_cr4();
    uint64_t upper0 = *a->entry[upper_level], leaf0 = *a->entry[a->leaf];
    char name[80], detail[160] = "";
    bool ok = true;
    unsigned count = 0;
    write_cr0(cr0);
    write_cr4(cr4);
    for (unsigned bits = 0; bits < 64 && ok; bits++) {
        uint64_t upper = (bits & 1 ? PTE_W : 0) | (bits & 2 ? PTE_U : 0) | (bits & 4 ? PTE_NX : 0);
        uint64_t leaf = (bits & 8 ? PTE_W : 0) | (bits & 16 ? PTE_U : 0) | (bits & 32 ? PTE_NX : 0);
        const uint64_t clear = ~(PTE_W | PTE_U | PTE_NX);
        *(volatile uint64_t *)a->entry[upper_level] = (upper0 & clear) | upper;
        *(volatile uint64_t *)a->entry[a->leaf] = (leaf0 & clear) | leaf;
        invlpg(a->address);
        for (unsigned what = 0; what < 9 && ok; what++) {
            enum access access = what % 3;
            bool user = what / 3 == 1, ac = what / 3 == 2;
            if (ac && (access == FETCH || !(cr4 & CR4_SMAP))) {
                continue;
            }
            int want = rights_expected(upper, leaf, access, user, ac, cr0, cr4);
            struct trap t = access_run(a, access, user, ac);
            uint64_t at = a->address + (access != FETCH ? 16 : user ? 8 : 0);
            count++;
            ok = want < 0 ? t.vector == VECTOR_NONE
                          : t.vector == EXC_PF && t.error == (unsigned)want && t.cr2 == at &&
                                (access != FETCH || t.rip == at);
            if (!ok) {
                format_text(detail, sizeof detail,
                            "upper %lx leaf %lx access %d user %d ac %d: got %s(%lx) CR2 %lx, want %d", upper,
                            leaf, access, user, ac, trap_name(t.vector), t.error, t.cr2, want);
            }
        }
    }
    *(volatile uint64_t *)a->entry[upper_level] = upper0;
    *(volatile uint64_t *)a->entry[a->leaf] = leaf0;
    invlpg(a->address);
    write_cr4(old4);
    write_cr0(old0);
    format_text(name, sizeof name, "rights-%s-level%d%s%s%s", size[a->leaf], upper_level, wp ? "-wp" : "",
                cr4_extra & CR4_SMEP ? "-smep" : "", cr4_extra & CR4_SMAP ? "-smap" : "");
    report(name, "SDM 3A 4.6.1 Determination of Access Rights", ok && count > 300, "%s", detail);
}

static void rights(struct area *areas, int area_count)
{
    uint32_t ebx = cpuid(7, 0).ebx;
    uint64_t has = (ebx & 1u << 7 ? CR4_SMEP : 0) | (ebx & 1u << 20 ? CR4_SMAP : 0);
    static const uint64_t extra[] = {0, CR4_SMEP, CR4_SMAP, CR4_SMEP | CR4_SMAP};
    for (int i = 0; i < area_count; i++) {
        for (int level = areas[i].leaf + 1; level <= 4; level++) {
            for (int e = 0; e < 4; e++) {
                if (extra[e] & ~has) {
                    report_skip("rights", "SDM 3A 4.6.1", "no SMEP or SMAP");
                    continue;
                }
                rights_sweep(&areas[i], level, extra[e], true);
                rights_sweep(&areas[i], level, extra[e], false);
            }
        }
    }
}

/* -- Presence and reserved bits ------------------------------------------------------------------------ */
static void entry_with(const struct area *a, int level, uint64_t set, uint64_t clear, const char *name,
                       const char *rule, uint64_t error)
{
    uint64_t old = *a->entry[level];
    *(volatile uint64_t *)a->entry[level] = (old | set) & ~clear;
    invlpg(a->address);
    struct trap r = TRY(load8(a->address)), w = TRY(store8(a->address + 1, 0)), x = TRY(call_at(a->address)),
                u = TRY(user_run(user_read, a->address));
    *(volatile uint64_t *)a->entry[level] = old;
    invlpg(a->address);
    bool ok = r.vector == EXC_PF && r.error == error && r.cr2 == a->address && w.vector == EXC_PF &&
              w.error == (error | PF_W) && w.cr2 == a->address + 1 && x.vector == EXC_PF &&
              x.error == (error | PF_I) && u.vector == EXC_PF && u.error == (error | PF_U);
    report(name, rule, ok, "read %s(%lx) write %s(%lx) fetch %s(%lx) user %s(%lx), want #PF(%lx)",
           trap_name(r.vector), r.error, trap_name(w.vector), w.error, trap_name(x.vector), x.error,
           trap_name(u.vector), u.error, error);
}

static void presence(struct area *areas, int area_count)
{
    char name[64];
    unsigned bits = physical_bits();
    for (int i = 0; i < area_count; i++) {
        const struct area *a = &areas[i];
        for (int level = a->leaf; level <= 4; level++) {
            format_text(name, sizeof name, "not-present-leaf%d-level%d", a->leaf, level);
            entry_with(a, level, 0, PTE_P, name, "SDM 3A 4.7 error code P=0", 0);
            /* With P=0 no other bit counts, not even a reserved one. */
            format_text(name, sizeof name, "not-present-ignores-reserved-leaf%d-level%d", a->leaf, level);
            entry_with(a, level, 0x000ffffffffff000ul & ~((1ul << bits) - 1), PTE_P, name,
                       "SDM 3A 4.7 RSVD needs P=1", 0);
            bool ok = true;
            struct trap t = {0};
            unsigned bit = bits;
            uint64_t old = *a->entry[level];
            for (; bit < 52 && ok; bit++) {
                *(volatile uint64_t *)a->entry[level] = old | 1ul << bit;
                invlpg(a->address);
                t = TRY(load8(a->address));
                ok = t.vector == EXC_PF && t.error == (PF_P | PF_RSVD) && t.cr2 == a->address;
            }
            *(volatile uint64_t *)a->entry[level] = old;
            invlpg(a->address);
            format_text(name, sizeof name, "reserved-maxphyaddr-leaf%d-level%d", a->leaf, level);
            report(name, "SDM 3A 4.5 bits 51:MAXPHYADDR are reserved", ok, "bit %u: %s(%lx)", bit - 1,
                   trap_name(t.vector), t.error);
        }
        if (a->leaf > 1) {
            format_text(name, sizeof name, "reserved-low-address-leaf%d", a->leaf);
            bool ok = true;
            uint64_t old = *a->entry[a->leaf];
            for (unsigned bit = 13; bit < (a->leaf == 2 ? 21u : 30u) && ok; bit++) {
                *(volatile uint64_t *)a->entry[a->leaf] = old | 1ul << bit;
                invlpg(a->address);
                struct trap t = TRY(load8(a->address));
                ok = t.vector == EXC_PF && t.error == (PF_P | PF_RSVD);
            }
            *(volatile uint64_t *)a->entry[a->leaf] = old;
            invlpg(a->address);
            report(name, "SDM 3A 4.5 Table 4-16/4-18 reserved address bits", ok, "no reserved-bit fault");
        }
    }
    entry_with(&areas[0], 4, PTE_PS, 0, "reserved-ps-pml4e", "SDM 3A 4.5 PML4E bit 7 is reserved",
               PF_P | PF_RSVD);
    /* XD is reserved when EFER.NXE = 0, and then a fetch's error code has no I bit (SMEP is off). */
    const struct area *a = &areas[0];
    uint64_t old = *a->entry[1];
    *(volatile uint64_t *)a->entry[1] = old | PTE_NX;
    wrmsr(IA32_EFER, rdmsr(IA32_EFER) & ~EFER_NXE);
    invlpg(a->address);
    struct trap r = TRY(load8(a->address)), x = TRY(call_at(a->address));
    wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_NXE);
    *(volatile uint64_t *)a->entry[1] = old;
    invlpg(a->address);
    check_fault("xd-reserved-without-nxe", "SDM 3A 4.5 bit 63 reserved if NXE=0", r, PF_P | PF_RSVD,
                a->address);
    check_fault("fetch-no-i-bit-without-nxe", "SDM 3A 4.7 I/D flag needs NXE or SMEP", x, PF_P | PF_RSVD,
                a->address);
    /* Bits 62:52 and 11:9 are ignored. */
    *(volatile uint64_t *)a->entry[1] = old | 0x7ff0000000000e00ul;
    invlpg(a->address);
    check_none("ignored-bits", "SDM 3A 4.5 Table 4-19 ignored bits", TRY(load8(a->address)));
    *(volatile uint64_t *)a->entry[1] = old;
    invlpg(a->address);
}

/* -- Accessed and dirty -------------------------------------------------------------------------------- */
static void accessed_dirty(struct area *areas, int area_count)
{
    char name[64];
    for (int i = 0; i < area_count; i++) {
        const struct area *a = &areas[i];
        for (enum access access = READ; access <= FETCH; access++) {
            for (int level = a->leaf; level <= 4; level++) {
                *(volatile uint64_t *)a->entry[level] &= ~(PTE_A | PTE_D);
            }
            invlpg(a->address);
            access_run(a, access, false, false);
            bool ok = true;
            for (int level = a->leaf; level <= 4; level++) {
                uint64_t e = *(volatile uint64_t *)a->entry[level];
                bool dirty = level == a->leaf && access == WRITE;
                ok = ok && (e & PTE_A) && !!(e & PTE_D) == dirty;
            }
            format_text(name, sizeof name, "accessed-dirty-leaf%d-%s", a->leaf,
                        access == READ    ? "read"
                        : access == WRITE ? "write"
                                          : "fetch");
            report(name, "SDM 3A 4.8 Accessed and Dirty Flags", ok, "leaf %lx upper %lx", *a->entry[a->leaf],
                   *a->entry[4]);
        }
        /* A read first (translation now cached), then a write must set D. */
        *(volatile uint64_t *)a->entry[a->leaf] &= ~(PTE_A | PTE_D);
        invlpg(a->address);
        load8(a->address + 16);
        bool clean = !(*(volatile uint64_t *)a->entry[a->leaf] & PTE_D);
        store8(a->address + 16, 1);
        format_text(name, sizeof name, "dirty-after-read-leaf%d", a->leaf);
        report(name, "SDM 3A 4.8 first write sets the dirty flag",
               clean && (*(volatile uint64_t *)a->entry[a->leaf] & PTE_D), "entry %lx", *a->entry[a->leaf]);
        /* A faulting write leaves D clear. */
        uint64_t old = *a->entry[a->leaf];
        *(volatile uint64_t *)a->entry[a->leaf] = old & ~(PTE_W | PTE_D);
        invlpg(a->address);
        TRY(store8(a->address + 16, 1));
        format_text(name, sizeof name, "dirty-not-on-fault-leaf%d", a->leaf);
        report(name, "SDM 3A 4.8 dirty flag only for writes that are done",
               !(*(volatile uint64_t *)a->entry[a->leaf] & PTE_D), "entry %lx", *a->entry[a->leaf]);
        *(volatile uint64_t *)a->entry[a->leaf] = old;
        invlpg(a->address);
    }
}

/* -- Changes of mappings ------------------------------------------------------------------------------- */
static void changes(struct area *areas)
{
    const struct area *a = &areas[0];
    uint64_t old = *a->entry[1];
    uint8_t *first = (uint8_t *)(old & PTE_ADDRESS), *second = page_alloc();
    first[64] = 1;
    second[64] = 2;
    bool was = load8(a->address + 64) == 1;
    *(volatile uint64_t *)a->entry[1] = (uint64_t)second | (old & 0xfff);
    invlpg(a->address);
    report("invlpg-after-change", "SDM 3A 4.10.4.1 INVLPG", was && load8(a->address + 64) == 2,
           "old page seen");
    *(volatile uint64_t *)a->entry[1] = old;
    write_cr3(read_cr3());
    check_equal("cr3-after-change", "SDM 3A 4.10.4.1 MOV to CR3", load8(a->address + 64), 1);

    uint64_t old4 = read_cr4();
    write_cr4(old4 | CR4_PGE);
    *(volatile uint64_t *)a->entry[1] = old | PTE_G;
    invlpg(a->address);
    was = load8(a->address + 64) == 1;
    *(volatile uint64_t *)a->entry[1] = (uint64_t)second | PTE_G | (old & 0xfff);
    invlpg(a->address);
    report("invlpg-global", "SDM 3A 4.10.4.1 INVLPG ignores the G flag", was && load8(a->address + 64) == 2,
           "old page seen");
    *(volatile uint64_t *)a->entry[1] = old | PTE_G;
    write_cr4(old4);
    check_equal("pge-toggle-flushes", "SDM 3A 4.10.4.1 MOV to CR4 that changes PGE", load8(a->address + 64),
                1);
    *(volatile uint64_t *)a->entry[1] = old;
    invlpg(a->address);

    /* A table replaced above the leaf. */
    uint64_t pde = *a->entry[2], *table = page_alloc();
    table[a->address >> 12 & 511] = (uint64_t)second | (old & 0xfff);
    *(volatile uint64_t *)a->entry[2] = (uint64_t)table | (pde & 0xfff);
    invlpg(a->address);
    check_equal("invlpg-table-changed", "SDM 3A 4.10.4.1 INVLPG drops paging-structure caches",
                load8(a->address + 64), 2);
    *(volatile uint64_t *)a->entry[2] = pde;
    invlpg(a->address);

    check_none("invlpg-non-canonical", "SDM 2 INVLPG: no exception for a non-canonical address",
               TRY(invlpg(0x8000000000000000ul)));
    check_trap("invlpg-ring3", "SDM 2 INVLPG #GP(0) if CPL > 0", TRY(user_run(user_invlpg, a->address)),
               EXC_GP, 0);
    /* Making a page present needs no INVLPG, even after a fault. */
    *(volatile uint64_t *)a->entry[1] = old & ~PTE_P;
    invlpg(a->address);
    struct trap gone = TRY(load8(a->address));
    *(volatile uint64_t *)a->entry[1] = old;
    struct trap back = TRY(load8(a->address));
    report("fault-then-present-no-invlpg", "SDM 3A 4.10.4.3 Optional Invalidation",
           gone.vector == EXC_PF && back.vector == VECTOR_NONE, "before %s, after %s", trap_name(gone.vector),
           trap_name(back.vector));
}

/* -- Accesses that cross pages, and addresses that are not canonical ----------------------------------- */
static void edges(struct area *areas)
{
    const struct area *a = &areas[0];
    uint64_t next = a->address + PAGE_SIZE, *entry = page_entry(boot_pml4, next, 1);
    *(volatile uint64_t *)entry = 0;
    invlpg(next);
    check_fault("cross-read", "SDM 3A 4.7 CR2: the linear address that faulted", TRY(load64(next - 3)), 0,
                next);
    check_fault("cross-write", "SDM 3A 4.7", TRY(store64(next - 3, ~0ul)), PF_W, next);
    uint8_t *frame = (uint8_t *)(*a->entry[1] & PTE_ADDRESS);
    memset(frame + 4088, 0x5a, 8);
    TRY(store64(next - 3, 0));
    report("cross-write-nothing-stored", "SDM 3A 6.5 faults restart the instruction", frame[4095] == 0x5a,
           "byte %x", frame[4095]);
    frame[4095] = 0x48; /* a REX prefix, and the rest of the instruction is on the page that is missing */
    struct trap t = TRY(call_at(next - 1));
    report("cross-fetch", "SDM 3A 4.7 CR2 of a fetch is the second page",
           t.vector == EXC_PF && t.error == PF_I && t.cr2 == next && t.rip == next - 1,
           "%s(%lx) CR2 %lx RIP %lx", trap_name(t.vector), t.error, t.cr2, t.rip);
    check_trap("non-canonical-read", "SDM 1 3.3.7.1 Canonical Addressing", TRY(load8(0x0000800000000000ul)),
               EXC_GP, 0);
    check_trap("non-canonical-write", "SDM 1 3.3.7.1", TRY(store8(0xffff7ffffffffffful, 0)), EXC_GP, 0);
    check_trap("non-canonical-cross", "SDM 1 3.3.7.1: the last byte counts",
               TRY(load64(0x00007ffffffffffcul)), EXC_GP, 0);
    check_trap("non-canonical-stack", "SDM 3A 6.15 Interrupt 12",
               TRY(asm volatile(
                   "mov %%rsp, %%rbx; mov %0, %%rsp; pop %%rax; mov %%rbx, %%rsp" ::"r"(0x0000800000000000ul)
                   : "rax", "rbx", "memory")),
               EXC_SS, 0);
    check_trap("non-canonical-rbp", "SDM 3A 6.15 Interrupt 12",
               TRY(asm volatile(
                   "push %%rbp; mov %0, %%rbp; movb (%%rbp), %%al; pop %%rbp" ::"r"(0x0000800000000000ul)
                   : "rax", "memory")),
               EXC_SS, 0);
    t = TRY(asm volatile("jmp *%0" ::"r"(0x0000800000000000ul)));
    report("non-canonical-jump", "SDM 2 JMP #GP(0), the jump is not done",
           t.vector == EXC_GP && t.error == 0 && t.rip < 0x200000, "%s at %lx", trap_name(t.vector), t.rip);
}

/* -- Control registers --------------------------------------------------------------------------------- */
#define REFUSED(name, rule, ...)                                                                             \
    if (enabled(name, rule)) {                                                                               \
        check_trap(name, rule, TRY(__VA_ARGS__), EXC_GP, 0);                                                 \
        write_cr0(cr0);                                                                                      \
        write_cr4(cr4);                                                                                      \
    }

static void control_registers(void)
{
    uint64_t cr0 = read_cr0(), cr4 = read_cr4(), cr3 = read_cr3();
    REFUSED("cr0-pg-without-pe", "SDM 2 MOV CR #GP(0)", write_cr0(cr0 & ~CR0_PE));
    REFUSED("cr0-nw-without-cd", "SDM 2 MOV CR #GP(0)", write_cr0((cr0 | CR0_NW) & ~CR0_CD));
    REFUSED("cr0-upper-bits", "SDM 2 MOV CR: bits 63:32 must be 0", write_cr0(cr0 | 1ul << 32));
    REFUSED("cr4-pae-clear-in-ia32e", "SDM 2 MOV CR #GP(0)", write_cr4(cr4 & ~CR4_PAE));
    REFUSED("cr4-reserved", "SDM 2 MOV CR: reserved bits of CR4", write_cr4(cr4 | 1ul << 31));
    REFUSED("cr4-bit15", "SDM 2 MOV CR: reserved bits of CR4", write_cr4(cr4 | 1ul << 15));
    REFUSED("cr4-upper-bits", "SDM 2 MOV CR: bits 63:32 must be 0", write_cr4(cr4 | 1ul << 40));
    REFUSED("cr3-reserved", "SDM 2 MOV CR: bits 63:MAXPHYADDR of CR3",
            write_cr3(cr3 | 1ul << physical_bits()));
    REFUSED("cr8-reserved", "SDM 2 MOV CR8: bits 63:4 must be 0", write_cr8(0x10));
    REFUSED("efer-lme-clear", "SDM 4 IA32_EFER: LME while paging",
            wrmsr(IA32_EFER, rdmsr(IA32_EFER) & ~EFER_LME));
    REFUSED("efer-reserved", "SDM 4 IA32_EFER reserved", wrmsr(IA32_EFER, rdmsr(IA32_EFER) | 1ul << 16));
    check_equal("cr0-unchanged", "SDM 2 MOV CR: a fault changes nothing", read_cr0(), cr0);
    check_equal("cr4-unchanged", "SDM 2 MOV CR: a fault changes nothing", read_cr4(), cr4);
}

/* -- SMAP's implicit accesses, PCID, INVPCID ----------------------------------------------------------- */
static void invpcid(uint64_t type, uint64_t pcid, uint64_t address)
{
    uint64_t d[2] = {pcid, address};
    asm volatile("invpcid (%0), %1" ::"r"(d), "r"(type) : "memory");
}

static void smap_implicit(struct area *areas)
{
    if (!(cpuid(7, 0).ebx & 1u << 20)) {
        report_skip("smap-implicit", "SDM 3A 4.6.1", "no SMAP");
        return;
    }
    /* An LDT on a user page: loading a segment register is an implicit supervisor access; AC does not help.
     * The GDT stays where it is, since delivering the fault reads it. */
    const struct area *a = &areas[0];
    uint8_t *frame = (uint8_t *)(*a->entry[1] & PTE_ADDRESS);
    uint64_t ldt = a->address + 1024, data = gdt[SEL_USER_DATA / 8];
    memcpy(frame + 1024 + 8, &data, 8);
    gdt_set(SEL_TEST, descriptor((uint32_t)ldt, 127, 0x82));
    gdt_set(SEL_TEST + 8, ldt >> 32);
    asm volatile("lldt %w0" ::"r"(SEL_TEST));
    write_cr4(read_cr4() | CR4_SMAP);
    struct trap t = TRY(asm volatile("stac; mov %w0, %%ds; clac" ::"r"(0xf)));
    asm volatile("clac");
    write_cr4(read_cr4() & ~CR4_SMAP);
    asm volatile("lldt %w0; mov %w1, %%ds" ::"r"(0), "r"(SEL_DATA));
    check_fault("smap-implicit", "SDM 3A 4.6.1 implicit supervisor-mode accesses", t, PF_P, ldt + 8);
    check_trap("stac-ring3", "SDM 2 STAC #UD if CPL > 0", TRY(user_run(user_stac, 0)), EXC_UD, 0);
}

static void pcid(struct area *areas)
{
    const struct area *a = &areas[0];
    if (!(cpuid(1, 0).ecx & 1u << 17)) {
        report_skip("pcid", "SDM 3A 4.10.1", "no PCID");
    } else {
        uint64_t cr3 = read_cr3(), cr4 = read_cr4();
        write_cr3(cr3 | 8);
        check_trap("pcide-with-cr3-low-bits", "SDM 3A 4.10.1 CR4.PCIDE needs CR3[11:0] = 0",
                   TRY(write_cr4(cr4 | CR4_PCIDE)), EXC_GP, 0);
        write_cr3(cr3);
        write_cr4(cr4 | CR4_PCIDE);
        check_trap("cr0-pg-clear-with-pcide", "SDM 3A 4.10.1 PG may not be cleared with PCIDE",
                   TRY(write_cr0(read_cr0() & ~CR0_PG)), EXC_GP, 0);
        check_none("cr3-no-flush", "SDM 3A 4.10.4.1 CR3 bit 63 with PCIDE",
                   TRY(write_cr3(cr3 | 5 | 1ul << 63)));
        check_equal("cr3-bit63-reads-0", "SDM 2 MOV CR: bit 63 is not stored", read_cr3(), cr3 | 5);
        /* Two PCIDs, one changed entry: INVLPG is for the current PCID, so load CR3 for the other. */
        uint64_t old = *a->entry[1];
        uint8_t *second = page_alloc();
        second[64] = 2;
        ((uint8_t *)(old & PTE_ADDRESS))[64] = 1;
        load8(a->address + 64);
        write_cr3(cr3 | 6);
        load8(a->address + 64);
        *(volatile uint64_t *)a->entry[1] = (uint64_t)second | (old & 0xfff);
        invlpg(a->address);
        bool six = load8(a->address + 64) == 2;
        write_cr3(cr3 | 5);
        report("pcid-invlpg-and-cr3", "SDM 3A 4.10.4.1", six && load8(a->address + 64) == 2, "old page seen");
        if (cpuid(7, 0).ebx & 1u << 10) {
            *(volatile uint64_t *)a->entry[1] = old;
            invpcid(0, 5, a->address);
            check_equal("invpcid-address", "SDM 2 INVPCID type 0", load8(a->address + 64), 1);
            *(volatile uint64_t *)a->entry[1] = (uint64_t)second | (old & 0xfff);
            invpcid(1, 5, 0);
            check_equal("invpcid-context", "SDM 2 INVPCID type 1", load8(a->address + 64), 2);
            *(volatile uint64_t *)a->entry[1] = old;
            invpcid(2, 0, 0);
            check_equal("invpcid-all-global", "SDM 2 INVPCID type 2", load8(a->address + 64), 1);
            *(volatile uint64_t *)a->entry[1] = (uint64_t)second | (old & 0xfff);
            invpcid(3, 0, 0);
            check_equal("invpcid-all", "SDM 2 INVPCID type 3", load8(a->address + 64), 2);
        }
        *(volatile uint64_t *)a->entry[1] = old;
        write_cr3(cr3);
        write_cr4(cr4);
        invlpg(a->address);
        if (cpuid(7, 0).ebx & 1u << 10) {
            check_trap("invpcid-pcid-without-pcide", "SDM 2 INVPCID #GP if PCIDE=0 and PCID not 0",
                       TRY(invpcid(1, 3, 0)), EXC_GP, 0);
        }
        check_trap("cr3-bit63-without-pcide", "SDM 2 MOV CR3 bit 63 reserved if PCIDE=0",
                   TRY(write_cr3(cr3 | 1ul << 63)), EXC_GP, 0);
    }
    if (!(cpuid(7, 0).ebx & 1u << 10)) {
        report_skip("invpcid", "SDM 2 INVPCID", "no INVPCID");
        return;
    }
    check_trap("invpcid-type4", "SDM 2 INVPCID #GP(0) if the type is above 3", TRY(invpcid(4, 0, 0)), EXC_GP,
               0);
    check_trap("invpcid-reserved", "SDM 2 INVPCID #GP(0) if bits 63:12 are not 0", TRY(invpcid(0, 0x1000, 0)),
               EXC_GP, 0);
    check_trap("invpcid-non-canonical", "SDM 2 INVPCID #GP(0) type 0",
               TRY(invpcid(0, 0, 0x8000000000000000ul)), EXC_GP, 0);
    check_none("invpcid-non-canonical-ignored", "SDM 2 INVPCID type 2 ignores the address",
               TRY(invpcid(2, 0, 0x8000000000000000ul)));
}

/* -- 32-bit and PAE paging ----------------------------------------------------------------------------- */
USER_CODE(legacy_read, 32, "mov (%edi), %eax");
USER_CODE(legacy_write, 32, "mov %eax, (%edi)");
USER_CODE(legacy_fetch, 32, "call *%edi");

static struct legacy legacy_access(enum access access, bool user, uint32_t cr3, uint32_t cr0, uint32_t cr4,
                                   uint32_t efer, uint32_t address)
{
    const char *code = access == READ ? legacy_read : access == WRITE ? legacy_write : legacy_fetch;
    struct legacy l = {.cr0 = (uint32_t)CR0_PG | cr0,
                       .cr3 = cr3,
                       .cr4 = cr4,
                       .efer = efer,
                       .eip = (uint32_t)(uint64_t)code,
                       .cs = user ? SEL_USER_CODE32 : SEL_CODE32,
                       .eflags = 2,
                       .ss = user ? SEL_USER_DATA : SEL_DATA,
                       .ds = user ? SEL_USER_DATA : SEL_DATA,
                       .esp = (uint32_t)(uint64_t)user_stack + sizeof user_stack,
                       .edi = address};
    legacy_run(&l);
    return l;
}

static void legacy_check(const char *name, const char *rule, struct legacy l, int error, uint32_t address)
{
    bool ok = error < 0 ? l.vector == VECTOR_RETURN
                        : l.vector == EXC_PF && l.error == (unsigned)error && l.cr2 == address;
    report(name, rule, ok, "vector %x error %x CR2 %x EIP %x, want error %d", l.vector, l.error, l.cr2,
           l.out_eip, error);
}

static void paging_32bit(void)
{
    uint32_t *directory = page_alloc(), *table = page_alloc();
    uint8_t *frame = page_alloc(), *frame4m = page_alloc_aligned(0x400000);
    uint32_t cr3 = (uint32_t)(uint64_t)directory, at4k = 0x40000000, at4m = 0x40400000;
    for (uint32_t i = 0; i < 8; i++) { /* the image and its heap, 4 MB pages */
        directory[i] = i << 22 | 0x87;
    }
    uint32_t *pde = &directory[at4k >> 22], *pte = &table[0], *big = &directory[at4m >> 22];
    *pde = (uint32_t)(uint64_t)table | 7;
    *pte = (uint32_t)(uint64_t)frame | 7;
    *big = (uint32_t)(uint64_t)frame4m | 0x87;
    frame[0] = frame4m[0] = 0xc3;
    const char *rule = "SDM 3A 4.3 32-Bit Paging";
    uint32_t pse = (uint32_t)CR4_PSE, wp = (uint32_t)CR0_WP;
    legacy_check("32bit-4k-read", rule, legacy_access(READ, false, cr3, wp, pse, 0, at4k), -1, 0);
    legacy_check("32bit-4k-user-write", rule, legacy_access(WRITE, true, cr3, wp, pse, 0, at4k + 8), -1, 0);
    report("32bit-4k-accessed-dirty", "SDM 3A 4.8", (*pte & 0x60) == 0x60 && (*pde & 0x60) == 0x20,
           "PTE %x PDE %x", *pte, *pde);
    legacy_check("32bit-4m-read", rule, legacy_access(READ, true, cr3, wp, pse, 0, at4m + 0x123450), -1, 0);
    report("32bit-4m-accessed", "SDM 3A 4.8", (*big & 0x60) == 0x20, "PDE %x", *big);
    legacy_check("32bit-4m-write", rule, legacy_access(WRITE, true, cr3, wp, pse, 0, at4m + 0x123450), -1, 0);
    report("32bit-4m-dirty", "SDM 3A 4.8", (*big & 0x60) == 0x60, "PDE %x", *big);
    legacy_check("32bit-not-present-pde", rule, legacy_access(READ, false, cr3, wp, pse, 0, 0x80000004), 0,
                 0x80000004);
    legacy_check("32bit-not-present-pte", rule, legacy_access(WRITE, true, cr3, wp, pse, 0, at4k + 0x1000),
                 PF_W | PF_U, at4k + 0x1000);
    *pte &= ~2u;
    legacy_check("32bit-read-only-user", rule, legacy_access(WRITE, true, cr3, wp, pse, 0, at4k + 16), 7,
                 at4k + 16);
    legacy_check("32bit-read-only-wp", rule, legacy_access(WRITE, false, cr3, wp, pse, 0, at4k + 16), 3,
                 at4k + 16);
    legacy_check("32bit-read-only-no-wp", rule, legacy_access(WRITE, false, cr3, 0, pse, 0, at4k + 16), -1,
                 0);
    *pte |= 2;
    *pde &= ~4u;
    legacy_check("32bit-supervisor-pde", rule, legacy_access(READ, true, cr3, wp, pse, 0, at4k), 5, at4k);
    *pde |= 4;
    legacy_check("32bit-fetch", rule, legacy_access(FETCH, false, cr3, wp, pse, 0, at4k), -1, 0);
    legacy_check("32bit-fetch-no-i-bit", "SDM 3A 4.7 I/D flag: not with 32-bit paging without SMEP",
                 legacy_access(FETCH, false, cr3, wp, pse, (uint32_t)EFER_NXE, 0x80000004), 0, 0x80000004);
    *big |= 1u << 21;
    legacy_check("32bit-4m-reserved", "SDM 3A 4.3 PDE bit 21 is reserved",
                 legacy_access(READ, false, cr3, wp, pse, 0, at4m), PF_P | PF_RSVD, at4m);
    *big &= ~(1u << 21);
    /* CR4.PSE = 0: PS is ignored, the PDE points to a table. So the image is mapped by tables here. */
    uint32_t *plain = page_alloc(), *low = page_alloc_aligned(0x8000);
    for (uint32_t i = 0; i < 8192; i++) {
        low[i] = i << 12 | (i < 512 ? 3 : 7); /* .user begins at 2 MB */
    }
    for (uint32_t i = 0; i < 8; i++) {
        plain[i] = ((uint32_t)(uint64_t)low + i * 4096) | 7;
    }
    plain[at4k >> 22] = (uint32_t)(uint64_t)table | 0x87;
    legacy_check("32bit-ps-ignored", "SDM 3A 4.3 PS is ignored if CR4.PSE = 0",
                 legacy_access(FETCH, false, (uint32_t)(uint64_t)plain, wp, 0, 0, at4k), -1, 0);
    if (cpuid(7, 0).ebx & 1u << 7) {
        legacy_check("32bit-smep", "SDM 3A 4.6.1 SMEP with 32-bit paging",
                     legacy_access(FETCH, false, (uint32_t)(uint64_t)plain, wp, (uint32_t)CR4_SMEP, 0, at4k),
                     PF_P | PF_I, (uint32_t)(uint64_t)legacy_fetch);
    }
}

USER_CODE(legacy_load_cr3, 32, "mov %edi, %cr3");

static void paging_pae(void)
{
    uint64_t *pointers = page_alloc(), *table = page_alloc();
    uint8_t *frame = page_alloc(), *frame2m = page_alloc_aligned(0x200000);
    uint32_t cr3 = (uint32_t)(uint64_t)pointers;
    for (uint64_t i = 0; i < 2; i++) {
        pointers[i] = (uint64_t)page_alloc() | 1;
    }
    uint64_t *low = (uint64_t *)(pointers[0] & PTE_ADDRESS), *high = (uint64_t *)(pointers[1] & PTE_ADDRESS);
    for (uint64_t i = 0; i < 16; i++) {
        low[i] = i << 21 | 0x87;
    }
    uint32_t at4k = 0x40000000, at2m = 0x40200000;
    high[0] = (uint64_t)table | 7;
    high[1] = (uint64_t)frame2m | 0x87;
    table[0] = (uint64_t)frame | 7;
    frame[0] = frame2m[0] = 0xc3;
    const char *rule = "SDM 3A 4.4 PAE Paging";
    uint32_t pae = (uint32_t)CR4_PAE, wp = (uint32_t)CR0_WP, nxe = (uint32_t)EFER_NXE;
    legacy_check("pae-4k-read", rule, legacy_access(READ, true, cr3, wp, pae, 0, at4k), -1, 0);
    legacy_check("pae-4k-write", rule, legacy_access(WRITE, true, cr3, wp, pae, 0, at4k + 8), -1, 0);
    report("pae-4k-accessed-dirty", "SDM 3A 4.8", (table[0] & 0x60) == 0x60 && (high[0] & 0x60) == 0x20,
           "PTE %lx PDE %lx", table[0], high[0]);
    report("pae-pdpte-untouched", "SDM 3A 4.4.1 PDPTEs have no accessed flag", (pointers[1] & 0xfff) == 1,
           "PDPTE %lx", pointers[1]);
    legacy_check("pae-2m-write", rule, legacy_access(WRITE, true, cr3, wp, pae, 0, at2m + 0x12340), -1, 0);
    report("pae-2m-accessed-dirty", "SDM 3A 4.8", (high[1] & 0x60) == 0x60, "PDE %lx", high[1]);
    legacy_check("pae-fetch", rule, legacy_access(FETCH, false, cr3, wp, pae, nxe, at4k), -1, 0);
    table[0] |= PTE_NX;
    legacy_check("pae-xd", "SDM 3A 4.6.1 XD with PAE paging",
                 legacy_access(FETCH, false, cr3, wp, pae, nxe, at4k), PF_P | PF_I, at4k);
    legacy_check("pae-xd-read", "SDM 3A 4.6.1", legacy_access(READ, false, cr3, wp, pae, nxe, at4k), -1, 0);
    legacy_check("pae-xd-reserved", "SDM 3A 4.4 bit 63 reserved if NXE=0",
                 legacy_access(READ, false, cr3, wp, pae, 0, at4k), PF_P | PF_RSVD, at4k);
    table[0] &= ~PTE_NX;
    table[0] |= 1ul << 62;
    legacy_check("pae-bit62-reserved", "SDM 3A 4.4 PTE bits 62:MAXPHYADDR are reserved",
                 legacy_access(READ, false, cr3, wp, pae, nxe, at4k), PF_P | PF_RSVD, at4k);
    table[0] &= ~(1ul << 62);
    high[1] |= 1ul << 13;
    legacy_check("pae-2m-reserved", "SDM 3A 4.4 PDE bits 20:13 are reserved",
                 legacy_access(READ, true, cr3, wp, pae, nxe, at2m), PF_P | PF_U | PF_RSVD, at2m);
    high[1] &= ~(1ul << 13);
    legacy_check("pae-pdpte-not-present", rule, legacy_access(READ, false, cr3, wp, pae, nxe, 0x80000000), 0,
                 0x80000000);
    legacy_check("pae-not-present-fetch", "SDM 3A 4.7 I/D flag with NXE",
                 legacy_access(FETCH, false, cr3, wp, pae, nxe, 0x80000000), PF_I, 0x80000000);
    /* MOV CR3 loads and checks the four PDPTEs. */
    uint64_t *bad = page_alloc();
    for (int i = 0; i < 4; i++) {
        bad[i] = pointers[i];
    }
    static const struct {
        uint64_t bits;
        const char *name;
    } reserved[] = {{2, "pae-pdpte-bit1"},    {4, "pae-pdpte-bit2"},          {0x20, "pae-pdpte-bit5"},
                    {0x80, "pae-pdpte-bit7"}, {1ul << 63, "pae-pdpte-bit63"}, {1ul << 51, "pae-pdpte-bit51"}};
    for (unsigned i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        bad[3] = 0x1001 | reserved[i].bits;
        struct legacy l = {.cr0 = (uint32_t)CR0_PG,
                           .cr3 = cr3,
                           .cr4 = pae,
                           .efer = nxe,
                           .eip = (uint32_t)(uint64_t)legacy_load_cr3,
                           .cs = SEL_CODE32,
                           .eflags = 2,
                           .ss = SEL_DATA,
                           .ds = SEL_DATA,
                           .esp = (uint32_t)(uint64_t)user_stack + sizeof user_stack,
                           .edi = (uint32_t)(uint64_t)bad};
        legacy_run(&l);
        report(reserved[i].name, "SDM 3A 4.4.1 MOV to CR3 #GP(0) on reserved bits of a present PDPTE",
               l.vector == EXC_GP && l.error == 0, "vector %x error %x", l.vector, l.error);
    }
    bad[3] = 0x1fe;
    struct legacy l = {.cr0 = (uint32_t)CR0_PG,
                       .cr3 = cr3,
                       .cr4 = pae,
                       .efer = nxe,
                       .eip = (uint32_t)(uint64_t)legacy_load_cr3,
                       .cs = SEL_CODE32,
                       .eflags = 2,
                       .ss = SEL_DATA,
                       .ds = SEL_DATA,
                       .esp = (uint32_t)(uint64_t)user_stack + sizeof user_stack,
                       .edi = (uint32_t)(uint64_t)bad};
    legacy_run(&l);
    report("pae-pdpte-not-present-ignored", "SDM 3A 4.4.1 reserved bits count only in present PDPTEs",
           l.vector == VECTOR_RETURN, "vector %x error %x", l.vector, l.error);
}

void guest_main(void)
{
    struct area areas[3];
    int count = 2;
    areas[0] = area_make(AREA, 1);
    areas[1] = area_make(AREA + 0x8000000000ul, 2);
    if (has_1g()) {
        areas[2] = area_make(AREA + 0x10000000000ul, 3);
        count = 3;
    } else {
        report_skip("1g-pages", "SDM 3A 4.5", "no 1G pages");
    }
    presence(areas, count);
    accessed_dirty(areas, count);
    changes(areas);
    edges(areas);
    control_registers();
    smap_implicit(areas);
    pcid(areas);
    rights(areas, count);
    paging_32bit();
    paging_pae();
}
