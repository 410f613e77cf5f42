/*
 * cpu/lift/x87_environment.c -- control, status and tag words, FLDENV, FNSTENV, FRSTOR, FNSAVE.
 *
 * SDM 1, figures "x87 FPU State Image in Memory". Not here: FXSAVE and XSAVE (cpu/xsave.c).
 */
#include "cpu/lift/x87_op.h"

/* -- Environment --------------------------------------------------------------------------------------- */

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

uint16_t x87_status_word(const struct x87 *f)
{
    return (uint16_t)((f->fsw & ~(7 << 11)) | f->top << 11);
}

static void set_status_word(struct x87 *f, uint16_t w)
{
    f->top = w >> 11 & 7;
    f->fsw = (uint16_t)(w & ~(7 << 11));
    x87_summarise(f);
}

/* SDM 1, figures "Protected/Real Mode x87 FPU State Image in Memory, 32/16-Bit Format". Returns its length.
 */
static unsigned put_environment(const struct x87_op *x, uint8_t *b)
{
    const struct x87 *f = x->f;
    bool wide = x->u->size != 1, real = !cpu_protected(x->cpu) || cpu_v86(x->cpu);
    memset(b, 0, 28);
    uint32_t ip = (uint32_t)f->fip, dp = (uint32_t)f->fdp;
    if (wide) {
        uint32_t words[7] = {0xffff0000u | f->fcw,
                             0xffff0000u | x87_status_word(f),
                             0xffff0000u | full_tags(f),
                             ip,
                             (uint32_t)f->fop << 16 | f->fcs,
                             dp,
                             0xffff0000u | f->fds};
        if (real) {
            words[3] = 0xffff0000u | (ip & 0xffff);
            words[4] = (ip >> 16) << 12 | f->fop;
            words[5] = 0xffff0000u | (dp & 0xffff);
            words[6] = (dp >> 16) << 12;
        }
        memcpy(b, words, 28);
        return 28;
    }
    uint16_t words[7] = {f->fcw, x87_status_word(f), full_tags(f), (uint16_t)ip,
                         f->fcs, (uint16_t)dp,       f->fds};
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

void x87_initialise(struct x87 *f)
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
        memcpy(b + n + i * 10, x87_st(x->f, i), 10);
    x87_write_memory(x, b, n + 80);
    x87_initialise(x->f);
}

static void restore_all(struct x87_op *x)
{
    uint8_t b[108];
    unsigned n = x->u->size != 1 ? 28 : 14;
    x87_read_memory(x, b, n + 80);
    get_environment(x, b);
    for (unsigned i = 0; i < 8; i++)
        memcpy(x87_st(x->f, i), b + n + i * 10, 10);
}

void x87_control_memory(struct x87_op *x)
{
    uint8_t b[28];
    struct x87 *f = x->f;
    switch (x->op << 4 | x->reg) {
    case 0x14: /* FLDENV */
        x87_wait(x->cpu);
        x87_read_memory(x, b, x->u->size != 1 ? 28 : 14);
        get_environment(x, b);
        break;
    case 0x15: /* FLDCW */
        x87_wait(x->cpu);
        x87_read_memory(x, b, 2);
        f->fcw = (uint16_t)((load_le(b, 2) & 0x1f3f) | 0x40);
        x87_summarise(f);
        break;
    case 0x16: { /* FNSTENV masks all exceptions afterwards */
        unsigned n = put_environment(x, b);
        x87_write_memory(x, b, n);
        f->fcw |= 0x3f;
        x87_summarise(f);
        break;
    }
    case 0x17: /* FNSTCW */
        store_le(b, f->fcw, 2);
        x87_write_memory(x, b, 2);
        break;
    case 0x54: /* FRSTOR */
        x87_wait(x->cpu);
        restore_all(x);
        break;
    case 0x56: /* FNSAVE */
        save_all(x);
        break;
    case 0x57: /* FNSTSW m16 */
        store_le(b, x87_status_word(f), 2);
        x87_write_memory(x, b, 2);
        break;
    default:
        cpu_raise_ud(x->cpu);
    }
}
