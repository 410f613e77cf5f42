/*
 * tests/lockstep/l2.c -- the program as L2: a small L1 enters it, steps over what exits, and disturbs it.
 *
 * L1 is 64-bit code with interrupts off and EPT one to one. Each exit is counted; by the count L1 then takes
 * away EPT permissions, moves pages of code, changes L2's code or controls, invalidates, or does nothing. An
 * EPT violation puts the entry back.
 */
#include "tests/lockstep/lockstep.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/vmx/vmcs.h"

#define VMXON_REGION (VMX)
#define VMCS_REGION  (VMX + 0x1000)
#define POINTERS     (VMX + 0x2000) /* VMXON, VMCS, then descriptors for INVEPT and INVVPID */
#define MSR_BITMAP   (VMX + 0x3000)
#define LAUNCH       (VMX + 0x4000)
#define EXITS        (VMX + 0x6000)
#define L1_STACK     (VMX + 0x8ff0)
#define EPT          (VMX + 0xa000) /* PML4, PDPT, PD, PT, PD of devices, PT as it was at first */
#define EPT_PT       (EPT + 0x3000)
#define EPT_FIRST    (EPT + 0x5000)
#define EPT_USUAL    0x37u /* write-back, all permissions */
#define L1_SPACE     3u
#define ACTIONS      16u

/* -- Memory -------------------------------------------------------------------------------------------- */

static void make_ept(struct phys *m)
{
    for (uint32_t page = 0; page < MEMORY / PAGE_SIZE; page++) {
        phys_store(m, EPT_PT + 8 * page, 8, page * PAGE_SIZE | EPT_USUAL);
        phys_store(m, EPT_FIRST + 8 * page, 8, page * PAGE_SIZE | EPT_USUAL);
    }
    phys_store(m, EPT, 8, (EPT + 0x1000) | 7);
    phys_store(m, EPT + 0x1000, 8, (EPT + 0x2000) | 7);
    phys_store(m, EPT + 0x1000 + 24, 8, (EPT + 0x4000) | 7);
    phys_store(m, EPT + 0x2000, 8, EPT_PT | 7);
    for (unsigned i = 502; i < 504; i++)
        phys_store(m, EPT + 0x4000 + 8 * i, 8, (0xc0000000 + ((uint64_t)i << 21)) | 0x87);
}

static void make_regions(struct phys *m)
{
    phys_store(m, VMXON_REGION, 4, VMCS_REVISION_ID);
    phys_store(m, VMCS_REGION, 4, VMCS_REVISION_ID);
    phys_store(m, POINTERS, 8, VMXON_REGION);
    phys_store(m, POINTERS + 8, 8, VMCS_REGION);
    phys_store(m, POINTERS + 16, 8, EPT | 0x1e);
    phys_store(m, POINTERS + 32, 8, 1);
}

/* -- The VMCS ------------------------------------------------------------------------------------------ */

static uint32_t allowed(struct machine *m, uint32_t msr, uint32_t wanted)
{
    uint64_t caps = 0;
    cpu_rdmsr(&m->cpus[0], msr, &caps);
    return (wanted & (uint32_t)(caps >> 32)) | (uint32_t)caps;
}

