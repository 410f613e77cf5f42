/*
 * cpu/lift/lift_vector.c -- vector instructions as host stubs: operands, loads and stores around them, and
 * the request that describes the instruction's encoding.
 *
 * SDM 2A, "Instruction Format", "Intel Advanced Vector Extensions". The registers are the request's classes
 * only: a stub has registers of its own, a back end puts in what fits.
 */
#include "cpu/lift/lift_vector.h"

#include <string.h>
#include "cpu/jit/stub.h"

/* -- Operands ------------------------------------------------------------------------------------------ */

unsigned lift_vector_number(const ZydisDecodedOperand *o)
{
    return operand_is_xmm(o)   ? (unsigned)(o->reg.value - ZYDIS_REGISTER_XMM0)
           : operand_is_ymm(o) ? (unsigned)(o->reg.value - ZYDIS_REGISTER_YMM0)
           : operand_is_mmx(o) ? (unsigned)(o->reg.value - ZYDIS_REGISTER_MM0)
                               : lift_gpr(o->reg.value, NULL);
}

static void move_memory(struct lift *l, const ZydisDecodedOperand *o, unsigned v, bool aligned, bool store)
{
    static const enum uop_op ops[2][3] = {{UOP_VLOAD, UOP_VLOAD16, UOP_VLOAD32},
                                          {UOP_VSTORE, UOP_VSTORE16, UOP_VSTORE32}};
    unsigned width = o->size >= 256 ? 2 : o->size >= 128 ? 1 : 0;
    struct uop *u = ir_emit(l->ir, ops[store][width], width ? 0 : lift_size(o));
    lift_mem(l, u, o);
    u->d = (uint8_t)v;
    u->imm = aligned && width;
}

void lift_vector_load(struct lift *l, const ZydisDecodedOperand *o, unsigned v, bool aligned)
{
    move_memory(l, o, v, aligned, false);
}

void lift_vector_store(struct lift *l, const ZydisDecodedOperand *o, unsigned v, bool aligned)
{
    move_memory(l, o, v, aligned, true);
}

/* -- The request --------------------------------------------------------------------------------------- */

static uint8_t class_of(const ZydisDecodedOperand *o)
{
    return operand_is_xmm(o) || operand_is_ymm(o) ? STUB_XMM : operand_is_mmx(o) ? STUB_MMX : STUB_GPR;
}

