/*
 * cpu/lift/helpers_x87.c -- the x87 stack, tags, status and exceptions around host arithmetic.
 *
 * SDM 1, "Programming with the x87 FPU"; SDM 2A, the F... pages.
 * The host computes one instruction on plain operands (cpu/jit/x87.h); what is stack, tag word, stack fault, pointer or
 * pending exception is here. A memory operand is read before, and written before, anything changes.
 * Not here: FXSAVE and XSAVE (cpu/xsave.c).
 */
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/exec.h"
#include "cpu/flags.h"
#include "cpu/ir/helper.h"
#include "cpu/jit/x87.h"

enum { FSW_IE = 1, FSW_DE = 2, FSW_ZE = 4, FSW_OE = 8, FSW_UE = 16, FSW_PE = 32, FSW_SF = 64, FSW_ES = 128,
       FSW_C0 = 1 << 8, FSW_C1 = 1 << 9, FSW_C2 = 1 << 10, FSW_C3 = 1 << 14, FSW_B = 1 << 15 };
#define FSW_CONDITIONS (FSW_C0 | FSW_C1 | FSW_C2 | FSW_C3)

static const uint8_t indefinite[10] = {0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff};

/* One instruction at work. */
struct x87_op {
    struct cpu *cpu;
    struct x87 *f;
    const struct uop *u;
    unsigned op;      /* escape opcode - D8H */
    uint8_t modrm;
    unsigned reg, i;  /* ModRM.reg, ModRM.rm = ST(i) */
    enum seg_reg seg;
    uint64_t ea;
};

/* -- Stack ------------------------------------------------------------------------------------------------------ */

static uint8_t *st(struct x87 *f, unsigned i)
{
    return f->r[(f->top + i) & 7].b;
}

static bool empty(const struct x87 *f, unsigned i)
{
    return !(f->ftw >> ((f->top + i) & 7) & 1);
}

static void set_tag(struct x87 *f, unsigned i, bool full)
{
    unsigned bit = 1u << ((f->top + i) & 7);
    f->ftw = (uint8_t)(full ? f->ftw | bit : f->ftw & ~bit);
}

static void pop(struct x87 *f)
{
    set_tag(f, 0, false);
    f->top = (f->top + 1) & 7;
}

static void push(struct x87 *f, const uint8_t *value)
{
    f->top = (f->top - 1) & 7;
    memcpy(st(f, 0), value, 10);
    set_tag(f, 0, true);
}

/* -- Exceptions ---------------------------------------------------------------------------------------------------- */

/* ES and B say that an exception is there that is not masked. */
static void summarise(struct x87 *f)
{
    bool pending = f->fsw & ~f->fcw & 0x3f;
    f->fsw = (uint16_t)(pending ? f->fsw | FSW_ES | FSW_B : f->fsw & ~(FSW_ES | FSW_B));
}

/* Takes exception flags and condition codes of a host status word. */
static void take_status(struct x87 *f, uint16_t host, uint16_t conditions)
{
    f->fsw = (uint16_t)((f->fsw & ~conditions) | (host & (conditions | 0x3f)));
    summarise(f);
}

/* SDM 1, "Stack Overflow or Underflow Exception (#IS)": C1 is 1 for overflow. True when masked: go on with the
 * indefinite value. */
static bool stack_fault(struct x87 *f, bool overflow)
{
    f->fsw |= FSW_IE | FSW_SF;
    f->fsw = (uint16_t)(overflow ? f->fsw | FSW_C1 : f->fsw & ~FSW_C1);
    summarise(f);
    return f->fcw & FSW_IE;
}

static void wait(struct cpu *cpu)
{
    if (unlikely(cpu->x87.fsw & FSW_ES))
        cpu_raise(cpu, EXC_MF, 0);
}

/* FIP, FDP, FOP: CS and DS selectors read as zero (CPUID.7:EBX[13]). */
static void pointers(struct x87_op *x, bool memory)
{
    cpu_sync(x->cpu);
    x->f->fop = (uint16_t)(x->op << 8 | x->modrm);
    x->f->fip = x->cpu->rip;
    if (memory)
        x->f->fdp = x->ea;
    x->f->fcs = x->f->fds = 0;
}

