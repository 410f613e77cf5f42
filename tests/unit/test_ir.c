/*
 * tests/unit/test_ir.c -- the table of micro-ops, the builder, the verifier, dead flags.
 */
#include <criterion/criterion.h>
#include <string.h>
#include "cpu/ir/helper.h"
#include "cpu/ir/uop.h"

static struct ir ir;

static struct uop *emit(enum uop_op op, unsigned size, unsigned d, unsigned a, unsigned b)
{
    struct uop *u = ir_emit(&ir, op, size);
    u->d = (uint8_t)d;
    u->a = (uint8_t)a;
    u->b = (uint8_t)b;
    return u;
}

static void next_insn(void)
{
    ir.insns[ir.insn_count] = (struct ir_insn){
        .offset = (uint16_t)(ir.insn_count * 4), .length = 4, .first = (uint16_t)ir.uop_count};
    ir.insn_count++;
}

static bool verify(void)
{
    char reason[256];
    return ir_verify(&ir, reason, sizeof(reason));
}

static unsigned least_size(unsigned op)
{
    return uop_info[op].sizes == SZ_GE16 ? 1 : uop_info[op].sizes == SZ_GE32 ? 2 : 0;
}

Test(ir, every_row_prints_and_verifies)
{
    for (unsigned op = 0; op < UOP_COUNT; op++) {
        char text[200];
        ir_reset(&ir);
        next_insn();
        if (op == UOP_HELPER && HELPER_COUNT == 0)
            continue;
        emit((enum uop_op)op, least_size(op), REG_RBX, REG_RCX, REG_RDX);
        cr_expect(verify(), "%s", uop_info[op].name);
        cr_expect_gt(ir_print(&ir.uops[0], text, sizeof(text)), 0);
        cr_expect_null(strchr(text, '?'), "%s", text);
        cr_expect_eq(ir_print(&ir.uops[0], NULL, 0), (int)strlen(text), "%s", text);
    }
}

Test(ir, verifier_refuses)
{
    struct {
        enum uop_op op;
        unsigned size, d, a, b;
    } bad[] = {
        {UOP_BSWAP, 1, 0, 0, 0},          /* size below the row's */
        {UOP_ADD, 4, 0, 0, 0},            /* no such size */
        {UOP_ADD, 2, REG_PAGE, 0, 0},     /* writes REG_PAGE */
        {UOP_ADD, 2, REG_ZERO, 0, 0},     /* writes REG_ZERO */
        {UOP_ADD, 2, 0, REG_ZERO + 1, 0}, /* no such register */
        {UOP_CLC, 1, 0, 0, 0},            /* has no size */
        {UOP_XCHG, 2, 0, REG_ZERO, 0},    /* writes its second operand too */
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        ir_reset(&ir);
        next_insn();
        emit(bad[i].op, bad[i].size, bad[i].d, bad[i].a, bad[i].b);
        cr_expect(!verify(), "case %u", i);
    }
    ir_reset(&ir);
    next_insn();
    emit(UOP_EXIT, 0, 0, 0, 0);
    emit(UOP_MOV, 2, 0, 0, 0);
    cr_expect(!verify(), "a block goes on after EXIT");
    ir_reset(&ir);
    next_insn();
    emit(UOP_SETCC, 0, 0, 0, 0)->c = 16;
    cr_expect(!verify(), "no such condition");
    ir_reset(&ir);
    next_insn();
    emit(UOP_LOAD, 2, 0, 0, REG_ZERO)->am = AM(0, 3, SZ_NONE, 0);
    cr_expect(!verify(), "no such address size");
    ir_reset(&ir);
    next_insn();
    emit(UOP_MOV, 2, 0, 0, 0)->insn = 1;
    cr_expect(!verify(), "no such instruction");
}

