/*
 * cpu/cr.c -- control registers: MOV CR, LMSW, SMSW, CLTS, PDPTE loads, XCR0, PKRU.
 *
 * SDM 3A, "Control Registers", "Initializing IA-32e Mode", "PDPTE Registers", "Process-Context Identifiers
 * (PCIDs)"; SDM 2B, "MOV--Move to/from Control Registers". Order:  privilege (the lifter), VMX intercept,
 * checks that raise #GP(0), then the change. Translations need no flush: they are coherent.
 */
#include "cpu/system.h"

#include "base/trace.h"
#include "cpu/flags.h"
#include "cpu/ir/helper.h"
#include "cpu/lapic.h"
#include "cpu/vmx/vmx.h"

#define CR0_KNOWN                                                                                            \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)

/* -- CR4 bits of the model ----------------------------------------------------------------------------- */

static const struct {
    uint32_t bits;
    uint16_t feature;
} cr4_rows[] = {
    {CR4_VME | CR4_PVI, FEAT_VME}, {CR4_TSD, FEAT_TSC},           {CR4_DE, FEAT_DE},
    {CR4_PSE, FEAT_PSE},           {CR4_PAE, FEAT_PAE},           {CR4_MCE, FEAT_MCE},
    {CR4_PGE, FEAT_PGE},           {CR4_PCE, FEAT_ALWAYS},        {CR4_OSFXSR, FEAT_FXSR},
    {CR4_OSXMMEXCPT, FEAT_SSE},    {CR4_UMIP, FEAT_UMIP},         {CR4_LA57, FEAT_LA57},
    {CR4_VMXE, FEAT_VMX},          {CR4_FSGSBASE, FEAT_FSGSBASE}, {CR4_PCIDE, FEAT_PCID},
    {CR4_OSXSAVE, FEAT_XSAVE},     {CR4_SMEP, FEAT_SMEP},         {CR4_SMAP, FEAT_SMAP},
    {CR4_PKE, FEAT_PKU},
};

uint64_t cpu_cr4_supported(const struct cpu *cpu)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < ARRAY_LEN(cr4_rows); i++)
        if (cpu_has(cpu, cr4_rows[i].feature))
            v |= cr4_rows[i].bits;
    return v;
}

/* -- PDPTEs -------------------------------------------------------------------------------------------- */

bool cpu_load_pdptes(struct cpu *cpu, uint64_t cr3)
{
    uint64_t reserved = BITS(2, 1) | BITS(8, 5) | BITS(63, cpu->model->maxphyaddr), pdpte[4];
    gpa_t at = cr3 & 0xffffffe0;
    struct mmu_fault f;
    if (!mmu_translate_gpa(&cpu->mmu, at, MMU_READ, 0, &at, &f))
        cpu_raise_mmu(cpu, &f, SEG_DS);
    for (unsigned i = 0; i < 4; i++) {
        pdpte[i] = cpu_phys_read(cpu, at + i * 8, 8);
        if ((pdpte[i] & 1) && (pdpte[i] & reserved))
            return false;
    }
    for (unsigned i = 0; i < 4; i++)
        cpu->pdpte[i] = pdpte[i];
    return true;
}

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

/* -- Writing ------------------------------------------------------------------------------------------- */

void cpu_write_cr0(struct cpu *cpu, uint64_t value)
{
    uint64_t old = cpu->cr0, efer = cpu->efer;
    if (value >> 32)
        cpu_raise_gp0(cpu);
    value = (value & CR0_KNOWN) | CR0_ET;
    if (((value & CR0_PG) && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)))
        cpu_raise_gp0(cpu);
    if (cpu->vmx_on && !vmx_cr0_allowed(cpu, value))
        cpu_raise_gp0(cpu);
    if ((value & CR0_PG) && !(old & CR0_PG) && (efer & EFER_LME)) {
        if (!(cpu->cr4 & CR4_PAE) || (cpu->seg[SEG_CS].ar & AR_L) || !(AR_TYPE(cpu->seg[SEG_TR].ar) & 8))
            cpu_raise_gp0(cpu); /* a 16-bit TSS, too, keeps IA-32e mode away */
        efer |= EFER_LMA;
    }
    if (!(value & CR0_PG) && (old & CR0_PG)) {
        if (cpu_64bit(cpu) || (cpu->cr4 & CR4_PCIDE))
            cpu_raise_gp0(cpu);
        efer &= ~(uint64_t)EFER_LMA;
    }
    bool reload = (value ^ old) & (CR0_PG | CR0_CD | CR0_NW);
    if (reload && pae_paging(value, cpu->cr4, efer) && !cpu_load_pdptes(cpu, cpu->cr3))
        cpu_raise_gp0(cpu);
    cpu->cr0 = value;
    cpu->efer = efer;
    if (!(value & CR0_PE))
        cpu->cpl = 0;
    cpu_mode_changed(cpu);
}

