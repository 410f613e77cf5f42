/*
 * tests/fuzz/guest_state.c -- processors in random states: mode, paging, tables, registers, and a VMCS to
 * enter.
 *
 * Everything starts usable, so that guests run for a while; then a few things are broken ("twists"). Handlers
 * step over the instruction that faulted or exited, so that one fault is not the end.
 */
#include "tests/fuzz/guest.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/vmx/vmcs.h"

#define HOST_HANDLER 0xa000u
#define HOST_LENGTH  0x800u
#define VMX_POINTERS (GUEST_VMX + 0xf000)
#define EPT          0x40000u
#define PTE_USUAL    7u /* present, writable, user */
#define PTE_LARGE    0x80u
#define PAGE_AT(n)   ((uint64_t)(n)*PAGE_SIZE)

enum paging { PAGING_NONE, PAGING_32, PAGING_PAE, PAGING_LONG };

struct setup {
    struct dice *d;
    struct machine *m;
    struct phys *p;
    enum guest_mode mode;
    enum paging paging;
    unsigned cpl;
};

/* -- Tables in memory ---------------------------------------------------------------------------------- */

static uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t ar)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(ar & 0xf0ff) << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;
}

static void make_gdt(struct setup *s)
{
    uint64_t gdt[GUEST_GDT_ENTRIES] = {
        [SEL_CODE64 / 8] = descriptor(0, 0xfffff, 0xa09b),
        [SEL_CODE32 / 8] = descriptor(0, 0xfffff, 0xc09b),
        [SEL_CODE16 / 8] = descriptor(GUEST_CODE, 0xffff, 0x9b),
        [SEL_DATA / 8] = descriptor(0, 0xfffff, 0xc093),
        [SEL_DATA16 / 8] = descriptor(0, 0xffff, 0x93),
        [SEL_USER_CODE32 / 8] = descriptor(0, 0xfffff, 0xc0fb),
        [SEL_USER_DATA / 8] = descriptor(0, 0xfffff, 0xc0f3),
        [SEL_USER_CODE64 / 8] = descriptor(0, 0xfffff, 0xa0fb),
        [SEL_TSS / 8] = descriptor(GUEST_TSS, 0xfff, 0x89),
        [SEL_LDT / 8] = descriptor(GUEST_LDT, 0x7f, 0x82),
    };
    /* A call gate to code of ring 0. */
    gdt[SEL_GATE / 8] = (GUEST_CODE & 0xffff) |
                        (uint64_t)(s->paging == PAGING_LONG ? SEL_CODE64 : SEL_CODE32) << 16 |
                        0xec00ull << 32 | (uint64_t)(GUEST_CODE >> 16) << 48;
    for (unsigned i = SEL_RANDOM / 8; i < GUEST_GDT_ENTRIES; i++)
        gdt[i] = descriptor(dice_chance(s->d, 60) ? 0 : (uint32_t)dice_odd(s->d), (uint32_t)dice_odd(s->d),
                            (uint32_t)(dice_roll(s->d) | 0x80));
    phys_write(s->p, GUEST_GDT, gdt, sizeof(gdt));
    for (unsigned i = 0; i < 16; i++)
        phys_store(s->p, GUEST_LDT + 8 * i, 8, gdt[dice_below(s->d, GUEST_GDT_ENTRIES)]);
    for (unsigned i = 0; i < 26; i++) /* TSS: all stacks alike, in both layouts */
        phys_store(s->p, GUEST_TSS + 4 + 8 * i, 8, GUEST_STACK - 0x40 * i);
    if (s->paging != PAGING_LONG)
        phys_store(s->p, GUEST_TSS + 8, 8, SEL_DATA);
    phys_store(s->p, GUEST_TSS + 0x66, 2, 0x68);
    for (unsigned i = 0; i < 64; i++)
        phys_store(s->p, GUEST_TSS + 0x68 + 8 * i, 8, dice_roll(s->d) & dice_roll(s->d));
}

