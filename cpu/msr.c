/*
 * cpu/msr.c -- RDMSR and WRMSR: msr.def as a table, and the registers that are more than a field.
 *
 * SDM 4, "Model-Specific Registers (MSRs)"; SDM 3A, "Memory Type Range Registers (MTRRs)", "Page Attribute
 * Table (PAT)". False means #GP(0). VMX intercepts are the caller's.
 */
#include "cpu/msr.h"

#include "cpu/lapic.h"
#include "cpu/system.h"
#include "cpu/vmx/vmx.h"

/* -- Time and APIC ------------------------------------------------------------------------------------- */

static bool get_zero(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)cpu;
    (void)index;
    *value = 0;
    return true;
}

static bool get_debugctl(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->msr.debugctl;
    return true;
}

/* The rest of the register belongs to branch trace stores, performance counters and RTM, which are not there.
 */
static bool set_debugctl(struct cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    if (value & ~(uint64_t)(DEBUGCTL_LBR | DEBUGCTL_BTF))
        return false;
    cpu->msr.debugctl = value;
    cpu_mode_changed(cpu);
    return true;
}

static bool get_smi_count(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->msr.smi_count;
    return true;
}

static bool set_ignored(struct cpu *cpu, uint32_t index, uint64_t value)
{
    (void)cpu;
    (void)index;
    (void)value;
    return true;
}

static bool get_tsc(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu_tsc(cpu);
    return true;
}

/* SDM 3B, "Time-Stamp Counter Adjustment": a write of the TSC moves TSC_ADJUST by the same. */
static bool set_tsc(struct cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    cpu->msr.tsc_adjust += value - cpu_tsc(cpu);
    lapic_tsc_changed(cpu);
    return true;
}

static bool get_tsc_adjust(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->msr.tsc_adjust;
    return true;
}

static bool set_tsc_adjust(struct cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    cpu->msr.tsc_adjust = value;
    lapic_tsc_changed(cpu);
    return true;
}

static bool get_tsc_deadline(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = lapic_deadline(cpu);
    return true;
}

static bool set_tsc_deadline(struct cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    lapic_set_deadline(cpu, value);
    return true;
}

static bool get_apic_base(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->msr.apic_base;
    return true;
}

static bool set_apic_base(struct cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    return lapic_set_base(cpu, value);
}

/* -- Identification and control ------------------------------------------------------------------------ */

static bool get_core_count(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = (uint64_t)cpu->cpu_count << 16 | cpu->cpu_count;
    return true;
}

static bool get_feature_control(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->msr.feature_control;
    return true;
}

static bool set_feature_control(struct cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    if ((cpu->msr.feature_control & 1) || (value & ~7ull))
        return false;
    cpu->msr.feature_control = value;
    return true;
}

static bool get_bios_sign(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->msr.bios_sign;
    return true;
}

/* CPUID leaf 1 puts the revision here; software writes 0 before it executes CPUID. */
static bool set_bios_sign(struct cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    cpu->msr.bios_sign = value;
    return true;
}

static bool get_misc_enable(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->msr.misc_enable;
    return true;
}

/* Fast strings, thermal monitors, limit CPUID, xTPR disable, XD disable, turbo disable; BTS and PEBS stay
 * unavailable. */
static bool set_misc_enable(struct cpu *cpu, uint32_t index, uint64_t value)
{
    static const uint64_t writable = BIT(0) | BIT(3) | BIT(16) | BIT(23) | BIT(38);
    static const uint64_t tolerated = BIT(7) | BIT(11) | BIT(12) | BIT(18) | BIT(22) | BIT(34);
    (void)index;
    if (value & ~(writable | tolerated))
        return false;
    cpu->msr.misc_enable = (cpu->msr.misc_enable & ~writable) | (value & writable);
    return true;
}

/* -- Speculation: nothing here speculates, so the commands have nothing to do -------------------------- */

enum {
    CAP_RDCL_NO = 1 << 0,
    CAP_IBRS_ALL = 1 << 1,
    CAP_SKIP_L1DFL_VMENTRY = 1 << 3,
    CAP_SSB_NO = 1 << 4,
    CAP_MDS_NO = 1 << 5,
    CAP_PSCHANGE_MC_NO = 1 << 6,
    CAP_TAA_NO = 1 << 8,
    CAP_SBDR_SSDP_NO = 1 << 13,
    CAP_FBSDP_NO = 1 << 14,
    CAP_PSDP_NO = 1 << 15,
    CAP_PBRSB_NO = 1 << 24,
    CAP_GDS_NO = 1 << 26,
    CAP_RFDS_NO = 1 << 27,
};
#define CAP_ITS_NO BIT(62)

