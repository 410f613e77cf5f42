/*
 * vmx_ept.c -- extended page tables: SDM 3C 28.2 "The Extended Page Table Mechanism (EPT)", 27.2.1 Table
 * 27-7.
 *
 * The guest shares the host's paging (linear = guest-physical below 4 GB). Three windows of guest-physical
 * memory are mapped with a 4K, a 2M and a 1G page of EPT.
 */
#include "covers.h"
#include "vmx.h"

#define EPT_R              1ul
#define EPT_W              2ul
#define EPT_X              4ul
#define EPT_WB             (6ul << 3)
#define EPT_LARGE          (1ul << 7)
#define EPT_A              (1ul << 8)
#define EPT_D              (1ul << 9)
#define LINEAR_VALID       (1ul << 7)
#define TRANSLATED         (1ul << 8)
#define QUALIFICATION_MASK 0x1bful /* access, rights, linear valid, translated; not the optional bits */

#define WINDOW_4K 0x40000000ul
#define WINDOW_2M 0x40200000ul
#define WINDOW_1G 0x80000000ul

GUEST_CODE(guest_read, 64, "movb (%rbx), %al");
GUEST_CODE(guest_write, 64, "movb %al, (%rbx)");
GUEST_CODE(guest_fetch, 64, "call *%rbx");
GUEST_CODE(guest_rmw, 64, "lock incb (%rbx)");
GUEST_CODE(guest_write_many, 64, "1: movb %al, (%rbx)\n add $0x1000, %rbx\n loop 1b");
GUEST_CODE(guest_cross, 64, "movq (%rbx), %rax");
GUEST_CODE(guest_cr3, 64, "mov %cr3, %rax\n mov %rax, %cr3\n movb (%rbx), %al");

static uint64_t eptp, cap;
static uint8_t *frame_4k, *frame_2m;
enum access { READ, WRITE, FETCH };

static void setup(uint64_t eptp_bits)
{
    vmx_guest_reset();
    vmcs_set(VMCS_EPT_POINTER, eptp | eptp_bits);
    vmx_secondary(PROC2_ENABLE_EPT);
}

static struct vmx_exit run(const char *code, uint64_t rbx)
{
    vmx_guest.rbx = rbx;
    vmx_guest.rcx = 4;
    return vmx_run(code);
}

static struct vmx_exit access_run(enum access a, uint64_t at)
{
    return run(a == READ ? guest_read : a == WRITE ? guest_write : guest_fetch, a == FETCH ? at : at + 16);
}

static bool ran(const struct vmx_exit *e)
{
    return e->result == VMX_OK && e->reason == EXIT_REASON_VMCALL;
}

/* -- Rights: all of R, W, X at the leaf and, when `upper` is not 0, one level above -------------------- */
static void rights(uint64_t window, int leaf, int upper, const char *name)
{
    uint64_t all = 7, *entry = ept_entry(eptp, window, leaf),
             *above = upper ? ept_entry(eptp, window, upper) : &all, leaf0 = *entry, above0 = *above;
    bool ok = true, execute_only = cap & 1;
    char detail[200] = "";
    unsigned count = 0;
    setup(0);
    for (uint64_t bits = 0; bits < 64 && ok; bits++) {
        uint64_t l = bits & 7, u = bits >> 3;
        bool bad_l = l == 2 || l == 6 || (l == 4 && !execute_only),
             bad_u = u == 2 || u == 6 || (u == 4 && !execute_only);
        if (bad_l || bad_u || (!upper && u != 7)) {
            continue; /* a misconfiguration: below */
        }
        *(volatile uint64_t *)entry = (leaf0 & ~7ul) | l;
        *(volatile uint64_t *)above = (above0 & ~7ul) | u;
        invept(1, eptp);
        for (enum access a = READ; a <= FETCH && ok; a++) {
            struct vmx_exit e = access_run(a, window);
            uint64_t need = a == READ    ? EPT_R
                            : a == WRITE ? EPT_W
                                         : EPT_X,
                     at = window + (a == FETCH ? 0 : 16);
            uint64_t want = need | (l & u) << 3 | LINEAR_VALID | TRANSLATED;
            /* A non-present entry above the leaf ends the walk: then the rights are those of the entries
             * used. */
            if (u == 0) {
                want = need | LINEAR_VALID | TRANSLATED;
            }
            count++;
            ok = (l & u & need) ? ran(&e)
                                : e.result == VMX_OK && e.reason == EXIT_REASON_EPT_VIOLATION &&
                                      (e.qualification & QUALIFICATION_MASK) == want && e.physical == at &&
                                      e.linear == at;
            if (!ok) {
                format_text(detail, sizeof detail,
                            "leaf %lx upper %lx access %u: result %d reason %u qualification %lx (want %lx) "
                            "physical %lx linear %lx",
                            l, u, a, e.result, e.reason, e.qualification, want, e.physical, e.linear);
            }
        }
    }
    *entry = leaf0;
    *above = above0;
    invept(1, eptp);
    report(name, "SDM 3C 28.2.3.2 EPT Violations; Table 27-7 Exit Qualification",
           ok && count >= (upper ? 41 : 15), "%s", detail);
}

