/*
 * cpu/xsave.c -- FXSAVE, FXRSTOR, the XSAVE family, LDMXCSR and STMXCSR.
 *
 * SDM 1, "Managing State Using the XSAVE Feature Set"; SDM 2A, "FXSAVE" (layout of the legacy region).
 *
 *   OFFSET  SIZE  DESCRIPTION
 *   0       512   legacy region: x87 at 0..23 and 32..159, MXCSR at 24, XMM at 160..415
 *   512     8     XSTATE_BV
 *   520     8     XCOMP_BV, bit 63: compacted
 *   528     48    reserved, zero
 *   576     256   AVX: upper halves of YMM0 to YMM15 (standard format)
 *   2688    8     PKRU, in the low half (standard format)
 *
 * The init optimisation is always used (a component in its initial configuration gets XSTATE_BV 0); the
 * modified optimisation never is, so what is written is a function of the state alone. Operands of the
 * helpers: a: effective address, am: segment, size 3: the 64-bit (REX.W) format; imm: which instruction of a
 * group.
 */
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/exec.h"
#include "cpu/ir/helper.h"
#include "cpu/system.h"

enum { XSTATE_X87 = 1, XSTATE_SSE = 2, XSTATE_AVX = 4, XSTATE_PKRU = 1 << 9 };
#define LEGACY_SIZE 512u
#define HEADER_END  576u
#define AVX_SIZE    256u
#define PKRU_SIZE   8u
#define PKRU_OFFSET 2688u /* in the standard format, where Intel's processors have it */
#define AREA_MAX    (PKRU_OFFSET + PKRU_SIZE)
#define MXCSR_MASK  0xffffu
#define COMPACTED   BIT(63)

static uint32_t pkru_offset(uint64_t components, bool compacted)
{
    if (!compacted)
        return PKRU_OFFSET;
    return HEADER_END + (components & XSTATE_AVX ? AVX_SIZE : 0);
}

uint32_t xsave_size(uint64_t components, bool compacted)
{
    if (components & XSTATE_PKRU)
        return pkru_offset(components, compacted) + PKRU_SIZE;
    return HEADER_END + (components & XSTATE_AVX ? AVX_SIZE : 0);
}

/* -- Legacy region ------------------------------------------------------------------------------------- */

static void put_x87(const struct cpu *cpu, uint8_t *b, bool wide)
{
    const struct x87 *f = &cpu->x87;
    store_le(b, f->fcw, 2);
    store_le(b + 2, (f->fsw & ~(7u << 11)) | (unsigned)f->top << 11, 2);
    store_le(b + 4, f->ftw, 1);
    store_le(b + 5, 0, 1);
    store_le(b + 6, f->fop, 2);
    if (wide) {
        store_le(b + 8, f->fip, 8);
        store_le(b + 16, f->fdp, 8);
    } else {
        store_le(b + 8, f->fip, 4);
        store_le(b + 12, f->fcs, 4);
        store_le(b + 16, f->fdp, 4);
        store_le(b + 20, f->fds, 4);
    }
    for (unsigned i = 0; i < 8; i++) {
        memcpy(b + 32 + i * 16, f->r[(f->top + i) & 7].b, 10);
        memset(b + 32 + i * 16 + 10, 0, 6);
    }
}

static void get_x87(struct cpu *cpu, const uint8_t *b, bool wide)
{
    struct x87 *f = &cpu->x87;
    uint16_t fsw = (uint16_t)load_le(b + 2, 2);
    f->fcw = (uint16_t)((load_le(b, 2) & 0x1f3f) | 0x40);
    f->top = fsw >> 11 & 7;
    f->fsw = (uint16_t)(fsw & ~(7u << 11));
    f->ftw = b[4];
    f->fop = (uint16_t)(load_le(b + 6, 2) & 0x7ff);
    f->fip = load_le(b + 8, wide ? 8 : 4);
    f->fdp = load_le(b + 16, wide ? 8 : 4);
    f->fcs = f->fds = 0; /* deprecated: CPUID.7:EBX[13] */
    for (unsigned i = 0; i < 8; i++) {
        uint8_t *r = f->r[(f->top + i) & 7].b;
        memcpy(r, b + 32 + i * 16, 10);
        memset(r + 10, 0, 6);
    }
    bool pending = f->fsw & ~f->fcw & 0x3f;
    f->fsw = (uint16_t)(pending ? f->fsw | 0x8080 : f->fsw & ~0x8080);
}