static bool get_arch_capabilities(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)cpu;
    (void)index;
    *value = CAP_RDCL_NO | CAP_IBRS_ALL | CAP_SKIP_L1DFL_VMENTRY | CAP_SSB_NO | CAP_MDS_NO |
             CAP_PSCHANGE_MC_NO | CAP_TAA_NO | CAP_SBDR_SSDP_NO | CAP_FBSDP_NO | CAP_PSDP_NO | CAP_PBRSB_NO |
             CAP_GDS_NO | CAP_RFDS_NO | CAP_ITS_NO;
    return true;
}

static bool get_spec_ctrl(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->msr.spec_ctrl;
    return true;
}

static bool set_spec_ctrl(struct cpu *cpu, uint32_t index, uint64_t value)
{
    uint64_t writable = BIT(0);
    (void)index;
    if (cpu_has(cpu, FEAT_STIBP))
        writable |= BIT(1);
    if (cpu_has(cpu, FEAT_SSBD))
        writable |= BIT(2);
    if (cpu_has(cpu, FEAT_BHI_CTRL))
        writable |= BIT(10);
    if (value & ~writable)
        return false;
    cpu->msr.spec_ctrl = value;
    return true;
}

static bool set_pred_cmd(struct cpu *cpu, uint32_t index, uint64_t value)
{
    (void)cpu;
    (void)index;
    return !(value & ~1ull);
}

static bool set_flush_cmd(struct cpu *cpu, uint32_t index, uint64_t value)
{
    (void)cpu;
    (void)index;
    return !(value & ~1ull);
}

/* -- Memory types -------------------------------------------------------------------------------------- */

/* Types 0 UC, 1 WC, 4 WT, 5 WP, 6 WB; the PAT also has 7, UC-. */
static bool types_ok(uint64_t bytes, uint32_t allowed)
{
    for (unsigned i = 0; i < 64; i += 8)
        if ((bytes >> i & 0xff) > 7 || !(allowed >> (bytes >> i & 7) & 1))
            return false;
    return true;
}
#define TYPES_MTRR 0x73u
#define TYPES_PAT  0xf3u

static bool get_pat(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->msr.pat;
    return true;
}

static bool set_pat(struct cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    if (!types_ok(value, TYPES_PAT))
        return false;
    cpu->msr.pat = value;
    return true;
}

static bool get_mtrr_def_type(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->msr.mtrr_def_type;
    return true;
}

static bool set_mtrr_def_type(struct cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    if ((value & ~0xcffull) || !types_ok(value & 0xff, TYPES_MTRR))
        return false;
    cpu->msr.mtrr_def_type = value;
    return true;
}

/* 250H is number 0, 258H and 259H are 1 and 2, 268H to 26FH are 3 to 10. */
static unsigned fixed_number(uint32_t index)
{
    return index == 0x250 ? 0 : index < 0x260 ? index - 0x257 : index - 0x265;
}

static bool get_mtrr_fixed(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = cpu->msr.mtrr_fixed[fixed_number(index)];
    return true;
}

static bool set_mtrr_fixed(struct cpu *cpu, uint32_t index, uint64_t value)
{
    if (!types_ok(value, TYPES_MTRR))
        return false;
    cpu->msr.mtrr_fixed[fixed_number(index)] = value;
    return true;
}

static bool get_mtrr_variable(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    unsigned n = (index - 0x200) / 2;
    *value = index & 1 ? cpu->msr.mtrr_mask[n] : cpu->msr.mtrr_base[n];
    return true;
}

static bool set_mtrr_variable(struct cpu *cpu, uint32_t index, uint64_t value)
{
    unsigned n = (index - 0x200) / 2;
    uint64_t address = BITS(cpu->model->maxphyaddr - 1, 12);
    if (index & 1) {
        if (value & ~(address | BIT(11)))
            return false;
        cpu->msr.mtrr_mask[n] = value;
    } else {
        if ((value & ~(address | 0xff)) || !types_ok(value & 0xff, TYPES_MTRR))
            return false;
        cpu->msr.mtrr_base[n] = value;
    }
    return true;
}

/* -- Machine check: four banks that never report ------------------------------------------------------- */

static uint64_t *mc_register(struct cpu *cpu, uint32_t index)
{
    unsigned bank = (index - 0x400) / 4;
    switch (index & 3) {
    case 0:
        return &cpu->msr.mc_ctl[bank];
    case 1:
        return &cpu->msr.mc_status[bank];
    case 2:
        return &cpu->msr.mc_addr[bank];
    default:
        return &cpu->msr.mc_misc[bank];
    }
}

static bool get_mc(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = *mc_register(cpu, index);
    return true;
}

