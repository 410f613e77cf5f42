/*
 * vmx/checks.c -- the checks of VM entry, from the rows of entry_checks.def.
 *
 * SDM 3C, "VM Entries" (edition: docs/sdm-edition.md).
 * Reads:  a VMCS, struct cpu, guest memory.   Writes: nothing.
 * Two forms of the same rows: straight-line functions that find the first failure of a group, and a table of
 * predicates for explanations and tests.
 * Watch:  vmx_explain()                       Tests: tests/unit/test_vmx_checks.c
 */
#include "cpu/vmx/internal.h"

#define SECTION_EXECUTION     "VM-Execution Control Fields"
#define SECTION_EXIT          "VM-Exit Control Fields"
#define SECTION_ENTRY         "VM-Entry Control Fields"
#define SECTION_HOST_CR       "Checks on Host Control Registers, MSRs, and SSP"
#define SECTION_HOST_SEGMENT  "Checks on Host Segment and Descriptor-Table Registers"
#define SECTION_ADDRESS_SPACE "Checks Related to Address-Space Size"
#define SECTION_GUEST_CR      "Checks on Guest Control Registers, Debug Registers, and MSRs"
#define SECTION_GUEST_SEGMENT "Checks on Guest Segment Registers"
#define SECTION_GUEST_TABLES  "Checks on Guest Descriptor-Table Registers"
#define SECTION_GUEST_RIP     "Checks on Guest RIP, RFLAGS, and SSP"
#define SECTION_GUEST_OTHER   "Checks on Guest Non-Register State"
#define SECTION_GUEST_PDPTE   "Checks on Guest Page-Directory-Pointer-Table Entries"

/* -- Predicates of the rows ---------------------------------------------------------------------------- */

#define address(a, mask) vmx_address_ok(cpu, a, mask)
#define list(a, count)                                                                                       \
    (vmx_address_ok(cpu, a, 15) && !(((a) + 16 * (uint64_t)(count)-1) >> cpu->model->maxphyaddr))
#define event(v)     ((v)->entry_interruption_info)
#define injected(v)  (event(v) & INFO_VALID)
#define usable(ar)   (!((ar)&AR_UNUSABLE))
#define v86(v)       ((v)->guest_rflags & FLAG_VM)
#define canonical(a) cpu_canonical_register(cpu, a)

static inline bool allowed(const struct cpu *cpu, enum control_word w, uint32_t value)
{
    const struct vmx_caps *c = &cpu->vmx->caps;
    return !(value & ~c->allowed1[w]) && (value & c->required1[w]) == c->required1[w];
}

static inline bool allowed_mtf(const struct cpu *cpu)
{
    return cpu->vmx->caps.allowed1[WORD_PROC] & PROC_MONITOR_TRAP_FLAG;
}

static inline unsigned vtpr(const struct cpu *cpu, const struct vmcs *v)
{
    return (unsigned)phys_load(cpu->phys, v->virtual_apic_address + 0x80, 4) & 0xff;
}

static inline bool event_is_software(const struct vmcs *v)
{
    unsigned type = INFO_TYPE(event(v));
    return type == EVENT_SOFTWARE_INTERRUPT || type == EVENT_PRIVILEGED_SOFTWARE_EXCEPTION ||
           type == EVENT_SOFTWARE_EXCEPTION;
}

static inline bool event_vector_ok(const struct vmcs *v)
{
    unsigned vector = INFO_VECTOR(event(v));
    switch (INFO_TYPE(event(v))) {
    case EVENT_NMI:
        return vector == 2;
    case EVENT_HARDWARE_EXCEPTION:
        return vector <= 31;
    case EVENT_OTHER:
        return vector == 0;
    default:
        return true;
    }
}

/* An error code goes with a hardware exception that has one, unless the guest is in real-address mode. */
static inline bool event_error_expected(const struct vmcs *v, uint32_t proc2)
{
    static const uint32_t with_error =
        BIT(EXC_DF) | BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) | BIT(EXC_PF) | BIT(EXC_AC);
    if (INFO_TYPE(event(v)) != EVENT_HARDWARE_EXCEPTION || INFO_VECTOR(event(v)) > 31)
        return false;
    if (proc2 & PROC2_UNRESTRICTED_GUEST && !(v->guest_cr0 & CR0_PE))
        return false;
    return with_error >> INFO_VECTOR(event(v)) & 1;
}

