/*
 * cpu/lift/x87_arith.c -- x87 arithmetic, comparisons and moves between registers, and how exceptions become
 * pending.
 *
 * SDM 1, "x87 FPU Floating-Point Exception Handling"; SDM 2A, the F... pages.
 */
#include "cpu/lift/x87_op.h"

#include "cpu/lift/x87_softfloat.h"

/* -- Exceptions ---------------------------------------------------------------------------------------- */

/* ES and B say that an exception is there that is not masked. */
void x87_summarise(struct x87 *f)
{
    bool pending = f->fsw & ~f->fcw & 0x3f;
    f->fsw = (uint16_t)(pending ? f->fsw | FSW_ES | FSW_B : f->fsw & ~(FSW_ES | FSW_B));
}

/* Takes exception flags and condition codes of a host status word. */
void x87_take_status(struct x87 *f, uint16_t host, uint16_t conditions)
{
    f->fsw = (uint16_t)((f->fsw & ~conditions) | (host & (conditions | 0x3f)));
    x87_summarise(f);
}

/* SDM 1, "Stack Overflow or Underflow Exception (#IS)": C1 is 1 for overflow. True when masked: go on with
 * the indefinite value. */
bool x87_stack_fault(struct x87 *f, bool overflow)
{
    f->fsw |= FSW_IE | FSW_SF;
    f->fsw = (uint16_t)(overflow ? f->fsw | FSW_C1 : f->fsw & ~FSW_C1);
    x87_summarise(f);
    return f->fcw & FSW_IE;
}

void x87_wait(struct cpu *cpu)
{
    if (unlikely(cpu->x87.fsw & FSW_ES))
        cpu_raise(cpu, EXC_MF, 0);
}

/* FIP, FDP, FOP: CS and DS selectors read as zero (CPUID.7:EBX[13]). */
void x87_pointers(struct x87_op *x, bool memory)
{
    cpu_sync(x->cpu);
    x->f->fop = (uint16_t)(x->op << 8 | x->modrm);
    x->f->fip = x->cpu->rip;
    if (memory)
        x->f->fdp = x->ea;
    x->f->fcs = x->f->fds = 0;
}

void x87_call(struct x87_op *x, uint8_t modrm, enum x87_form form, void *a, void *b, struct x87_frame *frame)
{
    x87_code *code = stub_x87(x->cpu->stubs, x->op, modrm, form);
    *frame = (struct x87_frame){.fcw = x->f->fcw};
    if (!code) {
        log_unimplemented(x->cpu->log, "x87 %02xH /%02x: no host stub", 0xd8 + x->op, modrm);
        cpu_raise_ud(x->cpu);
    }
    code(a, b, frame);
}

/* D9 F0 to FF that are ours on every host; NULL: no operation on plain values, or the host's (FSQRT). */
static void (*const own_operations[16])(struct f80_op *o) = {
    f80_f2xm1, f80_fyl2x,   f80_fptan, f80_fpatan,  f80_fxtract, f80_fprem1, NULL,     NULL,
    f80_fprem, f80_fyl2xp1, NULL,      f80_fsincos, f80_frndint, f80_fscale, f80_fsin, f80_fcos,
};

/* The operation that ModRM says, on ST(0) and on what is in ST(1). */
static struct f80_op own_run(struct x87_op *x)
{
    struct x87 *f = x->f;
    struct f80_op o = {.st0 = f80_load(x87_st(f, 0)), .st1 = f80_load(x87_st(f, 1)), .fcw = f->fcw};
    own_operations[x->modrm & 15](&o);
    return o;
}

/* -- Arithmetic in registers --------------------------------------------------------------------------- */