static bool has_error_code(unsigned vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

/* Goes on behind the instruction that faulted, or somewhere else in the code. */
static void make_handler(struct setup *s, unsigned vector, bool real)
{
    uint8_t bytes[16];
    struct code c = {bytes, 0, sizeof(bytes)};
    unsigned skip = 1 + (unsigned)dice_below(s->d, 6), rex = s->paging == PAGING_LONG;
    uint32_t to = (uint32_t)dice_below(s->d, GUEST_CODE_LEN);
    bool jump = dice_chance(s->d, 40);
    if (dice_chance(s->d, 3))
        code_number(&c, dice_roll(s->d), 2);
    if (real) {
        code_number(&c, 0xe58955, 3); /* push bp; mov bp, sp; add or mov word [bp + 2]; pop bp; iret */
        if (jump)
            code_number(&c, 0x0246c7 | (uint64_t)to << 24, 5);
        else
            code_number(&c, 0x024683 | skip << 24, 4);
        code_number(&c, 0xcf5d, 2);
    } else {
        if (has_error_code(vector)) { /* add rsp, 8 */
            if (rex)
                code_byte(&c, 0x48);
            code_number(&c, 0x00c483 | (rex ? 8u : 4u) << 16, 3);
        }
        if (rex)
            code_byte(&c, 0x48);
        if (jump)
            code_number(&c, 0x2404c7 | (uint64_t)(GUEST_CODE + to) << 24, 7);
        else
            code_number(&c, 0x00240483 | skip << 24, 4); /* add [rsp], skip */
        if (rex)
            code_byte(&c, 0x48);
        code_byte(&c, 0xcf);
    }
    phys_write(s->p, GUEST_HANDLERS + 16 * vector, bytes, c.size);
}

static void make_idt(struct setup *s, bool real)
{
    for (unsigned i = 0; i < 256; i++) {
        uint32_t at = GUEST_HANDLERS + 16 * i;
        unsigned type = dice_chance(s->d, 70) ? 0x8e : 0xef;
        make_handler(s, i, real);
        if (real) {
            phys_store(s->p, 4 * i, 4, (uint64_t)(GUEST_HANDLERS >> 4) << 16 | 16 * i);
        } else if (s->paging == PAGING_LONG) {
            unsigned ist = dice_chance(s->d, 10) ? (unsigned)dice_below(s->d, 8) : 0;
            phys_store(s->p, GUEST_IDT + 16 * i, 8,
                       (at & 0xffff) | SEL_CODE64 << 16 | (uint64_t)(type << 8 | ist) << 32 |
                           (uint64_t)(at >> 16) << 48);
            phys_store(s->p, GUEST_IDT + 16 * i + 8, 8, 0);
        } else {
            phys_store(s->p, GUEST_IDT + 8 * i, 8,
                       (at & 0xffff) | SEL_CODE32 << 16 | (uint64_t)type << 40 | (uint64_t)(at >> 16) << 48);
        }
    }
    if (dice_chance(s->d, 10))
        phys_store(s->p, GUEST_IDT + 8 * dice_below(s->d, 256), 8, dice_roll(s->d));
}

/* All kinds of paging structures side by side: one to one, the first 4 MB and the devices below 4 GB. */
static void make_tables(struct setup *s, uint64_t flags)
{
    struct phys *p = s->p;
    uint64_t t = GUEST_TABLES;
    for (unsigned i = 0; i < 512; i++) {
        phys_store(p, t + PAGE_AT(2) + 8 * i, 8, (uint64_t)i << 21 | flags | PTE_LARGE);
        phys_store(p, t + PAGE_AT(3) + 8 * i, 8, PAGE_AT(i) | flags);
        phys_store(p, t + PAGE_AT(4) + 8 * i, 8, (0xc0000000 + ((uint64_t)i << 21)) | flags | PTE_LARGE);
    }
    phys_store(p, t + PAGE_AT(2), 8, (t + PAGE_AT(3)) | PTE_USUAL);
    for (unsigned i = 0; i < 1024; i++) {
        phys_store(p, t + PAGE_AT(5) + 4 * i, 4, (uint64_t)i << 22 | flags | PTE_LARGE);
        phys_store(p, t + PAGE_AT(6) + 4 * i, 4, PAGE_AT(i) | flags);
    }
    phys_store(p, t + PAGE_AT(5), 4, (t + PAGE_AT(6)) | PTE_USUAL);
    uint64_t upper = s->paging == PAGING_PAE ? 1 : PTE_USUAL;
    phys_store(p, t + PAGE_AT(1), 8, (t + PAGE_AT(2)) | upper);
    phys_store(p, t + PAGE_AT(1) + 24, 8, (t + PAGE_AT(4)) | upper);
    if (s->paging == PAGING_LONG)
        phys_store(p, t + PAGE_AT(1) + 8, 8, 0 | flags | PTE_LARGE);
    phys_store(p, t, 8, (t + PAGE_AT(1)) | PTE_USUAL);
    phys_store(p, t + 8 * 256, 8, (t + PAGE_AT(1)) | PTE_USUAL);
    phys_store(p, t + 8 * 511, 8, (t + (dice_chance(s->d, 50) ? 0 : PAGE_AT(1))) | PTE_USUAL); /* recursive */
}

static void twist_tables(struct setup *s, uint64_t base, unsigned pages)
{
    for (uint64_t n = dice_chance(s->d, 50) ? dice_below(s->d, 12) : 0; n; n--) {
        uint64_t at =
            base + PAGE_AT(dice_below(s->d, pages)) + 8 * (dice_below(s->d, 512) >> dice_below(s->d, 10));
        uint64_t e = phys_load(s->p, at, 8);
        phys_store(s->p, at, 8,
                   dice_chance(s->d, 80) ? e ^ BIT(dice_below(s->d, 64) >> dice_below(s->d, 3))
                                         : dice_odd(s->d));
    }
}

/* -- Registers ----------------------------------------------------------------------------------------- */

static struct segment segment(unsigned selector, uint64_t base, uint32_t limit, uint32_t ar)
{
    return (struct segment){.selector = (uint16_t)selector, .base = base, .limit = limit, .ar = ar};
}

static void make_segments(struct setup *s, struct cpu *cpu)
{
    bool user = s->cpl == 3, real = s->mode == GUEST_REAL;
    struct segment data = user   ? segment(SEL_USER_DATA | 3, 0, ~0u, 0xc0f3)
                          : real ? segment(0, 0, 0xffff, 0x93)
                                 : segment(SEL_DATA, 0, ~0u, 0xc093);
    for (unsigned i = 0; i < 6; i++)
        cpu->seg[i] = data;
    switch (s->mode) {
    case GUEST_REAL:
        cpu->seg[SEG_CS] = segment(GUEST_CODE >> 4, GUEST_CODE, 0xffff, 0x9b);
        cpu->seg[SEG_DS] = segment(GUEST_DATA >> 4, GUEST_DATA, 0xffff, 0x93);
        cpu->seg[SEG_ES] = segment(GUEST_VMX >> 4, GUEST_VMX, 0xffff, 0x93);
        break;
    case GUEST_PROTECTED16:
        cpu->seg[SEG_CS] = segment(SEL_CODE16, GUEST_CODE, 0xffff, 0x9b);
        if (dice_chance(s->d, 50))
            cpu->seg[SEG_SS] = segment(SEL_DATA16, 0, 0xffff, 0x93);
        break;
    case GUEST_LONG64:
        cpu->seg[SEG_CS] =
            user ? segment(SEL_USER_CODE64 | 3, 0, ~0u, 0xa0fb) : segment(SEL_CODE64, 0, ~0u, 0xa09b);
        break;
    default:
        cpu->seg[SEG_CS] =
            user ? segment(SEL_USER_CODE32 | 3, 0, ~0u, 0xc0fb) : segment(SEL_CODE32, 0, ~0u, 0xc09b);
    }
    cpu->seg[SEG_TR] = segment(real ? 0 : SEL_TSS, real ? 0 : GUEST_TSS, 0xfff, 0x8b);
    cpu->seg[SEG_LDTR] = segment(real ? 0 : SEL_LDT, real ? 0 : GUEST_LDT, real ? 0xffff : 0x7f, 0x82);
    if (!real && !user && s->mode != GUEST_LONG64 &&
        dice_chance(s->d, 15)) /* odd but possible: limits, expand down */
        cpu->seg[SEG_DS] = segment(SEL_RANDOM, dice_odd(s->d) & 0xffffffff, (uint32_t)dice_odd(s->d) | 0xfff,
                                   dice_chance(s->d, 50) ? 0xc097 : 0xc093);
    cpu->gdtr.base = GUEST_GDT;
    cpu->gdtr.limit = GUEST_GDT_ENTRIES * 8 - 1;
    cpu->idtr.base = real ? 0 : GUEST_IDT;
    cpu->idtr.limit = real ? 0x3ff : 0xfff;
    cpu->cpl = (uint8_t)s->cpl;
    cpu->rip = real || s->mode == GUEST_PROTECTED16 ? 0 : GUEST_CODE;
}

static void make_controls(struct setup *s, struct cpu *cpu)
{
    static const uint32_t cr4_choices =
        CR4_DE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    static const uint32_t cr4_rare = CR4_TSD | CR4_UMIP | CR4_FSGSBASE | CR4_SMEP | CR4_SMAP;
    uint64_t r = dice_roll(s->d), rare = r & dice_roll(s->d);
    cpu->cr0 = CR0_ET | ((rare >> 32) & (CR0_MP | CR0_EM | CR0_TS)) | ((r >> 8 & 1) ? CR0_NE : 0) |
               ((r >> 9 & 1) ? CR0_WP : 0) | ((r >> 10 & 1) ? CR0_AM : 0);
    cpu->cr4 = (r & cr4_choices) | CR4_OSFXSR | (dice_chance(s->d, 40) ? rare & cr4_rare : 0);
    cpu->efer = 0;
    cpu->cr3 = 0;
    cpu->cr0 |= s->mode != GUEST_REAL ? CR0_PE : 0;
    switch (s->paging) {
    case PAGING_LONG:
        cpu->efer = EFER_LME | EFER_LMA | (dice_chance(s->d, 80) ? EFER_NXE : 0) |
                    (dice_chance(s->d, 70) ? EFER_SCE : 0);
        cpu->cr4 |= CR4_PAE | (dice_chance(s->d, 30) ? CR4_PCIDE : 0);
        cpu->cr3 = GUEST_TABLES;
        break;
    case PAGING_PAE:
        cpu->efer = dice_chance(s->d, 50) ? EFER_NXE : 0;
        cpu->cr4 |= CR4_PAE;
        cpu->cr3 = GUEST_TABLES + PAGE_AT(1);
        for (unsigned i = 0; i < 4; i++)
            cpu->pdpte[i] = phys_load(s->p, cpu->cr3 + 8 * i, 8);
        break;
    case PAGING_32:
        cpu->cr4 |= CR4_PSE;
        cpu->cr3 = GUEST_TABLES + PAGE_AT(5);
        break;
    case PAGING_NONE:
        break;
    }
    cpu->cr0 |= s->paging != PAGING_NONE ? CR0_PG : 0;
}

static void make_registers(struct setup *s, struct cpu *cpu)
{
    for (unsigned i = 0; i < 16; i++)
        cpu->r[i] = dice_chance(s->d, 40) ? dice_odd(s->d) : GUEST_DATA + dice_below(s->d, 0x2000);
    if (!(cpu->efer & EFER_LMA))
        for (unsigned i = 0; i < 16; i++)
            cpu->r[i] = i < 8 ? cpu->r[i] & 0xffffffff : 0;
    cpu->r[4] = GUEST_STACK - 0x200;
    uint64_t flags = dice_roll(s->d) & (FLAGS_ARITH | FLAG_IF | FLAG_IOPL | FLAG_AC | FLAG_ID);
    flags |= dice_chance(s->d, 6) ? FLAG_TF : 0;
    flags |= dice_chance(s->d, 6) ? FLAG_NT : 0;
    flags |= dice_chance(s->d, 10) ? FLAG_DF : 0;
    cpu_set_rflags(cpu, flags);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < 2; k++)
            cpu->v[i].q[k] = dice_odd(s->d);
    cpu->mxcsr = dice_chance(s->d, 70) ? 0x1f80 : (uint32_t)dice_roll(s->d) & 0xffff;
    cpu->xcr0 = dice_chance(s->d, 80) ? 3 : 1;
    if (dice_chance(s->d, 30)) {
        cpu->x87.fcw = (uint16_t)(dice_roll(s->d) & 0x1f3f) | 0x40;
        cpu->x87.fsw = (uint16_t)dice_roll(s->d) & 0x473f;
        cpu->x87.top = dice_roll(s->d) & 7;
        cpu->x87.ftw = (uint8_t)dice_roll(s->d);
        for (unsigned i = 0; i < 8; i++) {
            cpu->x87.r[i].q[0] = dice_odd(s->d);
            cpu->x87.r[i].q[1] = dice_odd(s->d) & 0xffff;
        }
    }
    if (dice_chance(s->d, 15)) {
        for (unsigned i = 0; i < 4; i++)
            cpu->dr[i] = dice_chance(s->d, 50) ? GUEST_CODE + dice_below(s->d, 64)
                                               : GUEST_DATA + dice_below(s->d, 0x2000);
        cpu->dr[7] = 0x400 | (dice_roll(s->d) & (dice_chance(s->d, 80) ? 0xffff03ff : 0xffff23ff));
    }
    cpu->msr.star = (uint64_t)(SEL_USER_CODE32 - 16 + 16) << 48 | (uint64_t)SEL_CODE64 << 32;
    cpu->msr.lstar = cpu->msr.cstar = GUEST_CODE + dice_below(s->d, 0x100);
    cpu->msr.fmask = dice_roll(s->d) & 0x47700;
    cpu->msr.sysenter_cs = SEL_CODE64;
    cpu->msr.sysenter_esp = GUEST_STACK - 0x300;
    cpu->msr.sysenter_eip = GUEST_CODE + dice_below(s->d, 0x100);
}

