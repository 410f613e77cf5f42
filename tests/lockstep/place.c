/*
 * tests/lockstep/place.c -- a program's machine: paging structures, descriptors, variables, registers.
 */
#include "tests/lockstep/lockstep.h"

#include <string.h>

#include "cpu/exec.h"
#include "cpu/lapic.h"

#define SET(n)                                                                                               \
    (TABLES + 0x8000u * (n)) /* PML4, PDPT, PD, PT, PD of devices, 32-bit PD and PT, first PT values */
#define PRESENT    1u
#define WRITABLE   2u
#define USER       4u
#define USUAL      7u
#define LARGE      0x80u
#define TIMER_INTR 0x40u

/* -- Paging structures --------------------------------------------------------------------------------- */

static bool is_32bit(const struct program *p)
{
    return p->paging == PAGING_32;
}

uint64_t space_cr3(const struct program *p, unsigned space)
{
    switch (p->paging) {
    case PAGING_NONE:
        return 0;
    case PAGING_32:
        return SET(space) + 0x5000;
    case PAGING_PAE:
        return SET(space) + 0x1000;
    default:
        return SET(space) | (p->pcid ? space + 1 : 0);
    }
}

uint32_t paging_entry(const struct program *p, unsigned space, uint32_t linear)
{
    uint32_t page = linear / PAGE_SIZE;
    return is_32bit(p) ? SET(space) + 0x6000 + 4 * page : SET(space) + 0x3000 + 8 * page;
}

/* Each address space runs its own twin of the code, and in the second two pages of data change places. */
uint64_t paging_value(const struct program *p, unsigned space, uint32_t linear)
{
    uint64_t at = linear & ~PAGE_MASK, value = USUAL;
    if (linear >= CODE && linear < CODE + CODE_LEN)
        at += CODE_LEN * (uint64_t)(space % TWINS);
    if (linear >= DATA && linear < DATA + DATA_PAGES * PAGE_SIZE) {
        unsigned page = (linear - DATA) / PAGE_SIZE;
        if (page == PAGE_RO)
            value &= ~(uint64_t)WRITABLE;
        if (page == PAGE_SUPERVISOR)
            value &= ~(uint64_t)USER;
        if (page == PAGE_ABSENT)
            value &= ~(uint64_t)PRESENT;
        if (page == PAGE_ALIAS || (space == 1 && page == 3))
            at = DATA;
        else if (space == 1 && page == 0)
            at = DATA + 3 * PAGE_SIZE;
        if (p->paging == PAGING_LONG && page != 5)
            value |= BIT(63);
    }
    if (linear < CODE)
        value &= ~(uint64_t)USER;
    return at | value;
}

void make_space(const struct program *p, struct phys *m, unsigned n)
{
    uint32_t set = SET(n);
    uint64_t upper = p->paging == PAGING_PAE ? PRESENT : USUAL;
    for (uint32_t page = 0; page < MEMORY / PAGE_SIZE; page++) {
        uint64_t value = paging_value(p, n, page * PAGE_SIZE);
        if (is_32bit(p)) {
            phys_store(m, set + 0x6000 + 4 * page, 4, value);
            phys_store(m, set + 0x6000 + 4 * (512 + page), 4, page * PAGE_SIZE | USUAL);
            phys_store(m, set + 0x7000 + 4 * page, 4, value);
        } else {
            phys_store(m, set + 0x3000 + 8 * page, 8, value);
            phys_store(m, set + 0x7000 + 8 * page, 8, value);
        }
    }
    if (is_32bit(p)) {
        phys_store(m, set + 0x5000, 4, (set + 0x6000) | USUAL);
        phys_store(m, set + 0x5000 + 4 * 0x3fb, 4, 0xfec00000 | USUAL | LARGE);
        return;
    }
    phys_store(m, set, 8, (set + 0x1000) | USUAL);
    phys_store(m, set + 0x1000, 8, (set + 0x2000) | upper);
    phys_store(m, set + 0x1000 + 24, 8, (set + 0x4000) | upper);
    phys_store(m, set + 0x2000, 8, (set + 0x3000) | USUAL);
    phys_store(m, set + 0x2008, 8, (set + 0x3000) | USUAL);
    phys_store(m, set + 0x4000 + 8 * 502, 8, 0xfec00000 | USUAL | LARGE);
    phys_store(m, set + 0x4000 + 8 * 503, 8, 0xfee00000 | USUAL | LARGE);
}