/* -- Misconfigurations --------------------------------------------------------------------------------- */
static void misconfigured(const char *name, const char *rule, uint64_t window, int level, uint64_t set,
                          uint64_t clear)
{
    uint64_t *entry = ept_entry(eptp, window, level), old = *entry;
    *(volatile uint64_t *)entry = (old | set) & ~clear;
    invept(1, eptp);
    setup(0);
    struct vmx_exit e = access_run(READ, window);
    *(volatile uint64_t *)entry = old;
    invept(1, eptp);
    report(name, rule,
           e.result == VMX_OK && e.reason == EXIT_REASON_EPT_MISCONFIG &&
               /* a PML4E also maps the code and the guest's tables: the first of them exits */
               (level == 4 || e.physical == window + 16) && e.rip == (uint64_t)guest_read,
           "result %d reason %u physical %lx", e.result, e.reason, e.physical);
}

static void misconfigurations(bool has_1g)
{
    COVERS(EXIT_EPT_MISCONFIGURATION);
    char name[64];
    const char *rule = "SDM 3C 28.2.3.1 EPT Misconfigurations";
    for (int level = 1; level <= 4; level++) {
        format_text(name, sizeof name, "misconfig-write-only-level%d", level);
        misconfigured(name, rule, WINDOW_4K, level, 2, 5);
        format_text(name, sizeof name, "misconfig-write-execute-level%d", level);
        misconfigured(name, rule, WINDOW_4K, level, 6, 1);
        format_text(name, sizeof name, "misconfig-address-level%d", level);
        if (physical_bits() < 52) {
            misconfigured(name, rule, WINDOW_4K, level, 1ul << physical_bits(), 0);
        }
        if (level > 1) {
            format_text(name, sizeof name, "misconfig-bit3-level%d", level);
            misconfigured(name, rule, WINDOW_4K, level, 1 << 3, 0);
        }
    }
    misconfigured("misconfig-pml4e-bit7", rule, WINDOW_4K, 4, 1 << 7, 0);
    if (!(cap & 1)) {
        misconfigured("misconfig-execute-only", rule, WINDOW_4K, 1, 4, 3);
    }
    static const unsigned types[] = {2, 3, 7};
    for (unsigned i = 0; i < 3; i++) {
        format_text(name, sizeof name, "misconfig-memory-type%u", types[i]);
        misconfigured(name, "SDM 3C 28.2.3.1: memory type 2, 3 or 7 in a leaf", WINDOW_4K, 1, types[i] << 3,
                      (7u & ~types[i]) << 3);
    }
    misconfigured("misconfig-2m-address", "SDM 3C 28.2.3.1: reserved address bits of a 2M page", WINDOW_2M, 2,
                  1 << 13, 0);
    misconfigured("misconfig-2m-bit12", "SDM 3C Table 28-5: bits 20:12 of a 2M page are reserved", WINDOW_2M,
                  2, 1 << 12, 0);
    misconfigured("misconfig-2m-type", "SDM 3C 28.2.3.1", WINDOW_2M, 2, 7 << 3, 0);
    if (has_1g) {
        misconfigured("misconfig-1g-address", "SDM 3C 28.2.3.1: reserved address bits of a 1G page",
                      WINDOW_1G, 3, 1 << 21, 0);
    }
    /* A misconfiguration wins over missing rights; an entry that is not present is never misconfigured. */
    uint64_t *entry = ept_entry(eptp, WINDOW_4K, 1), old = *entry;
    *(volatile uint64_t *)entry = (old & ~7ul) | 7 << 3 | 1ul << 51;
    invept(1, eptp);
    setup(0);
    struct vmx_exit e = access_run(READ, WINDOW_4K);
    report("not-present-never-misconfigured", "SDM 3C 28.2.3.1: only present entries",
           e.reason == EXIT_REASON_EPT_VIOLATION, "reason %u", e.reason);
    *(volatile uint64_t *)entry = old;
    invept(1, eptp);
}