static void fill_controls(struct program *p, struct machine *m, struct vmcs *v)
{
    uint32_t r = (uint32_t)dice_roll(&p->d) & (uint32_t)dice_roll(&p->d);
    v->pin =
        allowed(m, IA32_VMX_TRUE_PINBASED_CTLS,
                (r & 1 ? PIN_EXTERNAL_INTERRUPT_EXITING : 0) | (r & 2 ? 0 : PIN_ACTIVATE_PREEMPTION_TIMER));
    v->proc = allowed(m, IA32_VMX_TRUE_PROCBASED_CTLS,
                      PROC_ACTIVATE_SECONDARY_CONTROLS | PROC_USE_MSR_BITMAPS |
                          (r & (PROC_USE_TSC_OFFSETTING | PROC_HLT_EXITING | PROC_INVLPG_EXITING |
                                PROC_RDTSC_EXITING | PROC_CR3_LOAD_EXITING | PROC_MOV_DR_EXITING)));
    v->proc2 = allowed(m, IA32_VMX_PROCBASED_CTLS2,
                       PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST | PROC2_ENABLE_RDTSCP |
                           PROC2_ENABLE_INVPCID | PROC2_ENABLE_XSAVES_XRSTORS |
                           (r & 4 ? 0 : PROC2_ENABLE_VPID) | (r & PROC2_DESCRIPTOR_TABLE_EXITING));
    v->exit_controls = allowed(m, IA32_VMX_TRUE_EXIT_CTLS,
                               EXITCTL_HOST_ADDRESS_SPACE_SIZE | EXITCTL_ACKNOWLEDGE_INTERRUPT |
                                   EXITCTL_SAVE_EFER | EXITCTL_LOAD_EFER | EXITCTL_SAVE_DEBUG_CONTROLS);
    v->entry_controls = allowed(m, IA32_VMX_TRUE_ENTRY_CTLS,
                                ENTRYCTL_LOAD_EFER | ENTRYCTL_LOAD_DEBUG_CONTROLS |
                                    (p->paging == PAGING_LONG ? ENTRYCTL_IA32E_MODE_GUEST : 0));
    v->vpid = 1;
    v->eptp = EPT | 0x1e | (r & 8 ? 0x40 : 0);
    v->msr_bitmap = MSR_BITMAP;
    v->tsc_offset = dice_odd(&p->d);
    v->preemption_timer = 500;
}

static void fill_guest(struct vmcs *v, const struct cpu *g)
{
    memcpy(v->guest_segments, g->seg, sizeof(v->guest_segments));
    v->guest_rip = g->rip;
    v->guest_rsp = g->r[4];
    v->guest_rflags = cpu_rflags(g);
    v->guest_cr0 = g->cr0;
    v->guest_cr3 = g->cr3;
    v->guest_cr4 = g->cr4 | CR4_VMXE;
    v->guest_efer = g->efer;
    v->guest_dr7 = 0x400;
    v->guest_gdtr_base = g->gdtr.base;
    v->guest_gdtr_limit = g->gdtr.limit;
    v->guest_idtr_base = g->idtr.base;
    v->guest_idtr_limit = g->idtr.limit;
    v->guest_pdpte0 = g->pdpte[0];
    v->guest_pdpte1 = g->pdpte[1];
    v->guest_pdpte2 = g->pdpte[2];
    v->guest_pdpte3 = g->pdpte[3];
    v->link_pointer = ~0ull;
}

static void fill_host(struct vmcs *v, const struct cpu *h)
{
    v->host_rip = EXITS;
    v->host_rsp = L1_STACK;
    v->host_cr0 = h->cr0;
    v->host_cr3 = h->cr3;
    v->host_cr4 = h->cr4;
    v->host_efer = h->efer;
    v->host_cs_selector = SEL_CODE64;
    v->host_es_selector = v->host_ss_selector = v->host_ds_selector = SEL_DATA;
    v->host_fs_selector = v->host_gs_selector = SEL_DATA;
    v->host_tr_selector = SEL_TSS;
    v->host_tr_base = TSS;
    v->host_gdtr_base = GDT;
    v->host_idtr_base = IDT;
}

/* -- L1's code: RAX, RCX, RDX are free ----------------------------------------------------------------- */

static void vmread(struct program *h, uint32_t field)
{
    put_load(h, 2, field);
    put_bytes(h, 3, 0xd0780f); /* vmread rax, rdx */
}

static void vmwrite(struct program *h, uint32_t field)
{
    put_load(h, 2, field);
    put_bytes(h, 3, 0xd0790f); /* vmwrite rdx, rax */
}

static void vmwrite_value(struct program *h, uint32_t field, uint64_t value)
{
    put_load(h, 0, value);
    vmwrite(h, field);
}

static uint32_t jump(struct program *h, unsigned opcode)
{
    uint32_t at = h->size;
    if (opcode > 0xff)
        put_bytes(h, 6, opcode >> 8 | (opcode & 0xff) << 8);
    else
        put_bytes(h, 5, opcode);
    return at;
}