/* -- Descriptors --------------------------------------------------------------------------------------- */

static uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t ar)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(ar & 0xf0ff) << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;
}

static void make_descriptors(const struct program *p, struct phys *m)
{
    const uint64_t gdt[12] = {
        [SEL_CODE64 / 8] = descriptor(0, 0xfffff, 0xa09b),
        [SEL_CODE32 / 8] = descriptor(0, 0xfffff, 0xc09b),
        [SEL_CODE16 / 8] = descriptor(CODE, 0xffff, 0x9b),
        [SEL_DATA / 8] = descriptor(0, 0xfffff, 0xc093),
        [SEL_DATA16 / 8] = descriptor(DATA, 0xffff, 0x93),
        [SEL_USER_CODE32 / 8] = descriptor(0, 0xfffff, 0xc0fb),
        [SEL_USER_DATA / 8] = descriptor(0, 0xfffff, 0xc0f3),
        [SEL_USER_CODE64 / 8] = descriptor(0, 0xfffff, 0xa0fb),
        [SEL_TSS / 8] = descriptor(TSS, 0x67, 0x89),
    };
    bool wide = p->paging == PAGING_LONG;
    phys_write(m, GDT, gdt, sizeof(gdt));
    phys_store(m, TSS + 4, 8, KSTACK_TOP); /* RSP0, ESP0 */
    if (!wide)
        phys_store(m, TSS + 8, 4, SEL_DATA);
    phys_store(m, TSS + 0x66, 2, 0x68);
    for (unsigned v = 0; v < 256; v++) {
        uint32_t at = HANDLERS + 64 * (v < 0x90 ? v : 0x90);
        uint64_t type = v == 3 || v == 4 || v >= 0x80 ? 0xee : 0x8e;
        if (p->mode == MODE_REAL)
            phys_store(m, IDT + 4 * v, 4, at);
        else if (!wide)
            phys_store(m, IDT + 8 * v, 8,
                       (at & 0xffff) | SEL_CODE32 << 16 | type << 40 | (uint64_t)(at >> 16) << 48);
        else
            phys_store(m, IDT + 16 * v, 8,
                       (at & 0xffff) | SEL_CODE64 << 16 | type << 40 | (uint64_t)(at >> 16) << 48);
    }
}

/* -- Memory -------------------------------------------------------------------------------------------- */

static void make_memory(struct program *p, struct phys *m)
{
    for (uint32_t i = 0; i < DATA_PAGES * PAGE_SIZE; i += 8)
        phys_store(m, DATA + i, 8, dice_odd(&p->d));
    for (unsigned twin = 0; twin < TWINS; twin++) {
        phys_write(m, CODE + CODE_LEN * twin, p->code, CODE_LEN);
        for (unsigned i = 0; twin && i < p->site_count; i++)
            if (dice_chance(&p->d, 50))
                phys_store(m, CODE + CODE_LEN * twin + p->sites[i].offset, 1,
                           p->sites[i].value[dice_roll(&p->d) & 1]);
    }
    phys_write(m, LENGTHS, p->lengths, CODE_LEN);
    phys_store(m, VAR_DEBUG, 4, 5);
    phys_store(m, VAR_MXCSR, 4, 0x1f80);
    for (unsigned i = 0; i < p->target_count; i++)
        phys_store(m, VAR_TARGETS + i * p->width, p->width, code_address(p, p->targets[i]));
}

/* -- Registers ----------------------------------------------------------------------------------------- */

static struct segment segment(unsigned selector, uint64_t base, uint32_t limit, uint32_t ar)
{
    return (struct segment){.selector = (uint16_t)selector, .base = base, .limit = limit, .ar = ar};
}

static void make_segments(const struct program *p, struct cpu *cpu)
{
    struct segment data = p->user ? segment(SEL_USER_DATA | 3, 0, ~0u, 0xc0f3)
                          : p->flat
                              ? segment(SEL_DATA, 0, ~0u, 0xc093)
                              : segment(p->mode == MODE_REAL ? DATA >> 4 : SEL_DATA16, DATA, 0xffff, 0x93);
    for (unsigned i = 0; i < 6; i++)
        cpu->seg[i] = data;
    if (!p->flat) {
        cpu->seg[SEG_GS] = segment(p->mode == MODE_REAL ? 0 : SEL_DATA, 0, ~0u, 0xc093);
        cpu->seg[SEG_CS] = segment(code_selector(p), CODE, 0xffff, 0x9b);
        if (p->mode == MODE_REAL)
            cpu->seg[SEG_FS] = segment(LENGTHS >> 4, LENGTHS, 0xffff, 0x93);
    } else {
        cpu->seg[SEG_CS] = segment(code_selector(p), 0, ~0u,
                                   (p->mode == MODE_LONG64 ? 0xa09bu : 0xc09bu) | (p->user ? 0x60u : 0));
    }
    cpu->seg[SEG_TR] = segment(SEL_TSS, TSS, 0x67, 0x8b);
    cpu->seg[SEG_LDTR] = segment(0, 0, 0xffff, AR_UNUSABLE);
    cpu->gdtr = (struct table_register){GDT, 0x7f};
    cpu->idtr = (struct table_register){IDT, 0xfff};
    cpu->cpl = p->user ? 3 : 0;
}

