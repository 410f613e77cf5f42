/*
 * cpu/lift/operand.c -- operands of an instruction as registers and addresses of micro-ops.
 *
 * SDM 1, "Operand Addressing"; SDM 2A, "Addressing-Mode Encoding of ModR/M and SIB Bytes".
 * AH, CH, DH and BH are bits 15:8 of a register: EXTH and INSH move them. RIP-relative addresses are REG_PAGE
 * plus a constant of the block. In 64-bit mode ES, CS, SS and DS have no base and no limit (SDM 3A,
 * "Segmentation in IA-32e Mode").
 */
#include "cpu/lift/lift.h"

#include "cpu/lift/rows.h"

/* -- Registers ----------------------------------------------------------------------------------------- */

unsigned lift_gpr(ZydisRegister r, bool *high)
{
    if (high)
        *high = r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
    if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_BL)
        return (unsigned)(r - ZYDIS_REGISTER_AL);
    if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
        return (unsigned)(r - ZYDIS_REGISTER_AH);
    if (r >= ZYDIS_REGISTER_SPL && r <= ZYDIS_REGISTER_R15B)
        return (unsigned)(r - ZYDIS_REGISTER_SPL) + REG_RSP;
    if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15W)
        return (unsigned)(r - ZYDIS_REGISTER_AX);
    if (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R15D)
        return (unsigned)(r - ZYDIS_REGISTER_EAX);
    if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15)
        return (unsigned)(r - ZYDIS_REGISTER_RAX);
    return REG_ZERO;
}

unsigned lift_size(const ZydisDecodedOperand *o)
{
    switch (o->size) {
    case 8:
        return 0;
    case 16:
        return 1;
    case 32:
        return 2;
    default:
        return 3;
    }
}

/* -- Memory -------------------------------------------------------------------------------------------- */

static bool rip_relative(const ZydisDecodedOperand *o)
{
    return o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP;
}

/* Constant part of the address, from REG_PAGE when RIP-relative. */
static int64_t displacement(const struct lift *l, const ZydisDecodedOperand *o)
{
    int64_t disp = o->mem.disp.has_displacement ? o->mem.disp.value : 0;
    if (rip_relative(o))
        disp += lift_next(l);
    return l->asize == ASIZE_64 ? disp : (int32_t)disp; /* cut to 16 or 32 bits later */
}

/* True for the rare constants beyond 32 bits (MOV with a 64-bit offset; RIP-relative over 2 GB): they go by
 * REG_T7. */
static bool is_far_constant(const struct lift *l, const ZydisDecodedOperand *o)
{
    int64_t disp = displacement(l, o);
    return disp != (int32_t)disp;
}

static bool is_address(const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_MEMORY &&
           (o->mem.type == ZYDIS_MEMOP_TYPE_MEM || o->mem.type == ZYDIS_MEMOP_TYPE_AGEN);
}

void lift_prepare(struct lift *l)
{
    for (unsigned i = 0; i < l->zi.operand_count_visible; i++) {
        const ZydisDecodedOperand *o = &l->op[i];
        if (!is_address(o) || !is_far_constant(l, o))
            continue;
        if (rip_relative(o))
            lift_dai(l, UOP_ADDI_NF, 3, REG_T7, REG_PAGE, displacement(l, o));
        else
            lift_dai(l, UOP_MOVI, 3, REG_T7, 0, displacement(l, o));
    }
}

static unsigned segment_number(ZydisRegister r)
{
    return r >= ZYDIS_REGISTER_ES && r <= ZYDIS_REGISTER_GS ? (unsigned)(r - ZYDIS_REGISTER_ES) : SEG_DS;
}

static bool segment_checked(const struct lift *l, unsigned seg)
{
    if (seg >= SEG_FS)
        return true;
    return !(l->key & KEY_L) && !(l->key & KEY_FLAT);
}

static unsigned log2_scale(unsigned scale)
{
    return scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
}

void lift_mem(struct lift *l, struct uop *u, const ZydisDecodedOperand *o)
{
    unsigned seg = segment_number(o->mem.segment), scale = 0;
    u->b = REG_ZERO;
    if (is_far_constant(l, o)) {
        u->a = REG_T7;
        u->disp = 0;
    } else {
        u->a = (uint8_t)(rip_relative(o) ? REG_PAGE : lift_gpr(o->mem.base, NULL));
        u->disp = (int32_t)displacement(l, o);
    }
    if (o->mem.index != ZYDIS_REGISTER_NONE) {
        u->b = (uint8_t)lift_gpr(o->mem.index, NULL);
        scale = log2_scale(o->mem.scale);
    }
    u->am = (uint8_t)AM(scale, l->asize, seg, segment_checked(l, seg));
}