/* -- Guest paging structures through EPT; read-modify-write; crossing ---------------------------------- */
static void walks(void)
{
    COVERS(PROC2_ENABLE_EPT);
    COVERS(EXIT_EPT_VIOLATION);
    /* The guest's own PML4 page becomes unreadable: the violation is not for a translated address. */
    uint64_t root = read_cr3() & PTE_ADDRESS, *entry = ept_entry(eptp, root, 1), old = *entry;
    *(volatile uint64_t *)entry = 0;
    invept(2, 0);
    setup(0);
    struct vmx_exit e = access_run(READ, WINDOW_4K);
    report("guest-table-not-present", "SDM 3C Table 27-7 bit 8 = 0: access to a guest paging structure",
           e.reason == EXIT_REASON_EPT_VIOLATION &&
               (e.qualification & (QUALIFICATION_MASK & ~2ul)) == (EPT_R | LINEAR_VALID) &&
               (e.physical & PTE_ADDRESS) == root && e.linear == (uint64_t)guest_read,
           "reason %u qualification %lx physical %lx linear %lx", e.reason, e.qualification, e.physical,
           e.linear);
    /* Read-only paging structures: setting an accessed flag is a write. */
    *(volatile uint64_t *)entry = (old & ~7ul) | EPT_R | EPT_X;
    uint64_t *pml4e = &boot_pml4[0];
    *(volatile uint64_t *)pml4e &= ~PTE_A;
    invept(2, 0);
    write_cr3(read_cr3());
    *(volatile uint64_t *)pml4e &= ~PTE_A;
    setup(0);
    vmcs_set(VMCS_GUEST_CR3, (uint64_t)boot_pml4);
    /* The host's own walks set the flag again, so the guest gets a copy of the PML4 with the flag clear. */
    *(volatile uint64_t *)entry = old;
    uint64_t *copy = page_alloc();
    memcpy(copy, boot_pml4, PAGE_SIZE);
    copy[0] &= ~PTE_A;
    uint64_t *copy_entry = ept_entry(eptp, (uint64_t)copy, 1), copy_old = *copy_entry;
    *(volatile uint64_t *)copy_entry = (copy_old & ~7ul) | EPT_R | EPT_X;
    invept(2, 0);
    vmcs_set(VMCS_GUEST_CR3, (uint64_t)copy);
    e = access_run(READ, WINDOW_4K);
    report("guest-table-accessed-write",
           "SDM 3C 28.2.3.2: setting a guest accessed flag is a write to the paging structure",
           e.reason == EXIT_REASON_EPT_VIOLATION && (e.qualification & 2) &&
               !(e.qualification & TRANSLATED) && (e.qualification & LINEAR_VALID) &&
               (e.physical & PTE_ADDRESS) == (uint64_t)copy,
           "reason %u qualification %lx physical %lx", e.reason, e.qualification, e.physical);
    *(volatile uint64_t *)copy_entry = copy_old;
    invept(2, 0);
    /* Read-modify-write to a read-only page: both bits may be set (SDM: "read-modify-write ... bit 0 and bit
     * 1 may be set"). */
    entry = ept_entry(eptp, WINDOW_4K, 1), old = *entry;
    *(volatile uint64_t *)entry = (old & ~7ul) | EPT_R;
    invept(2, 0);
    setup(0);
    e = run(guest_rmw, WINDOW_4K + 32);
    report("read-modify-write", "SDM 3C Table 27-7 bit 1: data write",
           e.reason == EXIT_REASON_EPT_VIOLATION && (e.qualification & 2) && e.physical == WINDOW_4K + 32,
           "reason %u qualification %lx", e.reason, e.qualification);
    *(volatile uint64_t *)entry = 0;
    invept(2, 0);
    setup(0);
    e = run(guest_cross, WINDOW_4K - 4);
    report("cross-page", "SDM 3C 27.2.1: the address of the part that faulted",
           e.reason == EXIT_REASON_EPT_VIOLATION && e.physical == WINDOW_4K && e.linear == WINDOW_4K,
           "reason %u physical %lx linear %lx", e.reason, e.physical, e.linear);
    *(volatile uint64_t *)entry = old;
    invept(2, 0);
    /* EPT is below guest paging: a guest page fault comes first. */
    uint64_t *not_mapped = page_entry(boot_pml4, 0x8000000000ul, 1);
    *not_mapped = 0;
    setup(0);
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_PF);
    e = run(guest_read, 0x8000000000ul);
    report("guest-page-fault", "SDM 3C 28.2.3.3: guest page faults are independent of EPT",
           e.reason == EXIT_REASON_EXCEPTION && (e.interruption & 0xff) == EXC_PF, "reason %u", e.reason);
    /* Remap and continue. */
    frame_4k[16] = 0x11;
    uint8_t *other = page_alloc();
    other[16] = 0x22;
    other[0] = 0xc3;
    setup(0);
    e = access_run(READ, WINDOW_4K);
    uint64_t first = vmx_guest.rax & 0xff;
    *(volatile uint64_t *)entry = (uint64_t)other | EPT_WB | 7;
    invept(1, eptp);
    e = access_run(READ, WINDOW_4K);
    report("invept-after-change", "SDM 3C 28.3.3.1 INVEPT", first == 0x11 && (vmx_guest.rax & 0xff) == 0x22,
           "%lx then %lx", first, vmx_guest.rax & 0xff);
    *(volatile uint64_t *)entry = old;
    invept(1, eptp);
    e = run(guest_cr3, WINDOW_4K + 16);
    report("guest-cr3-load", "SDM 3C 28.2.1: MOV CR3 in the guest", ran(&e) && (vmx_guest.rax & 0xff) == 0x11,
           "reason %u %lx", e.reason, vmx_guest.rax);
}

