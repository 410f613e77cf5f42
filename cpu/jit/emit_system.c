/*
 * cpu/jit/emit_system.c -- system instructions inline: CLI, STI, SWAPGS, PUSHF's image, control registers
 * and selectors that are read, RDTSC, VMREAD and VMWRITE.
 *
 * Inline is only what cannot fault here, as the block key and the micro-ops before it say. What depends on
 * the running state is tested, and C does the rest of the cases.
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

#include "cpu/ir/helper.h"
#include "cpu/lapic.h"
#include "cpu/vmx/vmx.h"

static bool supervisor(const struct emit *e)
{
    return (e->b->key & (KEY_L | 3u << KEY_CPL_SHIFT)) == KEY_L;
}

/* -- Flags --------------------------------------------------------------------------------------------- */

/* There is a next instruction in the block, and nothing in it can fault, leave, or ask what is blocked. */
static bool next_is_plain(const struct emit *e)
{
    const struct block *b = e->b;
    unsigned next = e->u->insn + 1u;
    if (next >= b->insn_count)
        return false;
    for (unsigned i = e->index + 1u; i < b->uop_count && b->uops[i].insn == next; i++) {
        unsigned op = b->uops[i].op;
        if (op != UOP_EXIT && (uop_info[op].flags & (U_FAULT | U_END)))
            return false;
    }
    return true;
}

/* SDM 2B, "STI": interrupts stay blocked until after the next instruction. When none is pending, and that
 * instruction can make none pending, nobody can see the difference. */
static bool sti(struct emit *e)
{
    struct asm_buf *a = &e->a;
    if (!supervisor(e) || !next_is_plain(e))
        return false;
    asm_load(a, 2, R_A, CPU_MEM(rflags));
    asm_op(a, 2, 0xf7, 0, rm_reg(R_A)); /* TEST */
    asm_u32(a, FLAG_IF);
    uint8_t *on = asm_jcc(a, CC_NE);
    e->s.host_mask = 0;
    asm_alu_imm(a, 2, 7, CPU_MEM(attention), 0);
    emit_cold(e, COLD_STEP, asm_jcc(a, CC_NE));
    asm_load(a, 3, R_B, CPU_MEM(lapic));
    asm_alu_imm(a, 0, 7, rm_mem(R_B, offsetof(struct lapic, pending)), 0);
    emit_cold(e, COLD_STEP, asm_jcc(a, CC_NE));
    asm_alu_imm(a, 0, 7, CPU_MEM(nmi_pending), 0);
    emit_cold(e, COLD_STEP, asm_jcc(a, CC_NE));
    asm_alu_imm(a, 0, 7, CPU_MEM(vmx_non_root), 0);
    emit_cold(e, COLD_STEP, asm_jcc(a, CC_NE));
    asm_alu_imm(a, 2, 1, rm_reg(R_A), FLAG_IF);
    asm_store(a, 2, R_A, CPU_MEM(rflags));
    if (!a->full)
        asm_patch(on, a->at);
    return true;
}

static bool cli(struct emit *e)
{
    if (!supervisor(e))
        return false;
    asm_alu_imm(&e->a, 2, 4, CPU_MEM(rflags), ~FLAG_IF);
    e->s.host_mask = 0;
    return true;
}

/* Are the host's flags those of an operation that defines all six? */
static bool host_flags_exact(const struct emit *e)
{
    unsigned kind = e->s.rec.kind;
    return e->s.rec_valid && kind < FK_OP && kind != FK_MUL && kind != FK_IMAGE;
}

static bool get_flags(struct emit *e)
{
    struct asm_buf *a = &e->a;
    if (!host_flags_exact(e))
        e->s.host_mask = 0;
    emit_need_flags(e, HF_ALL);
    asm_byte(a, 0x9c); /* PUSHF */
    asm_op(a, 2, 0x8f, 0, rm_reg(R_A));
    asm_alu_imm(a, 2, 4, rm_reg(R_A), FLAGS_ARITH);
    asm_alu(a, 3, 1, R_A, CPU_MEM(rflags));
    asm_alu_imm(a, 2, 1, rm_reg(R_A), FLAG_1);
    e->s.host_mask = 0;
    emit_before_write(e, e->u->d);
    emit_put(e, e->u->d, 3, R_A);
    return true;
}