static void load_cr3(struct cpu *cpu, uint64_t value)
{
    if (cpu_long_mode(cpu)) {
        if (cpu->cr4 & CR4_PCIDE)
            value &= ~BIT(63); /* nothing to keep or drop: translations are coherent */
        if (value >> cpu->model->maxphyaddr)
            cpu_raise_gp0(cpu);
    } else {
        value = (uint32_t)value;
    }
    if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer) && !cpu_load_pdptes(cpu, value))
        cpu_raise_gp0(cpu);
    cpu->cr3 = value;
}

void cpu_write_cr3(struct cpu *cpu, uint64_t value)
{
    load_cr3(cpu, value);
    cpu_mode_changed(cpu);
}

void cpu_write_cr4(struct cpu *cpu, uint64_t value)
{
    uint64_t old = cpu->cr4, changed = value ^ old;
    if (value & ~cpu_cr4_supported(cpu))
        cpu_raise_gp0(cpu);
    if (cpu_long_mode(cpu) && (!(value & CR4_PAE) || (changed & CR4_LA57)))
        cpu_raise_gp0(cpu);
    if ((changed & value & CR4_PCIDE) && (!cpu_long_mode(cpu) || (cpu->cr3 & 0xfff)))
        cpu_raise_gp0(cpu);
    if (cpu->vmx_on && !vmx_cr4_allowed(cpu, value))
        cpu_raise_gp0(cpu);
    bool reload = changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP);
    if (reload && pae_paging(cpu->cr0, value, cpu->efer) && !cpu_load_pdptes(cpu, cpu->cr3))
        cpu_raise_gp0(cpu);
    cpu->cr4 = value;
    cpu_mode_changed(cpu);
}

void cpu_write_cr8(struct cpu *cpu, uint64_t value)
{
    if (value >> 4)
        cpu_raise_gp0(cpu);
    lapic_set_tpr(cpu, (uint8_t)(value << 4));
    cpu_events_changed(cpu);
}

/* -- MOV CR -------------------------------------------------------------------------------------------- */

/* d: GPR; imm: control register */
void helper_read_cr(struct cpu *cpu, const struct uop *u)
{
    uint64_t v;
    unsigned cr = (unsigned)u->imm;
    switch (cr) {
    case 0:
        v = cpu->cr0;
        break;
    case 2:
        v = cpu->cr2;
        break;
    case 3:
        v = cpu->cr3;
        break;
    case 4:
        v = cpu->cr4;
        break;
    default:
        v = lapic_tpr(cpu) >> 4;
        break;
    }
    if (cpu->vmx_non_root) {
        if (cr == 8)
            vmx_cr8(cpu, false, &v, u->d);
        else if (cr != 2)
            v = vmx_read_cr(cpu, cr, v, u->d);
    }
    cpu->r[u->d] = cpu_64bit(cpu) ? v : (uint32_t)v;
}