static void call(struct x87_op *x, uint8_t modrm, enum x87_form form, void *a, void *b, struct x87_frame *frame)
{
    x87_code *code = stub_x87(x->cpu->stubs, x->op, modrm, form);
    *frame = (struct x87_frame){.fcw = x->f->fcw};
    if (!code) {
        log_unimplemented(x->cpu->log, "x87 %02xH /%02x: no host stub", 0xd8 + x->op, modrm);
        cpu_raise_ud(x->cpu);
    }
    code(a, b, frame);
}

/* -- Arithmetic in registers ------------------------------------------------------------------------------------------ */

/* ST(0) op ST(i) -> ST(0), or -> ST(i) with an optional pop. */
static void arithmetic(struct x87_op *x, bool to_i, bool pops)
{
    struct x87 *f = x->f;
    unsigned target = to_i ? x->i : 0;
    pointers(x, false);
    if (empty(f, 0) || empty(f, x->i)) {
        if (!stack_fault(f, false))
            return;
        memcpy(st(f, target), indefinite, 10);
    } else {
        struct x87_frame frame;
        uint8_t a[16], b[16];
        memcpy(a, st(f, 0), 10);
        memcpy(b, st(f, x->i), 10);
        call(x, x->modrm, to_i ? X87_BINARY_ST1 : X87_BINARY, a, b, &frame);
        take_status(f, frame.fsw, FSW_C1);
        if (frame.fsw & ~f->fcw & (FSW_IE | FSW_ZE | FSW_DE))
            return;
        memcpy(st(f, target), to_i ? b : a, 10);
    }
    set_tag(f, target, true);
    if (pops)
        pop(f);
}

static void compare(struct x87_op *x, unsigned pops)
{
    struct x87 *f = x->f;
    pointers(x, false);
    if (empty(f, 0) || empty(f, x->i)) {
        f->fsw |= FSW_C0 | FSW_C2 | FSW_C3; /* unordered, masked or not */
        if (!stack_fault(f, false))
            return;
    } else {
        struct x87_frame frame;
        uint8_t a[16], b[16];
        memcpy(a, st(f, 0), 10);
        memcpy(b, st(f, x->i), 10);
        call(x, x->modrm, X87_COMPARE, a, b, &frame);
        f->fsw &= (uint16_t)~FSW_C1;
        take_status(f, frame.fsw, FSW_C0 | FSW_C2 | FSW_C3);
        if (frame.fsw & ~f->fcw & (FSW_IE | FSW_DE))
            return;
    }
    while (pops--)
        pop(f);
}

/* FCOMI, FUCOMI, FCOMIP, FUCOMIP: result in ZF, PF, CF; OF, SF, AF cleared. */
static void compare_flags(struct x87_op *x, bool pops)
{
    struct x87 *f = x->f;
    pointers(x, false);
    f->fsw &= (uint16_t)~FSW_C1;
    if (empty(f, 0) || empty(f, x->i)) {
        flags_set_arith(x->cpu, FLAG_ZF | FLAG_PF | FLAG_CF);
        if (!stack_fault(f, false))
            return;
    } else {
        struct x87_frame frame;
        uint8_t a[16], b[16];
        memcpy(a, st(f, 0), 10);
        memcpy(b, st(f, x->i), 10);
        /* The popping forms differ in the opcode only: run the plain one. */
        unsigned op = x->op;
        x->op = 3;
        call(x, x->modrm, X87_COMPARE_FLAGS, a, b, &frame);
        x->op = op;
        take_status(f, frame.fsw, 0);
        flags_set_arith(x->cpu, frame.flags & (FLAG_ZF | FLAG_PF | FLAG_CF));
        if (frame.fsw & ~f->fcw & (FSW_IE | FSW_DE))
            return;
    }
    if (pops)
        pop(f);
}

static void unary(struct x87_op *x, uint16_t conditions)
{
    struct x87 *f = x->f;
    pointers(x, false);
    f->fsw &= (uint16_t)~(conditions & FSW_C2);
    if (empty(f, 0)) {
        if (!stack_fault(f, false))
            return;
        memcpy(st(f, 0), indefinite, 10);
        set_tag(f, 0, true);
        return;
    }
    struct x87_frame frame;
    uint8_t a[16], b[16];
    memcpy(a, st(f, 0), 10);
    call(x, x->modrm, X87_UNARY, a, b, &frame);
    take_status(f, frame.fsw, conditions);
    if (!(frame.fsw & ~f->fcw & (FSW_IE | FSW_ZE | FSW_DE)))
        memcpy(st(f, 0), a, 10);
}