/* -- Accessed and dirty flags, page-modification logging ----------------------------------------------- */
static void accessed_dirty(void)
{
    if (!(cap & 1 << 21)) {
        report_skip("ept-accessed-dirty", "SDM 3C 28.2.4", "no EPT accessed and dirty flags");
        return;
    }
    static const struct {
        uint64_t window;
        int leaf;
        const char *name;
    } list[] = {{WINDOW_4K, 1, "ept-accessed-dirty-4k"},
                {WINDOW_2M, 2, "ept-accessed-dirty-2m"},
                {WINDOW_1G, 3, "ept-accessed-dirty-1g"}};
    for (unsigned i = 0; i < (cap & 1 << 17 ? 3u : 2u); i++) {
        bool ok = true;
        uint64_t leaf = 0;
        for (enum access a = READ; a <= FETCH; a++) {
            for (int level = list[i].leaf; level <= 4; level++) {
                *(volatile uint64_t *)ept_entry(eptp, list[i].window, level) &= ~(EPT_A | EPT_D);
            }
            invept(2, 0);
            setup(1 << 6);
            struct vmx_exit e = access_run(a, list[i].window);
            leaf = *ept_entry(eptp, list[i].window, list[i].leaf);
            ok = ok && ran(&e) && (leaf & EPT_A) && !!(leaf & EPT_D) == (a == WRITE);
            for (int level = list[i].leaf + 1; level <= 4; level++) {
                ok = ok && (*ept_entry(eptp, list[i].window, level) & EPT_A);
            }
        }
        report(list[i].name, "SDM 3C 28.2.4 Accessed and Dirty Flags for EPT", ok, "leaf %lx", leaf);
    }
    *(volatile uint64_t *)ept_entry(eptp, WINDOW_4K, 1) &= ~(EPT_A | EPT_D);
    invept(2, 0);
    setup(0);
    access_run(WRITE, WINDOW_4K);
    check_equal("ept-accessed-dirty-off", "SDM 3C 28.2.4: only if bit 6 of the EPT pointer is 1",
                *ept_entry(eptp, WINDOW_4K, 1) & (EPT_A | EPT_D), 0);
    /* With the flags on, accesses to guest paging structures are writes. */
    uint64_t root = read_cr3() & PTE_ADDRESS, *entry = ept_entry(eptp, root, 1), old = *entry;
    *(volatile uint64_t *)entry = (old & ~7ul) | EPT_R | EPT_X;
    invept(2, 0);
    setup(1 << 6);
    struct vmx_exit e = access_run(READ, WINDOW_4K);
    *(volatile uint64_t *)entry = old;
    invept(2, 0);
    report("ept-ad-guest-table-write",
           "SDM 3C 28.2.4: with EPT flags on, accesses to guest paging structures are writes",
           e.reason == EXIT_REASON_EPT_VIOLATION && (e.qualification & 3) == 3 &&
               !(e.qualification & TRANSLATED),
           "reason %u qualification %lx", e.reason, e.qualification);
}

