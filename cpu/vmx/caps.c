/*
 * vmx/caps.c -- the VMX capability MSRs, computed from controls.def, vmcs.def and the processor model.
 *
 * SDM 3D, appendix "VMX Capability Reporting Facility".
 * Reads:  controls.def, vmcs.def, struct cpu_model.   Writes: struct vmx_caps, once.
 * Watch:  --                                           Tests: tests/unit/test_vmx_tables.c
 */
#include "cpu/vmx/internal.h"

const struct control_info control_rows[] = {
#define CONTROL(word, bit, name, text, feature) {WORD_##word, bit, #word "_" #name, text, FEAT_##feature},
#include "cpu/vmx/controls.def"
#undef CONTROL
};
const unsigned control_row_count = ARRAY_LEN(control_rows);

/* Default1 bits that the TRUE capability MSRs allow to be 0; all others of the class stay fixed to 1. */
static const uint32_t default1[CONTROL_WORDS] = {PIN_DEFAULT1, PROC_DEFAULT1, 0, EXITCTL_DEFAULT1,
                                                 ENTRYCTL_DEFAULT1};

const char *control_word_name(enum control_word w)
{
    static const char *const names[CONTROL_WORDS] = {
        "pin-based VM-execution controls", "primary processor-based VM-execution controls",
        "secondary processor-based VM-execution controls", "VM-exit controls", "VM-entry controls"};
    return w < CONTROL_WORDS ? names[w] : "?";
}

const char *control_bit_name(enum control_word w, unsigned bit)
{
    for (unsigned i = 0; i < control_row_count; i++)
        if (control_rows[i].word == w && control_rows[i].bit == bit)
            return control_rows[i].text;
    return "reserved bit";
}

static bool model_has(const struct cpu_model *m, unsigned feature)
{
    return feature == FEAT_ALWAYS || (feature < FEAT_COUNT && m->has[feature]);
}

/* CR4 bits that exist follow from the features of the model. */
static uint64_t cr4_supported(const struct cpu_model *m)
{
    static const struct {
        uint32_t bits;
        uint16_t feature;
    } rows[] = {
        {CR4_VME | CR4_PVI, FEAT_VME}, {CR4_TSD, FEAT_TSC},           {CR4_DE, FEAT_DE},
        {CR4_PSE, FEAT_PSE},           {CR4_PAE, FEAT_PAE},           {CR4_MCE, FEAT_MCE},
        {CR4_PGE, FEAT_PGE},           {CR4_PCE, FEAT_ALWAYS},        {CR4_OSFXSR, FEAT_FXSR},
        {CR4_OSXMMEXCPT, FEAT_SSE},    {CR4_UMIP, FEAT_UMIP},         {CR4_LA57, FEAT_LA57},
        {CR4_VMXE, FEAT_VMX},          {CR4_FSGSBASE, FEAT_FSGSBASE}, {CR4_PCIDE, FEAT_PCID},
        {CR4_OSXSAVE, FEAT_XSAVE},     {CR4_SMEP, FEAT_SMEP},         {CR4_SMAP, FEAT_SMAP},
        {CR4_PKE, FEAT_PKU},
    };
    uint64_t v = 0;
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
        if (model_has(m, rows[i].feature))
            v |= rows[i].bits;
    return v;
}

static uint64_t pair(uint32_t must_be_1, uint32_t may_be_1)
{
    return (uint64_t)may_be_1 << 32 | must_be_1;
}