static void request_implicit(struct stub_request *q, const ZydisDecodedOperand *o, bool read, bool write)
{
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

static void request_operand(struct stub_request *q, const ZydisDecodedOperand *o)
{
    bool read = o->actions & (ZYDIS_OPERAND_ACTION_MASK_READ),
         write = o->actions & (ZYDIS_OPERAND_ACTION_MASK_WRITE);
    switch (o->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
        q->reg = class_of(o);
        /* Partial writes of legacy forms keep the rest of the register. */
        q->reg_read = read || (!q->vex && q->reg != STUB_GPR);
        q->reg_write = write;
        q->extension = 0xff;
        break;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
        q->rm_memory = operand_is_mem(o);
        q->rm = q->rm_memory ? STUB_NOTHING : class_of(o);
        q->rm_read = read || (!q->vex && q->rm != STUB_GPR && q->rm != STUB_NOTHING);
        q->rm_write = write;
        break;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
        q->vvvv = STUB_XMM;
        q->vvvv_read = read;
        q->vvvv_write = write;
        break;
    case ZYDIS_OPERAND_ENCODING_IS4:
        q->is4 = true;
        break;
    default:
        if (operand_is_imm(o)) {
            q->has_imm = true;
            q->imm = (uint8_t)o->imm.value.u;
        } else if (operand_is_reg(o)) {
            request_implicit(q, o, read, write);
        }
        break;
    }
}

static uint8_t mandatory_prefix(const ZydisDecodedInstruction *zi)
{
    for (int i = (int)zi->raw.prefix_count - 1; i >= 0; i--)
        if (zi->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
            return zi->raw.prefixes[i].value;
    return 0;
}

/* Outside 64-bit mode VEX.W does not widen general registers (SDM 2, the pages of VMOVD, VPINSRD, VCVTSI2SS
 * and their kin). */
static bool vex_w(const struct lift *l)
{
    if (!l->zi.raw.vex.W || (l->key & KEY_L))
        return l->zi.raw.vex.W;
    switch (l->zi.mnemonic) {
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VPINSRB:
    case ZYDIS_MNEMONIC_VPINSRW:
    case ZYDIS_MNEMONIC_VPEXTRB:
    case ZYDIS_MNEMONIC_VPEXTRW:
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTSS2SI:
    case ZYDIS_MNEMONIC_VCVTSD2SI:
    case ZYDIS_MNEMONIC_VCVTTSS2SI:
    case ZYDIS_MNEMONIC_VCVTTSD2SI:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRM:
        return false;
    default:
        return true;
    }
}

/* VEX.L of the request: 0 where the instruction ignores it. */
static bool vex_256(const struct lift *l)
{
    for (unsigned i = 0; i < l->zi.operand_count; i++)
        if (operand_is_ymm(&l->op[i]) || l->op[i].size == 256)
            return true;
    return false;
}

static void request_encoding(const struct lift *l, struct stub_request *q)
{
    static const uint8_t prefixes[] = {0, 0x66, 0xf3, 0xf2};
    q->map = l->zi.opcode_map == ZYDIS_OPCODE_MAP_0F38   ? STUB_MAP_0F38
             : l->zi.opcode_map == ZYDIS_OPCODE_MAP_0F3A ? STUB_MAP_0F3A
                                                         : STUB_MAP_0F;
    q->opcode = l->zi.opcode;
    q->extension = l->zi.raw.modrm.reg;
    q->vex = l->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    if (q->vex) {
        q->prefix = prefixes[l->zi.raw.vex.pp & 3];
        q->vex_l = vex_256(l);
        q->vex_w = vex_w(l);
    } else {
        q->prefix = mandatory_prefix(&l->zi);
        q->rex_w = l->zi.raw.rex.W;
    }
}

/* -- The stub ------------------------------------------------------------------------------------------ */

static const struct vec_stub *find_stub(struct lift *l, const struct stub_request *q)
{
    const char *name = ZydisMnemonicGetString(l->zi.mnemonic);
    const struct vec_stub *s = stub_get(l->stubs, q, name);
    if (!s) {
        log_unimplemented(l->log, "insn %s: no host stub", name);
        lift_raise(l, EXC_UD);
    }
    return s;
}

static void probe_store(struct lift *l, const ZydisDecodedOperand *memory)
{
    uint8_t am = lift_ea(l, REG_T0, memory);
    struct uop *u = lift_helper(l, HELPER_vector_probe, 0);
    u->am = am;
    u->a = REG_T0;
    u->aux2 = memory->size / 8;
}

void lift_vector_stub(struct lift *l, bool mxcsr, bool aligned)
{
    struct stub_request q;
    memset(&q, 0, sizeof(q)); /* padding takes part in the comparison */
    request_encoding(l, &q);
    q.mxcsr = mxcsr;
    unsigned reg = 0, rm = VREG_T0, vvvv = 0, is4 = 0;
    const ZydisDecodedOperand *memory = NULL;
    for (unsigned i = 0; i < l->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &l->op[i];
        request_operand(&q, o);
        if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
            reg = lift_vector_number(o);
        else if (o->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
            vvvv = lift_vector_number(o);
        else if (o->encoding == ZYDIS_OPERAND_ENCODING_IS4)
            is4 = lift_vector_number(o);
        else if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM && operand_is_reg(o))
            rm = lift_vector_number(o);
        else if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
            memory = o;
    }
    const struct vec_stub *s = find_stub(l, &q);
    if (!s)
        return;
    bool mmx = q.reg == STUB_MMX || q.rm == STUB_MMX;
    if (memory && mmx) /* a pending #MF comes before the operand's faults */
        lift_helper(l, HELPER_fwait, 0);
    if (memory && (memory->actions & ZYDIS_OPERAND_ACTION_MASK_READ))
        lift_vector_load(l, memory, VREG_T0, aligned);
    else if (memory && (mmx || mxcsr)) /* the store's faults come before TOP, tags and MXCSR change */
        probe_store(l, memory);
    struct uop *u = ir_emit(l->ir, UOP_VSTUB, 0);
    u->d = (uint8_t)reg;
    u->a = (uint8_t)rm;
    u->b = (uint8_t)vvvv;
    u->c = (uint8_t)is4;
    u->imm = (int64_t)(uintptr_t)s;
    if (memory && (memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
        lift_vector_store(l, memory, VREG_T0, aligned);
}

/* -- What is ours on every host ------------------------------------------------------------------------ */

void lift_vector_approximate(struct lift *l)
{
    unsigned m = l->zi.mnemonic;
    bool vex = l->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    bool root = m == ZYDIS_MNEMONIC_RSQRTPS || m == ZYDIS_MNEMONIC_RSQRTSS || m == ZYDIS_MNEMONIC_VRSQRTPS ||
                m == ZYDIS_MNEMONIC_VRSQRTSS;
    bool scalar = m == ZYDIS_MNEMONIC_RCPSS || m == ZYDIS_MNEMONIC_RSQRTSS || m == ZYDIS_MNEMONIC_VRCPSS ||
                  m == ZYDIS_MNEMONIC_VRSQRTSS;
    const ZydisDecodedOperand *last = &l->op[vex && scalar ? 2 : 1];
    unsigned source = VREG_T0;
    if (operand_is_mem(last))
        lift_vector_load(l, last, VREG_T0, !vex);
    else
        source = lift_vector_number(last);
    struct uop *u = lift_helper(l, HELPER_sse_approximate, 0);
    u->d = (uint8_t)lift_vector_number(&l->op[0]);
    u->a = (uint8_t)source;
    u->b = (uint8_t)(vex && scalar ? lift_vector_number(&l->op[1]) : u->d);
    u->aux2 = scalar ? 1 : vex && vex_256(l) ? 8 : 4;
    u->imm = (root ? 1 : 0) | (vex ? 2 : 0);
}

/* Bytes of the first operand whose mask bit is set go to DS:rDI. */
void lift_vector_maskmov(struct lift *l)
{
    const ZydisDecodedOperand *memory = NULL, *reg[2] = {NULL, NULL};
    for (unsigned i = 0; i < l->zi.operand_count; i++) {
        if (operand_is_mem(&l->op[i]))
            memory = &l->op[i];
        else if (operand_is_xmm(&l->op[i]) || operand_is_mmx(&l->op[i]))
            reg[reg[0] ? 1 : 0] = &l->op[i];
    }
    uint8_t am = lift_ea(l, REG_T0, memory);
    struct uop *u = lift_helper(l, HELPER_sse_maskmov, 0);
    u->am = am;
    u->d = (uint8_t)lift_vector_number(reg[0]);
    u->a = (uint8_t)lift_vector_number(reg[1]);
    u->b = REG_T0;
    u->aux2 = operand_is_mmx(reg[0]);
}