/* FTST and FXAM leave ST(0) alone. */
static void examine(struct x87_op *x, bool fxam)
{
    struct x87 *f = x->f;
    pointers(x, false);
    if (empty(f, 0)) {
        if (fxam) {
            uint16_t sign = st(f, 0)[9] & 0x80 ? FSW_C1 : 0;
            f->fsw = (uint16_t)((f->fsw & ~FSW_CONDITIONS) | FSW_C3 | FSW_C0 | sign);
        } else {
            f->fsw |= FSW_C0 | FSW_C2 | FSW_C3;
            stack_fault(f, false);
        }
        return;
    }
    struct x87_frame frame;
    uint8_t a[16], b[16];
    memcpy(a, st(f, 0), 10);
    call(x, x->modrm, X87_UNARY, a, b, &frame);
    take_status(f, frame.fsw, FSW_CONDITIONS);
}

/* FPREM, FPREM1, FSCALE: ST(0) and ST(1) -> ST(0). */
static void binary_st1(struct x87_op *x, uint16_t conditions)
{
    struct x87 *f = x->f;
    pointers(x, false);
    f->fsw &= (uint16_t)~(conditions & FSW_C2);
    if (empty(f, 0) || empty(f, 1)) {
        if (!stack_fault(f, false))
            return;
        memcpy(st(f, 0), indefinite, 10);
        set_tag(f, 0, true);
        return;
    }
    struct x87_frame frame;
    uint8_t a[16], b[16];
    memcpy(a, st(f, 0), 10);
    memcpy(b, st(f, 1), 10);
    call(x, x->modrm, X87_BINARY, a, b, &frame);
    /* No quotient with a NaN or a fault: C0 and C3 stay. */
    bool nan = (a[9] & 0x7f) == 0x7f && a[8] == 0xff && (load_le(a, 8) << 1);
    if (nan || (frame.fsw & FSW_IE) || (frame.fsw & ~f->fcw & FSW_DE))
        conditions &= (uint16_t)~(FSW_C0 | FSW_C3);
    take_status(f, frame.fsw, conditions);
    if (!(frame.fsw & ~f->fcw & (FSW_IE | FSW_ZE | FSW_DE)))
        memcpy(st(f, 0), a, 10);
}

/* FYL2X, FYL2XP1, FPATAN: result in ST(1), then pop. */
static void pop2(struct x87_op *x)
{
    struct x87 *f = x->f;
    pointers(x, false);
    if (empty(f, 0) || empty(f, 1)) {
        if (!stack_fault(f, false))
            return;
        memcpy(st(f, 1), indefinite, 10);
    } else {
        struct x87_frame frame;
        uint8_t a[16], b[16];
        memcpy(a, st(f, 0), 10);
        memcpy(b, st(f, 1), 10);
        call(x, x->modrm, X87_POP2, a, b, &frame);
        take_status(f, frame.fsw, FSW_C1);
        if (frame.fsw & ~f->fcw & (FSW_IE | FSW_ZE | FSW_DE))
            return;
        memcpy(st(f, 1), a, 10);
    }
    set_tag(f, 1, true);
    pop(f);
}

/* FXTRACT, FPTAN, FSINCOS: one value becomes two. */
static void push2(struct x87_op *x, bool reduces)
{
    struct x87 *f = x->f;
    pointers(x, false);
    if (reduces)
        f->fsw &= (uint16_t)~FSW_C2;
    if (empty(f, 0) || !empty(f, 7)) {
        if (!stack_fault(f, !empty(f, 0)))
            return;
        memcpy(st(f, 0), indefinite, 10);
        set_tag(f, 0, true);
        push(f, indefinite);
        return;
    }
    struct x87_frame frame;
    uint8_t a[16], b[16];
    memcpy(a, st(f, 0), 10);
    call(x, x->modrm, X87_PUSH2, a, b, &frame);
    take_status(f, frame.fsw, reduces ? FSW_C1 | FSW_C2 : FSW_C1);
    if (frame.fsw & ~f->fcw & (FSW_IE | FSW_ZE | FSW_DE))
        return;
    if (reduces && (frame.fsw & FSW_C2))
        return; /* operand out of range: nothing happened */
    memcpy(st(f, 0), b, 10);
    push(f, a);
}

static void load_constant(struct x87_op *x)
{
    struct x87 *f = x->f;
    pointers(x, false);
    uint8_t a[16] = {0}, b[16];
    if (!empty(f, 7)) {
        if (!stack_fault(f, true))
            return;
        push(f, indefinite);
        return;
    }
    struct x87_frame frame;
    call(x, x->modrm, X87_LOAD, a, b, &frame);
    f->fsw &= (uint16_t)~FSW_C1;
    push(f, a);
}

