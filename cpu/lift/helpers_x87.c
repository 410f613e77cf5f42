/*
 * cpu/lift/helpers_x87.c -- which x87 instruction an opcode is: the dispatch of helper x87, and FWAIT.
 *
 * SDM 2D, "Escape Opcode Instructions". The work is in x87_arith.c, x87_memory.c and x87_environment.c.
 */
#include "cpu/lift/x87_op.h"

/* -- Dispatch ------------------------------------------------------------------------------------------ */

/* Data transfer and arithmetic with a memory operand: kind and bytes by escape opcode and ModRM.reg. */
enum memory_kind { M_CONTROL, M_ARITH, M_LOAD, M_LOAD80, M_STORE, M_STOREP, M_ISTORE, M_ISTOREP, M_STORE80 };
static const struct {
    uint8_t kind, bytes;
} memory_forms[8][8] = {
    /* D8 */ {{M_ARITH, 4},
              {M_ARITH, 4},
              {M_ARITH, 4},
              {M_ARITH, 4},
              {M_ARITH, 4},
              {M_ARITH, 4},
              {M_ARITH, 4},
              {M_ARITH, 4}},
    /* D9 */ {{M_LOAD, 4}, {0, 0}, {M_STORE, 4}, {M_STOREP, 4}, {0, 0}, {0, 0}, {0, 0}, {0, 0}},
    /* DA */
    {{M_ARITH, 4},
     {M_ARITH, 4},
     {M_ARITH, 4},
     {M_ARITH, 4},
     {M_ARITH, 4},
     {M_ARITH, 4},
     {M_ARITH, 4},
     {M_ARITH, 4}},
    /* DB */
    {{M_LOAD, 4},
     {M_ISTOREP, 4},
     {M_ISTORE, 4},
     {M_ISTOREP, 4},
     {0, 0},
     {M_LOAD80, 10},
     {0, 0},
     {M_STORE80, 10}},
    /* DC */
    {{M_ARITH, 8},
     {M_ARITH, 8},
     {M_ARITH, 8},
     {M_ARITH, 8},
     {M_ARITH, 8},
     {M_ARITH, 8},
     {M_ARITH, 8},
     {M_ARITH, 8}},
    /* DD */ {{M_LOAD, 8}, {M_ISTOREP, 8}, {M_STORE, 8}, {M_STOREP, 8}, {0, 0}, {0, 0}, {0, 0}, {0, 0}},
    /* DE */
    {{M_ARITH, 2},
     {M_ARITH, 2},
     {M_ARITH, 2},
     {M_ARITH, 2},
     {M_ARITH, 2},
     {M_ARITH, 2},
     {M_ARITH, 2},
     {M_ARITH, 2}},
    /* DF */
    {{M_LOAD, 2},
     {M_ISTOREP, 2},
     {M_ISTORE, 2},
     {M_ISTOREP, 2},
     {M_LOAD, 10},
     {M_LOAD, 8},
     {M_ISTOREP, 10},
     {M_ISTOREP, 8}},
};

static void memory_form(struct x87_op *x)
{
    unsigned kind = memory_forms[x->op][x->reg].kind, n = memory_forms[x->op][x->reg].bytes;
    if (kind != M_CONTROL)
        x87_wait(x->cpu);
    switch (kind) {
    case M_ARITH:
        x87_arithmetic_memory(x, n);
        break;
    case M_LOAD:
        x87_load_memory(x, n);
        break;
    case M_LOAD80:
        x87_load_m80(x);
        break;
    case M_STORE:
        x87_store_memory(x, n, false, false);
        break;
    case M_STOREP:
        x87_store_memory(x, n, false, true);
        break;
    case M_STORE80:
        x87_store_memory(x, 10, false, true);
        break;
    case M_ISTORE:
        x87_store_memory(x, n, true, false);
        break;
    case M_ISTOREP:
        x87_store_memory(x, n, true, true);
        break;
    default:
        x87_control_memory(x);
        break;
    }
}

/* D9 E0..FF */
static void d9_special(struct x87_op *x)
{
    struct x87 *f = x->f;
    switch (x->modrm) {
    case 0xe0:
    case 0xe1:
    case 0xfa:
        x87_unary(x);
        break; /* FCHS FABS FSQRT */
    case 0xe4:
        x87_examine(x, false);
        break; /* FTST */
    case 0xe5:
        x87_examine(x, true);
        break; /* FXAM */
    case 0xe8:
    case 0xe9:
    case 0xea:
    case 0xeb:
    case 0xec:
    case 0xed:
    case 0xee:
        x87_load_constant(x);
        break;
    case 0xf0:
    case 0xfc:
        x87_unary_own(x, FSW_C1);
        break; /* F2XM1 FRNDINT */
    case 0xfe:
    case 0xff:
        x87_unary_own(x, FSW_C1 | FSW_C2);
        break; /* FSIN FCOS */
    case 0xf1:
    case 0xf3:
    case 0xf9:
        x87_pop2(x);
        break; /* FYL2X FPATAN FYL2XP1 */
    case 0xf2:
    case 0xfb:
        x87_push2(x, true);
        break; /* FPTAN FSINCOS */
    case 0xf4:
        x87_push2(x, false);
        break; /* FXTRACT */
    case 0xf5:
    case 0xf8:
        x87_binary_st1(x, FSW_CONDITIONS);
        break; /* FPREM1 FPREM */
    case 0xfd:
        x87_binary_st1(x, FSW_C1);
        break; /* FSCALE */
    case 0xf6:
    case 0xf7: /* FDECSTP FINCSTP */
        f->top = (f->top + (x->modrm == 0xf6 ? 7 : 1)) & 7;
        f->fsw &= (uint16_t)~FSW_C1;
        break;
    default:
        cpu_raise_ud(x->cpu);
    }
}

