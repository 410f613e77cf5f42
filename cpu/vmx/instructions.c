/*
 * vmx/instructions.c -- the VMX instructions.
 *
 * SDM 3C, "VMX Instruction Reference": each function follows the Operation section of its instruction, in
 * order. Reads, writes: struct cpu, the cache of VMCSs, guest memory. Order:  #UD (not in VMX operation,
 * wrong mode), VM exit, #GP(0) by CPL, VMfail, memory operand. Not here: VM entry itself (entry.c), operands
 * (cpu/lift/lift_vmx.c). Watch:  --trace 'vmx_insn'                         Tests: tests/unit/test_vmx_insn.c
 */
#include "cpu/exec.h"
#include "cpu/flags.h"
#include "cpu/ir/helper.h"
#include "cpu/vmx/internal.h"

/* IA32_FEATURE_CONTROL */
#define FEATURE_CONTROL_LOCK            BIT(0)
#define FEATURE_CONTROL_VMX_OUTSIDE_SMX BIT(2)

/* -- Conventions of the VMX instructions --------------------------------------------------------------- */

static void vm_succeed(struct cpu *cpu)
{
    flags_set_arith(cpu, 0);
}

static void vm_fail_invalid(struct cpu *cpu)
{
    flags_set_arith(cpu, FLAG_CF);
}

static void vm_fail_valid(struct cpu *cpu, struct vmcs *v, uint32_t error)
{
    flags_set_arith(cpu, FLAG_ZF);
    v->instruction_error = error;
}

static void vm_fail(struct cpu *cpu, uint32_t error)
{
    if (cpu->vmx->vmcs)
        vm_fail_valid(cpu, cpu->vmx->vmcs, error);
    else
        vm_fail_invalid(cpu);
}

static void check_mode(struct cpu *cpu)
{
    if (!(cpu->cr0 & CR0_PE) || cpu->rflags & FLAG_VM || (cpu_long_mode(cpu) && !cpu_64bit(cpu)))
        cpu_raise_ud(cpu);
}

/* What all but VMXON begin with: #UD, then the unconditional exit, then CPL. */
static void begin(struct cpu *cpu, unsigned reason, bool operand)
{
    if (!cpu->vmx_on)
        cpu_raise_ud(cpu);
    check_mode(cpu);
    if (cpu->vmx_non_root) {
        if (operand)
            vmx_exit_insn_operand(cpu, reason);
        vmx_exit_insn(cpu, reason, 0);
    }
    if (cpu->cpl > 0)
        cpu_raise_gp0(cpu);
}

static uint64_t read_operand(struct cpu *cpu, const struct uop *u, unsigned offset, unsigned size)
{
    return cpu_read(cpu, AM_SEG(u->am), cpu->r[u->a] + offset, size);
}

/* -- VMXON, VMXOFF ------------------------------------------------------------------------------------- */

void helper_vmxon(struct cpu *cpu, const struct uop *u)
{
    struct vmx *x = cpu->vmx;
    const uint64_t *m = x->caps.msr;
    if (!(cpu->cr4 & CR4_VMXE))
        cpu_raise_ud(cpu);
    check_mode(cpu);
    if (!cpu->vmx_on) {
        const uint64_t wanted = FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUTSIDE_SMX;
        if (cpu->cpl > 0 || !vmx_cr0_allowed(cpu, cpu->cr0) || !vmx_cr4_allowed(cpu, cpu->cr4) ||
            (cpu->msr.feature_control & wanted) != wanted)
            cpu_raise_gp0(cpu);
        gpa_t address = read_operand(cpu, u, 0, 8);
        uint32_t revision = (uint32_t)m[IA32_VMX_BASIC - IA32_VMX_BASIC] & 0x7fffffff;
        if (!vmx_address_ok(cpu, address, 0xfff) || (uint32_t)phys_load(cpu->phys, address, 4) != revision) {
            vm_fail_invalid(cpu);
            return;
        }
        x->vmxon_pointer = address;
        x->vmcs = NULL;
        x->current = VMX_NO_VMCS;
        cpu->vmx_on = true;
        vm_succeed(cpu);
        return;
    }
    if (cpu->vmx_non_root)
        vmx_exit_insn_operand(cpu, EXIT_REASON_VMXON);
    if (cpu->cpl > 0)
        cpu_raise_gp0(cpu);
    vm_fail(cpu, VMERR_VMXON_IN_ROOT);
}

