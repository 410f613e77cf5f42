/*
 * cpu/ir/ir.c -- the list of micro-ops that a block is built in, and uop.def as an array.
 */
#include "cpu/ir/uop.h"

#include <string.h>

const struct uop_info uop_info[UOP_COUNT] = {
#define UOP(name, sizes, format, flags, meaning) [UOP_##name] = {#name, sizes, format, flags, meaning},
#include "cpu/ir/uop.def"
#undef UOP
};

void ir_reset(struct ir *ir)
{
    ir->uop_count = 0;
    ir->insn_count = 0;
    ir->overflow = false;
}

struct uop *ir_emit(struct ir *ir, enum uop_op op, unsigned size)
{
    /* On overflow the last slot takes what is written: the caller drops the instruction. */
    uint32_t at = ir->uop_count;
    if (at >= IR_UOPS_MAX) {
        ir->overflow = true;
        at = IR_UOPS_MAX - 1;
    } else {
        ir->uop_count++;
    }
    struct uop *u = &ir->uops[at];
    memset(u, 0, sizeof(*u));
    u->op = (uint16_t)op;
    u->size = (uint8_t)size;
    u->insn = (uint8_t)(ir->insn_count ? ir->insn_count - 1 : 0);
    return u;
}

void ir_finish(struct uop *uops, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        uops[i].code = (uint16_t)(uops[i].op * 4 + uops[i].size);
}