void vmx_caps_init(struct vmx_caps *c, const struct cpu_model *model)
{
    memset(c, 0, sizeof(*c));
    uint32_t named[CONTROL_WORDS] = {0};
    for (unsigned i = 0; i < control_row_count; i++) {
        const struct control_info *r = &control_rows[i];
        named[r->word] |= 1u << r->bit;
        if (model_has(model, r->feature))
            c->allowed1[r->word] |= 1u << r->bit;
    }
    for (unsigned w = 0; w < CONTROL_WORDS; w++) {
        c->allowed1[w] |= default1[w];
        c->required1[w] = default1[w] & ~named[w];
    }

    uint64_t *m = c->msr;
#define M(x) m[(x)-IA32_VMX_BASIC]
    M(IA32_VMX_BASIC) = VMCS_REVISION_ID | (uint64_t)PAGE_SIZE << 32 | 6ull << 50 | BIT(54) | BIT(55);
    M(IA32_VMX_PINBASED_CTLS) = pair(PIN_DEFAULT1, c->allowed1[WORD_PIN]);
    M(IA32_VMX_PROCBASED_CTLS) = pair(PROC_DEFAULT1, c->allowed1[WORD_PROC]);
    M(IA32_VMX_EXIT_CTLS) = pair(EXITCTL_DEFAULT1, c->allowed1[WORD_EXITCTL]);
    M(IA32_VMX_ENTRY_CTLS) = pair(ENTRYCTL_DEFAULT1, c->allowed1[WORD_ENTRYCTL]);
    M(IA32_VMX_TRUE_PINBASED_CTLS) = pair(c->required1[WORD_PIN], c->allowed1[WORD_PIN]);
    M(IA32_VMX_TRUE_PROCBASED_CTLS) = pair(c->required1[WORD_PROC], c->allowed1[WORD_PROC]);
    M(IA32_VMX_TRUE_EXIT_CTLS) = pair(c->required1[WORD_EXITCTL], c->allowed1[WORD_EXITCTL]);
    M(IA32_VMX_TRUE_ENTRY_CTLS) = pair(c->required1[WORD_ENTRYCTL], c->allowed1[WORD_ENTRYCTL]);
    M(IA32_VMX_PROCBASED_CTLS2) = pair(0, c->allowed1[WORD_PROC2]);
    M(IA32_VMX_MISC) = MISC_TIMER_RATE | MISC_STORE_LMA | MISC_ACTIVITY_HLT | MISC_ACTIVITY_SHUTDOWN |
                       MISC_ACTIVITY_SIPI | (uint64_t)MISC_CR3_TARGETS << 16 | MISC_VMWRITE_ALL |
                       MISC_INJECT_LENGTH_0;
    M(IA32_VMX_CR0_FIXED0) = CR0_PG | CR0_NE | CR0_PE;
    M(IA32_VMX_CR0_FIXED1) = 0xffffffffu;
    M(IA32_VMX_CR4_FIXED0) = CR4_VMXE;
    c->cr4_fixed1 = cr4_supported(model) | CR4_VMXE;
    M(IA32_VMX_CR4_FIXED1) = c->cr4_fixed1;
    unsigned highest = 0;
    for (unsigned i = 0; i < vmcs_field_count; i++)
        highest = MAX(highest, VMCS_ENCODING_INDEX(vmcs_fields[i].encoding));
    M(IA32_VMX_VMCS_ENUM) = (uint64_t)highest << 1;
    M(IA32_VMX_EPT_VPID_CAP) = EPT_CAP_EXECUTE_ONLY | EPT_CAP_WALK_4 | EPT_CAP_UC | EPT_CAP_WB | EPT_CAP_2M |
                               EPT_CAP_1G | EPT_CAP_INVEPT | EPT_CAP_AD | EPT_CAP_INVEPT_SINGLE |
                               EPT_CAP_INVEPT_ALL | VPID_CAP_INVVPID | VPID_CAP_INDIVIDUAL | VPID_CAP_SINGLE |
                               VPID_CAP_ALL | VPID_CAP_SINGLE_NONGLOBAL;
    M(IA32_VMX_VMFUNC) = VMFUNC_EPTP_SWITCHING;
#undef M
}

bool vmx_rdmsr(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    if (!cpu_has(cpu, FEAT_VMX) || index < IA32_VMX_BASIC || index - IA32_VMX_BASIC >= VMX_CAPABILITY_COUNT)
        return false;
    *value = cpu->vmx->caps.msr[index - IA32_VMX_BASIC];
    return true;
}

/*
 * SDM 3C, "Restrictions on VMX Operation": the fixed bits hold in VMX operation; a guest with "unrestricted
 * guest" may clear CR0.PE and CR0.PG.
 */
bool vmx_cr0_allowed(const struct cpu *cpu, uint64_t cr0)
{
    uint64_t fixed0 = cpu->vmx->caps.msr[IA32_VMX_CR0_FIXED0 - IA32_VMX_BASIC];
    if (cpu->vmx_non_root && vmx_proc2(vmx_current(cpu)) & PROC2_UNRESTRICTED_GUEST)
        fixed0 &= ~(uint64_t)(CR0_PE | CR0_PG);
    return (cr0 & fixed0) == fixed0 && !(cr0 & ~cpu->vmx->caps.msr[IA32_VMX_CR0_FIXED1 - IA32_VMX_BASIC]);
}

bool vmx_cr4_allowed(const struct cpu *cpu, uint64_t cr4)
{
    return (cr4 & CR4_VMXE) && !(cr4 & ~cpu->vmx->caps.cr4_fixed1);
}