static void page_modification_log(void)
{
    COVERS(PROC2_ENABLE_PML);
    COVERS(EXIT_PML_FULL);
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_PML)) {
        report_skip("pml", "SDM 3C 28.2.6", "no PML");
        return;
    }
    uint64_t *log = page_alloc();
    for (uint64_t i = 0; i < 8; i++) {
        *ept_entry(eptp, WINDOW_4K + i * PAGE_SIZE, 1) = ((uint64_t)frame_4k + 0) | EPT_WB | 7;
    }
    /* The stack, and the guest's tables, are written too: run once so that their dirty flags are set, then
     * clear those of the window. */
    setup(1 << 6);
    struct vmx_exit e = run(guest_write_many, WINDOW_4K);
    for (uint64_t i = 0; i < 8; i++) {
        *(volatile uint64_t *)ept_entry(eptp, WINDOW_4K + i * PAGE_SIZE, 1) &= ~EPT_D;
    }
    invept(2, 0);
    setup(1 << 6);
    vmx_secondary(PROC2_ENABLE_PML);
    vmcs_set(VMCS_PML_ADDRESS, (uint64_t)log);
    vmcs_set(VMCS_GUEST_PML_INDEX, 511);
    e = run(guest_write_many, WINDOW_4K + 8);
    bool found[4] = {false};
    for (uint64_t i = vmcs(VMCS_GUEST_PML_INDEX) + 1; i < 512; i++) {
        for (uint64_t k = 0; k < 4; k++) {
            found[k] = found[k] || log[i] == WINDOW_4K + k * PAGE_SIZE;
        }
    }
    report("pml-log", "SDM 3C 28.2.6 Page-Modification Logging: guest-physical addresses, index counts down",
           ran(&e) && found[0] && found[1] && found[2] && found[3] && vmcs(VMCS_GUEST_PML_INDEX) <= 507,
           "reason %u index %lx first %lx", e.reason, vmcs(VMCS_GUEST_PML_INDEX), log[511]);
    uint64_t index = vmcs(VMCS_GUEST_PML_INDEX);
    e = run(guest_write_many, WINDOW_4K + 8);
    report("pml-dirty-once", "SDM 3C 28.2.6: only when a dirty flag goes from 0 to 1",
           ran(&e) && vmcs(VMCS_GUEST_PML_INDEX) == index, "index %lx, was %lx", vmcs(VMCS_GUEST_PML_INDEX),
           index);
    *(volatile uint64_t *)ept_entry(eptp, WINDOW_4K, 1) &= ~EPT_D;
    invept(2, 0);
    vmcs_set(VMCS_GUEST_PML_INDEX, 0xffff);
    e = run(guest_write_many, WINDOW_4K + 8);
    report("pml-full", "SDM 3C 28.2.6: index out of 0..511: exit 62 before the write",
           e.result == VMX_OK && e.reason == EXIT_REASON_PML_FULL &&
               !(*ept_entry(eptp, WINDOW_4K, 1) & EPT_D),
           "reason %u entry %lx", e.reason, *ept_entry(eptp, WINDOW_4K, 1));
}