/* -- VMX ----------------------------------------------------------------------------------------------- */

static uint32_t controls(struct setup *s, uint32_t msr, uint32_t wanted, unsigned density)
{
    uint64_t caps = 0;
    uint32_t r = (uint32_t)dice_roll(s->d);
    for (; density; density--)
        r &= (uint32_t)dice_roll(s->d);
    cpu_rdmsr(&s->m->cpus[0], msr, &caps);
    return ((r | wanted) & (uint32_t)(caps >> 32)) | (uint32_t)caps;
}

static void make_ept(struct setup *s)
{
    struct phys *p = s->p;
    for (unsigned i = 0; i < 512; i++) {
        phys_store(p, EPT + PAGE_AT(2) + 8 * i, 8, (uint64_t)i << 21 | 0xb7);
        phys_store(p, EPT + PAGE_AT(3) + 8 * i, 8, PAGE_AT(i) | 0x37);
        phys_store(p, EPT + PAGE_AT(4) + 8 * i, 8, (0xc0000000 + ((uint64_t)i << 21)) | 0x87);
    }
    phys_store(p, EPT + PAGE_AT(2), 8, (EPT + PAGE_AT(3)) | 7);
    phys_store(p, EPT + PAGE_AT(1), 8, (EPT + PAGE_AT(2)) | 7);
    phys_store(p, EPT + PAGE_AT(1) + 8, 8, 0 | 0xb7);
    phys_store(p, EPT + PAGE_AT(1) + 24, 8, (EPT + PAGE_AT(4)) | 7);
    phys_store(p, EPT, 8, (EPT + PAGE_AT(1)) | 7);
    twist_tables(s, EPT, 5);
}