/* a: GPR; imm: control register */
void helper_write_cr(struct cpu *cpu, const struct uop *u)
{
    unsigned cr = (unsigned)u->imm;
    uint64_t v = cpu->r[u->a];
    if (!cpu_64bit(cpu))
        v = (uint32_t)v;
    trace_cr_write(cpu->trace, cr, v, cpu->rip);
    if (cpu->vmx_non_root) {
        if (cr == 8) {
            if (vmx_cr8(cpu, true, &v, u->a))
                return;
        } else if (cr != 2) {
            v = vmx_write_cr(cpu, cr, v, u->a);
        }
    }
    switch (cr) {
    case 0:
        cpu_write_cr0(cpu, v);
        break;
    case 2:
        cpu->cr2 = v;
        break;
    case 3:
        load_cr3(cpu, v);
        cpu_mode_restored(cpu, cpu->key); /* CR3 is not in the key */
        break;
    case 4:
        cpu_write_cr4(cpu, v);
        break;
    default:
        cpu_write_cr8(cpu, v);
        break;
    }
}

/* d = CR0 as SMSW shows it */
void helper_smsw(struct cpu *cpu, const struct uop *u)
{
    cpu->r[u->d] = cpu->vmx_non_root ? vmx_read_cr_shadow(cpu, 0, cpu->cr0) : cpu->cr0;
}

/* a: machine status word; aux2: 1 memory operand, whose effective address is in b with segment am */
void helper_lmsw(struct cpu *cpu, const struct uop *u)
{
    uint16_t msw = (uint16_t)cpu->r[u->a];
    uint64_t keep = cpu->cr0 & CR0_PE;
    if (cpu->vmx_non_root) {
        gva_t linear = u->aux2 ? cpu_linear(cpu, AM_SEG(u->am), cpu->r[u->b], 2, MEM_READ) : 0;
        cpu_write_cr0(cpu, vmx_lmsw(cpu, msw, u->aux2 != 0, linear));
        return;
    }
    cpu_write_cr0(cpu, (cpu->cr0 & ~15ull) | (msw & 15) | keep);
}

void helper_clts(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    if (cpu->vmx_non_root && !vmx_clts(cpu))
        return;
    cpu->cr0 &= ~(uint64_t)CR0_TS;
    cpu_mode_changed(cpu);
}

/* -- XCR0 ---------------------------------------------------------------------------------------------- */

uint64_t cpu_xcr0_supported(const struct cpu *cpu)
{
    return 3 | (cpu_has(cpu, FEAT_AVX) ? 4 : 0) | (cpu_has(cpu, FEAT_PKU) ? BIT(9) : 0);
}

/* ECX 0: XCR0; 1: XCR0 and the components in use (XGETBV1) */
void helper_xgetbv(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    uint32_t index = (uint32_t)cpu->r[REG_RCX];
    uint64_t v = cpu->xcr0;
    if (index == 1 && cpu_has(cpu, FEAT_XGETBV1))
        v &= xsave_in_use(cpu);
    else if (index != 0)
        cpu_raise_gp0(cpu);
    cpu->r[REG_RAX] = (uint32_t)v;
    cpu->r[REG_RDX] = v >> 32;
}

void helper_xsetbv(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    uint64_t v = (uint32_t)cpu->r[REG_RAX] | cpu->r[REG_RDX] << 32;
    if ((uint32_t)cpu->r[REG_RCX] != 0 || !(v & 1) || (v & ~cpu_xcr0_supported(cpu)) || (v & 6) == 4)
        cpu_raise_gp0(cpu);
    cpu->xcr0 = v;
    cpu_mode_changed(cpu);
}

/* -- PKRU ---------------------------------------------------------------------------------------------- */

/* SDM 2B, "RDPKRU", "WRPKRU": ECX 0; WRPKRU also EDX 0. */
static void check_pkru(struct cpu *cpu, uint64_t zero)
{
    if (!(cpu->cr4 & CR4_PKE))
        cpu_raise_ud(cpu);
    if ((uint32_t)zero)
        cpu_raise_gp0(cpu);
}

void helper_rdpkru(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    check_pkru(cpu, cpu->r[REG_RCX]);
    cpu->r[REG_RAX] = cpu->pkru;
    cpu->r[REG_RDX] = 0;
}

void helper_wrpkru(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    check_pkru(cpu, cpu->r[REG_RCX] | cpu->r[REG_RDX]);
    cpu->pkru = (uint32_t)cpu->r[REG_RAX];
    cpu_mode_changed(cpu);
}