/* ST(0) op ST(i) -> ST(0), or -> ST(i) with an optional pop. */
void x87_arithmetic(struct x87_op *x, bool to_i, bool pops)
{
    struct x87 *f = x->f;
    unsigned target = to_i ? x->i : 0;
    x87_pointers(x, false);
    if (x87_empty(f, 0) || x87_empty(f, x->i)) {
        if (!x87_stack_fault(f, false))
            return;
        memcpy(x87_st(f, target), x87_indefinite, 10);
    } else {
        struct x87_frame frame;
        uint8_t a[16], b[16];
        memcpy(a, x87_st(f, 0), 10);
        memcpy(b, x87_st(f, x->i), 10);
        x87_call(x, x->modrm, to_i ? X87_BINARY_ST1 : X87_BINARY, a, b, &frame);
        x87_take_status(f, frame.fsw, FSW_C1);
        if (frame.fsw & ~f->fcw & (FSW_IE | FSW_ZE | FSW_DE))
            return;
        memcpy(x87_st(f, target), to_i ? b : a, 10);
    }
    x87_set_tag(f, target, true);
    if (pops)
        x87_pop(f);
}

void x87_compare(struct x87_op *x, unsigned pops)
{
    struct x87 *f = x->f;
    x87_pointers(x, false);
    if (x87_empty(f, 0) || x87_empty(f, x->i)) {
        f->fsw |= FSW_C0 | FSW_C2 | FSW_C3; /* unordered, masked or not */
        if (!x87_stack_fault(f, false))
            return;
    } else {
        struct x87_frame frame;
        uint8_t a[16], b[16];
        memcpy(a, x87_st(f, 0), 10);
        memcpy(b, x87_st(f, x->i), 10);
        x87_call(x, x->modrm, X87_COMPARE, a, b, &frame);
        f->fsw &= (uint16_t)~FSW_C1;
        x87_take_status(f, frame.fsw, FSW_C0 | FSW_C2 | FSW_C3);
        if (frame.fsw & ~f->fcw & (FSW_IE | FSW_DE))
            return;
    }
    while (pops--)
        x87_pop(f);
}

/* FCOMI, FUCOMI, FCOMIP, FUCOMIP: result in ZF, PF, CF; OF, SF, AF cleared. */
void x87_compare_flags(struct x87_op *x, bool pops)
{
    struct x87 *f = x->f;
    x87_pointers(x, false);
    f->fsw &= (uint16_t)~FSW_C1;
    if (x87_empty(f, 0) || x87_empty(f, x->i)) {
        flags_set_arith(x->cpu, FLAG_ZF | FLAG_PF | FLAG_CF);
        if (!x87_stack_fault(f, false))
            return;
    } else {
        struct x87_frame frame;
        uint8_t a[16], b[16];
        memcpy(a, x87_st(f, 0), 10);
        memcpy(b, x87_st(f, x->i), 10);
        /* The popping forms differ in the opcode only: run the plain one. */
        unsigned op = x->op;
        x->op = 3;
        x87_call(x, x->modrm, X87_COMPARE_FLAGS, a, b, &frame);
        x->op = op;
        x87_take_status(f, frame.fsw, 0);
        flags_set_arith(x->cpu, frame.flags & (FLAG_ZF | FLAG_PF | FLAG_CF));
        if (frame.fsw & ~f->fcw & (FSW_IE | FSW_DE))
            return;
    }
    if (pops)
        x87_pop(f);
}

static bool unary_operand(struct x87_op *x)
{
    struct x87 *f = x->f;
    x87_pointers(x, false);
    if (!x87_empty(f, 0))
        return true;
    if (x87_stack_fault(f, false)) {
        memcpy(x87_st(f, 0), x87_indefinite, 10);
        x87_set_tag(f, 0, true);
    }
    return false;
}

/* FCHS, FABS, FSQRT. */
void x87_unary(struct x87_op *x)
{
    struct x87 *f = x->f;
    struct x87_frame frame;
    uint8_t a[16], b[16];
    if (!unary_operand(x))
        return;
    memcpy(a, x87_st(f, 0), 10);
    x87_call(x, x->modrm, X87_UNARY, a, b, &frame);
    x87_take_status(f, frame.fsw, FSW_C1);
    if (!(frame.fsw & ~f->fcw & (FSW_IE | FSW_ZE | FSW_DE)))
        memcpy(x87_st(f, 0), a, 10);
}