static inline bool cr0_fixed(const struct cpu *cpu, uint64_t cr0, uint64_t free_bits)
{
    const uint64_t *m = cpu->vmx->caps.msr;
    uint64_t fixed0 = m[IA32_VMX_CR0_FIXED0 - IA32_VMX_BASIC] & ~free_bits;
    return (cr0 & fixed0) == fixed0 && !(cr0 & ~m[IA32_VMX_CR0_FIXED1 - IA32_VMX_BASIC]);
}

/* CPUID 0AH reports no performance counters, so every bit of IA32_PERF_GLOBAL_CTRL is reserved. */
static inline bool perf_ok(uint64_t value)
{
    return value == 0;
}

static inline bool debugctl_ok(uint64_t value)
{
    return !(value & ~(BITS(15, 14) | BITS(12, 6) | BITS(2, 0)));
}

static inline bool cs_type_ok(uint32_t ar, bool unrestricted)
{
    unsigned type = AR_TYPE(ar);
    return (type & 9) == 9 || (unrestricted && type == 3);
}

static inline bool data_type_ok(uint32_t ar)
{
    unsigned type = AR_TYPE(ar);
    return (type & 1) && (!(type & 8) || (type & 2));
}

static inline bool cs_dpl_ok(uint32_t cs, uint32_t ss)
{
    switch (AR_TYPE(cs)) {
    case 3:
        return AR_DPL(cs) == 0;
    case 9:
    case 11:
        return AR_DPL(cs) == AR_DPL(ss);
    case 13:
    case 15:
        return AR_DPL(cs) <= AR_DPL(ss);
    default:
        return true; /* cs_type_ok() says it */
    }
}

/* P, the reserved bits 11:8 and 31:17, and G against the limit. */
static inline bool rights_ok(uint32_t ar, uint32_t limit)
{
    if (!(ar & AR_P) || ar & 0xf00 || ar >> 17)
        return false;
    if ((limit & 0xfff) != 0xfff && ar & AR_G)
        return false;
    return !(limit >> 20) || ar & AR_G;
}

static inline bool activity_event_ok(const struct vmcs *v)
{
    unsigned type = INFO_TYPE(event(v)), vector = INFO_VECTOR(event(v));
    switch (v->guest_activity) {
    case ACTIVITY_HLT:
        return type == EVENT_EXTERNAL || type == EVENT_NMI ||
               (type == EVENT_HARDWARE_EXCEPTION && (vector == EXC_DB || vector == EXC_MC)) ||
               (type == EVENT_OTHER && vector == 0);
    case ACTIVITY_SHUTDOWN:
        return type == EVENT_NMI || (type == EVENT_HARDWARE_EXCEPTION && vector == EXC_MC);
    case ACTIVITY_WAIT_SIPI:
        return false;
    default:
        return true;
    }
}

static bool link_region_ok(struct cpu *cpu, const struct vmcs *v, uint32_t proc2)
{
    uint32_t head = (uint32_t)phys_load(cpu->phys, v->link_pointer, 4);
    bool shadow = head >> 31;
    return (head & 0x7fffffff) == VMCS_REVISION_ID && shadow == !!(proc2 & PROC2_VMCS_SHADOWING) &&
           v->link_pointer != v->address;
}

static bool pdptes_ok(struct cpu *cpu, const struct vmcs *v, uint32_t proc2)
{
    const uint64_t reserved = BITS(63, cpu->model->maxphyaddr) | BITS(8, 5) | BITS(2, 1);
    uint64_t entry[4] = {v->guest_pdpte0, v->guest_pdpte1, v->guest_pdpte2, v->guest_pdpte3};
    if (!(proc2 & PROC2_ENABLE_EPT))
        for (unsigned i = 0; i < 4; i++)
            entry[i] = phys_load(cpu->phys, (v->guest_cr3 & 0xffffffe0u) + 8 * i, 8);
    for (unsigned i = 0; i < 4; i++)
        if (entry[i] & 1 && entry[i] & reserved)
            return false;
    return true;
}

/* -- Also used elsewhere ------------------------------------------------------------------------------- */