static void make_vmx_memory(struct setup *s)
{
    for (unsigned i = 0; i < 4; i++) {
        phys_store(s->p, GUEST_VMX + PAGE_AT(i), 4, VMCS_REVISION_ID | (i == 3 ? BIT(31) : 0));
        phys_store(s->p, VMX_POINTERS + 8 * i, 8, GUEST_VMX + PAGE_AT(i));
    }
    for (unsigned page = 4; page <= 11; page++) /* bitmaps, virtual-APIC page, lists, PML */
        if (dice_chance(s->d, 50))
            for (unsigned i = 0; i < 512; i += 1 + (unsigned)dice_below(s->d, 16))
                phys_store(s->p, GUEST_VMX + PAGE_AT(page) + 8 * i, 8, dice_roll(s->d) & dice_roll(s->d));
    static const uint32_t msrs[] = {0xc0000080, 0x277, 0x175, 0xc0000102, 0x10, 0x1d9, 0x6e0, 0x48f};
    for (unsigned i = 0; i < 8; i++) {
        phys_store(s->p, GUEST_VMX + PAGE_AT(8) + 16 * i, 8,
                   dice_chance(s->d, 95) ? msrs[dice_below(s->d, 8)] : dice_odd(s->d));
        phys_store(s->p, GUEST_VMX + PAGE_AT(8) + 16 * i + 8, 8, dice_odd(s->d));
    }
    make_ept(s);
}