/* -- SWAPGS -------------------------------------------------------------------------------------------- */

static bool swapgs(struct emit *e)
{
    struct asm_buf *a = &e->a;
    struct rm base = CPU_MEM(seg), other = CPU_MEM(msr);
    base.disp += (int32_t)(SEG_GS * sizeof(struct segment) + offsetof(struct segment, base));
    other.disp += (int32_t)offsetof(struct msr_state, kernel_gs_base);
    asm_load(a, 3, R_A, base);
    asm_load(a, 3, R_B, other);
    asm_store(a, 3, R_A, other);
    asm_store(a, 3, R_B, base);
    return true;
}

/* -- Registers that are only read ---------------------------------------------------------------------- */

/* In non-root operation MOV from CR3 may exit, and CR0 and CR4 have shadows. */
static bool read_cr(struct emit *e)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    struct rm cr;
    switch (u->imm) {
    case 0:
        cr = CPU_MEM(cr0);
        break;
    case 2:
        cr = CPU_MEM(cr2);
        break;
    case 3:
        cr = CPU_MEM(cr3);
        break;
    case 4:
        cr = CPU_MEM(cr4);
        break;
    default:
        return false;
    }
    if (!supervisor(e))
        return false;
    if (u->imm != 2) {
        asm_alu_imm(a, 0, 7, CPU_MEM(vmx_non_root), 0);
        e->s.host_mask = 0;
        emit_cold(e, COLD_STEP, asm_jcc(a, CC_NE));
    }
    emit_before_write(e, u->d);
    asm_load(a, 3, R_A, cr);
    emit_put(e, u->d, 3, R_A);
    return true;
}

static bool read_segment(struct emit *e)
{
    const struct uop *u = e->u;
    struct rm selector = CPU_MEM(seg);
    selector.disp += (int32_t)(u->aux2 * sizeof(struct segment) + offsetof(struct segment, selector));
    emit_before_write(e, u->d);
    asm_op(&e->a, 2, 0x0fb7, R_A, selector); /* MOVZX */
    emit_put(e, u->d, 3, R_A);
    return true;
}

/* -- RDTSC and RDTSCP ---------------------------------------------------------------------------------- */

/* The time is what cpu_sync() would make of the budget; the offset is 0 where VMX has none. */
static bool rdtsc(struct emit *e)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    struct rm adjust = CPU_MEM(msr), aux = CPU_MEM(msr);
    adjust.disp += (int32_t)offsetof(struct msr_state, tsc_adjust);
    aux.disp += (int32_t)offsetof(struct msr_state, tsc_aux);
    asm_load(a, 3, R_A, CPU_MEM(vmx));
    asm_alu_imm(a, 3, 7, rm_mem(R_A, vmx_tsc_multiplier_offset()), 0);
    e->s.host_mask = 0;
    emit_cold(e, COLD_STEP, asm_jcc(a, CC_NE));
    emit_before_write(e, REG_RAX);
    emit_before_write(e, REG_RDX);
    asm_load(a, 3, R_A, CPU_MEM(slice_end));
    asm_alu(a, 3, 5, R_A, CPU_MEM(budget));
    asm_alu(a, 3, 0, R_A, adjust);
    asm_alu(a, 3, 0, R_A, CPU_MEM(tsc_offset));
    asm_alu_imm(a, 3, 5, rm_reg(R_A), e->b->insn_count - u->insn);
    emit_put(e, REG_RAX, 2, R_A);
    asm_shift_imm(a, 3, 5, rm_reg(R_A), 32);
    emit_put(e, REG_RDX, 2, R_A);
    if (u->imm) {
        emit_before_write(e, REG_RCX);
        asm_load(a, 2, R_A, aux);
        emit_put(e, REG_RCX, 2, R_A);
    }
    return true;
}