/* -- VPID: tagged translations still follow what the instructions of the SDM promise ------------------- */
static void vpid(void)
{
    COVERS(PROC2_ENABLE_VPID);
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_VPID)) {
        report_skip("vpid", "SDM 3C 28.1", "no VPID");
        return;
    }
    setup(0);
    vmcs_set(VMCS_VPID, 7);
    vmx_secondary(PROC2_ENABLE_VPID);
    frame_4k[16] = 0x33;
    uint64_t *entry = page_entry(boot_pml4, 0x8000000000ul, 1);
    uint8_t *other = page_alloc();
    other[16] = 0x44;
    *entry = (uint64_t)frame_4k | PTE_P | PTE_W;
    struct vmx_exit e = access_run(READ, 0x8000000000ul);
    uint64_t first = vmx_guest.rax & 0xff;
    *(volatile uint64_t *)entry = (uint64_t)other | PTE_P | PTE_W;
    struct {
        uint64_t vpid, address;
    } d = {7, 0x8000000000ul};
    asm volatile("invvpid %0, %1" ::"m"(d), "r"(cap >> 40 & 1 ? 0ul : 1ul) : "memory", "cc");
    e = access_run(READ, 0x8000000000ul);
    report("invvpid-after-change", "SDM 3C 28.3.3.1 INVVPID",
           ran(&e) && first == 0x33 && (vmx_guest.rax & 0xff) == 0x44, "%lx then %lx", first,
           vmx_guest.rax & 0xff);
    *(volatile uint64_t *)entry = 0;
}

void guest_main(void)
{
    if (!vmx_start()) {
        check_trap("vmx-absent", "SDM 3C 30.3 VMCALL #UD without VMX", TRY_ASM("vmcall"), EXC_UD, 0);
        return;
    }
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_EPT)) {
        report_skip("ept", "SDM 3C 28.2", "no EPT");
        return;
    }
    cap = rdmsr(IA32_VMX_EPT_VPID_CAP);
    bool has_1g = cap & 1 << 17;
    eptp = ept_identity(4);
    frame_4k = page_alloc();
    frame_2m = page_alloc_aligned(0x200000);
    *(uint64_t *)frame_4k = *(uint64_t *)frame_2m = 0xc3;
    *ept_entry(eptp, WINDOW_4K, 1) = (uint64_t)frame_4k | EPT_WB | 7;
    *ept_entry(eptp, WINDOW_2M, 2) = (uint64_t)frame_2m | EPT_WB | EPT_LARGE | 7;
    setup(0);
    struct vmx_exit e = access_run(READ, WINDOW_4K);
    if (!report("ept-entry", "SDM 3C 28.2", ran(&e),
                "result %d error %u reason %x qualification %lx physical %lx", e.result, e.error, e.reason,
                e.qualification, e.physical)) {
        return;
    }
    rights(WINDOW_4K, 1, 2, "rights-4k-level2");
    rights(WINDOW_4K, 1, 3, "rights-4k-level3");
    rights(WINDOW_2M, 2, 3, "rights-2m-level3");
    if (has_1g) {
        /* 1 GB page over 80000000H: its first bytes are what the image's frame at physical 0 + A000H holds.
         */
        *ept_entry(eptp, WINDOW_1G, 3) = 0ul | EPT_WB | EPT_LARGE | 7;
        asm volatile("movb $0xc3, 0" ::: "memory");
        setup(0);
        e = run(guest_fetch, WINDOW_1G);
        report("1g-page", "SDM 3C 28.2.2 EPT PDPTE that maps a 1G page", ran(&e), "reason %u", e.reason);
        rights(WINDOW_1G, 3, 0, "rights-1g"); /* the entry above also maps the guest's code */
    } else {
        report_skip("1g-page", "SDM 3C 28.2.2", "no 1G EPT pages");
    }
    misconfigurations(has_1g);
    walks();
    accessed_dirty();
    page_modification_log();
    vpid();
    asm volatile("vmxoff");
}