#define COPY_SEGMENT(v, kind, name, s)                                                                       \
    do {                                                                                                     \
        (v)->guest_##name##_selector = (s).selector;                                                         \
        (v)->guest_##name##_base = (s).base;                                                                 \
        (v)->guest_##name##_limit = (s).limit;                                                               \
        (v)->guest_##name##_ar = (s).ar;                                                                     \
    } while (0)

static void fill_guest(struct setup *s, struct vmcs *v, const struct cpu *g)
{
    COPY_SEGMENT(v, guest, es, g->seg[SEG_ES]);
    COPY_SEGMENT(v, guest, cs, g->seg[SEG_CS]);
    COPY_SEGMENT(v, guest, ss, g->seg[SEG_SS]);
    COPY_SEGMENT(v, guest, ds, g->seg[SEG_DS]);
    COPY_SEGMENT(v, guest, fs, g->seg[SEG_FS]);
    COPY_SEGMENT(v, guest, gs, g->seg[SEG_GS]);
    COPY_SEGMENT(v, guest, ldtr, g->seg[SEG_LDTR]);
    COPY_SEGMENT(v, guest, tr, g->seg[SEG_TR]);
    v->guest_rip =
        g->rip + (dice_chance(s->d, 50) ? GUEST_CODE_LEN - 0x400 : dice_below(s->d, GUEST_CODE_LEN));
    v->guest_rsp = g->r[4];
    v->guest_rflags = cpu_rflags(g) & ~(uint64_t)(dice_chance(s->d, 80) ? FLAG_TF : 0);
    v->guest_cr0 = g->cr0 | CR0_NE;
    v->guest_cr3 = g->cr3;
    v->guest_cr4 = g->cr4 | CR4_VMXE;
    v->guest_efer = g->efer;
    v->guest_dr7 = g->dr[7] & 0xffffffff;
    v->guest_pat = 0x0007040600070406;
    v->guest_gdtr_base = g->gdtr.base;
    v->guest_gdtr_limit = g->gdtr.limit;
    v->guest_idtr_base = g->idtr.base;
    v->guest_idtr_limit = g->idtr.limit;
    v->guest_activity = dice_chance(s->d, 5) ? (uint32_t)dice_below(s->d, 4) : 0;
    v->guest_interruptibility = dice_chance(s->d, 10) ? (uint32_t)BIT(dice_below(s->d, 4)) : 0;
    v->guest_pdpte0 = g->pdpte[0];
    v->guest_pdpte1 = g->pdpte[1];
    v->guest_pdpte2 = g->pdpte[2];
    v->guest_pdpte3 = g->pdpte[3];
    v->link_pointer = ~0ull;
    v->preemption_timer = (uint32_t)dice_odd(s->d);
    v->pml_index = (uint16_t)(dice_chance(s->d, 80) ? dice_below(s->d, 512) : dice_roll(s->d));
    v->guest_interrupt_status = (uint16_t)dice_odd(s->d);
}