/* -- VMREAD and VMWRITE -------------------------------------------------------------------------------- */

/* May u write register reg? Only what is surely no is told. */
static bool keeps(const struct uop *u, unsigned reg)
{
    switch (u->op) {
    case UOP_MOV:
    case UOP_MOVI:
    case UOP_LOAD:
    case UOP_ADD:
    case UOP_ADDI:
    case UOP_ADD_NF:
    case UOP_ADDI_NF:
    case UOP_SUB:
    case UOP_SUBI:
    case UOP_AND:
    case UOP_ANDI:
    case UOP_OR:
    case UOP_ORI:
    case UOP_XOR:
    case UOP_LEA:
        return u->d != reg;
    case UOP_STORE:
    case UOP_STOREI:
    case UOP_CMP:
    case UOP_CMPI:
    case UOP_TEST:
    case UOP_TESTI:
    case UOP_GUARD:
        return true;
    case UOP_PUSH:
    case UOP_PUSHI:
        return reg != REG_RSP;
    case UOP_POP:
        return u->d != reg && reg != REG_RSP;
    case UOP_HELPER:
        return u->aux == HELPER_vmwrite || (u->aux == HELPER_vmread && u->d != reg);
    default:
        return false;
    }
}

/* The value that register reg is known to have before the running micro-op. */
static bool known_value(const struct emit *e, unsigned reg, uint64_t *value)
{
    for (unsigned i = e->index; i-- > 0;) {
        const struct uop *u = &e->b->uops[i];
        if (u->op == UOP_MOVI && u->d == reg && u->size >= 2) {
            *value = u->size == 3 ? (uint64_t)u->imm : (uint32_t)u->imm;
            return true;
        }
        if (!keeps(u, reg))
            return false;
    }
    return false;
}

/* VMsucceed: all six arithmetic flags are 0 (cpu/flags.h). */
static void succeed(struct emit *e)
{
    struct asm_buf *a = &e->a;
    asm_store_imm(a, 3, CPU_MEM(cc_result), 1);
    asm_store_imm(a, 3, CPU_MEM(cc_aux), 0);
    asm_store_imm(a, 3, CPU_MEM(cc_op), FK_SETTLED);
    emit_drop_flags(e);
    e->s.settled = true;
    e->s.host_mask = 0;
}

/* An encoding that is known only now. Sizes: VMREAD masks what it has read too much of, in struct vmcs still.
 */