void helper_vmxoff(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    begin(cpu, EXIT_REASON_VMXOFF, false);
    cpu->vmx_on = false;
    cpu->vmx->vmcs = NULL;
    cpu->vmx->current = VMX_NO_VMCS;
    cpu->vmx->vmxon_pointer = VMX_NO_VMCS;
    vm_succeed(cpu);
    /* An INIT that was blocked in VMX operation is looked at again. */
    if (cpu->init_pending)
        cpu->attention |= ATTN_INIT;
}

/* -- VMCLEAR, VMPTRLD, VMPTRST ------------------------------------------------------------------------- */

void helper_vmclear(struct cpu *cpu, const struct uop *u)
{
    struct vmx *x = cpu->vmx;
    begin(cpu, EXIT_REASON_VMCLEAR, true);
    gpa_t address = read_operand(cpu, u, 0, 8);
    if (!vmx_address_ok(cpu, address, 0xfff)) {
        vm_fail(cpu, VMERR_VMCLEAR_ADDRESS);
        return;
    }
    if (address == x->vmxon_pointer) {
        vm_fail(cpu, VMERR_VMCLEAR_VMXON);
        return;
    }
    struct vmcs *v = vmx_cache_find(x, address);
    if (v) {
        v->launched = false;
        vmcs_store_region(v, cpu->phys);
        vmx_cache_drop(x, v);
    } else {
        phys_store(cpu->phys, address + 8, 4, 0); /* launch state clear */
    }
    if (x->current == address) {
        x->current = VMX_NO_VMCS;
        x->vmcs = NULL;
    }
    vm_succeed(cpu);
}

void helper_vmptrld(struct cpu *cpu, const struct uop *u)
{
    struct vmx *x = cpu->vmx;
    begin(cpu, EXIT_REASON_VMPTRLD, true);
    gpa_t address = read_operand(cpu, u, 0, 8);
    if (!vmx_address_ok(cpu, address, 0xfff)) {
        vm_fail(cpu, VMERR_VMPTRLD_ADDRESS);
        return;
    }
    if (address == x->vmxon_pointer) {
        vm_fail(cpu, VMERR_VMPTRLD_VMXON);
        return;
    }
    uint32_t head = (uint32_t)phys_load(cpu->phys, address, 4);
    if ((head & 0x7fffffff) != VMCS_REVISION_ID ||
        (head >> 31 && !(x->caps.allowed1[WORD_PROC2] & PROC2_VMCS_SHADOWING))) {
        vm_fail(cpu, VMERR_VMPTRLD_REVISION);
        return;
    }
    x->vmcs = vmx_cache_get(cpu, address);
    x->vmcs->shadow = head >> 31;
    x->current = address;
    vm_succeed(cpu);
}

void helper_vmptrst(struct cpu *cpu, const struct uop *u)
{
    begin(cpu, EXIT_REASON_VMPTRST, true);
    cpu_write(cpu, AM_SEG(u->am), cpu->r[u->a], 8, cpu->vmx->current);
    vm_succeed(cpu);
}

/* -- VMREAD, VMWRITE ----------------------------------------------------------------------------------- */

/* SDM 3C, VMREAD/VMWRITE in non-root operation: VMCS shadowing and its bitmaps. */
static bool shadowed(struct cpu *cpu, uint64_t encoding, bool write)
{
    const struct vmcs *v = cpu->vmx->vmcs;
    if (!(vmx_proc2(v) & PROC2_VMCS_SHADOWING) || encoding >> 15)
        return false;
    gpa_t bitmap = write ? v->vmwrite_bitmap : v->vmread_bitmap;
    return !(phys_load(cpu->phys, bitmap + (encoding >> 3), 1) >> (encoding & 7) & 1);
}

/* The VMCS that VMREAD and VMWRITE work on, after all checks before the field's; NULL when the instruction
 * has failed. */
static struct vmcs *field_owner(struct cpu *cpu, uint64_t encoding, bool write)
{
    if (!cpu->vmx_on)
        cpu_raise_ud(cpu);
    check_mode(cpu);
    if (unlikely(cpu->vmx_non_root) && !shadowed(cpu, encoding, write))
        vmx_exit_insn_operand(cpu, write ? EXIT_REASON_VMWRITE : EXIT_REASON_VMREAD);
    if (unlikely(cpu->cpl > 0))
        cpu_raise_gp0(cpu);
    struct vmcs *v = cpu->vmx_non_root ? cpu->vmx->linked : cpu->vmx->vmcs;
    if (unlikely(!v))
        vm_fail_invalid(cpu);
    return v;
}

/*
 * What a hypervisor does thousands of times a second: 64-bit mode at CPL 0 in VMX root operation with a
 * current VMCS, and a field that is there. NULL: let the whole instruction find out.
 */