uint8_t lift_am_segment(const struct lift *l, unsigned seg)
{
    static const struct {
        uint64_t attribute;
        uint8_t seg;
    } overrides[] = {
        {ZYDIS_ATTRIB_HAS_SEGMENT_CS, SEG_CS}, {ZYDIS_ATTRIB_HAS_SEGMENT_SS, SEG_SS},
        {ZYDIS_ATTRIB_HAS_SEGMENT_DS, SEG_DS}, {ZYDIS_ATTRIB_HAS_SEGMENT_ES, SEG_ES},
        {ZYDIS_ATTRIB_HAS_SEGMENT_FS, SEG_FS}, {ZYDIS_ATTRIB_HAS_SEGMENT_GS, SEG_GS},
    };
    for (unsigned i = 0; i < ARRAY_LEN(overrides); i++)
        if ((l->zi.attributes & overrides[i].attribute) && (!(l->key & KEY_L) || overrides[i].seg >= SEG_FS))
            seg = overrides[i].seg;
    return (uint8_t)AM(0, l->asize, seg, segment_checked(l, seg));
}

uint8_t lift_ea(struct lift *l, unsigned reg, const ZydisDecodedOperand *o)
{
    struct uop *u = ir_emit(l->ir, UOP_LEA, 3);
    u->d = (uint8_t)reg;
    lift_mem(l, u, o);
    return (uint8_t)(u->am & ~3); /* the scale is used up */
}

/* -- Values -------------------------------------------------------------------------------------------- */

static unsigned read_by(struct lift *l, enum uop_op load, const ZydisDecodedOperand *o, unsigned temp)
{
    if (operand_is_reg(o)) {
        bool high;
        unsigned r = lift_gpr(o->reg.value, &high);
        if (!high)
            return r;
        lift_dab(l, UOP_EXTH, 0, temp, r, 0);
    } else if (operand_is_mem(o)) {
        struct uop *u = ir_emit(l->ir, load, lift_size(o));
        u->d = (uint8_t)temp;
        lift_mem(l, u, o);
    } else {
        lift_dai(l, UOP_MOVI, 3, temp, 0, o->imm.value.s);
    }
    return temp;
}

unsigned lift_read(struct lift *l, const ZydisDecodedOperand *o, unsigned temp)
{
    return read_by(l, UOP_LOAD, o, temp);
}

unsigned lift_read_rmw(struct lift *l, const ZydisDecodedOperand *o, unsigned temp)
{
    uint32_t before = l->ir->uop_count;
    unsigned r = read_by(l, UOP_LOADW, o, temp);
    if (operand_is_mem(o) && l->ir->uop_count > before)
        l->ir->uops[l->ir->uop_count - 1].bits |= lift_lock(l, o);
    return r;
}

void lift_write(struct lift *l, const ZydisDecodedOperand *o, unsigned reg)
{
    if (operand_is_reg(o)) {
        bool high;
        unsigned r = lift_gpr(o->reg.value, &high);
        if (high)
            lift_dab(l, UOP_INSH, 0, r, reg, 0);
        else if (r != reg || lift_size(o) == 2)
            lift_dab(l, UOP_MOV, lift_size(o), r, reg, 0);
        return;
    }
    struct uop *u = ir_emit(l->ir, UOP_STORE, lift_size(o));
    u->d = (uint8_t)reg;
    lift_mem(l, u, o);
    u->bits |= lift_lock(l, o);
}

uint8_t lift_lock(const struct lift *l, const ZydisDecodedOperand *destination)
{
    if (!operand_is_mem(destination))
        return 0;
    bool locked = (l->zi.attributes & ZYDIS_ATTRIB_HAS_LOCK) || l->zi.mnemonic == ZYDIS_MNEMONIC_XCHG;
    return locked ? UOP_LOCK : 0;
}

/* -- Helpers and exceptions ---------------------------------------------------------------------------- */

static const uint8_t helper_flags[] = {
#define HELPER(name, flags) [HELPER_##name] = (flags),
#include "cpu/ir/helper.def"
#undef HELPER
    [HELPER_COUNT] = 0,
};

bool lift_helper_ends(enum helper_id id)
{
    return helper_flags[id] & H_END;
}

struct uop *lift_helper(struct lift *l, enum helper_id id, unsigned size)
{
    struct uop *u = ir_emit(l->ir, UOP_HELPER, size);
    u->aux = (int32_t)id;
    u->d = u->a = u->b = u->c = REG_ZERO;
    if (lift_helper_ends(id))
        l->end = true;
    return u;
}

void lift_raise(struct lift *l, unsigned vector)
{
    static const uint32_t with_error = BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) | BIT(EXC_AC);
    ir_emit(l->ir, UOP_RAISE, 0)->imm = vector | ((with_error >> vector & 1) ? 0x100 : 0);
    l->end = true;
}