static void land(struct program *h, uint32_t at, uint32_t to)
{
    store_le(h->code + at + h->lengths[at] - 4, to - at - h->lengths[at], 4);
}

static uint32_t unless_reason(struct program *h, uint32_t reason)
{
    put_bytes(h, 5, 0x3d | (uint64_t)reason << 8);
    return jump(h, 0x0f85);
}

static void invalidate(struct program *h, unsigned opcode, unsigned type, uint32_t descriptor)
{
    struct piece i = {.n = 0};
    put_load(h, 1, type);
    piece_absolute(h, &i, 0x66, opcode, 1, descriptor);
    piece_put(h, &i);
}

static void ept_action(struct program *h)
{
    static const uint32_t taken[] = {7, 7, 2, 4, 6};
    bool code = dice_chance(&h->d, 60);
    uint32_t number = (uint32_t)dice_below(&h->d, 8), page = (code ? CODE : DATA) + number * PAGE_SIZE;
    uint32_t value = page | EPT_USUAL;
    if (code && dice_chance(&h->d, 50))
        value = (CODE + CODE_LEN * (uint32_t)dice_below(&h->d, TWINS) + number * PAGE_SIZE) | EPT_USUAL;
    else
        value &= ~taken[dice_below(&h->d, 5)];
    put_store32(h, EPT_PT + page / PAGE_SIZE * 8, value);
    if (dice_chance(&h->d, 50))
        invalidate(h, 0x0f3880, 1 + (unsigned)dice_below(&h->d, 2), POINTERS + 16);
}

static void action(struct program *h, const struct program *p, const struct vmcs *v)
{
    static const uint8_t vectors[] = {EXC_PF, EXC_UD, EXC_GP, EXC_DE, EXC_BP, EXC_DB, EXC_NM};
    struct piece i = {.n = 0};
    switch (dice_below(&h->d, 12)) {
    case 0:
    case 1:
    case 2:
        ept_action(h);
        break;
    case 3:
        invalidate(h, 0x0f3881, (unsigned)dice_below(&h->d, 4), POINTERS + 32);
        break;
    case 4:
        vmread(h, 0x4002);
        put_bytes(h, 4, dice_chance(&h->d, 70) ? 0x1be8ba0f : 0x1bf0ba0f); /* bts, btr eax, 27: MTF */
        vmwrite(h, 0x4002);
        break;
    case 5:
        if (p->site_count) {
            const struct site *s = &p->sites[dice_below(&h->d, p->site_count)];
            piece_absolute(h, &i, 0, 0x80, 6,
                           CODE + CODE_LEN * (uint32_t)dice_below(&h->d, TWINS) + s->offset);
            piece_byte(&i, s->value[0] ^ s->value[1]);
            piece_put(h, &i);
        }
        break;
    case 6:
        if (v->proc2 & PROC2_ENABLE_VPID)
            vmwrite_value(h, 0, 1 + dice_below(&h->d, 3));
        break;
    case 7:
        vmwrite_value(h, 0x4004, dice_chance(&h->d, 60) ? 0 : BIT(vectors[dice_below(&h->d, 7)]));
        break;
    case 8:
        if (p->paging != PAGING_NONE && p->paging != PAGING_PAE)
            vmwrite_value(h, 0x6802, space_cr3(p, (unsigned)dice_below(&h->d, SPACES)));
        break;
    case 9:
        vmwrite_value(h, 0x201a, v->eptp ^ (dice_chance(&h->d, 50) ? 0x40 : 0));
        break;
    case 10:
        vmwrite_value(h, 0x4000, v->pin ^ (dice_chance(&h->d, 50) ? PIN_EXTERNAL_INTERRUPT_EXITING : 0));
        break;
    default:
        if (p->paging != PAGING_NONE) {
            uint32_t linear = CODE + (uint32_t)dice_below(&h->d, 8) * PAGE_SIZE;
            unsigned space = (unsigned)dice_below(&h->d, SPACES);
            put_store32(h, paging_entry(p, space, linear),
                        (uint32_t)paging_value(p, (unsigned)dice_below(&h->d, SPACES), linear));
        }
    }
}