static void fill_controls(struct setup *s, struct vmcs *v, bool host64, bool guest64)
{
    unsigned density = (unsigned)dice_below(s->d, 4);
    v->pin = controls(s, IA32_VMX_TRUE_PINBASED_CTLS, 0, density);
    v->proc = controls(s, IA32_VMX_TRUE_PROCBASED_CTLS, PROC_ACTIVATE_SECONDARY_CONTROLS, density);
    v->proc2 = controls(s, IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST, density);
    v->exit_controls = controls(s, IA32_VMX_TRUE_EXIT_CTLS, EXITCTL_LOAD_EFER, density) & ~(uint32_t)BIT(9);
    v->entry_controls =
        controls(s, IA32_VMX_TRUE_ENTRY_CTLS, ENTRYCTL_LOAD_EFER, density) & ~(uint32_t)BIT(9);
    v->exit_controls |= host64 ? BIT(9) : 0;
    v->entry_controls |= guest64 ? BIT(9) : 0;
    if (dice_chance(s->d, 15))
        return; /* with whatever contradictions there are */
    if (v->proc2 & PROC2_VIRTUAL_INTERRUPT_DELIVERY)
        v->pin |= PIN_EXTERNAL_INTERRUPT_EXITING;
    if (v->proc2 & (PROC2_VIRTUAL_INTERRUPT_DELIVERY | PROC2_APIC_REGISTER_VIRTUALIZATION |
                    PROC2_VIRTUALIZE_X2APIC_MODE))
        v->proc |= PROC_USE_TPR_SHADOW;
    if (v->proc2 & PROC2_VIRTUALIZE_X2APIC_MODE)
        v->proc2 &= ~(uint32_t)PROC2_VIRTUALIZE_APIC_ACCESSES;
    if (!(v->proc2 & PROC2_VIRTUAL_INTERRUPT_DELIVERY))
        v->pin &= ~(uint32_t)PIN_PROCESS_POSTED_INTERRUPTS;
    if (v->pin & PIN_PROCESS_POSTED_INTERRUPTS)
        v->exit_controls |= EXITCTL_ACKNOWLEDGE_INTERRUPT;
    if (v->pin & PIN_VIRTUAL_NMIS)
        v->pin |= PIN_NMI_EXITING;
    else
        v->proc &= ~(uint32_t)PROC_NMI_WINDOW_EXITING;
    if (!(v->pin & PIN_ACTIVATE_PREEMPTION_TIMER))
        v->exit_controls &= ~(uint32_t)EXITCTL_SAVE_PREEMPTION_TIMER;
}

static void fill_control_fields(struct setup *s, struct vmcs *v)
{
    v->exception_bitmap = dice_chance(s->d, 60) ? 0 : (uint32_t)dice_roll(s->d);
    v->pf_error_mask = dice_roll(s->d) & 7;
    v->pf_error_match = dice_roll(s->d) & 7;
    v->cr3_target_count = (uint32_t)dice_below(s->d, 5);
    v->exit_msr_store_count = dice_chance(s->d, 20) ? (uint32_t)dice_below(s->d, 9) : 0;
    v->exit_msr_load_count = dice_chance(s->d, 10) ? (uint32_t)dice_below(s->d, 9) : 0;
    v->entry_msr_load_count = dice_chance(s->d, 10) ? (uint32_t)dice_below(s->d, 9) : 0;
    if (dice_chance(s->d, 15)) {
        uint32_t type = (uint32_t)dice_below(s->d, 8),
                 vector = (uint32_t)dice_below(s->d, type == 0 || type == 4 ? 256 : 32);
        if (type == 2)
            vector = 2;
        v->entry_interruption_info = (uint32_t)(BIT(31) | type << 8 | vector);
        if (type == 3 && has_error_code(vector) && (v->guest_cr0 & CR0_PE))
            v->entry_interruption_info |= BIT(11);
        v->entry_instruction_length = type >= 4 ? 1 + (uint32_t)dice_below(s->d, 4) : 0;
    }
    v->ple_gap = (uint32_t)dice_below(s->d, 256);
    v->ple_window = (uint32_t)dice_below(s->d, 4096);
    v->vpid = 1;
    v->posted_vector = (uint16_t)dice_below(s->d, 256);
    v->msr_bitmap = GUEST_VMX + PAGE_AT(4);
    v->io_bitmap_a = GUEST_VMX + PAGE_AT(5);
    v->io_bitmap_b = GUEST_VMX + PAGE_AT(6);
    v->virtual_apic_address = GUEST_VMX + PAGE_AT(7);
    v->exit_msr_load_address = v->entry_msr_load_address = GUEST_VMX + PAGE_AT(8);
    v->exit_msr_store_address = GUEST_VMX + PAGE_AT(8) + 0x800;
    v->pml_address = GUEST_VMX + PAGE_AT(9);
    v->vmread_bitmap = GUEST_VMX + PAGE_AT(10);
    v->vmwrite_bitmap = GUEST_VMX + PAGE_AT(11);
    v->posted_descriptor = GUEST_VMX + PAGE_AT(9) + 64 * dice_below(s->d, 64);
    v->apic_access_address = dice_chance(s->d, 50) ? 0xfee00000 : GUEST_DATA;
    v->link_pointer = dice_chance(s->d, 30) ? GUEST_VMX + PAGE_AT(3) : ~0ull;
    v->eptp = EPT | 0x1e | (dice_chance(s->d, 50) ? 0x40 : 0);
    v->tsc_offset = dice_odd(s->d);
    v->eoi_exit0 = dice_odd(s->d);
    v->xss_exiting_bitmap = dice_odd(s->d);
    v->cr0_mask = dice_chance(s->d, 50) ? 0 : dice_odd(s->d);
    v->cr4_mask = dice_chance(s->d, 50) ? 0 : dice_odd(s->d);
    v->cr0_shadow = dice_odd(s->d);
    v->cr4_shadow = dice_odd(s->d);
    v->cr3_target0 = v->guest_cr3;
}

