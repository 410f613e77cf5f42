/*
 * cpu/lift/lift_avx.c -- the VEX-encoded vector instructions: AVX, AVX2, FMA, F16C, VAES, VPCLMULQDQ, GFNI.
 *
 * SDM 2A, "Intel Advanced Vector Extensions": a write of an XMM register clears bits 255:128 of its YMM
 * register; memory operands need no alignment except where the mnemonic says so. State checks (#UD, #NM) come
 * from the rows' I_AVX. Not here: requests of stubs (lift_vector.c), the helpers (helpers_avx.c).
 */
#include "cpu/lift/lift_vector.h"

/* -- Features ------------------------------------------------------------------------------------------ */

/* The feature of this form, which the row's mnemonic alone does not tell: most integer instructions are AVX
 * with XMM and AVX2 with YMM registers. */
static enum feature form_feature(const ZydisDecodedInstruction *zi)
{
    if (zi->mnemonic == ZYDIS_MNEMONIC_VPCLMULQDQ)
        return zi->meta.isa_set == ZYDIS_ISA_SET_VPCLMULQDQ ? FEAT_VPCLMULQDQ : FEAT_PCLMULQDQ;
    switch (zi->meta.isa_set) {
    case ZYDIS_ISA_SET_AVX2:
    case ZYDIS_ISA_SET_AVX2GATHER:
        return FEAT_AVX2;
    case ZYDIS_ISA_SET_FMA:
        return FEAT_FMA;
    case ZYDIS_ISA_SET_F16C:
        return FEAT_F16C;
    case ZYDIS_ISA_SET_AVXAES:
        return FEAT_AES;
    case ZYDIS_ISA_SET_VAES:
        return FEAT_VAES;
    case ZYDIS_ISA_SET_AVX_GFNI:
        return FEAT_GFNI;
    case ZYDIS_ISA_SET_AVX:
        return FEAT_AVX;
    default:
        return FEAT_NEVER;
    }
}

/* SDM 2B, "PINSRQ", "PEXTRQ": their VEX forms raise #UD outside 64-bit mode, where Zydis takes VEX.W as
 * ignored. */
static bool is_quadword_move(const ZydisDecodedInstruction *zi)
{
    return zi->raw.vex.W &&
           (zi->mnemonic == ZYDIS_MNEMONIC_VPINSRD || zi->mnemonic == ZYDIS_MNEMONIC_VPEXTRD);
}

static bool refused(struct lift *l)
{
    enum feature f = form_feature(&l->zi);
    if (f < FEAT_COUNT && l->model->has[f] && l->model->has[FEAT_AVX] &&
        ((l->key & KEY_L) || !is_quadword_move(&l->zi)))
        return false;
    lift_raise(l, EXC_UD);
    return true;
}

/* -- Stubs --------------------------------------------------------------------------------------------- */

void lift_avx(struct lift *l)
{
    if (!refused(l))
        lift_vector_stub(l, false, false);
}

void lift_avx_fp(struct lift *l)
{
    if (!refused(l))
        lift_vector_stub(l, true, false);
}

/* -- Moves --------------------------------------------------------------------------------------------- */

static void clear_upper(struct lift *l, unsigned v)
{
    ir_emit(l->ir, UOP_VZHI, 0)->d = (uint8_t)v;
}

static void move(struct lift *l, bool aligned)
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[1];
    if (refused(l))
        return;
    if (operand_is_mem(s)) {
        lift_vector_load(l, s, lift_vector_number(d), aligned);
        if (s->size < 256)
            clear_upper(l, lift_vector_number(d));
    } else if (operand_is_mem(d)) {
        lift_vector_store(l, d, lift_vector_number(s), aligned);
    } else {
        lift_vector_stub(l, false, false);
    }
}

void lift_avx_mova(struct lift *l)
{
    move(l, true);
}

/* Also VMOVSS, VMOVSD, VMOVD and VMOVQ, which with memory have two operands. */
void lift_avx_movu(struct lift *l)
{
    if (operand_is_reg(&l->op[0]) && !operand_is_xmm(&l->op[0]) && !operand_is_ymm(&l->op[0]))
        lift_avx(l);
    else
        move(l, false);
}

