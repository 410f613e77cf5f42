/*
 * cpu/lift/lift_sse.c -- MMX and SSE to SSE4.2: moves as micro-ops, the rest as host instruction stubs.
 *
 * SDM 1, "Programming with Intel SSE..."; SDM 2D, "Exception Type" tables: 16-byte memory operands are
 * aligned except where the instruction says otherwise. A mnemonic may exist for MMX and for XMM registers, so
 * the checks of CR0 and CR4 stand here, by operand.
 */
#include <string.h>

#include "cpu/jit/stub.h"
#include "cpu/lift/rows.h"

/* -- Operands ------------------------------------------------------------------------------------------ */

static bool is_xmm(const ZydisDecodedOperand *o)
{
    return operand_is_reg(o) && o->reg.value >= ZYDIS_REGISTER_XMM0 && o->reg.value <= ZYDIS_REGISTER_XMM15;
}

static bool is_mmx(const ZydisDecodedOperand *o)
{
    return operand_is_reg(o) && o->reg.value >= ZYDIS_REGISTER_MM0 && o->reg.value <= ZYDIS_REGISTER_MM7;
}

static unsigned vector_number(const ZydisDecodedOperand *o)
{
    return is_xmm(o)   ? (unsigned)(o->reg.value - ZYDIS_REGISTER_XMM0)
           : is_mmx(o) ? (unsigned)(o->reg.value - ZYDIS_REGISTER_MM0)
                       : lift_gpr(o->reg.value, NULL);
}

/* SDM 3A, "Providing Operating System Support for Executing SSE Extensions" and the table of MMX exceptions.
 * True when the instruction cannot run: the exception is lifted. */
static bool refused(struct lift *l)
{
    bool xmm = false, mmx = false;
    for (unsigned i = 0; i < l->zi.operand_count; i++) {
        xmm |= is_xmm(&l->op[i]);
        mmx |= is_mmx(&l->op[i]);
    }
    if ((l->key & KEY_EM) || ((xmm || !mmx) && !(l->key & KEY_OSFXSR))) {
        lift_raise(l, EXC_UD);
        return true;
    }
    if (l->key & KEY_TS) {
        lift_raise(l, EXC_NM);
        return true;
    }
    return false;
}

/* Loads the memory operand into VREG_T0. */
static void load_vector(struct lift *l, const ZydisDecodedOperand *o, unsigned v, bool aligned)
{
    struct uop *u =
        ir_emit(l->ir, o->size >= 128 ? UOP_VLOAD16 : UOP_VLOAD, o->size >= 128 ? 0 : lift_size(o));
    lift_mem(l, u, o);
    u->d = (uint8_t)v;
    u->imm = aligned && o->size >= 128;
}

static void store_vector(struct lift *l, const ZydisDecodedOperand *o, unsigned v, bool aligned)
{
    struct uop *u =
        ir_emit(l->ir, o->size >= 128 ? UOP_VSTORE16 : UOP_VSTORE, o->size >= 128 ? 0 : lift_size(o));
    lift_mem(l, u, o);
    u->d = (uint8_t)v;
    u->imm = aligned && o->size >= 128;
}

/* -- Stubs --------------------------------------------------------------------------------------------- */

static uint8_t class_of(const ZydisDecodedOperand *o)
{
    return is_xmm(o) ? STUB_XMM : is_mmx(o) ? STUB_MMX : STUB_GPR;
}