/* SDM 3C, "Extended-Page-Table Pointer (EPTP)" */
bool vmx_eptp_ok(const struct cpu *cpu, uint64_t eptp)
{
    uint64_t cap = cpu->vmx->caps.msr[IA32_VMX_EPT_VPID_CAP - IA32_VMX_BASIC];
    unsigned type = eptp & 7;
    if (!((type == 0 && cap & EPT_CAP_UC) || (type == 6 && cap & EPT_CAP_WB)))
        return false;
    if ((eptp >> 3 & 7) != 3 || (eptp & BIT(6) && !(cap & EPT_CAP_AD)))
        return false;
    return !(eptp & (BITS(11, 7) | BITS(63, cpu->model->maxphyaddr)));
}

bool vmx_pat_ok(uint64_t pat)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned type = pat >> (8 * i) & 0xff;
        if (type > 7 || type == 2 || type == 3)
            return false;
    }
    return true;
}

bool vmx_efer_ok(uint64_t efer)
{
    return !(efer & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE));
}

/* -- First failure ------------------------------------------------------------------------------------- */

enum row_number {
#define CHECK(name, group, section, inputs, when, must, sentence) ROW_##name,
#include "cpu/vmx/entry_checks.def"
#undef CHECK
};

/* Which function a row belongs to, by its section. */
enum part {
    SECTION_EXECUTION_PART,
    SECTION_EXIT_PART,
    SECTION_ENTRY_PART,
    SECTION_HOST_CR_PART,
    SECTION_HOST_SEGMENT_PART,
    SECTION_ADDRESS_SPACE_PART,
    SECTION_GUEST_CR_PART,
    SECTION_GUEST_SEGMENT_PART,
    SECTION_GUEST_TABLES_PART,
    SECTION_GUEST_RIP_PART,
    SECTION_GUEST_OTHER_PART,
    SECTION_GUEST_PDPTE_PART,
};

/*
 * One straight line of tests for the rows of some groups and parts, in the order of the table; both are
 * constants, so other rows vanish.
 */
#define FIRST_FAILURE(function)                                                                              \
    int function(struct cpu *cpu, const struct vmcs *v)                                                      \
    {                                                                                                        \
        const uint32_t pin = v->pin, proc = v->proc, proc2 = vmx_proc2(v);                                   \
        const uint32_t exitc = v->exit_controls, entryc = v->entry_controls;                                 \
        (void)cpu, (void)pin, (void)proc, (void)proc2, (void)exitc, (void)entryc;

#define ROW_TEST(in, name, when, must)                                                                       \
    if ((in) && (when) && unlikely(!(must)))                                                                 \
        return ROW_##name;

FIRST_FAILURE(vmx_check_controls)
#define CHECK(name, group, section, inputs, when, must, sentence)                                            \
    ROW_TEST(CHECK_##group == CHECK_CONTROL, name, when, must)
#include "cpu/vmx/entry_checks.def"
#undef CHECK
return -1;
}

FIRST_FAILURE(vmx_check_entry_controls)
#define CHECK(name, group, section, inputs, when, must, sentence)                                            \
    ROW_TEST(CHECK_##group == CHECK_CONTROL && section##_PART == SECTION_ENTRY_PART, name, when, must)
#include "cpu/vmx/entry_checks.def"
#undef CHECK
return -1;
}

FIRST_FAILURE(vmx_check_host)
#define CHECK(name, group, section, inputs, when, must, sentence)                                            \
    ROW_TEST(CHECK_##group == CHECK_HOST, name, when, must)
#include "cpu/vmx/entry_checks.def"
#undef CHECK
return -1;
}

#define IN_REGISTERS(part) ((part) == SECTION_GUEST_CR_PART || (part) == SECTION_GUEST_TABLES_PART)
#define IN_SEGMENTS(part)  ((part) == SECTION_GUEST_SEGMENT_PART)

FIRST_FAILURE(vmx_check_guest_registers)
#define CHECK(name, group, section, inputs, when, must, sentence)                                            \
    ROW_TEST(CHECK_##group >= CHECK_GUEST && IN_REGISTERS(section##_PART), name, when, must)
#include "cpu/vmx/entry_checks.def"
#undef CHECK
return -1;
}

FIRST_FAILURE(vmx_check_guest_segments)
#define CHECK(name, group, section, inputs, when, must, sentence)                                            \
    ROW_TEST(CHECK_##group >= CHECK_GUEST && IN_SEGMENTS(section##_PART), name, when, must)
#include "cpu/vmx/entry_checks.def"
#undef CHECK
return -1;
}

FIRST_FAILURE(vmx_check_guest_rest)
#define CHECK(name, group, section, inputs, when, must, sentence)                                            \
    ROW_TEST(CHECK_##group >= CHECK_GUEST && !IN_REGISTERS(section##_PART) && !IN_SEGMENTS(section##_PART),  \
             name, when, must)
#include "cpu/vmx/entry_checks.def"
#undef CHECK
return -1;
}