static void fill_host(struct vmcs *v, const struct cpu *h)
{
    v->host_rip = HOST_HANDLER;
    v->host_rsp = GUEST_STACK - 0x400;
    v->host_cr0 = h->cr0;
    v->host_cr3 = h->cr3;
    v->host_cr4 = h->cr4;
    v->host_efer = h->efer;
    v->host_pat = 0x0007040600070406;
    v->host_cs_selector = h->seg[SEG_CS].selector;
    v->host_es_selector = v->host_ss_selector = v->host_ds_selector = SEL_DATA;
    v->host_fs_selector = v->host_gs_selector = SEL_DATA;
    v->host_tr_selector = SEL_TSS;
    v->host_tr_base = GUEST_TSS;
    v->host_gdtr_base = GUEST_GDT;
    v->host_idtr_base = GUEST_IDT;
}

static void vmx_pointer(struct code *c, bool bits64, unsigned pointer, unsigned prefix, unsigned extension)
{
    if (bits64)
        code_byte(c, 0x48);
    code_byte(c, 0xb8), code_number(c, VMX_POINTERS + 8 * pointer, bits64 ? 8 : 4);
    if (prefix)
        code_byte(c, prefix);
    code_byte(c, 0x0f), code_byte(c, 0xc7), code_byte(c, extension << 3);
}

static void vmx_write(struct code *c, bool bits64, uint32_t encoding, uint64_t value)
{
    if (bits64)
        code_byte(c, 0x48);
    code_byte(c, 0xb8), code_number(c, value, bits64 ? 8 : 4);
    code_byte(c, 0xba), code_number(c, encoding, 4);
    code_byte(c, 0x0f), code_byte(c, 0x79), code_byte(c, 0xd0);
}

/* VMXON, VMCLEAR, VMPTRLD, all fields, VMLAUNCH; and where the exits go. */
static void vmx_program(struct setup *s, struct code *c, const struct vmcs *v, bool bits64)
{
    vmx_pointer(c, bits64, 0, 0xf3, 6);
    vmx_pointer(c, bits64, 1, 0x66, 6);
    if (dice_chance(s->d, 20))
        vmx_pointer(c, bits64, 2, 0x66, 6);
    vmx_pointer(c, bits64, 1, 0, 6);
    for (unsigned i = 0; i < vmcs_field_count; i++) {
        const struct vmcs_field *f = &vmcs_fields[i];
        if (VMCS_ENCODING_TYPE(f->encoding) == VMCS_READ_ONLY)
            continue;
        uint64_t value = vmcs_get(v, f);
        vmx_write(c, bits64, f->encoding, value);
        if (!bits64 && VMCS_ENCODING_WIDTH(f->encoding) == VMCS_WIDTH_64)
            vmx_write(c, bits64, f->encoding | 1u, value >> 32);
    }
    for (uint64_t n = dice_chance(s->d, 50) ? dice_below(s->d, 4) : 0; n; n--) {
        const struct vmcs_field *f = &vmcs_fields[dice_below(s->d, vmcs_field_count)];
        uint64_t value =
            dice_chance(s->d, 60) ? vmcs_get(v, f) ^ BIT(dice_below(s->d, 8 * f->size)) : dice_odd(s->d);
        vmx_write(c, bits64, f->encoding, value);
    }
    code_number(c, 0xc2010f, 3);

    uint8_t bytes[HOST_LENGTH];
    struct code h = {bytes, 0, sizeof(bytes) - 64};
    while (h.size < h.room) {
        struct code part = {bytes + h.size, 0,
                            MIN(h.room - h.size, dice_chance(s->d, 60) ? 0 : dice_below(s->d, 60))};
        guest_code(s->d, &part, bits64);
        h.size += part.size;
        if (dice_chance(s->d, 20))
            vmx_write(&h, bits64, vmcs_fields[dice_below(s->d, vmcs_field_count)].encoding, dice_odd(s->d));
        if (dice_chance(s->d, 10))
            vmx_write(&h, bits64, 0x4016, BIT(31) | dice_below(s->d, 0x800));
        if (dice_chance(s->d, 30))
            vmx_write(&h, bits64, 0x681e, v->guest_cs_base + dice_below(s->d, GUEST_CODE_LEN));
        code_byte(&h, 0xba), code_number(&h, 0x681e, 4); /* guest RIP += n */
        code_number(&h, 0xd0780f, 3);
        code_number(&h, 0x00c083 | dice_below(s->d, 7) << 16, 3);
        code_number(&h, 0xd0790f, 3);
        code_number(&h, 0xc3010f, 3); /* VMRESUME, and on when it fails */
    }
    code_number(&h, 0x00e9, 1);
    phys_write(s->p, HOST_HANDLER, bytes, h.size);
}