/* VZEROALL, VZEROUPPER: of the registers that the mode has. */
void lift_avx_zero(struct lift *l)
{
    struct uop *u = lift_helper(l, HELPER_avx_zero, 0);
    u->aux2 = l->key & KEY_L ? 16 : 8;
    u->imm = l->zi.mnemonic == ZYDIS_MNEMONIC_VZEROALL;
}

void lift_avx_approximate(struct lift *l)
{
    if (!refused(l))
        lift_vector_approximate(l);
}

/* -- Memory element by element ------------------------------------------------------------------------- */

void lift_avx_maskmovdqu(struct lift *l)
{
    if (!refused(l))
        lift_vector_maskmov(l);
}

/* VMASKMOVPS, VMASKMOVPD, VPMASKMOVD, VPMASKMOVQ: helper avx_maskmov. */
void lift_avx_maskmov(struct lift *l)
{
    if (refused(l))
        return;
    bool store = operand_is_mem(&l->op[0]);
    const ZydisDecodedOperand *memory = &l->op[store ? 0 : 2], *data = &l->op[store ? 2 : 0];
    bool wide = l->zi.mnemonic == ZYDIS_MNEMONIC_VMASKMOVPD || l->zi.mnemonic == ZYDIS_MNEMONIC_VPMASKMOVQ;
    uint8_t am = lift_ea(l, REG_T0, memory);
    struct uop *u = lift_helper(l, HELPER_avx_maskmov, wide ? 3 : 2);
    u->am = am;
    u->d = (uint8_t)lift_vector_number(data);
    u->a = (uint8_t)lift_vector_number(&l->op[1]);
    u->b = REG_T0;
    u->aux2 = (operand_is_ymm(data) ? 32u : 16u) >> u->size;
    u->imm = store;
}

/* SDM 2C, "VPGATHERDD": #UD when two of destination, index and mask are the same register. */
void lift_avx_gather(struct lift *l)
{
    const ZydisDecodedOperand *memory = &l->op[1];
    unsigned m = l->zi.mnemonic, index = 0;
    if (refused(l))
        return;
    bool ymm_index = memory->mem.index >= ZYDIS_REGISTER_YMM0 && memory->mem.index <= ZYDIS_REGISTER_YMM15;
    index = (unsigned)(memory->mem.index - (ymm_index ? ZYDIS_REGISTER_YMM0 : ZYDIS_REGISTER_XMM0));
    unsigned d = lift_vector_number(&l->op[0]), mask = lift_vector_number(&l->op[2]);
    if (index >= 16 || d == mask || d == index || mask == index) {
        lift_raise(l, EXC_UD);
        return;
    }
    bool wide = m == ZYDIS_MNEMONIC_VGATHERDPD || m == ZYDIS_MNEMONIC_VGATHERQPD ||
                m == ZYDIS_MNEMONIC_VPGATHERDQ || m == ZYDIS_MNEMONIC_VPGATHERQQ;
    bool wide_index = m == ZYDIS_MNEMONIC_VGATHERQPS || m == ZYDIS_MNEMONIC_VGATHERQPD ||
                      m == ZYDIS_MNEMONIC_VPGATHERQD || m == ZYDIS_MNEMONIC_VPGATHERQQ;
    unsigned vector = l->zi.raw.vex.L ? 32 : 16;
    ZydisDecodedOperand base = *memory;
    base.mem.index = ZYDIS_REGISTER_NONE;
    uint8_t am = lift_ea(l, REG_T0, &base);
    struct uop *u = lift_helper(l, HELPER_avx_gather, wide ? 3 : 2);
    u->am = am;
    u->d = (uint8_t)d;
    u->a = (uint8_t)mask;
    u->b = (uint8_t)index;
    u->c = REG_T0;
    u->aux2 = vector / (wide || wide_index ? 8 : 4);
    u->imm = (memory->mem.scale == 8   ? 3
              : memory->mem.scale == 4 ? 2
              : memory->mem.scale == 2 ? 1
                                       : 0) |
             (wide_index ? 4 : 0);
}
