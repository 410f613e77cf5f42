/*
 * cpu/lift/lift_x87.c -- x87 instructions: one helper call each, with the address of a memory operand.
 *
 * The helper knows the instruction by its two opcode bytes (aux2 = escape opcode - D8H in bits 10:8, ModRM in
 * 7:0).
 */
#include "cpu/lift/rows.h"

void lift_x87(struct lift *l)
{
    const ZydisDecodedOperand *memory = NULL;
    for (unsigned i = 0; i < l->zi.operand_count; i++)
        if (operand_is_mem(&l->op[i]))
            memory = &l->op[i];
    uint8_t am = memory ? lift_ea(l, REG_T0, memory) : 0;
    struct uop *u = lift_helper(l, HELPER_x87, 0);
    unsigned modrm = (unsigned)(l->zi.raw.modrm.mod << 6 | l->zi.raw.modrm.reg << 3 | l->zi.raw.modrm.rm);
    u->am = am;
    u->a = REG_T0;
    u->size = l->osize; /* FSAVE and FSTENV: 16 or 32-bit image */
    u->aux2 = (uint32_t)(l->zi.opcode - 0xd8) << 8 | modrm;
}

void lift_fwait(struct lift *l)
{
    lift_helper(l, HELPER_fwait, 0);
}