/* -- Moves in registers --------------------------------------------------------------------------------------------------- */

static void load_register(struct x87_op *x)
{
    struct x87 *f = x->f;
    uint8_t value[10];
    pointers(x, false);
    f->fsw &= (uint16_t)~FSW_C1;
    memcpy(value, st(f, x->i), 10);
    bool overflow = !empty(f, 7);
    if (overflow || empty(f, x->i)) {
        if (!stack_fault(f, overflow))
            return;
        memcpy(value, indefinite, 10);
    }
    push(f, value);
}

static void store_register(struct x87_op *x, bool pops)
{
    struct x87 *f = x->f;
    pointers(x, false);
    f->fsw &= (uint16_t)~FSW_C1;
    if (empty(f, 0)) {
        if (!stack_fault(f, false))
            return;
        memcpy(st(f, x->i), indefinite, 10);
    } else {
        memmove(st(f, x->i), st(f, 0), 10);
    }
    set_tag(f, x->i, true);
    if (pops)
        pop(f);
}

/* FSTPNCE (D9 D8+i): FSTP that raises nothing when ST(0) is empty, and then only pops. */
static void store_unchecked(struct x87_op *x)
{
    struct x87 *f = x->f;
    pointers(x, false);
    f->fsw &= (uint16_t)~FSW_C1;
    if (!empty(f, 0)) {
        memmove(st(f, x->i), st(f, 0), 10);
        set_tag(f, x->i, true);
    }
    pop(f);
}

static void exchange(struct x87_op *x)
{
    struct x87 *f = x->f;
    uint8_t t[10];
    pointers(x, false);
    f->fsw &= (uint16_t)~FSW_C1;
    if (empty(f, 0) || empty(f, x->i)) {
        if (!stack_fault(f, false))
            return;
        for (unsigned k = 0; k < 2; k++) {
            unsigned n = k ? x->i : 0;
            if (empty(f, n))
                memcpy(st(f, n), indefinite, 10);
            set_tag(f, n, true);
        }
    }
    memcpy(t, st(f, 0), 10);
    memmove(st(f, 0), st(f, x->i), 10);
    memcpy(st(f, x->i), t, 10);
}

static void conditional_move(struct x87_op *x, bool condition)
{
    struct x87 *f = x->f;
    pointers(x, false);
    f->fsw &= (uint16_t)~FSW_C1;
    if (empty(f, 0) || empty(f, x->i)) {
        if (stack_fault(f, false)) {
            memcpy(st(f, 0), indefinite, 10);
            set_tag(f, 0, true);
        }
    } else if (condition) {
        memmove(st(f, 0), st(f, x->i), 10);
    }
}

/* -- Memory ------------------------------------------------------------------------------------------------------------------ */

/* SDM 3A, table "Alignment Requirements by Data Type": environments by their words, 80-bit values by eight. */
static gva_t operand_linear(struct x87_op *x, unsigned n, enum mem_access access)
{
    gva_t linear = cpu_linear(x->cpu, x->seg, x->ea, n, access);
    unsigned align = n == 10 ? 8 : n & -n;
    if (unlikely(x->cpu->key & KEY_AC) && (linear & (align - 1)))
        cpu_raise(x->cpu, EXC_AC, 0);
    return linear;
}

static void read_memory(struct x87_op *x, uint8_t *buf, unsigned n)
{
    gva_t linear = operand_linear(x, n, MEM_READ);
    cpu_read_bytes(x->cpu, linear, buf, n, 0);
}

static void write_memory(struct x87_op *x, const uint8_t *buf, unsigned n)
{
    gva_t linear = operand_linear(x, n, MEM_WRITE);
    cpu_write_bytes(x->cpu, linear, buf, n, 0);
}