static void register_form(struct x87_op *x)
{
    struct cpu *cpu = x->cpu;
    struct x87 *f = x->f;
    /* Non-waiting instructions first. */
    if (x->op == 3 && x->modrm == 0xe2) { /* FNCLEX */
        f->fsw &= (uint16_t) ~(FSW_B | FSW_ES | FSW_SF | 0x3f);
        return;
    }
    if (x->op == 3 && x->modrm == 0xe3) { /* FNINIT */
        x87_initialise(f);
        return;
    }
    if (x->op == 3 && (x->modrm == 0xe0 || x->modrm == 0xe1 || x->modrm == 0xe4))
        return;                           /* FNENI, FNDISI, FNSETPM: no operation since the 80387 */
    if (x->op == 7 && x->modrm == 0xe0) { /* FNSTSW AX */
        cpu->r[REG_RAX] = (cpu->r[REG_RAX] & ~0xffffull) | x87_status_word(f);
        return;
    }
    x87_wait(cpu);
    unsigned reg = x->reg;
    switch (x->op) {
    case 0:
        if (reg == 2 || reg == 3)
            x87_compare(x, reg == 3);
        else
            x87_arithmetic(x, false, false);
        break;
    case 1:
        if (reg == 0)
            x87_load_register(x);
        else if (reg == 1)
            x87_exchange(x);
        else if (reg == 3)
            x87_store_unchecked(x);
        else if (reg >= 4)
            d9_special(x);
        else if (x->modrm != 0xd0) /* FNOP */
            cpu_raise_ud(cpu);
        break;
    case 2:
        if (x->modrm == 0xe9) /* FUCOMPP */
            x87_compare(x, 2);
        else if (reg < 4)
            x87_conditional_move(x, flags_condition(cpu, (unsigned[]){2, 4, 6, 10}[reg]));
        else
            cpu_raise_ud(cpu);
        break;
    case 3:
        if (reg < 4)
            x87_conditional_move(x, flags_condition(cpu, (unsigned[]){3, 5, 7, 11}[reg]));
        else if (reg == 5 || reg == 6) /* FUCOMI FCOMI */
            x87_compare_flags(x, false);
        else
            cpu_raise_ud(cpu);
        break;
    case 4:
        if (reg == 2 || reg == 3)
            x87_compare(x, reg == 3);
        else
            x87_arithmetic(x, true, false);
        break;
    case 5:
        if (reg == 0)
            x87_set_tag(f, x->i, false); /* FFREE */
        else if (reg == 1)
            x87_exchange(x);
        else if (reg == 2 || reg == 3)
            x87_store_register(x, reg == 3);
        else if (reg == 4 || reg == 5)
            x87_compare(x, reg == 5);
        else
            cpu_raise_ud(cpu);
        break;
    case 6:
        if (reg == 2)
            x87_compare(x, 1);
        else if (x->modrm == 0xd9) /* FCOMPP */
            x87_compare(x, 2);
        else if (reg == 3)
            cpu_raise_ud(cpu);
        else
            x87_arithmetic(x, true, true);
        break;
    default:
        if (reg == 0) { /* FFREEP */
            x87_set_tag(f, x->i, false);
            x87_pop(f);
        } else if (reg == 1) {
            x87_exchange(x);
        } else if (reg == 2 || reg == 3) {
            x87_store_register(x, true);
        } else if (reg == 5 || reg == 6) {
            x87_compare_flags(x, true);
        } else {
            cpu_raise_ud(cpu);
        }
        break;
    }
}

void helper_x87(struct cpu *cpu, const struct uop *u)
{
    struct x87_op x = {.cpu = cpu, .f = &cpu->x87, .u = u, .op = u->aux2 >> 8 & 7, .modrm = (uint8_t)u->aux2};
    x.reg = x.modrm >> 3 & 7;
    x.i = x.modrm & 7;
    x.seg = AM_SEG(u->am);
    if (x.modrm < 0xc0) {
        x.ea = cpu->r[u->a];
        memory_form(&x);
    } else {
        register_form(&x);
    }
}

void helper_fwait(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    x87_wait(cpu);
}
