/*
 * cpu/lift/lift_sse.c -- MMX, SSE to SSE4.2, and the legacy forms of AES, PCLMULQDQ, SHA and GFNI: moves as
 * micro-ops, the rest as host instruction stubs.
 *
 * SDM 1, "Programming with Intel SSE..."; SDM 2D, "Exception Type" tables: 16-byte memory operands are
 * aligned except where the instruction says otherwise. A mnemonic may exist for MMX and for XMM registers, so
 * the checks of CR0 and CR4 stand here, by operand. Not here: the stubs' requests (lift_vector.c).
 */
#include "cpu/lift/lift_vector.h"

/* SDM 3A, "Providing Operating System Support for Executing SSE Extensions" and the table of MMX exceptions.
 * True when the instruction cannot run: the exception is lifted. */
static bool refused(struct lift *l)
{
    bool xmm = false, mmx = false;
    for (unsigned i = 0; i < l->zi.operand_count; i++) {
        xmm |= operand_is_xmm(&l->op[i]);
        mmx |= operand_is_mmx(&l->op[i]);
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

/* Integer and logical instructions. */
void lift_sse(struct lift *l)
{
    if (!refused(l))
        lift_vector_stub(l, false, true);
}

/* Arithmetic that rounds and raises by MXCSR. */
void lift_sse_fp(struct lift *l)
{
    if (!refused(l))
        lift_vector_stub(l, true, true);
}

/* Integer instructions whose memory operand needs no alignment (PCMPxSTRx). */
void lift_sse_unaligned(struct lift *l)
{
    if (!refused(l))
        lift_vector_stub(l, false, false);
}

/* -- Moves --------------------------------------------------------------------------------------------- */

static void move16(struct lift *l, bool aligned)
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[1];
    if (refused(l))
        return;
    if (operand_is_mem(s)) {
        lift_vector_load(l, s, lift_vector_number(d), aligned);
    } else if (operand_is_mem(d)) {
        lift_vector_store(l, d, lift_vector_number(s), aligned);
    } else {
        struct uop *u = ir_emit(l->ir, UOP_VMOV, 0);
        u->d = (uint8_t)lift_vector_number(d);
        u->a = (uint8_t)lift_vector_number(s);
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
    if (operand_is_xmm(d) && operand_is_mem(s) && !refused(l))
        lift_vector_load(l, s, lift_vector_number(d), false);
    else if (operand_is_xmm(s) && operand_is_mem(d) && !refused(l))
        lift_vector_store(l, d, lift_vector_number(s), false);
    else if (!l->end && !refused(l))
        lift_vector_stub(l, false, false);
}

/* -- What is ours on every host ------------------------------------------------------------------------ */

void lift_sse_approximate(struct lift *l)
{
    if (!refused(l))
        lift_vector_approximate(l);
}

void lift_sse_maskmov(struct lift *l)
{
    if (!refused(l))
        lift_vector_maskmov(l);
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
