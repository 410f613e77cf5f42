/*
 * cpu/state.c -- what of struct cpu is state: each member is described or skipped with a reason.
 *
 * Loading rebuilds nothing here, because local APIC, VMX and clock are sections of their own: the machine
 * calls cpu_loaded() when all of them are there.
 */
#include "cpu/system.h"

static const struct state_field segment_fields[] = {
    STATE(struct segment, base),
    STATE(struct segment, limit),
    STATE(struct segment, ar),
    STATE(struct segment, selector),
};
static const struct state_desc segment_state = STATE_DESC("segment", struct segment, 1, segment_fields, NULL);

static const struct state_field table_fields[] = {
    STATE(struct table_register, base),
    STATE(struct table_register, limit),
};
static const struct state_desc table_state =
    STATE_DESC("table", struct table_register, 1, table_fields, NULL);

static const struct state_field vreg_fields[] = {
    STATE(union vreg, q),
};
static const struct state_desc vreg_state = STATE_DESC("vreg", union vreg, 1, vreg_fields, NULL);

/* An x87 or MMX register: the union of struct x87 has no name of its own. */
struct x87_register {
    uint64_t q[2];
};
static const struct state_field x87_register_fields[] = {
    STATE(struct x87_register, q),
};
static const struct state_desc x87_register_state =
    STATE_DESC("x87-register", struct x87_register, 1, x87_register_fields, NULL);
_Static_assert(sizeof(((struct x87 *)0)->r[0]) == sizeof(struct x87_register), "one x87 register");

static const struct state_field x87_fields[] = {
    STATE_SUB(struct x87, r, x87_register_state),
    STATE(struct x87, fcw),
    STATE(struct x87, fsw),
    STATE(struct x87, top),
    STATE(struct x87, ftw),
    STATE(struct x87, fop),
    STATE(struct x87, fcs),
    STATE(struct x87, fds),
    STATE(struct x87, fip),
    STATE(struct x87, fdp),
};
static const struct state_desc x87_state = STATE_DESC("x87", struct x87, 1, x87_fields, NULL);

static const struct state_field event_fields[] = {
    STATE(struct event, valid),       STATE(struct event, vector),     STATE(struct event, type),
    STATE(struct event, has_error),   STATE(struct event, error_code), STATE(struct event, qualification),
    STATE(struct event, insn_length), STATE(struct event, injected),   STATE(struct event, trap),
};
static const struct state_desc event_state = STATE_DESC("event", struct event, 1, event_fields, NULL);

static const struct state_field msr_fields[] = {
    STATE(struct msr_state, apic_base),
    STATE(struct msr_state, tsc_adjust),
    STATE(struct msr_state, tsc_deadline),
    STATE(struct msr_state, misc_enable),
    STATE(struct msr_state, feature_control),
    STATE(struct msr_state, spec_ctrl),
    STATE(struct msr_state, pat),
    STATE(struct msr_state, star),
    STATE(struct msr_state, lstar),
    STATE(struct msr_state, cstar),
    STATE(struct msr_state, fmask),
    STATE(struct msr_state, kernel_gs_base),
    STATE(struct msr_state, tsc_aux),
    STATE(struct msr_state, sysenter_cs),
    STATE(struct msr_state, sysenter_esp),
    STATE(struct msr_state, sysenter_eip),
    STATE(struct msr_state, mtrr_def_type),
    STATE(struct msr_state, mtrr_fixed),
    STATE(struct msr_state, mtrr_base),
    STATE(struct msr_state, mtrr_mask),
    STATE(struct msr_state, debugctl),
    STATE(struct msr_state, perf_global_ctrl),
    STATE(struct msr_state, xss),
    STATE(struct msr_state, ucode_rev),
    STATE(struct msr_state, misc_features),
    STATE(struct msr_state, bios_sign),
    STATE(struct msr_state, mcg_status),
    STATE(struct msr_state, mcg_ctl),
    STATE(struct msr_state, mc_ctl),
    STATE(struct msr_state, mc_status),
    STATE(struct msr_state, mc_addr),
    STATE(struct msr_state, mc_misc),
    STATE(struct msr_state, smi_count),
    STATE(struct msr_state, spare),
};
static const struct state_desc msr_state_desc = STATE_DESC("msr", struct msr_state, 1, msr_fields, NULL);

static const struct state_field branch_fields[] = {
    STATE(struct branch_records, from),
    STATE(struct branch_records, to),
    STATE(struct branch_records, info),
    STATE(struct branch_records, select),
    STATE(struct branch_records, ler_from),
    STATE(struct branch_records, ler_to),
    STATE(struct branch_records, last_tick),
    STATE(struct branch_records, top),
    STATE_SKIP(struct branch_records, reserved, "padding"),
};
static const struct state_desc branch_state =
    STATE_DESC("branches", struct branch_records, 1, branch_fields, NULL);

static bool refuse(struct error *e, const char *what)
{
    return error_set(e, "processor: impossible %s", what);
}