static void arithmetic_memory(struct x87_op *x, unsigned n)
{
    struct x87 *f = x->f;
    uint8_t a[16], b[16];
    bool compares = x->reg == 2 || x->reg == 3;
    read_memory(x, b, n);
    pointers(x, true);
    if (empty(f, 0)) {
        if (compares)
            f->fsw |= FSW_C0 | FSW_C2 | FSW_C3;
        if (!stack_fault(f, false))
            return;
        if (!compares) {
            memcpy(st(f, 0), indefinite, 10);
            set_tag(f, 0, true);
        }
    } else {
        struct x87_frame frame;
        memcpy(a, st(f, 0), 10);
        call(x, x->modrm & 0x3f, compares ? X87_COMPARE_MEMORY : X87_MEMORY, a, b, &frame);
        take_status(f, frame.fsw, compares ? FSW_CONDITIONS : FSW_C1);
        if (frame.fsw & ~f->fcw & (FSW_IE | FSW_ZE | FSW_DE))
            return;
        if (!compares)
            memcpy(st(f, 0), a, 10);
    }
    if (x->reg == 3)
        pop(f);
}

static void load_memory(struct x87_op *x, unsigned n)
{
    struct x87 *f = x->f;
    uint8_t a[16], b[16];
    read_memory(x, b, n);
    pointers(x, true);
    f->fsw &= (uint16_t)~FSW_C1;
    if (!empty(f, 7)) {
        if (stack_fault(f, true))
            push(f, indefinite);
        return;
    }
    struct x87_frame frame;
    call(x, x->modrm & 0x3f, X87_LOAD, a, b, &frame);
    take_status(f, frame.fsw, 0);
    if (!(frame.fsw & ~f->fcw & (FSW_IE | FSW_DE)))
        push(f, a);
}

/* What a masked stack underflow stores: the indefinite value of the format. */
static void store_indefinite(const struct x87_op *x, uint8_t *b, unsigned n, bool integer)
{
    memset(b, 0, 16);
    if (n == 10) {
        static const uint8_t bcd[10] = {0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff};
        (void)x;
        memcpy(b, bcd, 10); /* the packed BCD indefinite has the same bytes */
    } else if (integer) {
        b[n - 1] = 0x80;
    } else if (n == 4) {
        b[2] = 0xc0;
        b[3] = 0xff;
    } else {
        b[6] = 0xf8;
        b[7] = 0xff;
    }
}

static void store_memory(struct x87_op *x, unsigned n, bool integer, bool pops)
{
    struct x87 *f = x->f;
    uint8_t a[16], b[16];
    struct x87_frame frame = {0};
    bool underflow = empty(f, 0);
    /* The operand's faults come first, also when an exception that is not masked keeps the store away. */
    cpu_probe(x->cpu, operand_linear(x, n, MEM_WRITE), n, MEM_WRITE, 0);
    if (underflow) {
        if (f->fcw & FSW_IE) {
            store_indefinite(x, b, n, integer);
            write_memory(x, b, n);
        }
        pointers(x, true);
        if (stack_fault(f, false) && pops)
            pop(f);
        return;
    }
    memcpy(a, st(f, 0), 10);
    if (n == 10 && !integer) {
        memcpy(b, a, 10); /* FSTP m80: a move */
    } else {
        call(x, x->modrm & 0x3f, X87_STORE, a, b, &frame);
        /* Nothing is stored on an unmasked exception other than precision. */
        if (frame.fsw & ~f->fcw & 0x1f) {
            pointers(x, true);
            take_status(f, frame.fsw, FSW_C1);
            return;
        }
    }
    write_memory(x, b, n);
    pointers(x, true);
    take_status(f, frame.fsw, FSW_C1);
    if (pops)
        pop(f);
}

static void load_m80(struct x87_op *x)
{
    struct x87 *f = x->f;
    uint8_t b[16];
    read_memory(x, b, 10);
    pointers(x, true);
    f->fsw &= (uint16_t)~FSW_C1;
    if (!empty(f, 7)) {
        if (stack_fault(f, true))
            push(f, indefinite);
        return;
    }
    push(f, b);
}

/* -- Environment ------------------------------------------------------------------------------------------------------------ */

/* Full tag word: 0 valid, 1 zero, 2 special, 3 empty, by physical register. */
static uint16_t full_tags(const struct x87 *f)
{
    uint16_t tags = 0;
    for (unsigned i = 0; i < 8; i++) {
        unsigned exponent = (unsigned)(f->r[i].q[1] & 0x7fff), tag;
        uint64_t m = f->r[i].q[0];
        if (!(f->ftw >> i & 1))
            tag = 3;
        else if (exponent == 0 && m == 0)
            tag = 1;
        else if (exponent == 0 || exponent == 0x7fff || !(m >> 63))
            tag = 2;
        else
            tag = 0;
        tags |= (uint16_t)(tag << (2 * i));
    }
    return tags;
}