static void request_operand(struct stub_request *q, const ZydisDecodedOperand *o)
{
    bool read = o->actions & (ZYDIS_OPERAND_ACTION_MASK_READ),
         write = o->actions & (ZYDIS_OPERAND_ACTION_MASK_WRITE);
    if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) {
        q->reg = class_of(o);
        /* Partial writes keep the rest of the register. */
        q->reg_read = read || q->reg != STUB_GPR;
        q->reg_write = write;
        q->extension = 0xff;
    } else if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) {
        q->rm_memory = operand_is_mem(o);
        q->rm = q->rm_memory ? STUB_NOTHING : class_of(o);
        q->rm_read = read || (q->rm != STUB_GPR && q->rm != STUB_NOTHING);
        q->rm_write = write;
    } else if (operand_is_imm(o)) {
        q->has_imm = true;
        q->imm = (uint8_t)o->imm.value.u;
    } else if (operand_is_reg(o)) {
        ZydisRegister r = o->reg.value;
        if (r == ZYDIS_REGISTER_XMM0) {
            q->xmm0_read |= read;
            q->xmm0_write |= write;
        } else if (r == ZYDIS_REGISTER_EAX || r == ZYDIS_REGISTER_EDX || r == ZYDIS_REGISTER_RAX ||
                   r == ZYDIS_REGISTER_RDX) {
            q->index_read = true;
        } else if (r == ZYDIS_REGISTER_ECX || r == ZYDIS_REGISTER_RCX) {
            q->ecx_write = true;
        } else if (r == ZYDIS_REGISTER_RFLAGS || r == ZYDIS_REGISTER_EFLAGS || r == ZYDIS_REGISTER_FLAGS) {
            q->flags_write = write;
        }
    }
}

static uint8_t mandatory_prefix(const ZydisDecodedInstruction *zi)
{
    for (int i = (int)zi->raw.prefix_count - 1; i >= 0; i--)
        if (zi->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
            return zi->raw.prefixes[i].value;
    return 0;
}

static bool lift_stub(struct lift *l, bool mxcsr, bool aligned)
{
    struct stub_request q;
    memset(&q, 0, sizeof(q)); /* padding takes part in the comparison */
    q.prefix = mandatory_prefix(&l->zi);
    q.map = l->zi.opcode_map == ZYDIS_OPCODE_MAP_0F38   ? STUB_MAP_0F38
            : l->zi.opcode_map == ZYDIS_OPCODE_MAP_0F3A ? STUB_MAP_0F3A
                                                        : STUB_MAP_0F;
    q.opcode = l->zi.opcode;
    q.extension = l->zi.raw.modrm.reg;
    q.rex_w = l->zi.raw.rex.W;
    q.mxcsr = mxcsr;
    unsigned reg = 0, rm = VREG_T0;
    const ZydisDecodedOperand *memory = NULL;
    for (unsigned i = 0; i < l->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &l->op[i];
        request_operand(&q, o);
        if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
            reg = vector_number(o);
        else if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM && operand_is_reg(o))
            rm = vector_number(o);
        else if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
            memory = o;
    }
    const struct vec_stub *s = stub_get(l->stubs, &q, ZydisMnemonicGetString(l->zi.mnemonic));
    if (!s) {
        log_unimplemented(l->log, "insn %s: no host stub", ZydisMnemonicGetString(l->zi.mnemonic));
        lift_raise(l, EXC_UD);
        return false;
    }
    bool mmx = q.reg == STUB_MMX || q.rm == STUB_MMX;
    if (memory &&
        mmx) /* a pending #MF comes before the operand's faults, and these before TOP and tags change */
        lift_helper(l, HELPER_fwait, 0);
    if (memory && (memory->actions & ZYDIS_OPERAND_ACTION_MASK_READ)) {
        load_vector(l, memory, VREG_T0, aligned);
    } else if (memory && mmx) {
        struct uop *probe = ir_emit(l->ir, UOP_LOADW, lift_size(memory));
        lift_mem(l, probe, memory);
        probe->d = REG_T0;
    }
    struct uop *u = ir_emit(l->ir, UOP_VSTUB, 0);
    u->d = (uint8_t)reg;
    u->a = (uint8_t)rm;
    u->imm = (int64_t)(uintptr_t)s;
    if (memory && (memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
        store_vector(l, memory, VREG_T0, aligned);
    return true;
}

/* Integer and logical instructions. */
void lift_sse(struct lift *l)
{
    if (!refused(l))
        lift_stub(l, false, true);
}

/* Arithmetic that rounds and raises by MXCSR. */
void lift_sse_fp(struct lift *l)
{
    if (!refused(l))
        lift_stub(l, true, true);
}

/* Integer instructions whose memory operand needs no alignment (PCMPxSTRx). */
void lift_sse_unaligned(struct lift *l)
{
    if (!refused(l))
        lift_stub(l, false, false);
}

/* -- Moves --------------------------------------------------------------------------------------------- */

static void move16(struct lift *l, bool aligned)
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[1];
    if (refused(l))
        return;
    if (operand_is_mem(s)) {
        load_vector(l, s, vector_number(d), aligned);
    } else if (operand_is_mem(d)) {
        store_vector(l, d, vector_number(s), aligned);
    } else {
        struct uop *u = ir_emit(l->ir, UOP_VMOV, 0);
        u->d = (uint8_t)vector_number(d);
        u->a = (uint8_t)vector_number(s);
    }
}

void lift_sse_mova(struct lift *l)
{
    move16(l, true);
}

void lift_sse_movu(struct lift *l)
{
    move16(l, false);
}

/* MOVSS, MOVSD, MOVD, MOVQ: loads clear the rest, which is what VLOAD does; stores of the low part. */
void lift_sse_mov_scalar(struct lift *l)
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[1];
    if (is_xmm(d) && operand_is_mem(s) && !refused(l))
        load_vector(l, s, vector_number(d), false);
    else if (is_xmm(s) && operand_is_mem(d) && !refused(l))
        store_vector(l, d, vector_number(s), false);
    else if (!l->end && !refused(l))
        lift_stub(l, false, false);
}

