/*
 * cpu/ir/verify.c -- a block of micro-ops obeys uop.def: sizes, register numbers, addresses, where it may
 * end.
 */
#include "cpu/ir/helper.h"
#include "cpu/ir/uop.h"

#include <stdio.h>

static const uint8_t helper_flags[] = {
#define HELPER(name, flags) [HELPER_##name] = (flags),
#include "cpu/ir/helper.def"
#undef HELPER
    [HELPER_COUNT] = 0,
};

static bool size_ok(const struct uop *u)
{
    switch (uop_info[u->op].sizes) {
    case SZ_NONE:
        return u->size == 0;
    case SZ_ALL:
        return u->size <= 3;
    case SZ_GE16:
        return u->size >= 1 && u->size <= 3;
    default:
        return u->size >= 2 && u->size <= 3;
    }
}

static bool readable(unsigned r)
{
    return r <= REG_ZERO;
}

static bool writable(unsigned r)
{
    return r < REG_PAGE;
}

static bool mem_ok(const struct uop *u)
{
    return readable(u->a) && readable(u->b) && AM_ASIZE(u->am) <= ASIZE_64 && AM_SEG(u->am) <= 5;
}

static bool d_is_read(const struct uop *u)
{
    return u->op == UOP_STORE || u->op == UOP_PUSH;
}

static const char *operands_fault(const struct uop *u)
{
    bool d = d_is_read(u) ? readable(u->d) : writable(u->d);
    bool a = readable(u->a), b = readable(u->b), condition = u->c < 16;
    switch (uop_info[u->op].format) {
    case FMT_NONE:
    case FMT_I:
        return NULL;
    case FMT_D:
    case FMT_DI:
        return d ? NULL : "register d";
    case FMT_A:
    case FMT_AI:
        return a ? NULL : "register a";
    case FMT_DA:
    case FMT_DAI:
        return d && a && (u->op != UOP_XCHG || writable(u->a)) ? NULL : "register d or a";
    case FMT_AB:
        return a && b ? NULL : "register a or b";
    case FMT_DAB:
    case FMT_DABI:
        return d && a && b ? NULL : "register d, a or b";
    case FMT_DABC:
        return d && a && b && (u->op == UOP_MULX ? writable(u->c) : readable(u->c)) ? NULL
                                                                                    : "register d, a, b or c";
    case FMT_DAC:
        return d && a && condition ? NULL : "register d, a or condition";
    case FMT_DC:
        return d && condition ? NULL : "register d or condition";
    case FMT_CI:
        return condition ? NULL : "condition";
    case FMT_ACI:
        return a && condition ? NULL : "register a or condition";
    case FMT_ABCI:
        return a && b && condition ? NULL : "register a, b or condition";
    case FMT_DM:
        return d && mem_ok(u) ? NULL : "register d or address";
    case FMT_MI:
        return mem_ok(u) ? NULL : "address";
    case FMT_HELPER:
        if ((unsigned)u->aux >= HELPER_COUNT)
            return "helper number";
        return u->d < REG_COUNT && u->a < REG_COUNT && u->b < REG_COUNT && u->c < REG_COUNT ? NULL
                                                                                            : "register";
    case FMT_VM:
        return u->d < VREG_COUNT && mem_ok(u) ? NULL : "vector register or address";
    case FMT_VD:
        return u->d < VREG_COUNT ? NULL : "vector register";
    case FMT_VDA:
        return u->d < VREG_COUNT && u->a < VREG_COUNT ? NULL : "vector register";
    default:
        return NULL;
    }
}

static bool ends(const struct uop *u)
{
    if (uop_info[u->op].flags & U_END)
        return true;
    return u->op == UOP_HELPER && (unsigned)u->aux < HELPER_COUNT && (helper_flags[u->aux] & H_END);
}

static const char *uop_fault(const struct ir *ir, uint32_t i)
{
    const struct uop *u = &ir->uops[i];
    if (u->op >= UOP_COUNT)
        return "no such micro-op";
    if (!size_ok(u))
        return "size";
    if (u->insn >= ir->insn_count)
        return "instruction index";
    if (i > 0 && u->insn < ir->uops[i - 1].insn)
        return "instruction order";
    if (ends(u) && i + 1 != ir->uop_count)
        return "block goes on after its end";
    return operands_fault(u);
}

bool ir_verify(const struct ir *ir, char *text, size_t n)
{
    if (ir->uop_count > IR_UOPS_MAX || ir->insn_count > IR_INSNS_MAX) {
        snprintf(text, n, "too long: %u micro-ops, %u instructions", ir->uop_count, ir->insn_count);
        return false;
    }
    for (uint32_t i = 0; i < ir->uop_count; i++) {
        const char *fault = uop_fault(ir, i);
        if (fault) {
            char line[160];
            ir_print(&ir->uops[i], line, sizeof(line));
            snprintf(text, n, "micro-op %u (%s): %s", i, line, fault);
            return false;
        }
    }
    for (uint32_t i = 0; i < ir->insn_count; i++) {
        uint32_t first = ir->insns[i].first,
                 next = i + 1 < ir->insn_count ? ir->insns[i + 1].first : ir->uop_count;
        if (first > next) {
            snprintf(text, n, "instruction %u: order", i);
            return false;
        }
        for (uint32_t k = first; k < next; k++)
            if (ir->uops[k].insn != i) {
                snprintf(text, n, "instruction %u: micro-op %u belongs to another", i, k);
                return false;
            }
    }
    if (n)
        text[0] = 0;
    return true;
}