static void load_tags(struct x87 *f, uint16_t tags)
{
    f->ftw = 0;
    for (unsigned i = 0; i < 8; i++)
        if ((tags >> (2 * i) & 3) != 3)
            f->ftw |= (uint8_t)(1u << i);
}

static uint16_t status_word(const struct x87 *f)
{
    return (uint16_t)((f->fsw & ~(7 << 11)) | f->top << 11);
}

static void set_status_word(struct x87 *f, uint16_t w)
{
    f->top = w >> 11 & 7;
    f->fsw = (uint16_t)(w & ~(7 << 11));
    summarise(f);
}

/* SDM 1, figures "Protected/Real Mode x87 FPU State Image in Memory, 32/16-Bit Format". Returns its length. */
static unsigned put_environment(const struct x87_op *x, uint8_t *b)
{
    const struct x87 *f = x->f;
    bool wide = x->u->size != 1, real = !cpu_protected(x->cpu) || cpu_v86(x->cpu);
    memset(b, 0, 28);
    uint32_t ip = (uint32_t)f->fip, dp = (uint32_t)f->fdp;
    if (wide) {
        uint32_t words[7] = {0xffff0000u | f->fcw, 0xffff0000u | status_word(f), 0xffff0000u | full_tags(f), ip,
                             (uint32_t)f->fop << 16 | f->fcs, dp, 0xffff0000u | f->fds};
        if (real) {
            words[3] = 0xffff0000u | (ip & 0xffff);
            words[4] = (ip >> 16) << 12 | f->fop;
            words[5] = 0xffff0000u | (dp & 0xffff);
            words[6] = (dp >> 16) << 12;
        }
        memcpy(b, words, 28);
        return 28;
    }
    uint16_t words[7] = {f->fcw, status_word(f), full_tags(f), (uint16_t)ip, f->fcs, (uint16_t)dp, f->fds};
    if (real) {
        words[4] = (uint16_t)((ip >> 16) << 12 | f->fop);
        words[6] = (uint16_t)((dp >> 16) << 12);
    }
    memcpy(b, words, 14);
    return 14;
}

static void get_environment(struct x87_op *x, const uint8_t *b)
{
    struct x87 *f = x->f;
    bool wide = x->u->size != 1, real = !cpu_protected(x->cpu) || cpu_v86(x->cpu);
    unsigned w = wide ? 4 : 2;
    f->fcw = (uint16_t)((load_le(b, 2) & 0x1f3f) | 0x40);
    load_tags(f, (uint16_t)load_le(b + 2 * w, 2));
    f->fip = load_le(b + 3 * w, w);
    f->fdp = load_le(b + 5 * w, w);
    if (wide && !real)
        f->fop = (uint16_t)(load_le(b + 4 * w, 4) >> 16 & 0x7ff);
    else if (real)
        f->fop = (uint16_t)(load_le(b + 4 * w, 2) & 0x7ff);
    set_status_word(f, (uint16_t)load_le(b + w, 2));
}

static void initialise(struct x87 *f)
{
    f->fcw = 0x37f;
    f->fsw = 0;
    f->top = 0;
    f->ftw = 0;
    f->fip = f->fdp = 0;
    f->fop = f->fcs = f->fds = 0;
}

static void save_all(struct x87_op *x)
{
    uint8_t b[108];
    unsigned n = put_environment(x, b);
    for (unsigned i = 0; i < 8; i++)
        memcpy(b + n + i * 10, st(x->f, i), 10);
    write_memory(x, b, n + 80);
    initialise(x->f);
}

static void restore_all(struct x87_op *x)
{
    uint8_t b[108];
    unsigned n = x->u->size != 1 ? 28 : 14;
    read_memory(x, b, n + 80);
    get_environment(x, b);
    for (unsigned i = 0; i < 8; i++)
        memcpy(st(x->f, i), b + n + i * 10, 10);
}

/* -- Dispatch ----------------------------------------------------------------------------------------------------------------- */