/* RAX holds the reason; every way ends in `out`. */
static void exit_reasons(struct program *h, uint32_t *outs, unsigned *out_count)
{
    uint32_t next = unless_reason(h, 48); /* EPT violation: the entry as it was at first */
    vmread(h, 0x2400);
    put_bytes(h, 4, 0x0ce8c148);                             /* shr rax, 12 */
    put_bytes(h, 5, 0x25 | (uint64_t)0x1ff << 8);            /* and eax, 511 */
    put_bytes(h, 8, 0xc50c8b48 | (uint64_t)EPT_FIRST << 32); /* mov rcx, [rax * 8 + EPT_FIRST] */
    put_bytes(h, 8, 0xc50c8948 | (uint64_t)EPT_PT << 32);
    outs[(*out_count)++] = jump(h, 0xe9);
    land(h, next, h->size);

    next = unless_reason(h, 52); /* preemption timer */
    struct piece i = {.n = 0};
    piece_absolute(h, &i, 0, 0x69, 0, VAR_EXITS); /* imul eax, [exits], 37 */
    piece_number(&i, 37, 4);
    piece_put(h, &i);
    put_bytes(h, 5, 0x25 | (uint64_t)0x7ff << 8);
    put_bytes(h, 3, 0x20c083);
    vmwrite(h, 0x482e);
    outs[(*out_count)++] = jump(h, 0xe9);
    land(h, next, h->size);

    next = unless_reason(h, 1); /* external interrupt: it is lost to L2 */
    put_store32(h, 0xfee000b0, 0);
    outs[(*out_count)++] = jump(h, 0xe9);
    land(h, next, h->size);

    next = unless_reason(h, 37); /* monitor trap flag: off again */
    vmread(h, 0x4002);
    put_bytes(h, 4, 0x1bf0ba0f);
    vmwrite(h, 0x4002);
    outs[(*out_count)++] = jump(h, 0xe9);
    land(h, next, h->size);

    next = unless_reason(h, 0); /* an exception is L2's own */
    vmread(h, 0x4406);
    vmwrite(h, 0x4018);
    vmread(h, 0x440c);
    vmwrite(h, 0x401a);
    vmread(h, 0x6400);
    put_bytes(h, 3, 0xc18948); /* mov rcx, rax */
    vmread(h, 0x4404);
    put_bytes(h, 2, 0x0e3c); /* cmp al, 14 */
    uint32_t other = jump(h, 0x0f85);
    put_bytes(h, 3, 0xd1220f); /* mov cr2, rcx */
    land(h, other, h->size);
    put_bytes(h, 5, 0x25 | (uint64_t)0xffffefff << 8);
    vmwrite(h, 0x4016);
    outs[(*out_count)++] = jump(h, 0xe9);
    land(h, next, h->size);
}

static void exit_handler(struct program *h, const struct program *p, const struct vmcs *v)
{
    uint32_t outs[16], stops[3];
    unsigned count = 0;
    struct piece exits = {.n = 0}, again = {.n = 0};
    put_bytes(h, 1, 0x50);
    put_bytes(h, 1, 0x51);
    put_bytes(h, 1, 0x52);
    piece_absolute(h, &exits, 0, 0xff, 0, VAR_EXITS);
    piece_put(h, &exits);
    vmread(h, 0x4402);
    exit_reasons(h, outs, &count);
    /* A triple fault, a failed entry, a misconfiguration: the end. */
    put_bytes(h, 3, 0x02f883);
    stops[0] = jump(h, 0x0f84);
    put_bytes(h, 3, 0x31f883);
    stops[1] = jump(h, 0x0f84);
    put_bytes(h, 2, 0xc085);
    stops[2] = jump(h, 0x0f88);
    vmread(h, 0x440c); /* an instruction: skipped */
    put_bytes(h, 3, 0xc18948);
    vmread(h, 0x681e);
    put_bytes(h, 3, 0xc80148);
    vmwrite(h, 0x681e);
    vmwrite_value(h, 0x4824, 0);
    for (unsigned i = 0; i < count; i++)
        land(h, outs[i], h->size);
    piece_absolute(h, &again, 0, 0x8b, 1, VAR_EXITS);
    piece_put(h, &again);
    put_bytes(h, 3, 0xe183 | (ACTIONS - 1) << 16); /* and ecx */
    for (unsigned k = 0; k < ACTIONS; k++) {
        put_bytes(h, 3, 0xf983 | k << 16);
        uint32_t next = jump(h, 0x0f85);
        action(h, p, v);
        uint32_t done = jump(h, 0xe9);
        land(h, next, h->size);
        outs[k] = done;
    }
    for (unsigned k = 0; k < ACTIONS; k++)
        land(h, outs[k], h->size);
    put_bytes(h, 1, 0x5a);
    put_bytes(h, 1, 0x59);
    put_bytes(h, 1, 0x58);
    put_bytes(h, 3, 0xc3010f); /* vmresume */
    for (unsigned k = 0; k < 3; k++)
        land(h, stops[k], h->size);
    put_bytes(h, 2, 0xf4e6); /* out: the debug exit device ends the run */
}