/* -- What is ours on every host ------------------------------------------------------------------------ */

/* RCPPS, RCPSS, RSQRTPS, RSQRTSS: helper sse_approximate; aux2 bit 0 scalar, bit 1 reciprocal square root. */
void lift_sse_approximate(struct lift *l)
{
    if (refused(l))
        return;
    bool scalar = l->zi.mnemonic == ZYDIS_MNEMONIC_RCPSS || l->zi.mnemonic == ZYDIS_MNEMONIC_RSQRTSS;
    bool root = l->zi.mnemonic == ZYDIS_MNEMONIC_RSQRTPS || l->zi.mnemonic == ZYDIS_MNEMONIC_RSQRTSS;
    unsigned source = VREG_T0;
    if (operand_is_mem(&l->op[1]))
        load_vector(l, &l->op[1], VREG_T0, true);
    else
        source = vector_number(&l->op[1]);
    struct uop *u = lift_helper(l, HELPER_sse_approximate, 0);
    u->d = (uint8_t)vector_number(&l->op[0]);
    u->a = (uint8_t)source;
    u->aux2 = (scalar ? 1 : 0) | (root ? 2 : 0);
}

/* MASKMOVDQU, MASKMOVQ: bytes of the first operand whose mask bit is set go to DS:rDI. */
void lift_sse_maskmov(struct lift *l)
{
    const ZydisDecodedOperand *memory = NULL, *reg[2] = {NULL, NULL};
    if (refused(l))
        return;
    for (unsigned i = 0; i < l->zi.operand_count; i++) {
        if (operand_is_mem(&l->op[i]))
            memory = &l->op[i];
        else if (is_xmm(&l->op[i]) || is_mmx(&l->op[i]))
            reg[reg[0] ? 1 : 0] = &l->op[i];
    }
    uint8_t am = lift_ea(l, REG_T0, memory);
    struct uop *u = lift_helper(l, HELPER_sse_maskmov, 0);
    u->am = am;
    u->d = (uint8_t)vector_number(reg[0]);
    u->a = (uint8_t)vector_number(reg[1]);
    u->b = REG_T0;
    u->aux2 = is_mmx(reg[0]);
}

void lift_emms(struct lift *l)
{
    if (l->key & KEY_EM)
        lift_raise(l, EXC_UD);
    else if (l->key & KEY_TS)
        lift_raise(l, EXC_NM);
    else
        lift_helper(l, HELPER_emms, 0);
}