static inline const struct vmcs_slot *fast_slot(const struct cpu *cpu, uint64_t encoding)
{
    const uint32_t wanted = KEY_L | (uint32_t)3 << KEY_CPL_SHIFT;
    /* There is no current VMCS outside VMX operation. */
    if (unlikely((cpu->key & wanted) != KEY_L || cpu->vmx_non_root || !cpu->vmx->vmcs ||
                 encoding & ~(uint64_t)VMCS_SLOT_BITS))
        return NULL;
    const struct vmcs_slot *s = &cpu->vmx->slots[VMCS_SLOT(encoding)];
    return likely(s->size) ? s : NULL;
}

static __attribute__((noinline)) void read_slow(struct cpu *cpu, const struct uop *u)
{
    bool wide = cpu_64bit(cpu);
    uint64_t encoding = wide ? cpu->r[u->b] : (uint32_t)cpu->r[u->b];
    struct vmcs *v = field_owner(cpu, encoding, false);
    if (!v)
        return;
    const struct vmcs_field *f = vmcs_field_supported(&cpu->vmx->caps, encoding);
    if (!f) {
        vm_fail_valid(cpu, v, VMERR_UNSUPPORTED_FIELD);
        return;
    }
    uint64_t value = vmcs_read(v, f, (uint32_t)encoding);
    if (!wide)
        value = (uint32_t)value;
    if (u->c)
        cpu_write(cpu, AM_SEG(u->am), cpu->r[u->a], wide ? 8 : 4, value);
    else
        cpu->r[u->d] = value;
    vm_succeed(cpu);
}

/* b: encoding; c: 1 memory operand at a/am, 0 register d. */
void helper_vmread(struct cpu *cpu, const struct uop *u)
{
    const struct vmcs_slot *s = fast_slot(cpu, cpu->r[u->b]);
    if (unlikely(!s)) {
        read_slow(cpu, u);
        return;
    }
    const uint8_t *p = (const uint8_t *)cpu->vmx->vmcs + s->offset;
    uint64_t value = s->size == 8 ? load_le(p, 8) : s->size == 4 ? load_le(p, 4) : load_le(p, 2);
    if (u->c)
        cpu_write(cpu, AM_SEG(u->am), cpu->r[u->a], 8, value);
    else
        cpu->r[u->d] = value;
    vm_succeed(cpu);
}

static __attribute__((noinline)) void write_slow(struct cpu *cpu, const struct uop *u)
{
    bool wide = cpu_64bit(cpu);
    uint64_t encoding = wide ? cpu->r[u->b] : (uint32_t)cpu->r[u->b];
    struct vmcs *v = field_owner(cpu, encoding, true);
    if (!v)
        return;
    uint64_t value = u->c ? cpu_read(cpu, AM_SEG(u->am), cpu->r[u->a], wide ? 8 : 4) : cpu->r[u->d];
    if (!wide)
        value = (uint32_t)value;
    const struct vmcs_field *f = vmcs_field_supported(&cpu->vmx->caps, encoding);
    if (!f) {
        vm_fail_valid(cpu, v, VMERR_UNSUPPORTED_FIELD);
        return;
    }
    /* Read-only fields can be written: IA32_VMX_MISC bit 29 says so. */
    vmcs_write(v, f, (uint32_t)encoding, value);
    vm_succeed(cpu);
}

/* b: encoding; c: 1 memory operand at a/am, 0 register d. */
void helper_vmwrite(struct cpu *cpu, const struct uop *u)
{
    const struct vmcs_slot *s = fast_slot(cpu, cpu->r[u->b]);
    if (unlikely(!s)) {
        write_slow(cpu, u);
        return;
    }
    struct vmcs *v = cpu->vmx->vmcs;
    uint64_t value = u->c ? cpu_read(cpu, AM_SEG(u->am), cpu->r[u->a], 8) : cpu->r[u->d];
    uint8_t *p = (uint8_t *)v + s->offset;
    if (s->size == 8)
        store_le(p, value, 8);
    else if (s->size == 4)
        store_le(p, value, 4);
    else
        store_le(p, value, 2);
    v->dirty |= s->dirty;
    vm_succeed(cpu);
}

/* -- VMLAUNCH, VMRESUME, VMCALL ------------------------------------------------------------------------ */