static void control_memory(struct x87_op *x)
{
    uint8_t b[28];
    struct x87 *f = x->f;
    switch (x->op << 4 | x->reg) {
    case 0x14: /* FLDENV */
        wait(x->cpu);
        read_memory(x, b, x->u->size != 1 ? 28 : 14);
        get_environment(x, b);
        break;
    case 0x15: /* FLDCW */
        wait(x->cpu);
        read_memory(x, b, 2);
        f->fcw = (uint16_t)((load_le(b, 2) & 0x1f3f) | 0x40);
        summarise(f);
        break;
    case 0x16: { /* FNSTENV masks all exceptions afterwards */
        unsigned n = put_environment(x, b);
        write_memory(x, b, n);
        f->fcw |= 0x3f;
        summarise(f);
        break;
    }
    case 0x17: /* FNSTCW */
        store_le(b, f->fcw, 2);
        write_memory(x, b, 2);
        break;
    case 0x54: /* FRSTOR */
        wait(x->cpu);
        restore_all(x);
        break;
    case 0x56: /* FNSAVE */
        save_all(x);
        break;
    case 0x57: /* FNSTSW m16 */
        store_le(b, status_word(f), 2);
        write_memory(x, b, 2);
        break;
    default:
        cpu_raise_ud(x->cpu);
    }
}

/* Data transfer and arithmetic with a memory operand: kind and bytes by escape opcode and ModRM.reg. */
enum memory_kind { M_CONTROL, M_ARITH, M_LOAD, M_LOAD80, M_STORE, M_STOREP, M_ISTORE, M_ISTOREP, M_STORE80 };
static const struct {
    uint8_t kind, bytes;
} memory_forms[8][8] = {
    /* D8 */ {{M_ARITH, 4}, {M_ARITH, 4}, {M_ARITH, 4}, {M_ARITH, 4}, {M_ARITH, 4}, {M_ARITH, 4}, {M_ARITH, 4}, {M_ARITH, 4}},
    /* D9 */ {{M_LOAD, 4}, {0, 0}, {M_STORE, 4}, {M_STOREP, 4}, {0, 0}, {0, 0}, {0, 0}, {0, 0}},
    /* DA */ {{M_ARITH, 4}, {M_ARITH, 4}, {M_ARITH, 4}, {M_ARITH, 4}, {M_ARITH, 4}, {M_ARITH, 4}, {M_ARITH, 4}, {M_ARITH, 4}},
    /* DB */ {{M_LOAD, 4}, {M_ISTOREP, 4}, {M_ISTORE, 4}, {M_ISTOREP, 4}, {0, 0}, {M_LOAD80, 10}, {0, 0}, {M_STORE80, 10}},
    /* DC */ {{M_ARITH, 8}, {M_ARITH, 8}, {M_ARITH, 8}, {M_ARITH, 8}, {M_ARITH, 8}, {M_ARITH, 8}, {M_ARITH, 8}, {M_ARITH, 8}},
    /* DD */ {{M_LOAD, 8}, {M_ISTOREP, 8}, {M_STORE, 8}, {M_STOREP, 8}, {0, 0}, {0, 0}, {0, 0}, {0, 0}},
    /* DE */ {{M_ARITH, 2}, {M_ARITH, 2}, {M_ARITH, 2}, {M_ARITH, 2}, {M_ARITH, 2}, {M_ARITH, 2}, {M_ARITH, 2}, {M_ARITH, 2}},
    /* DF */ {{M_LOAD, 2}, {M_ISTOREP, 2}, {M_ISTORE, 2}, {M_ISTOREP, 2}, {M_LOAD, 10}, {M_LOAD, 8}, {M_ISTOREP, 10}, {M_ISTOREP, 8}},
};

static void memory_form(struct x87_op *x)
{
    unsigned kind = memory_forms[x->op][x->reg].kind, n = memory_forms[x->op][x->reg].bytes;
    if (kind != M_CONTROL)
        wait(x->cpu);
    switch (kind) {
    case M_ARITH: arithmetic_memory(x, n); break;
    case M_LOAD: load_memory(x, n); break;
    case M_LOAD80: load_m80(x); break;
    case M_STORE: store_memory(x, n, false, false); break;
    case M_STOREP: store_memory(x, n, false, true); break;
    case M_STORE80: store_memory(x, 10, false, true); break;
    case M_ISTORE: store_memory(x, n, true, false); break;
    case M_ISTOREP: store_memory(x, n, true, true); break;
    default: control_memory(x); break;
    }
}