static void computed_field(struct emit *e, bool write)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    const struct vmx_field_slots f = vmx_field_slots();
    struct rm at = rm_mem(R_A, 0);
    emit_take_c(e);
    asm_alu_imm(a, 0, 7, CPU_MEM(vmx_non_root), 0);
    e->s.host_mask = 0;
    emit_cold(e, COLD_STEP, asm_jcc(a, CC_NE));
    asm_load(a, 3, R_A, emit_operand(e, u->b));
    asm_op(a, 3, 0xf7, 0, rm_reg(R_A)); /* TEST */
    asm_u32(a, ~f.bits);
    emit_cold(e, COLD_STEP, asm_jcc(a, CC_NE));
    asm_imm64(a, R_B, f.bits);
    asm_vex(a, 2, 2, 1, 0, 0xf5, R_A, R_A, rm_reg(R_B)); /* PEXT */
    asm_load(a, 3, R_B, CPU_MEM(vmx));
    asm_load(a, 2, R_C, rm_sib(R_B, R_A, 2, f.slots));
    asm_load(a, 3, R_B, rm_mem(R_B, 0));
    asm_op(a, 3, 0x85, R_B, rm_reg(R_B)); /* TEST */
    emit_cold(e, COLD_STEP, asm_jcc(a, CC_E));
    asm_op(a, 2, 0xf7, 0, rm_reg(R_C)); /* TEST */
    asm_u32(a, 0xff0000);
    emit_cold(e, COLD_STEP, asm_jcc(a, CC_E));
    asm_op(a, 2, 0x0fb7, R_A, rm_reg(R_C)); /* MOVZX */
    asm_alu(a, 3, 0, R_A, rm_reg(R_B));
    asm_shift_imm(a, 2, 5, rm_reg(R_C), 16);
    if (write) {
        asm_store(a, 2, R_C, CPU_MEM(jit_scratch));
        asm_shift_imm(a, 2, 5, rm_reg(R_C), 8);
        asm_alu_store(a, 0, 1, R_C, rm_mem(R_B, f.dirty_offset));
        unsigned value = emit_value(e, u->d, R_B);
        asm_alu_imm(a, 0, 7, CPU_MEM(jit_scratch), 4);
        uint8_t *wide = asm_jcc(a, CC_A), *narrow = asm_jcc(a, CC_B);
        asm_store(a, 2, value, at);
        uint8_t *done = asm_jmp(a);
        asm_patch(wide, a->at);
        asm_store(a, 3, value, at);
        uint8_t *also = asm_jmp(a);
        asm_patch(narrow, a->at);
        asm_store(a, 1, value, at);
        asm_patch(done, a->at);
        asm_patch(also, a->at);
    } else {
        asm_op(a, 2, 0x0fb6, R_C, rm_reg(R_C)); /* MOVZX */
        asm_shift_imm(a, 2, 4, rm_reg(R_C), 3);
        asm_vex(a, 2, 0, 1, 0, 0xf5, R_A, R_C, at); /* BZHI */
        emit_drop_flags(e);
        emit_put(e, u->d, 3, R_A);
    }
    succeed(e);
}

/* b: encoding; d: register; see vmx_field_place() for what must hold. */
static bool field(struct emit *e, bool write)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    struct vmx_field_place f;
    uint64_t encoding;
    if (u->c || !supervisor(e))
        return false;
    if (!known_value(e, u->b, &encoding)) {
        computed_field(e, write);
        return true;
    }
    if (!vmx_field_place(e->cpu, encoding, &f) || f.computed)
        return false;
    asm_alu_imm(a, 0, 7, CPU_MEM(vmx_non_root), 0);
    e->s.host_mask = 0;
    emit_cold(e, COLD_STEP, asm_jcc(a, CC_NE));
    asm_load(a, 3, R_A, CPU_MEM(vmx));
    asm_load(a, 3, R_A, rm_mem(R_A, 0));
    asm_op(a, 3, 0x85, R_A, rm_reg(R_A));
    emit_cold(e, COLD_STEP, asm_jcc(a, CC_E));
    unsigned size = f.size == 8 ? 3 : f.size == 4 ? 2 : 1;
    if (write) {
        asm_store(a, size, emit_value(e, u->d, R_B), rm_mem(R_A, f.offset));
        if (f.dirty) {
            asm_op(a, 0, 0x80, 1, rm_mem(R_A, f.dirty_offset)); /* OR */
            asm_byte(a, f.dirty);
        }
    } else {
        if (size == 1)
            asm_op(a, 2, 0x0fb7, R_A, rm_mem(R_A, f.offset));
        else
            asm_load(a, size, R_A, rm_mem(R_A, f.offset));
        emit_drop_flags(e);
        emit_put(e, u->d, 3, R_A);
    }
    succeed(e);
    return true;
}

bool emit_system(struct emit *e)
{
    const struct uop *u = e->u;
    if (u->op == UOP_GETF)
        return get_flags(e);
    if (u->op != UOP_HELPER)
        return false;
    switch (u->aux) {
    case HELPER_cli:
        return cli(e);
    case HELPER_sti:
        return sti(e);
    case HELPER_swapgs:
        return swapgs(e);
    case HELPER_read_cr:
        return read_cr(e);
    case HELPER_read_segment:
        return read_segment(e);
    case HELPER_rdtsc:
        return rdtsc(e);
    case HELPER_vmread:
        return field(e, false);
    case HELPER_vmwrite:
        return field(e, true);
    default:
        return false;
    }
}

#endif