/* F2XM1, FRNDINT; with C2 FSIN and FCOS. */
void x87_unary_own(struct x87_op *x, uint16_t conditions)
{
    struct x87 *f = x->f;
    f->fsw &= (uint16_t) ~(conditions & FSW_C2);
    if (!unary_operand(x))
        return;
    struct f80_op o = own_run(x);
    x87_take_status(f, o.fsw, conditions);
    if (!(o.fsw & ~f->fcw & (FSW_IE | FSW_DE)))
        f80_store(x87_st(f, 0), o.st0);
}

/* FTST and FXAM leave ST(0) alone. */
void x87_examine(struct x87_op *x, bool fxam)
{
    struct x87 *f = x->f;
    x87_pointers(x, false);
    if (x87_empty(f, 0)) {
        if (fxam) {
            uint16_t sign = x87_st(f, 0)[9] & 0x80 ? FSW_C1 : 0;
            f->fsw = (uint16_t)((f->fsw & ~FSW_CONDITIONS) | FSW_C3 | FSW_C0 | sign);
        } else {
            f->fsw |= FSW_C0 | FSW_C2 | FSW_C3;
            x87_stack_fault(f, false);
        }
        return;
    }
    struct x87_frame frame;
    uint8_t a[16], b[16];
    memcpy(a, x87_st(f, 0), 10);
    x87_call(x, x->modrm, X87_UNARY, a, b, &frame);
    x87_take_status(f, frame.fsw, FSW_CONDITIONS);
}

/* FPREM, FPREM1, FSCALE: ST(0) and ST(1) -> ST(0). */
void x87_binary_st1(struct x87_op *x, uint16_t conditions)
{
    struct x87 *f = x->f;
    x87_pointers(x, false);
    f->fsw &= (uint16_t) ~(conditions & FSW_C2);
    if (x87_empty(f, 0) || x87_empty(f, 1)) {
        if (!x87_stack_fault(f, false))
            return;
        memcpy(x87_st(f, 0), x87_indefinite, 10);
        x87_set_tag(f, 0, true);
        return;
    }
    struct f80_op o = own_run(x);
    /* No quotient with a NaN or a fault: C0 and C3 stay. */
    if (f80_classify(o.st0) >= F80_QNAN || (o.fsw & ~f->fcw & FSW_DE))
        conditions &= (uint16_t) ~(FSW_C0 | FSW_C3);
    x87_take_status(f, o.fsw, conditions);
    if (!(o.fsw & ~f->fcw & (FSW_IE | FSW_DE)))
        f80_store(x87_st(f, 0), o.st0);
}

/* FYL2X, FYL2XP1, FPATAN: result in ST(1), then pop. */
void x87_pop2(struct x87_op *x)
{
    struct x87 *f = x->f;
    x87_pointers(x, false);
    if (x87_empty(f, 0) || x87_empty(f, 1)) {
        if (!x87_stack_fault(f, false))
            return;
        memcpy(x87_st(f, 1), x87_indefinite, 10);
    } else {
        struct f80_op o = own_run(x);
        x87_take_status(f, o.fsw, FSW_C1);
        if (o.fsw & ~f->fcw & (FSW_IE | FSW_ZE | FSW_DE))
            return;
        f80_store(x87_st(f, 1), o.st0);
    }
    x87_set_tag(f, 1, true);
    x87_pop(f);
}

/* FXTRACT, FPTAN, FSINCOS: one value becomes two. */
void x87_push2(struct x87_op *x, bool reduces)
{
    struct x87 *f = x->f;
    x87_pointers(x, false);
    if (reduces)
        f->fsw &= (uint16_t)~FSW_C2;
    if (x87_empty(f, 0) || !x87_empty(f, 7)) {
        if (!x87_stack_fault(f, !x87_empty(f, 0)))
            return;
        memcpy(x87_st(f, 0), x87_indefinite, 10);
        x87_set_tag(f, 0, true);
        x87_push(f, x87_indefinite);
        return;
    }
    struct f80_op o = own_run(x);
    x87_take_status(f, o.fsw, reduces ? FSW_C1 | FSW_C2 : FSW_C1);
    if (o.fsw & ~f->fcw & (FSW_IE | FSW_ZE | FSW_DE))
        return;
    if (o.fsw & FSW_C2)
        return; /* operand out of range: nothing happened */
    uint8_t top[10];
    f80_store(x87_st(f, 0), o.st1);
    f80_store(top, o.st0);
    x87_push(f, top);
}