/* D9 E0..FF */
static void d9_special(struct x87_op *x)
{
    struct x87 *f = x->f;
    switch (x->modrm) {
    case 0xe0: case 0xe1: unary(x, FSW_C1); break;           /* FCHS FABS */
    case 0xe4: examine(x, false); break;                     /* FTST */
    case 0xe5: examine(x, true); break;                      /* FXAM */
    case 0xe8: case 0xe9: case 0xea: case 0xeb: case 0xec: case 0xed: case 0xee: load_constant(x); break;
    case 0xf0: case 0xfa: case 0xfc: unary(x, FSW_C1); break; /* F2XM1 FSQRT FRNDINT */
    case 0xfe: case 0xff: unary(x, FSW_C1 | FSW_C2); break;  /* FSIN FCOS */
    case 0xf1: case 0xf3: case 0xf9: pop2(x); break;         /* FYL2X FPATAN FYL2XP1 */
    case 0xf2: case 0xfb: push2(x, true); break;             /* FPTAN FSINCOS */
    case 0xf4: push2(x, false); break;                       /* FXTRACT */
    case 0xf5: case 0xf8: binary_st1(x, FSW_CONDITIONS); break; /* FPREM1 FPREM */
    case 0xfd: binary_st1(x, FSW_C1); break;                 /* FSCALE */
    case 0xf6: case 0xf7:                                    /* FDECSTP FINCSTP */
        f->top = (f->top + (x->modrm == 0xf6 ? 7 : 1)) & 7;
        f->fsw &= (uint16_t)~FSW_C1;
        break;
    default: cpu_raise_ud(x->cpu);
    }
}

static void register_form(struct x87_op *x)
{
    struct cpu *cpu = x->cpu;
    struct x87 *f = x->f;
    /* Non-waiting instructions first. */
    if (x->op == 3 && x->modrm == 0xe2) { /* FNCLEX */
        f->fsw &= (uint16_t)~(FSW_B | FSW_ES | FSW_SF | 0x3f);
        return;
    }
    if (x->op == 3 && x->modrm == 0xe3) { /* FNINIT */
        initialise(f);
        return;
    }
    if (x->op == 3 && (x->modrm == 0xe0 || x->modrm == 0xe1 || x->modrm == 0xe4))
        return; /* FNENI, FNDISI, FNSETPM: no operation since the 80387 */
    if (x->op == 7 && x->modrm == 0xe0) { /* FNSTSW AX */
        cpu->r[REG_RAX] = (cpu->r[REG_RAX] & ~0xffffull) | status_word(f);
        return;
    }
    wait(cpu);
    unsigned reg = x->reg;
    switch (x->op) {
    case 0:
        if (reg == 2 || reg == 3)
            compare(x, reg == 3);
        else
            arithmetic(x, false, false);
        break;
    case 1:
        if (reg == 0)
            load_register(x);
        else if (reg == 1)
            exchange(x);
        else if (reg == 3)
            store_unchecked(x);
        else if (reg >= 4)
            d9_special(x);
        else if (x->modrm != 0xd0) /* FNOP */
            cpu_raise_ud(cpu);
        break;
    case 2:
        if (x->modrm == 0xe9) /* FUCOMPP */
            compare(x, 2);
        else if (reg < 4)
            conditional_move(x, flags_condition(cpu, (unsigned[]){2, 4, 6, 10}[reg]));
        else
            cpu_raise_ud(cpu);
        break;
    case 3:
        if (reg < 4)
            conditional_move(x, flags_condition(cpu, (unsigned[]){3, 5, 7, 11}[reg]));
        else if (reg == 5 || reg == 6) /* FUCOMI FCOMI */
            compare_flags(x, false);
        else
            cpu_raise_ud(cpu);
        break;
    case 4:
        if (reg == 2 || reg == 3)
            compare(x, reg == 3);
        else
            arithmetic(x, true, false);
        break;
    case 5:
        if (reg == 0)
            set_tag(f, x->i, false); /* FFREE */
        else if (reg == 1)
            exchange(x);
        else if (reg == 2 || reg == 3)
            store_register(x, reg == 3);
        else if (reg == 4 || reg == 5)
            compare(x, reg == 5);
        else
            cpu_raise_ud(cpu);
        break;
    case 6:
        if (reg == 2)
            compare(x, 1);
        else if (x->modrm == 0xd9) /* FCOMPP */
            compare(x, 2);
        else if (reg == 3)
            cpu_raise_ud(cpu);
        else
            arithmetic(x, true, true);
        break;
    default:
        if (reg == 0) { /* FFREEP */
            set_tag(f, x->i, false);
            pop(f);
        } else if (reg == 1) {
            exchange(x);
        } else if (reg == 2 || reg == 3) {
            store_register(x, true);
        } else if (reg == 5 || reg == 6) {
            compare_flags(x, true);
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
    wait(cpu);
}