/* SDM 3B, "IA32_MCi_STATUS MSRs": software may only clear STATUS, ADDR and MISC. */
static bool set_mc(struct cpu *cpu, uint32_t index, uint64_t value)
{
    if ((index & 3) != 0 && value != 0)
        return false;
    *mc_register(cpu, index) = value;
    return true;
}

/* -- VMX, XSS, EFER ------------------------------------------------------------------------------------ */

static bool get_vmx(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    return vmx_rdmsr(cpu, index, value);
}

static bool get_xss(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->msr.xss;
    return true;
}

/* No supervisor component is there. */
static bool set_xss(struct cpu *cpu, uint32_t index, uint64_t value)
{
    (void)index;
    if (value)
        return false;
    cpu->msr.xss = value;
    return true;
}

static bool get_efer(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    (void)index;
    *value = cpu->efer;
    return true;
}

static bool set_efer(struct cpu *cpu, uint32_t index, uint64_t value)
{
    uint64_t writable = 0;
    (void)index;
    if (cpu_has(cpu, FEAT_SYSCALL))
        writable |= EFER_SCE;
    if (cpu_has(cpu, FEAT_LM))
        writable |= EFER_LME;
    if (cpu_has(cpu, FEAT_NX))
        writable |= EFER_NXE;
    if (value & ~(writable | EFER_LMA))
        return false;
    if ((cpu->cr0 & CR0_PG) && ((value ^ cpu->efer) & EFER_LME))
        return false;
    cpu->efer = (value & writable) | (cpu->efer & EFER_LMA);
    return true;
}

/* -- The table ----------------------------------------------------------------------------------------- */

const struct msr_row msr_rows[] = {
#define STORED(address, name, feature, writable, member)                                                     \
    {address, address, MSR_STORED, FEAT_##feature, #name, offsetof(struct cpu, member), writable, NULL, NULL},
#define CANONICAL(address, name, feature, member)                                                            \
    {address, address, MSR_CANONICAL, FEAT_##feature, #name, offsetof(struct cpu, member), 0, NULL, NULL},
#define CONSTANT(address, name, feature, v)                                                                  \
    {address, address, MSR_CONSTANT, FEAT_##feature, #name, 0, v, NULL, NULL},
#define COMPUTED(first, last, name, feature, get, set)                                                       \
    {first, last, MSR_COMPUTED, FEAT_##feature, #name, 0, 0, get, set},
#define NOT_THERE(first, last, name) {first, last, MSR_NOT_THERE, FEAT_ALWAYS, #name, 0, 0, NULL, NULL},
#include "cpu/msr.def"
#undef STORED
#undef CANONICAL
#undef CONSTANT
#undef COMPUTED
#undef NOT_THERE
};
const unsigned msr_row_count = ARRAY_LEN(msr_rows);

const struct msr_row *msr_find(uint32_t index)
{
    /* The row is one of n from `low` on. Without a branch that depends on the index, which no host predicts.
     */
    unsigned low = 0;
    for (unsigned n = msr_row_count; n > 1;) {
        unsigned half = n / 2;
        low += half & -(unsigned)(index > msr_rows[low + half - 1].last);
        n -= half;
    }
    const struct msr_row *m = &msr_rows[low];
    return m->first <= index && index <= m->last ? m : NULL;
}

static const struct msr_row *find(struct cpu *cpu, uint32_t index, const char *access)
{
    const struct msr_row *m = msr_find(index);
    if (!m)
        log_unimplemented(cpu->log, "%s of msr %#x", access, index);
    else if (m->kind == MSR_NOT_THERE || !cpu_has(cpu, m->feature))
        return NULL;
    return m;
}

static uint64_t *stored(struct cpu *cpu, const struct msr_row *m)
{
    return (uint64_t *)(void *)((uint8_t *)cpu + m->offset);
}

bool cpu_rdmsr(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    const struct msr_row *m = find(cpu, index, "read");
    if (!m)
        return false;
    switch (m->kind) {
    case MSR_CONSTANT:
        *value = m->value;
        return true;
    case MSR_COMPUTED:
        return m->get && m->get(cpu, index, value);
    default:
        *value = *stored(cpu, m);
        return true;
    }
}

bool cpu_wrmsr(struct cpu *cpu, uint32_t index, uint64_t value)
{
    const struct msr_row *m = find(cpu, index, "write");
    if (!m)
        return false;
    switch (m->kind) {
    case MSR_CONSTANT:
        return false;
    case MSR_COMPUTED:
        return m->set && m->set(cpu, index, value);
    case MSR_CANONICAL:
        if (!cpu_canonical_register(cpu, value))
            return false;
        break;
    default:
        if (value & ~m->value)
            return false;
        break;
    }
    *stored(cpu, m) = value;
    return true;
}