static void enter(struct cpu *cpu, bool launch)
{
    begin(cpu, launch ? EXIT_REASON_VMLAUNCH : EXIT_REASON_VMRESUME, false);
    struct vmcs *v = cpu->vmx->vmcs;
    if (!v || v->shadow) {
        vm_fail_invalid(cpu);
        return;
    }
    uint32_t error = 0;
    if (cpu->shadow_mov_ss)
        error = VMERR_ENTRY_MOV_SS;
    else if (launch && v->launched)
        error = VMERR_VMLAUNCH_NOT_CLEAR;
    else if (!launch && !v->launched)
        error = VMERR_VMRESUME_NOT_LAUNCHED;
    else
        error = vmx_enter(cpu);
    if (likely(!error)) {
        /* Translated code takes it from here as after any instruction that jumps. */
        if (!cpu->jit_running)
            cpu_resume(cpu);
        cpu->budget--;
        return;
    }
    vm_fail_valid(cpu, v, error);
}

void helper_vmlaunch(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    enter(cpu, true);
}

void helper_vmresume(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    enter(cpu, false);
}

/*
 * In non-root operation VMCALL exits in every mode, and only then comes the mode's #UD. No dual-monitor
 * treatment of SMM, so in VMX root operation it fails.
 */
void helper_vmcall(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    if (cpu->vmx_on && cpu->vmx_non_root)
        vmx_exit_insn(cpu, EXIT_REASON_VMCALL, 0);
    begin(cpu, EXIT_REASON_VMCALL, false);
    vm_fail(cpu, VMERR_VMCALL_ROOT);
}

/* -- VMFUNC -------------------------------------------------------------------------------------------- */

/*
 * SDM 3C, "EPTP Switching": the new EPTP takes the place of the old in the VMCS, and nothing else changes: no
 * register, no PDPTE, no part of the log of page modifications. A translation context is keyed by the EPTP,
 * so choosing the mode's context anew is all there is to do.
 */
static void switch_eptp(struct cpu *cpu, struct vmcs *v)
{
    uint32_t index = (uint32_t)cpu->r[REG_RCX];
    if (index >= EPTP_LIST_LENGTH)
        vmx_exit_insn(cpu, EXIT_REASON_VMFUNC, 0);
    uint64_t eptp = phys_load(cpu->phys, v->eptp_list_address + 8 * (uint64_t)index, 8);
    if (!vmx_eptp_ok(cpu, eptp))
        vmx_exit_insn(cpu, EXIT_REASON_VMFUNC, 0);
    v->eptp = eptp;
    v->eptp_index = (uint16_t)index;
    v->guest_choice = (struct mmu_choice){.id = 0};
    cpu_mode_changed(cpu);
}

/* At any CPL and in any mode. SDM 3C, "General Operation of the VMFUNC Instruction". */
void helper_vmfunc(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    uint32_t function = (uint32_t)cpu->r[REG_RAX];
    struct vmcs *v = cpu->vmx->vmcs;
    if (!cpu->vmx_non_root || !(vmx_proc2(v) & PROC2_ENABLE_VM_FUNCTIONS) || function > 63)
        cpu_raise_ud(cpu);
    if (!(v->vm_function_controls >> function & 1))
        vmx_exit_insn(cpu, EXIT_REASON_VMFUNC, 0);
    switch_eptp(cpu, v); /* the only one that the checks of VM entry let through */
}

/* -- INVEPT, INVVPID: translations are coherent with their tables, so only the operands matter --------- */

/* b: register with the type. */
void helper_invept(struct cpu *cpu, const struct uop *u)
{
    begin(cpu, EXIT_REASON_INVEPT, true);
    uint64_t type = cpu_64bit(cpu) ? cpu->r[u->b] : (uint32_t)cpu->r[u->b];
    if (type != 1 && type != 2) {
        vm_fail(cpu, VMERR_INVALID_OPERAND);
        return;
    }
    uint64_t eptp = read_operand(cpu, u, 0, 8);
    read_operand(cpu, u, 8, 8);
    if (type == 1 && !vmx_eptp_ok(cpu, eptp)) {
        vm_fail(cpu, VMERR_INVALID_OPERAND);
        return;
    }
    vm_succeed(cpu);
}

void helper_invvpid(struct cpu *cpu, const struct uop *u)
{
    begin(cpu, EXIT_REASON_INVVPID, true);
    uint64_t type = cpu_64bit(cpu) ? cpu->r[u->b] : (uint32_t)cpu->r[u->b];
    if (type > 3) {
        vm_fail(cpu, VMERR_INVALID_OPERAND);
        return;
    }
    uint64_t vpid = read_operand(cpu, u, 0, 8), linear = read_operand(cpu, u, 8, 8);
    if (vpid >> 16 || (type != 2 && vpid == 0) || (type == 0 && !cpu_canonical_register(cpu, linear))) {
        vm_fail(cpu, VMERR_INVALID_OPERAND);
        return;
    }
    vm_succeed(cpu);
}
