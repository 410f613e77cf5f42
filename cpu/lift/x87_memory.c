/*
 * cpu/lift/x87_memory.c -- x87 loads, stores and arithmetic with a memory operand.
 *
 * A memory operand is read before, and written before, anything changes.
 */
#include "cpu/lift/x87_op.h"

#include "cpu/lift/x87_softfloat.h"

/* -- Memory -------------------------------------------------------------------------------------------- */

/* SDM 3A, table "Alignment Requirements by Data Type": environments by their words, 80-bit values by eight.
 */
static gva_t operand_linear(struct x87_op *x, unsigned n, enum mem_access access)
{
    gva_t linear = cpu_linear(x->cpu, x->seg, x->ea, n, access);
    unsigned align = n == 10 ? 8 : n & -n;
    if (unlikely(x->cpu->key & KEY_AC) && (linear & (align - 1)))
        cpu_raise(x->cpu, EXC_AC, 0);
    return linear;
}

void x87_read_memory(struct x87_op *x, uint8_t *buf, unsigned n)
{
    gva_t linear = operand_linear(x, n, MEM_READ);
    cpu_read_bytes(x->cpu, linear, buf, n, 0);
}

void x87_write_memory(struct x87_op *x, const uint8_t *buf, unsigned n)
{
    gva_t linear = operand_linear(x, n, MEM_WRITE);
    cpu_write_bytes(x->cpu, linear, buf, n, 0);
}

void x87_arithmetic_memory(struct x87_op *x, unsigned n)
{
    struct x87 *f = x->f;
    uint8_t a[16], b[16];
    bool compares = x->reg == 2 || x->reg == 3;
    x87_read_memory(x, b, n);
    x87_pointers(x, true);
    if (x87_empty(f, 0)) {
        if (compares)
            f->fsw |= FSW_C0 | FSW_C2 | FSW_C3;
        if (!x87_stack_fault(f, false))
            return;
        if (!compares) {
            memcpy(x87_st(f, 0), x87_indefinite, 10);
            x87_set_tag(f, 0, true);
        }
    } else {
        struct x87_frame frame;
        memcpy(a, x87_st(f, 0), 10);
        x87_call(x, x->modrm & 0x3f, compares ? X87_COMPARE_MEMORY : X87_MEMORY, a, b, &frame);
        x87_take_status(f, frame.fsw, compares ? FSW_CONDITIONS : FSW_C1);
        if (frame.fsw & ~f->fcw & (FSW_IE | FSW_ZE | FSW_DE))
            return;
        if (!compares)
            memcpy(x87_st(f, 0), a, 10);
    }
    if (x->reg == 3)
        x87_pop(f);
}

void x87_load_memory(struct x87_op *x, unsigned n)
{
    struct x87 *f = x->f;
    uint8_t a[16], b[16];
    x87_read_memory(x, b, n);
    x87_pointers(x, true);
    f->fsw &= (uint16_t)~FSW_C1;
    if (!x87_empty(f, 7)) {
        if (x87_stack_fault(f, true))
            x87_push(f, x87_indefinite);
        return;
    }
    struct x87_frame frame;
    if (n == 10) { /* FBLD */
        f80_store(a, f80_from_bcd(b));
        x87_push(f, a);
        return;
    }
    x87_call(x, x->modrm & 0x3f, X87_LOAD, a, b, &frame);
    x87_take_status(f, frame.fsw, 0);
    if (!(frame.fsw & ~f->fcw & (FSW_IE | FSW_DE)))
        x87_push(f, a);
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

static uint16_t store_bcd(const struct x87 *f, const uint8_t *a, uint8_t *b)
{
    struct f80_op o = {.st0 = f80_load(a), .fcw = f->fcw};
    f80_to_bcd(&o, b);
    return o.fsw;
}

void x87_store_memory(struct x87_op *x, unsigned n, bool integer, bool pops)
{
    struct x87 *f = x->f;
    uint8_t a[16], b[16];
    struct x87_frame frame = {0};
    bool underflow = x87_empty(f, 0);
    /* The operand's faults come first, also when an exception that is not masked keeps the store away. */
    cpu_probe(x->cpu, operand_linear(x, n, MEM_WRITE), n, MEM_WRITE, 0);
    if (underflow) {
        if (f->fcw & FSW_IE) {
            store_indefinite(x, b, n, integer);
            x87_write_memory(x, b, n);
        }
        x87_pointers(x, true);
        if (x87_stack_fault(f, false) && pops)
            x87_pop(f);
        return;
    }
    memcpy(a, x87_st(f, 0), 10);
    if (n == 10 && !integer) {
        memcpy(b, a, 10); /* FSTP m80: a move */
    } else {
        if (n == 10)
            frame.fsw = store_bcd(f, a, b);
        else
            x87_call(x, x->modrm & 0x3f, X87_STORE, a, b, &frame);
        /* Nothing is stored on an unmasked exception other than precision. */
        if (frame.fsw & ~f->fcw & 0x1f) {
            x87_pointers(x, true);
            x87_take_status(f, frame.fsw, FSW_C1);
            return;
        }
    }
    x87_write_memory(x, b, n);
    x87_pointers(x, true);
    x87_take_status(f, frame.fsw, FSW_C1);
    if (pops)
        x87_pop(f);
}

void x87_load_m80(struct x87_op *x)
{
    struct x87 *f = x->f;
    uint8_t b[16];
    x87_read_memory(x, b, 10);
    x87_pointers(x, true);
    f->fsw &= (uint16_t)~FSW_C1;
    if (!x87_empty(f, 7)) {
        if (x87_stack_fault(f, true))
            x87_push(f, x87_indefinite);
        return;
    }
    x87_push(f, b);
}