Test(ir, finish_sets_dispatch_codes)
{
    ir_reset(&ir);
    next_insn();
    emit(UOP_ADD, 2, 0, 0, 0);
    emit(UOP_EXIT, 0, 0, 0, 0);
    ir_finish(ir.uops, ir.uop_count);
    cr_expect_eq(ir.uops[0].code, UOP_ADD * 4 + 2);
    cr_expect_eq(ir.uops[1].code, UOP_EXIT * 4);
}

/* ADD; `between`; XOR: does the ADD keep its flags? */
static bool flags_kept(enum uop_op between, bool same_insn)
{
    ir_reset(&ir);
    next_insn();
    emit(UOP_ADD, 2, REG_RAX, REG_RAX, REG_RBX);
    if (!same_insn)
        next_insn();
    emit(between, least_size(between), REG_RSI, REG_RDI, REG_ZERO);
    next_insn();
    emit(UOP_XOR, 2, REG_RCX, REG_RCX, REG_RCX);
    next_insn();
    emit(UOP_EXIT, 0, 0, 0, 0);
    ir_optimise(&ir);
    cr_assert(verify());
    cr_assert_eq(ir.uops[2].op, UOP_XOR, "flags are live at a block's end");
    return ir.uops[0].op == UOP_ADD;
}

Test(ir, dead_flags)
{
    cr_expect(!flags_kept(UOP_MOV, false));
    cr_expect(!flags_kept(UOP_MOV, true));
    cr_expect(!flags_kept(UOP_ADD, false));
    cr_expect(!flags_kept(UOP_INC, false), "INC becomes an addition without flags");
    cr_expect(flags_kept(UOP_LOAD, false), "a load may fault");
    cr_expect(flags_kept(UOP_LOAD, true), "the block may be left after a slow load's instruction");
    cr_expect(flags_kept(UOP_STORE, false));
    cr_expect(flags_kept(UOP_ADC, false), "ADC reads CF");
    cr_expect(flags_kept(UOP_SETCC, false));
    cr_expect(flags_kept(UOP_CLC, false), "CLC keeps the others");
    cr_expect(flags_kept(UOP_SHL, false), "a shift by zero keeps all");
    cr_expect(flags_kept(UOP_GUARD, false));
    cr_expect(flags_kept(UOP_DIV, false));
}

/* A load before the flag write, in the same instruction: its slow path leaves at that instruction's end. */
Test(ir, flags_live_where_a_block_can_be_left)
{
    ir_reset(&ir);
    next_insn();
    emit(UOP_LOAD, 2, REG_T0, REG_RBX, REG_ZERO);
    emit(UOP_ADD, 2, REG_RAX, REG_RAX, REG_T0);
    next_insn();
    emit(UOP_XOR, 2, REG_RCX, REG_RCX, REG_RCX);
    next_insn();
    emit(UOP_EXIT, 0, 0, 0, 0);
    ir_optimise(&ir);
    cr_expect_eq(ir.uops[1].op, UOP_ADD);
}

Test(ir, compare_is_fused_only_when_alone)
{
    for (unsigned with_load = 0; with_load < 2; with_load++) {
        ir_reset(&ir);
        next_insn();
        if (with_load)
            emit(UOP_LOAD, 2, REG_T0, REG_RBX, REG_ZERO);
        emit(UOP_CMP, 2, 0, REG_RAX, with_load ? REG_T0 : REG_RBX);
        next_insn();
        emit(UOP_JCC, 3, 0, 0, 0)->c = 5;
        ir_optimise(&ir);
        cr_assert(verify());
        cr_expect_eq(ir.uops[ir.uop_count - 1].op, with_load ? UOP_JCC : UOP_CMPJCC);
        if (!with_load) {
            cr_expect_eq(ir.uop_count, 1);
            cr_expect_eq(ir.uops[0].insn, 1);
            cr_expect_eq(ir.uops[0].d, 3, "the jump's operand size");
            cr_expect_eq(ir.uops[0].size, 2, "the comparison's size");
            cr_expect_eq(ir.uops[0].c, 5);
        }
    }
}