/* Combinations of mode registers that no sequence of instructions makes (SDM 3A, "Mode Switching"). */
static bool mode_possible(const struct cpu *cpu, struct error *e)
{
    bool lma = cpu->efer & EFER_LMA, lme = cpu->efer & EFER_LME, pg = cpu->cr0 & CR0_PG;
    if (cpu->cr0 >> 32 || (cpu->cr4 & ~cpu_cr4_supported(cpu)))
        return refuse(e, "control register");
    if (cpu->efer & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
        return refuse(e, "IA32_EFER");
    if (lma != (lme && pg) || (lma && !(cpu->cr4 & CR4_PAE)))
        return refuse(e, "mode: IA-32e mode without what it needs");
    if (cpu->cr3 >> cpu->model->maxphyaddr)
        return refuse(e, "CR3");
    if ((cpu->rflags & FLAG_VM) && (!cpu_protected(cpu) || lma || cpu->cpl != 3))
        return refuse(e, "mode: virtual-8086 mode");
    if (!(cpu->xcr0 & 1) || (cpu->xcr0 & ~cpu_xcr0_supported(cpu)) ||
        (cpu->msr.xss & ~cpu_xcr0_supported(cpu)))
        return refuse(e, "XCR0 or IA32_XSS");
    return true;
}

/* What the rest of cpu/ uses as an index or relies on. */
static bool cpu_after_load(void *s, struct error *e)
{
    struct cpu *cpu = s;
    if (cpu->cpl > 3)
        return refuse(e, "privilege level");
    if (cpu->activity > ACTIVITY_WAIT_SIPI)
        return refuse(e, "activity state");
    if ((cpu->efer & EFER_LMA) && !(cpu->cr0 & CR0_PG))
        return refuse(e, "mode: IA-32e mode without paging");
    if ((cpu->cr0 & CR0_PG) && !(cpu->cr0 & CR0_PE))
        return refuse(e, "mode: paging without protection");
    if (!cpu_protected(cpu) && cpu->cpl != 0)
        return refuse(e, "mode: real-address mode outside of ring 0");
    if (!mode_possible(cpu, e))
        return false;
    if (cpu->activity != ACTIVITY_ACTIVE && (cpu->shadow_sti || cpu->shadow_mov_ss))
        return refuse(e, "blocking of events while nothing runs");
    if (cpu->event.valid || cpu->delivering.valid)
        return refuse(e, "event in delivery");
    if (cpu->mxcsr >> 16)
        return refuse(e, "MXCSR");
    enum { APIC_X2 = 1 << 10, APIC_ON = 1 << 11 };
    if ((cpu->msr.apic_base & (APIC_X2 | APIC_ON)) == APIC_X2 || cpu->msr.apic_base >> cpu->model->maxphyaddr)
        return refuse(e, "IA32_APIC_BASE");
    cpu->rflags = (cpu->rflags & ~(uint64_t)FLAGS_ARITH) | FLAG_1;
    cpu->pending_db &= 15 | DR6_BD | DR6_BS | DR6_BT;
    cpu->x87.top &= 7;
    cpu->branches.top %= LBR_DEPTH;
    cpu->r[REG_ZERO] = 0;
    return true;
}

static const struct state_field cpu_fields[] = {
    STATE_SKIP(struct cpu, jit_stack, "of running translated code"),
    {"r", offsetof(struct cpu, r), 16 * 8, 8, STATE_INT, 1, NULL, NULL},
    {"r_temporaries", offsetof(struct cpu, r) + 16 * 8, (REG_COUNT - 16) * 8, 1, STATE_SKIPPED, 1, NULL,
     "dead between instructions"},
    STATE(struct cpu, cc_result),
    STATE(struct cpu, cc_aux),
    STATE(struct cpu, rflags),
    STATE_SKIP(struct cpu, tlb, "derived: cpu_mode_changed()"),
    STATE_SKIP(struct cpu, budget, "of a slice: none runs while the state is saved"),
    STATE_SKIP(struct cpu, attention, "derived: cpu_loaded()"),
    STATE_SKIP(struct cpu, key, "derived: cpu_mode_changed()"),
    STATE_SKIP(struct cpu, vmx_guards, "derived: vmx_loaded()"),
    STATE_SKIP(struct cpu, uop, "of a running block"),
    STATE_SKIP(struct cpu, block, "of a running block"),
    STATE(struct cpu, rip),
    STATE_SKIP(struct cpu, next_rip, "of a running instruction"),
    STATE_SKIP(struct cpu, cc_op, "of running translated code"),
    STATE_SKIP(struct cpu, cc_rot, "of running translated code"),
    STATE_SKIP(struct cpu, cc_cf, "of running translated code"),
    STATE_SKIP(struct cpu, vec_live, "of running translated code"),
    STATE_SKIP(struct cpu, x87_live, "of running translated code"),
    STATE_SKIP(struct cpu, profile_level, "of a running block"),
    STATE_SKIP(struct cpu, jit_running, "of running translated code"),
    STATE_SKIP(struct cpu, cc_bit, "of running translated code"),
    STATE_SKIP(struct cpu, jit_reserved, "padding"),
    STATE_SKIP(struct cpu, cc_a, "of running translated code"),
    STATE_SKIP(struct cpu, cc_b, "of running translated code"),
    STATE_SKIP(struct cpu, jit_tag, "of running translated code"),
    STATE_SKIP(struct cpu, jit_jumps, "of running translated code"),
    STATE_SKIP(struct cpu, jit_edge, "of running translated code"),
    STATE_SKIP(struct cpu, jit_sp, "of running translated code"),
    STATE_SKIP(struct cpu, jit_c, "of running translated code"),
    STATE_SKIP(struct cpu, jit_return, "of running translated code"),
    STATE_SKIP(struct cpu, jit_scratch, "of running translated code"),
    {"v_alignment", offsetof(struct cpu, jit_scratch) + 8,
     offsetof(struct cpu, v) - offsetof(struct cpu, jit_scratch) - 8, 1, STATE_SKIPPED, 1, NULL, "padding"},
    {"v", offsetof(struct cpu, v), 16 * sizeof(union vreg), 0, STATE_NESTED, 1, &vreg_state, NULL},
    {"v_temporaries", offsetof(struct cpu, v) + 16 * sizeof(union vreg),
     (VREG_COUNT - 16) * sizeof(union vreg), 1, STATE_SKIPPED, 1, NULL, "dead between instructions"},
    STATE(struct cpu, mxcsr),
    STATE_SUB(struct cpu, x87, x87_state),
    STATE_SUB(struct cpu, seg, segment_state),
    STATE_SUB(struct cpu, gdtr, table_state),
    STATE_SUB(struct cpu, idtr, table_state),
    STATE(struct cpu, cr0),
    STATE(struct cpu, cr2),
    STATE(struct cpu, cr3),
    STATE(struct cpu, cr4),
    STATE(struct cpu, cr8),
    STATE(struct cpu, efer),
    STATE(struct cpu, xcr0),
    STATE(struct cpu, pdpte),
    STATE(struct cpu, dr),
    STATE(struct cpu, pkru),
    STATE(struct cpu, cpl),
    STATE(struct cpu, activity),
    STATE(struct cpu, shadow_sti),
    STATE(struct cpu, shadow_mov_ss),
    STATE_SKIP(struct cpu, rf_loaded, "of a running instruction"),
    STATE_SKIP(struct cpu, tf_masked, "of a running instruction"),
    STATE_SKIP(struct cpu, branch_class, "of a running instruction"),
    STATE(struct cpu, rep_rip),
    STATE(struct cpu, nmi_blocked),
    STATE(struct cpu, nmi_pending),
    STATE(struct cpu, smi_pending),
    STATE(struct cpu, init_pending),
    STATE(struct cpu, sipi_pending),
    STATE(struct cpu, sipi_vector),
    STATE(struct cpu, pending_db),
    STATE_SUB(struct cpu, msr, msr_state_desc),
    STATE_SUB(struct cpu, branches, branch_state),
    STATE_SKIP(struct cpu, branch_from, "of a running instruction"),
    STATE_SKIP(struct cpu, branch_next, "of a running instruction"),
    STATE_SUB(struct cpu, event, event_state),
    STATE_SUB(struct cpu, delivering, event_state),
    STATE(struct cpu, vmx_on),
    STATE(struct cpu, vmx_non_root),
    STATE(struct cpu, tsc_offset),
    STATE_SKIP(struct cpu, vmx, "a section of its own"),
    STATE_SKIP(struct cpu, lapic, "a section of its own"),
    STATE_SKIP(struct cpu, id, "configuration"),
    STATE(struct cpu, insns),
    STATE(struct cpu, insns_non_root),
    STATE(struct cpu, paused),
    STATE(struct cpu, paused_non_root),
    STATE(struct cpu, random_state),
    STATE_SKIP(struct cpu, mmu, "derived: cpu_mode_changed(), vmx_derive(); translations are no state"),
    STATE_SKIP(struct cpu, phys, "wiring"),
    STATE_SKIP(struct cpu, bus, "wiring"),
    STATE_SKIP(struct cpu, clock, "wiring"),
    STATE_SKIP(struct cpu, log, "wiring"),
    STATE_SKIP(struct cpu, trace, "wiring"),
    STATE_SKIP(struct cpu, code, "wiring"),
    STATE_SKIP(struct cpu, stubs, "wiring"),
    STATE_SKIP(struct cpu, model, "configuration"),
    STATE_SKIP(struct cpu, intr, "wiring"),
    STATE_SKIP(struct cpu, cpu_count, "configuration"),
    STATE_SKIP(struct cpu, slice_end, "of a slice: none runs while the state is saved"),
    STATE_SKIP(struct cpu, stops, "taken by the machine after each slice"),
    STATE_SKIP(struct cpu, jump, "of a slice"),
    /* The last one, with the padding behind it. */
    {"tail", offsetof(struct cpu, tail), sizeof(struct cpu) - offsetof(struct cpu, tail), 1, STATE_SKIPPED, 1,
     NULL, "of a running block"},
};
const struct state_desc cpu_state = STATE_DESC("cpu", struct cpu, 1, cpu_fields, cpu_after_load);