void x87_load_constant(struct x87_op *x)
{
    struct x87 *f = x->f;
    x87_pointers(x, false);
    uint8_t a[16] = {0}, b[16];
    if (!x87_empty(f, 7)) {
        if (!x87_stack_fault(f, true))
            return;
        x87_push(f, x87_indefinite);
        return;
    }
    struct x87_frame frame;
    x87_call(x, x->modrm, X87_LOAD, a, b, &frame);
    f->fsw &= (uint16_t)~FSW_C1;
    x87_push(f, a);
}

/* -- Moves in registers -------------------------------------------------------------------------------- */

void x87_load_register(struct x87_op *x)
{
    struct x87 *f = x->f;
    uint8_t value[10];
    x87_pointers(x, false);
    f->fsw &= (uint16_t)~FSW_C1;
    memcpy(value, x87_st(f, x->i), 10);
    /* SDM 2A, FLD: C1 is "set to 1 if stack overflow occurred", whatever the source is. */
    bool overflow = !x87_empty(f, 7);
    if (overflow || x87_empty(f, x->i)) {
        if (!x87_stack_fault(f, overflow))
            return;
        memcpy(value, x87_indefinite, 10);
    }
    x87_push(f, value);
}

void x87_store_register(struct x87_op *x, bool pops)
{
    struct x87 *f = x->f;
    x87_pointers(x, false);
    f->fsw &= (uint16_t)~FSW_C1;
    if (x87_empty(f, 0)) {
        if (!x87_stack_fault(f, false))
            return;
        memcpy(x87_st(f, x->i), x87_indefinite, 10);
    } else {
        memmove(x87_st(f, x->i), x87_st(f, 0), 10);
    }
    x87_set_tag(f, x->i, true);
    if (pops)
        x87_pop(f);
}

/* FSTPNCE (D9 D8+i): FSTP that raises nothing when ST(0) is empty, and then only pops. */
void x87_store_unchecked(struct x87_op *x)
{
    struct x87 *f = x->f;
    x87_pointers(x, false);
    f->fsw &= (uint16_t)~FSW_C1;
    if (!x87_empty(f, 0)) {
        memmove(x87_st(f, x->i), x87_st(f, 0), 10);
        x87_set_tag(f, x->i, true);
    }
    x87_pop(f);
}

void x87_exchange(struct x87_op *x)
{
    struct x87 *f = x->f;
    uint8_t t[10];
    x87_pointers(x, false);
    f->fsw &= (uint16_t)~FSW_C1;
    if (x87_empty(f, 0) || x87_empty(f, x->i)) {
        if (!x87_stack_fault(f, false))
            return;
        for (unsigned k = 0; k < 2; k++) {
            unsigned n = k ? x->i : 0;
            if (x87_empty(f, n))
                memcpy(x87_st(f, n), x87_indefinite, 10);
            x87_set_tag(f, n, true);
        }
    }
    memcpy(t, x87_st(f, 0), 10);
    memmove(x87_st(f, 0), x87_st(f, x->i), 10);
    memcpy(x87_st(f, x->i), t, 10);
}

void x87_conditional_move(struct x87_op *x, bool condition)
{
    struct x87 *f = x->f;
    x87_pointers(x, false);
    f->fsw &= (uint16_t)~FSW_C1;
    if (x87_empty(f, 0) || x87_empty(f, x->i)) {
        if (x87_stack_fault(f, false)) {
            memcpy(x87_st(f, 0), x87_indefinite, 10);
            x87_set_tag(f, 0, true);
        }
    } else if (condition) {
        memmove(x87_st(f, 0), x87_st(f, x->i), 10);
    }
}