static void make_vmx(struct setup *s, struct code *c, struct cpu *cpu)
{
    static const enum guest_mode modes[] = {GUEST_LONG64, GUEST_LONG64, GUEST_COMPATIBILITY, GUEST_REAL,
                                            GUEST_PROTECTED32};
    struct vmcs *v = calloc(1, sizeof(*v));
    struct cpu *g = calloc(1, sizeof(*g));
    struct setup guest = *s;
    bool host64 = s->mode == GUEST_LONG64;
    if (!v || !g)
        abort();
    cpu->msr.feature_control = 5;
    cpu->cr4 |= CR4_VMXE;
    cpu->cr0 |= CR0_NE;
    guest.mode = modes[dice_below(s->d, ARRAY_LEN(modes))];
    if (!host64 && guest.mode != GUEST_REAL)
        guest.mode = GUEST_PROTECTED32;
    guest.cpl = guest.mode == GUEST_REAL || dice_chance(s->d, 60) ? 0 : 3;
    guest.paging = guest.mode == GUEST_REAL          ? PAGING_NONE
                   : guest.mode != GUEST_PROTECTED32 ? PAGING_LONG
                   : s->paging == PAGING_LONG        ? PAGING_32 + dice_below(s->d, 2)
                                                     : s->paging;
    g->model = cpu->model;
    make_controls(&guest, g);
    make_segments(&guest, g);
    make_registers(&guest, g);
    make_vmx_memory(s);
    fill_guest(&guest, v, g);
    fill_controls(s, v, host64, guest.paging == PAGING_LONG);
    fill_control_fields(s, v);
    fill_host(v, cpu);
    vmx_program(s, c, v, host64);
    free(g);
    free(v);
}

/* -- The whole ----------------------------------------------------------------------------------------- */

static void choose(struct setup *s)
{
    static const uint8_t weights[] = {0, 1, 2, 2, 3, 4, 4, 4, 4, 4};
    s->mode = weights[dice_below(s->d, ARRAY_LEN(weights))];
    s->cpl = s->mode >= GUEST_PROTECTED32 && dice_chance(s->d, 30) ? 3 : 0;
    s->paging = s->mode == GUEST_REAL            ? PAGING_NONE
                : s->mode >= GUEST_COMPATIBILITY ? PAGING_LONG
                                                 : dice_below(s->d, PAGING_LONG);
}

/* A selector's worth of fresh registers; in VMX operation only what keeps the state one that can be. */
void guest_kick(struct dice *d, struct machine *m)
{
    for (uint32_t i = 0; i < m->cpu_count; i++) {
        struct cpu *cpu = &m->cpus[i];
        struct setup s = {.d = d, .m = m, .p = &m->phys};
        if (i && cpu->activity == ACTIVITY_WAIT_SIPI)
            continue;
        if (!cpu->vmx_on && dice_chance(d, 30)) {
            choose(&s);
            make_idt(&s, s.mode == GUEST_REAL);
            make_tables(&s, s.cpl == 3 || dice_chance(d, 60) ? 7 : 3);
            make_controls(&s, cpu);
            make_segments(&s, cpu);
            make_registers(&s, cpu);
        }
        cpu->activity = ACTIVITY_ACTIVE;
        cpu->r[4] = GUEST_STACK - 0x200;
        cpu->rip = dice_below(d, GUEST_CODE_LEN) + (cpu->seg[SEG_CS].base ? 0 : GUEST_CODE);
        if (cpu->vmx_on && !cpu->vmx_non_root && dice_chance(d, 80))
            cpu->rip = HOST_HANDLER;
        for (unsigned k = 0; k < 8; k++)
            if (k != 4 && dice_chance(d, 30))
                cpu->r[k] = GUEST_DATA + dice_below(d, 0x2000);
        cpu_mode_changed(cpu);
    }
}

void guest_make(struct dice *d, struct machine *m, const uint8_t *raw, size_t raw_size)
{
    struct setup s = {.d = d, .m = m, .p = &m->phys};
    struct cpu *cpu = &m->cpus[0];
    uint8_t *bytes = calloc(1, GUEST_CODE_LEN);
    struct code c = {bytes, 0, GUEST_CODE_LEN};
    choose(&s);
    for (unsigned i = 0; i < 0x2000; i += 8)
        phys_store(&m->phys, GUEST_DATA + i, 8, dice_odd(d));
    make_gdt(&s);
    make_idt(&s, s.mode == GUEST_REAL);
    make_tables(&s, s.cpl == 3 || dice_chance(d, 60) ? 7 : 3);
    if (s.mode != GUEST_REAL)
        twist_tables(&s, GUEST_TABLES, 7);
    make_controls(&s, cpu);
    make_segments(&s, cpu);
    make_registers(&s, cpu);
    for (size_t i = 0; i < raw_size; i++)
        code_byte(&c, raw[i]);
    bool vmx =
        (s.mode == GUEST_LONG64 || s.mode == GUEST_PROTECTED32) && s.cpl == 0 && s.paging != PAGING_NONE;
    if (vmx && dice_chance(d, 80))
        make_vmx(&s, &c, cpu);
    guest_code(d, &c, s.mode == GUEST_LONG64);
    phys_write(&m->phys, GUEST_CODE, bytes, c.size);
    free(bytes);
    if (s.mode != GUEST_REAL && dice_chance(d, 30))
        cpu->msr.apic_base |= BIT(11) | (dice_chance(d, 30) ? BIT(10) : 0);
    cpu_mode_changed(cpu);
}