static void make_registers(struct program *p, struct cpu *cpu)
{
    for (unsigned i = 0; i < 16; i++) {
        cpu->r[i] = pointer_registers[p->mode] >> i & 1 ? random_data(p) : dice_odd(&p->d);
        if (p->width != 8)
            cpu->r[i] = i < 8 ? cpu->r[i] & 0xffffffff : 0;
        for (unsigned k = 0; k < 2; k++)
            cpu->v[i].q[k] = dice_odd(&p->d);
    }
    cpu->r[4] = p->width == 2 ? STACK_TOP - DATA : STACK_TOP;
    cpu->rip = code_address(p, p->main);
    cpu->mxcsr = 0x1f80;
    cpu->x87.fcw = 0x37f;
    for (unsigned i = 0; i < 8; i++) {
        cpu->x87.r[i].q[0] = dice_odd(&p->d) | BIT(63);
        cpu->x87.r[i].q[1] = 0x3ff0 + dice_below(&p->d, 32);
    }
    cpu->x87.ftw = p->fpu ? (uint8_t)dice_roll(&p->d) : 0xff;
    cpu->xcr0 = 3;
    cpu_set_rflags(cpu, FLAG_1 | FLAG_IF | (dice_roll(&p->d) & FLAGS_ARITH));
}

static void make_controls(struct program *p, struct cpu *cpu)
{
    cpu->cr0 = CR0_ET | CR0_NE | CR0_MP | (p->mode == MODE_REAL ? 0 : CR0_PE) |
               (p->paging == PAGING_NONE ? 0 : CR0_PG) | (dice_chance(&p->d, 70) ? CR0_WP : 0) |
               (dice_chance(&p->d, 20) ? CR0_AM : 0);
    cpu->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_DE;
    cpu->efer = 0;
    if (p->paging == PAGING_LONG) {
        cpu->efer = EFER_LME | EFER_LMA | EFER_NXE;
        cpu->cr4 |= CR4_PAE | (p->pcid ? CR4_PCIDE : 0) | (dice_chance(&p->d, 30) ? CR4_FSGSBASE : 0);
    } else {
        cpu->cr4 |= p->paging == PAGING_PAE ? CR4_PAE : p->paging == PAGING_32 ? CR4_PSE : 0;
    }
    cpu->cr3 = space_cr3(p, 0);
}

/* Periodic, every few hundred to few thousand instructions. */
static void start_timer(struct program *p, struct cpu *cpu)
{
    uint32_t period = 8 + (uint32_t)dice_below(&p->d, 100);
    cpu_phys_write(cpu, 0xfee000f0, 4, 0x1ff);
    cpu_phys_write(cpu, 0xfee003e0, 4, 0xb); /* divide by 1 */
    cpu_phys_write(cpu, 0xfee00320, 4, 0x20000 | TIMER_INTR);
    cpu_phys_write(cpu, 0xfee00380, 4, period);
}

void program_place(struct program *p, struct machine *m)
{
    struct cpu *cpu = &m->cpus[0];
    for (unsigned i = 0; i < SPACES; i++)
        make_space(p, &m->phys, i);
    make_descriptors(p, &m->phys);
    make_memory(p, &m->phys);
    handlers_place(p, m);
    make_segments(p, cpu);
    make_registers(p, cpu);
    make_controls(p, cpu);
    if (p->paging == PAGING_PAE)
        for (unsigned i = 0; i < 4; i++)
            cpu->pdpte[i] = phys_load(&m->phys, cpu->cr3 + 8 * i, 8);
    start_timer(p, cpu);
    if (p->vmx)
        l2_place(p, m);
    cpu_mode_changed(cpu);
}