static void init_x87(struct cpu *cpu)
{
    memset(&cpu->x87, 0, sizeof(cpu->x87));
    cpu->x87.fcw = 0x37f;
}

static bool x87_is_initial(const struct cpu *cpu)
{
    struct x87 f;
    memset(&f, 0, sizeof(f));
    f.fcw = 0x37f;
    return !memcmp(&f, &cpu->x87, sizeof(f));
}

static unsigned xmm_count(const struct cpu *cpu)
{
    return cpu->key & KEY_L ? 16 : 8;
}

static void put_xmm(const struct cpu *cpu, uint8_t *b)
{
    for (unsigned i = 0; i < xmm_count(cpu); i++)
        memcpy(b + 160 + i * 16, cpu->v[i].b, 16);
}

static void get_xmm(struct cpu *cpu, const uint8_t *b)
{
    for (unsigned i = 0; i < xmm_count(cpu); i++)
        memcpy(cpu->v[i].b, b + 160 + i * 16, 16);
}

static bool bytes_are_zero(const uint8_t *p, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

static bool half_is_zero(const struct cpu *cpu, unsigned half)
{
    uint64_t bits = 0;
    for (unsigned i = 0; i < xmm_count(cpu); i++)
        bits |= cpu->v[i].q[half * 2] | cpu->v[i].q[half * 2 + 1];
    return !bits;
}

/* -- Addresses ----------------------------------------------------------------------------------------- */

/* The whole operand must be accessible and aligned; FXSAVE to 16, XSAVE to 64 bytes: #GP(0). */
static gva_t area(struct cpu *cpu, const struct uop *u, unsigned size, unsigned align, enum mem_access access)
{
    gva_t linear = cpu_linear(cpu, AM_SEG(u->am), cpu->r[u->a], size, access);
    if (linear & (align - 1))
        cpu_raise_gp0(cpu);
    return linear;
}

/* -- FXSAVE and FXRSTOR -------------------------------------------------------------------------------- */

void helper_fxsave(struct cpu *cpu, const struct uop *u)
{
    uint8_t b[LEGACY_SIZE];
    gva_t linear = area(cpu, u, LEGACY_SIZE, 16, MEM_WRITE);
    cpu_probe(cpu, linear, LEGACY_SIZE, MEM_WRITE, 0);
    cpu_read_bytes(cpu, linear, b, LEGACY_SIZE, 0); /* bytes 464..511 are left alone */
    put_x87(cpu, b, u->size == 3);
    store_le(b + 24, cpu->mxcsr, 4);
    store_le(b + 28, MXCSR_MASK, 4);
    put_xmm(cpu, b);
    cpu_write_bytes(cpu, linear, b, 416, 0);
}

void helper_fxrstor(struct cpu *cpu, const struct uop *u)
{
    uint8_t b[LEGACY_SIZE];
    gva_t linear = area(cpu, u, LEGACY_SIZE, 16, MEM_READ);
    cpu_read_bytes(cpu, linear, b, LEGACY_SIZE, 0);
    if (load_le(b + 24, 4) & ~(uint64_t)MXCSR_MASK)
        cpu_raise_gp0(cpu);
    get_x87(cpu, b, u->size == 3);
    cpu->mxcsr = (uint32_t)load_le(b + 24, 4);
    get_xmm(cpu, b);
}

void helper_ldmxcsr(struct cpu *cpu, const struct uop *u)
{
    uint64_t value = (uint32_t)cpu->r[u->a];
    if (value & ~(uint64_t)MXCSR_MASK)
        cpu_raise_gp0(cpu);
    cpu->mxcsr = (uint32_t)value;
}

void helper_stmxcsr(struct cpu *cpu, const struct uop *u)
{
    cpu->r[u->d] = cpu->mxcsr;
}

/* -- XSAVE --------------------------------------------------------------------------------------------- */

/* XINUSE of SDM 1, "Processor Tracking of XSAVE-Managed State". */
uint64_t xsave_in_use(const struct cpu *cpu)
{
    uint64_t v = x87_is_initial(cpu) ? 0 : XSTATE_X87;
    if (!half_is_zero(cpu, 0))
        v |= XSTATE_SSE;
    if (!half_is_zero(cpu, 1))
        v |= XSTATE_AVX;
    if (cpu->pkru)
        v |= XSTATE_PKRU;
    return v;
}

static uint64_t requested(const struct cpu *cpu, bool supervisor)
{
    uint64_t mask = (uint64_t)(uint32_t)cpu->r[REG_RDX] << 32 | (uint32_t)cpu->r[REG_RAX];
    return mask & (cpu->xcr0 | (supervisor ? cpu->msr.xss : 0));
}

static void write_part(struct cpu *cpu, gva_t linear, const uint8_t *b, unsigned from, unsigned to)
{
    cpu_write_bytes(cpu, linear + from, b + from, to - from, 0);
}

static void put_avx(const struct cpu *cpu, uint8_t *b)
{
    for (unsigned i = 0; i < xmm_count(cpu); i++)
        memcpy(b + HEADER_END + i * 16, cpu->v[i].b + 16, 16);
}

/* Parts of the legacy region, the AVX and the PKRU component that belong to `what`; PKRU lies at `pkru`. */
static void write_components(struct cpu *cpu, gva_t linear, uint8_t *b, uint64_t what, bool wide,
                             unsigned pkru)
{
    if (what & XSTATE_X87) {
        put_x87(cpu, b, wide);
        write_part(cpu, linear, b, 0, 24);
        write_part(cpu, linear, b, 32, 160);
    }
    if (what & XSTATE_SSE) {
        put_xmm(cpu, b);
        write_part(cpu, linear, b, 160, 160 + 16 * xmm_count(cpu));
    }
    if (what & XSTATE_AVX) {
        put_avx(cpu, b);
        write_part(cpu, linear, b, HEADER_END, HEADER_END + 16 * xmm_count(cpu));
    }
    if (what & XSTATE_PKRU)
        cpu_write_linear(cpu, linear + pkru, 8, cpu->pkru, 0);
}

static void write_mxcsr(struct cpu *cpu, gva_t linear, uint8_t *b)
{
    store_le(b + 24, cpu->mxcsr, 4);
    store_le(b + 28, MXCSR_MASK, 4);
    write_part(cpu, linear, b, 24, 32);
}

/* XSAVE and XSAVEOPT: standard format. XSAVEOPT leaves out what is in its initial configuration. */
static void save_standard(struct cpu *cpu, const struct uop *u, bool optimised)
{
    uint8_t b[AREA_MAX];
    uint64_t rfbm = requested(cpu, false), used = xsave_in_use(cpu);
    unsigned size = xsave_size(rfbm, false);
    gva_t linear = area(cpu, u, size, 64, MEM_WRITE);
    cpu_probe(cpu, linear, size, MEM_WRITE, 0);
    uint64_t old = cpu_read_linear(cpu, linear + LEGACY_SIZE, 8, 0);
    write_components(cpu, linear, b, optimised ? rfbm & used : rfbm, u->size == 3, PKRU_OFFSET);
    if (rfbm & (XSTATE_SSE | XSTATE_AVX))
        write_mxcsr(cpu, linear, b);
    cpu_write_linear(cpu, linear + LEGACY_SIZE, 8, (old & ~rfbm) | (rfbm & used), 0);
}

/* XSAVEC and XSAVES: compacted format, header written whole. */
static void save_compacted(struct cpu *cpu, const struct uop *u, bool supervisor)
{
    uint8_t b[AREA_MAX];
    uint64_t rfbm = requested(cpu, supervisor), used = xsave_in_use(cpu);
    unsigned size = xsave_size(rfbm, true);
    /* SDM 1, "Operation of XSAVEC": SSE also counts as in use when MXCSR is not initial. */
    if (cpu->mxcsr != 0x1f80)
        used |= XSTATE_SSE;
    gva_t linear = area(cpu, u, size, 64, MEM_WRITE);
    cpu_probe(cpu, linear, size, MEM_WRITE, 0);
    write_components(cpu, linear, b, rfbm & used, u->size == 3, pkru_offset(rfbm, true));
    if (rfbm & used & XSTATE_SSE)
        write_mxcsr(cpu, linear, b);
    memset(b + LEGACY_SIZE, 0, HEADER_END - LEGACY_SIZE);
    store_le(b + LEGACY_SIZE, rfbm & used, 8);
    store_le(b + LEGACY_SIZE + 8, rfbm | COMPACTED, 8);
    write_part(cpu, linear, b, LEGACY_SIZE, HEADER_END);
}

/* imm: which of the four. */
void helper_xsave(struct cpu *cpu, const struct uop *u)
{
    enum { XSAVE, XSAVEOPT, XSAVEC, XSAVES };
    if (u->imm >= XSAVEC)
        save_compacted(cpu, u, u->imm == XSAVES);
    else
        save_standard(cpu, u, u->imm == XSAVEOPT);
}

/* -- XRSTOR -------------------------------------------------------------------------------------------- */

/* Header checks of SDM 1, "Operation of XRSTOR" and "Operation of XRSTORS": #GP(0). */
static void check_header(struct cpu *cpu, const uint8_t *h, bool supervisor)
{
    uint64_t bv = load_le(h, 8), comp = load_le(h + 8, 8);
    uint64_t supported = cpu->xcr0 | (supervisor ? cpu->msr.xss : 0);
    bool compacted = comp & COMPACTED;
    bool bad;
    if (supervisor && !compacted)
        bad = true;
    else if (!compacted)
        bad = (bv & ~cpu->xcr0) || !bytes_are_zero(h + 8, 16);
    else
        bad = !cpu_has(cpu, FEAT_XSAVEC) || (comp & ~COMPACTED & ~supported) || (bv & ~(comp & ~COMPACTED)) ||
              !bytes_are_zero(h + 16, 48);
    if (bad)
        cpu_raise_gp0(cpu);
}

static void restore(struct cpu *cpu, const struct uop *u, bool supervisor)
{
    uint8_t b[AREA_MAX];
    uint64_t rfbm = requested(cpu, supervisor);
    gva_t linear = area(cpu, u, HEADER_END, 64, MEM_READ);
    cpu_read_bytes(cpu, linear, b, HEADER_END, 0);
    check_header(cpu, b + LEGACY_SIZE, supervisor);
    uint64_t bv = load_le(b + LEGACY_SIZE, 8), comp = load_le(b + LEGACY_SIZE + 8, 8);
    bool compacted = comp & COMPACTED;
    bool has_avx = (rfbm & bv & XSTATE_AVX) && (!compacted || (comp & XSTATE_AVX));
    if (has_avx)
        cpu_read_bytes(cpu, linear + HEADER_END, b + HEADER_END, AVX_SIZE, 0);
    uint32_t pkru = 0;
    if (rfbm & bv & XSTATE_PKRU)
        pkru = (uint32_t)cpu_read_linear(cpu, linear + pkru_offset(comp, compacted), 8, 0);
    /* MXCSR: the standard form loads it with SSE or AVX whatever XSTATE_BV says; the compacted form with SSE.
     */
    bool load_mxcsr = compacted ? rfbm & bv & XSTATE_SSE : rfbm & (XSTATE_SSE | XSTATE_AVX);
    if (load_mxcsr && (load_le(b + 24, 4) & ~(uint64_t)MXCSR_MASK))
        cpu_raise_gp0(cpu);

    if (rfbm & XSTATE_X87) {
        if (bv & XSTATE_X87)
            get_x87(cpu, b, u->size == 3);
        else
            init_x87(cpu);
    }
    if (load_mxcsr)
        cpu->mxcsr = (uint32_t)load_le(b + 24, 4);
    else if (compacted && (rfbm & XSTATE_SSE))
        cpu->mxcsr = 0x1f80;
    if (rfbm & XSTATE_SSE) {
        if (!(bv & XSTATE_SSE))
            memset(b + 160, 0, 256);
        get_xmm(cpu, b);
    }
    if (rfbm & XSTATE_AVX)
        for (unsigned i = 0; i < xmm_count(cpu); i++) {
            if (has_avx)
                memcpy(cpu->v[i].b + 16, b + HEADER_END + i * 16, 16);
            else
                memset(cpu->v[i].b + 16, 0, 16);
        }
    if (rfbm & XSTATE_PKRU && cpu->pkru != pkru) {
        cpu->pkru = pkru;
        cpu_mode_changed(cpu);
    }
}

void helper_xrstor(struct cpu *cpu, const struct uop *u)
{
    restore(cpu, u, u->imm == 1);
}