/* Registers and segments fail alike (group GUEST), so taking descriptor tables before segments does not show.
 */
int vmx_check_guest(struct cpu *cpu, const struct vmcs *v)
{
    int row = vmx_check_guest_registers(cpu, v);
    if (row < 0)
        row = vmx_check_guest_segments(cpu, v);
    return row < 0 ? vmx_check_guest_rest(cpu, v) : row;
}

/* -- Row by row ---------------------------------------------------------------------------------------- */

#define CHECK(name, group, section, inputs, when, must, sentence)                                            \
    static bool holds_##name(struct cpu *cpu, const struct vmcs *v)                                          \
    {                                                                                                        \
        const uint32_t pin = v->pin, proc = v->proc, proc2 = vmx_proc2(v);                                   \
        const uint32_t exitc = v->exit_controls, entryc = v->entry_controls;                                 \
        (void)cpu, (void)pin, (void)proc, (void)proc2, (void)exitc, (void)entryc;                            \
        return !(when) || (must);                                                                            \
    }
#include "cpu/vmx/entry_checks.def"
#undef CHECK

static bool (*const predicates[])(struct cpu *, const struct vmcs *) = {
#define CHECK(name, group, section, inputs, when, must, sentence) holds_##name,
#include "cpu/vmx/entry_checks.def"
#undef CHECK
};

const struct check_info check_rows[] = {
#define CHECK(name, group, section, inputs, when, must, sentence)                                            \
    {#name, section, inputs, sentence, CHECK_##group},
#include "cpu/vmx/entry_checks.def"
#undef CHECK
};
const unsigned check_row_count = ARRAY_LEN(check_rows);

int vmx_check_memory(struct cpu *cpu, const struct vmcs *v)
{
    return holds_tpr_threshold_vtpr(cpu, v) ? -1 : ROW_tpr_threshold_vtpr;
}

bool vmx_check_row(struct cpu *cpu, const struct vmcs *v, unsigned row)
{
    return row >= check_row_count || predicates[row](cpu, v);
}

/* -- For people ---------------------------------------------------------------------------------------- */

static const char *group_outcome(unsigned group)
{
    switch (group) {
    case CHECK_CONTROL:
        return "VMfailValid, error 7";
    case CHECK_HOST:
        return "VMfailValid, error 8";
    case CHECK_GUEST_PDPTE:
        return "VM exit 33, qualification 2";
    case CHECK_GUEST_NMI:
        return "VM exit 33, qualification 3";
    case CHECK_GUEST_LINK:
        return "VM exit 33, qualification 4";
    default:
        return "VM exit 33";
    }
}

static void print_inputs(const struct vmcs *v, const char *inputs, FILE *out)
{
    while (*inputs) {
        size_t n = strcspn(inputs, " ");
        const struct vmcs_field *f = vmcs_field_by_member(inputs, n);
        if (f)
            fprintf(out, "    %04X  %-48s %0*llX\n", f->encoding, f->name, f->size * 2,
                    (unsigned long long)vmcs_get(v, f));
        inputs += n + strspn(inputs + n, " ");
    }
}

unsigned vmx_explain(struct cpu *cpu, FILE *out)
{
    const struct vmcs *v = cpu->vmx->vmcs;
    unsigned broken = 0;
    if (!v) {
        fprintf(out, "cpu%u has no current VMCS\n", cpu->id);
        return 0;
    }
    for (unsigned i = 0; i < check_row_count; i++) {
        const struct check_info *r = &check_rows[i];
        if (predicates[i](cpu, v))
            continue;
        broken++;
        fprintf(out, "%s: %s\n  %s (SDM 3C, \"%s\")\n", r->name, group_outcome(r->group), r->sentence,
                r->section);
        print_inputs(v, r->inputs, out);
    }
    if (!broken)
        fprintf(out, "cpu%u: the VMCS at %#llx passes every check of VM entry\n", cpu->id,
                (unsigned long long)v->address);
    return broken;
}
