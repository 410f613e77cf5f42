/*
 * cpu/ir/print.c -- a micro-op as a line of text: "add.4 rax, rax, t0", "load.8 t0, ds:a64[rbx + rcx*8 +
 * 0x10]".
 *
 * The number after the dot is the size in bytes; "!" after a segment says that its base and limit matter.
 */
#include "cpu/ir/helper.h"
#include "cpu/ir/uop.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const char *const reg_names[REG_COUNT] = {
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11",  "r12",
    "r13", "r14", "r15", "t0",  "t1",  "t2",  "t3",  "t4",  "t5", "t6", "t7",  "page", "zero",
};
static const char *const seg_names[8] = {"es", "cs", "ss", "ds", "fs", "gs", "?", "?"};
static const char *const condition_names[16] = {"o", "no", "b", "nb", "z", "nz", "be", "nbe",
                                                "s", "ns", "p", "np", "l", "nl", "le", "nle"};
static const char *const helper_names[] = {
#define HELPER(name, flags) [HELPER_##name] = #name,
#include "cpu/ir/helper.def"
#undef HELPER
    [HELPER_COUNT] = "?",
};

struct out {
    char *text;
    size_t n;
    int at;
};

static void put(struct out *o, const char *format, ...) PRINTF_LIKE(2, 3);
static void put(struct out *o, const char *format, ...)
{
    va_list args;
    size_t used = MIN((size_t)o->at, o->n);
    va_start(args, format);
    o->at += vsnprintf(o->text ? o->text + used : NULL, o->n - used, format, args);
    va_end(args);
}

static const char *reg(unsigned r)
{
    return r < REG_COUNT && reg_names[r] ? reg_names[r] : "?";
}

static void put_signed(struct out *o, int64_t v, bool sign)
{
    if (v < 0)
        put(o, "%s0x%" PRIx64, sign ? " - " : "-", -(uint64_t)v);
    else
        put(o, "%s0x%" PRIx64, sign ? " + " : "", (uint64_t)v);
}

static void put_mem(struct out *o, const struct uop *u)
{
    static const char *const widths[4] = {"a16", "a32", "a64", "a?"};
    put(o, "%s%s:%s[%s", seg_names[AM_SEG(u->am)], AM_CHECKED(u->am) ? "!" : "", widths[AM_ASIZE(u->am)],
        reg(u->a));
    if (u->b != REG_ZERO)
        put(o, " + %s*%u", reg(u->b), 1u << AM_SCALE(u->am));
    if (u->disp)
        put_signed(o, u->disp, true);
    put(o, "]");
}

static void put_imm(struct out *o, int64_t v)
{
    put(o, ", ");
    put_signed(o, v, false);
}

/* Operands that every format spells in the order d, a, b, c. */
static void put_regs(struct out *o, const struct uop *u, const char *which)
{
    for (const char *sep = ""; *which; which++, sep = ", ") {
        unsigned r = *which == 'd' ? u->d : *which == 'a' ? u->a : *which == 'b' ? u->b : u->c;
        put(o, "%s%s", sep, reg(r));
    }
}

static void put_jump(struct out *o, const struct uop *u)
{
    put(o, " -> ");
    put_signed(o, u->imm, false);
    if (u->op == UOP_CMPIJCC) {
        put(o, " vs ");
        put_signed(o, u->aux, false);
    }
    put(o, " else ");
    put_signed(o, u->disp, false);
}

static void put_operands(struct out *o, const struct uop *u)
{
    switch (uop_info[u->op].format) {
    case FMT_NONE:
        break;
    case FMT_D:
        put_regs(o, u, "d");
        break;
    case FMT_A:
        put_regs(o, u, "a");
        break;
    case FMT_I:
        put_signed(o, u->imm, false);
        break;
    case FMT_DA:
        put_regs(o, u, "da");
        break;
    case FMT_DI:
        put_regs(o, u, "d");
        put_imm(o, u->imm);
        break;
    case FMT_AB:
        put_regs(o, u, "ab");
        break;
    case FMT_AI:
        put_regs(o, u, "a");
        if (u->op == UOP_JNZR || u->op == UOP_JZR)
            put_jump(o, u);
        else
            put_imm(o, u->imm);
        break;
    case FMT_DAB:
        put_regs(o, u, "dab");
        break;
    case FMT_DAI:
        put_regs(o, u, "da");
        put_imm(o, u->imm);
        break;
    case FMT_DABC:
        put_regs(o, u, "dabc");
        break;
    case FMT_DABI:
        put_regs(o, u, "dab");
        put_imm(o, u->imm);
        break;
    case FMT_DAC:
        put_regs(o, u, "da");
        put(o, ", %s", condition_names[u->c & 15]);
        break;
    case FMT_DC:
        put_regs(o, u, "d");
        put(o, ", %s", condition_names[u->c & 15]);
        break;
    case FMT_CI:
        put(o, "%s", condition_names[u->c & 15]);
        put_jump(o, u);
        break;
    case FMT_ACI:
        put(o, "%s, %s", reg(u->a), condition_names[u->c & 15]);
        put_jump(o, u);
        break;
    case FMT_ABCI:
        put(o, "%s, %s, %s", reg(u->a), reg(u->b), condition_names[u->c & 15]);
        put_jump(o, u);
        break;
    case FMT_DM:
        put(o, "%s, ", reg(u->d));
        put_mem(o, u);
        break;
    case FMT_MI:
        put_mem(o, u);
        put_imm(o, u->imm);
        break;
    case FMT_HELPER:
        put(o, "%s", helper_names[(unsigned)u->aux < HELPER_COUNT ? u->aux : HELPER_COUNT]);
        put(o, " d=%s a=%s b=%s c=%s am=%#x imm=%#" PRIx64 " aux2=%#x", reg(u->d), reg(u->a), reg(u->b),
            reg(u->c), u->am, (uint64_t)u->imm, u->aux2);
        break;
    case FMT_VM:
        put(o, "v%u, ", u->d);
        put_mem(o, u);
        break;
    case FMT_VD:
        put(o, "v%u", u->d);
        break;
    case FMT_VDA:
        put(o, "v%u, v%u", u->d, u->a);
        break;
    case FMT_STUB: /* the stub's address is the host's: not printed */
        put(o, "%u, %u, %u, %u", u->d, u->a, u->b, u->c);
        break;
    }
}

int ir_print(const struct uop *u, char *text, size_t n)
{
    struct out o = {text, n, 0};
    if (n)
        text[0] = 0;
    if (u->op >= UOP_COUNT) {
        put(&o, "?%u", u->op);
        return o.at;
    }
    char name[16];
    unsigned i = 0;
    for (const char *p = uop_info[u->op].name; *p && i < sizeof(name) - 1; p++)
        name[i++] = (char)tolower((unsigned char)*p);
    name[i] = 0;
    put(&o, "%s", name);
    if (uop_info[u->op].sizes != SZ_NONE)
        put(&o, ".%u", 1u << u->size);
    if (uop_info[u->op].format != FMT_NONE)
        put(&o, " ");
    put_operands(&o, u);
    if (u->bits & UOP_LOCK)
        put(&o, " lock");
    return o.at;
}