static void launch_code(struct program *h, const struct vmcs *v)
{
    struct piece on = {.n = 0}, clear = {.n = 0}, load = {.n = 0};
    piece_absolute(h, &on, 0xf3, 0x0fc7, 6, POINTERS);
    piece_put(h, &on);
    piece_absolute(h, &clear, 0x66, 0x0fc7, 6, POINTERS + 8);
    piece_put(h, &clear);
    piece_absolute(h, &load, 0, 0x0fc7, 6, POINTERS + 8);
    piece_put(h, &load);
    for (unsigned i = 0; i < vmcs_field_count; i++) {
        const struct vmcs_field *f = &vmcs_fields[i];
        if (VMCS_ENCODING_TYPE(f->encoding) != VMCS_READ_ONLY)
            vmwrite_value(h, f->encoding, vmcs_get(v, f));
    }
    put_bytes(h, 3, 0xc2010f);
    put_bytes(h, 1, 0xf4);
}

/* -- L1 ------------------------------------------------------------------------------------------------ */

static void become_l1(struct cpu *cpu)
{
    struct segment data = {.selector = SEL_DATA, .limit = ~0u, .ar = 0xc093};
    for (unsigned i = 0; i < 6; i++)
        cpu->seg[i] = data;
    cpu->seg[SEG_CS] = (struct segment){.selector = SEL_CODE64, .limit = ~0u, .ar = 0xa09b};
    cpu->cpl = 0;
    cpu->cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_WP | CR0_MP;
    cpu->cr3 = TABLES + 0x8000 * L1_SPACE;
    cpu->cr4 = CR4_PAE | CR4_VMXE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    cpu->efer = EFER_LME | EFER_LMA | EFER_NXE;
    cpu->msr.feature_control = 5;
    cpu->r[4] = L1_STACK;
    cpu->rip = LAUNCH;
    cpu_set_rflags(cpu, FLAG_1);
}

void l2_place(struct program *p, struct machine *m)
{
    struct cpu *cpu = &m->cpus[0];
    struct program *h = malloc(sizeof(*h));
    struct vmcs *v = calloc(1, sizeof(*v));
    if (!h || !v)
        abort();
    *h = *p;
    h->mode = MODE_LONG64;
    h->paging = PAGING_LONG;
    h->width = 8;
    h->flat = true;
    h->pcid = false;
    h->reserved = 0;
    make_space(h, &m->phys, L1_SPACE);
    make_ept(&m->phys);
    make_regions(&m->phys);
    cpu->msr.feature_control = 5;
    fill_controls(p, m, v);
    fill_guest(v, cpu);
    become_l1(cpu);
    fill_host(v, cpu);
    h->d = p->d;
    h->size = 0;
    launch_code(h, v);
    if (h->size > EXITS - LAUNCH)
        abort();
    phys_write(&m->phys, LAUNCH, h->code, h->size);
    h->size = 0;
    exit_handler(h, p, v);
    if (h->size > 0x2000)
        abort();
    phys_write(&m->phys, EXITS, h->code, h->size);
    free(h);
    free(v);
}
