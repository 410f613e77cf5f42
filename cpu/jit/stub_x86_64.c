/*
 * cpu/jit/stub_x86_64.c -- emits and calls host instruction stubs for MMX, SSE and AVX forms.
 *
 * SDM 2A, "Instruction Format". The instruction's opcode is kept, its registers are replaced: ModRM.reg
 * becomes register 1, ModRM.rm register 2 or [RSI], VEX.vvvv register 3, imm[7:4] register 4. Called as
 * code(reg = RDI, rm = RSI, frame = RDX, vvvv = RCX, is4 = R8). MXCSR:
 * arithmetic runs with the guest's rounding, FTZ and DAZ and with exceptions masked; flags that came up are
 * merged, and an unmasked one raises #XM before the result is committed (SDM 1, "SIMD Floating-Point
 * Exceptions"). Code memory is one memfd seen twice, writable here and executable there.
 */
#define _GNU_SOURCE
#include "cpu/jit/stub.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "cpu/cpu.h"
#include "cpu/flags.h"
#include "cpu/jit/precision.h"
#include "cpu/jit/stub_internal.h"

/* Enough for every immediate of every form; memory is touched as stubs are made. */
#define CODE_SIZE   (16u << 20)
#define STUBS_MAX   131072u
#define INDEX_SIZE  (2 * STUBS_MAX)
#define STUB_LENGTH 160u

/* What a stub reads and writes besides its two operands; offsets are part of emitted code. */
struct stub_frame {
    uint64_t rax, rcx, rdx;
    uint64_t flags;
    uint32_t mxcsr, host_mxcsr;
    uint64_t pad;
    uint8_t xmm0[16];
};

struct stub_cache {
    uint8_t *write, *run; /* two views of the same memory */
    size_t used;
    struct vec_stub *stubs; /* STUBS_MAX of them, in the order of their making */
    uint32_t *index;        /* number of a stub + 1 by its request's hash; open addressing */
    uint32_t count;
    void *x87[STUB_X87_SLOTS];
};

typedef void stub_code(void *reg, void *rm, struct stub_frame *frame, void *vvvv, void *is4);

/* -- Emission ------------------------------------------------------------------------------------------ */

struct emitter {
    uint8_t bytes[STUB_LENGTH];
    unsigned n;
};

static void emit(struct emitter *e, const uint8_t *p, unsigned n)
{
    memcpy(e->bytes + e->n, p, n);
    e->n += n;
}
#define EMIT(e, ...) emit(e, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

enum { MXCSR_OE = 1 << 3, MXCSR_UE = 1 << 4, MXCSR_PE = 1 << 5, MXCSR_UM = 1 << 11 };

#define FRAME(member) ((uint8_t)offsetof(struct stub_frame, member))

static void emit_operand_moves(struct emitter *e, bool vex, uint8_t class, bool second, bool store)
{
    uint8_t modrm = second ? 0x16 : 0x0f; /* register 2, [RSI]; register 1, [RDI] */
    switch (class) {
    case STUB_XMM:
        if (vex)
            EMIT(e, 0xc5, 0xfe, store ? 0x7f : 0x6f, modrm); /* VMOVDQU, 256 bits */
        else
            EMIT(e, 0xf3, 0x0f, store ? 0x7f : 0x6f, modrm); /* MOVDQU */
        break;
    case STUB_MMX:
        EMIT(e, 0x0f, store ? 0x7f : 0x6f, modrm); /* MOVQ */
        break;
    case STUB_GPR:
        EMIT(e, 0x48, store ? 0x89 : 0x8b, modrm); /* MOV */
        break;
    default:
        break;
    }
}

static void emit_vex(struct emitter *e, const struct stub_request *q)
{
    uint8_t map = q->map == STUB_MAP_0F ? 1 : q->map == STUB_MAP_0F38 ? 2 : 3;
    uint8_t pp = q->prefix == 0x66 ? 1 : q->prefix == 0xf3 ? 2 : q->prefix == 0xf2 ? 3 : 0;
    uint8_t vvvv = q->vvvv == STUB_NOTHING ? 0 : 3;
    EMIT(e, 0xc4, (uint8_t)(0xe0 | map), (uint8_t)(q->vex_w << 7 | (~vvvv & 15) << 3 | q->vex_l << 2 | pp));
}

static void emit_instruction(struct emitter *e, const struct stub_request *q)
{
    if (q->vex) {
        emit_vex(e, q);
    } else {
        if (q->prefix)
            EMIT(e, q->prefix);
        if (q->rex_w)
            EMIT(e, 0x48);
        EMIT(e, 0x0f);
        if (q->map != STUB_MAP_0F)
            EMIT(e, q->map == STUB_MAP_0F38 ? 0x38 : 0x3a);
    }
    uint8_t reg = q->extension == 0xff ? 1 : q->extension;
    EMIT(e, q->opcode, (uint8_t)(reg << 3 | (q->rm_memory ? 0x06 : 0xc2)));
    if (q->is4)
        EMIT(e, 4 << 4);
    else if (q->has_imm)
        EMIT(e, q->imm);
}

static void emit_loads(struct emitter *e, const struct stub_request *q)
{
    if (q->is4)
        EMIT(e, 0xc4, 0xc1, 0x7e, 0x6f, 0x20); /* VMOVDQU YMM4, [R8] */
    if (q->vvvv_read)
        EMIT(e, 0xc5, 0xfe, 0x6f, 0x19); /* VMOVDQU YMM3, [RCX] */
    EMIT(e, 0x49, 0x89, 0xd0);           /* MOV R8, RDX: the frame */
    if (q->extension == 0xff && q->reg_read)
        emit_operand_moves(e, q->vex, q->reg, false, false);
    if (!q->rm_memory && q->rm_read)
        emit_operand_moves(e, q->vex, q->rm, true, false);
    if (q->xmm0_read)
        EMIT(e, 0xf3, 0x41, 0x0f, 0x6f, 0x40, FRAME(xmm0));
    if (q->index_read) {
        EMIT(e, 0x49, 0x8b, 0x40, FRAME(rax));
        EMIT(e, 0x49, 0x8b, 0x50, FRAME(rdx));
    }
}

static void emit_stub(struct emitter *e, const struct stub_request *q)
{
    emit_loads(e, q);
    if (q->mxcsr)
        EMIT(e, 0x41, 0x0f, 0xae, 0x50, FRAME(mxcsr));
    emit_instruction(e, q);
    if (q->flags_write)
        EMIT(e, 0x9c, 0x58, 0x49, 0x89, 0x40, FRAME(flags)); /* PUSHFQ; POP RAX; MOV */
    if (q->mxcsr) {
        EMIT(e, 0x41, 0x0f, 0xae, 0x58, FRAME(mxcsr));
        EMIT(e, 0x41, 0x0f, 0xae, 0x50, FRAME(host_mxcsr));
    }
    if (q->ecx_write)
        EMIT(e, 0x49, 0x89, 0x48, FRAME(rcx));
    if (q->xmm0_write)
        EMIT(e, 0xf3, 0x41, 0x0f, 0x7f, 0x40, FRAME(xmm0));
    if (q->extension == 0xff && q->reg_write)
        emit_operand_moves(e, q->vex, q->reg, false, true);
    if (!q->rm_memory && q->rm_write)
        emit_operand_moves(e, q->vex, q->rm, true, true);
    if (q->vvvv_write)
        EMIT(e, 0xc5, 0xfe, 0x7f, 0x19); /* VMOVDQU [RCX], YMM3 */
    if (q->reg == STUB_MMX || q->rm == STUB_MMX)
        EMIT(e, 0x0f, 0x77); /* EMMS */
    if (q->vex)
        EMIT(e, 0xc5, 0xf8, 0x77); /* VZEROUPPER: the compiler's code is SSE */
    EMIT(e, 0xc3);
}

/* -- Calling ------------------------------------------------------------------------------------------- */

/* SDM 3A, "The MMX Instruction Set": any MMX instruction but EMMS makes TOP 0 and all tags valid. */
static void mmx_state(struct cpu *cpu)
{
    if (cpu->x87.fsw & 0x80)
        cpu_raise(cpu, EXC_MF, 0);
    cpu->x87.top = 0;
    cpu->x87.ftw = 0xff;
}

static void *operand(struct cpu *cpu, uint8_t class, bool memory, unsigned n)
{
    if (memory || class == STUB_XMM)
        return &cpu->v[n];
    if (class == STUB_MMX)
        return &cpu->x87.r[n & 7];
    return &cpu->r[n];
}

static void mmx_written(struct cpu *cpu, uint8_t class, bool write, bool memory, unsigned n)
{
    if (class == STUB_MMX && write && !memory)
        cpu->x87.r[n & 7].q[1] = 0xffff;
}

/* Two XMM operands and nothing else: the common case. */
static void run_xmm(struct cpu *cpu, const struct uop *u, const struct vec_stub *s)
{
    ((stub_code *)s->code)(&cpu->v[u->d], &cpu->v[u->a], NULL, NULL, NULL);
}

/* Vector operands of a VEX form and nothing else. */
static void run_vex(struct cpu *cpu, const struct uop *u, const struct vec_stub *s)
{
    ((stub_code *)s->code)(&cpu->v[u->d], &cpu->v[u->a], NULL, &cpu->v[u->b], &cpu->v[u->c]);
}

/* What a result that may underflow looks like: elements and their size; none when it cannot. */
struct result_shape {
    unsigned count, size;
};

/* 96H to BFH of map 0F38: FMA, with VEX.W for double precision and odd opcodes from 99H on for scalars. */
static struct result_shape fma_shape(const struct stub_request *q)
{
    bool scalar = (q->opcode & 15) >= 9 && (q->opcode & 1);
    unsigned size = q->vex_w ? 8 : 4;
    return (struct result_shape){scalar ? 1 : (q->vex_l ? 32 : 16) / size, size};
}

static struct result_shape result_shape(const struct stub_request *q)
{
    unsigned bytes = q->vex && q->vex_l ? 32 : 16;
    bool f2 = q->prefix == 0xf2, f3 = q->prefix == 0xf3, p66 = q->prefix == 0x66;
    if (q->map == STUB_MAP_0F38)
        return q->vex && q->opcode >= 0x96 && q->opcode <= 0xbf ? fma_shape(q) : (struct result_shape){0, 0};
    if (q->map == STUB_MAP_0F3A) {
        if (q->opcode == 0x40 || q->opcode == 0x41) /* DPPS, DPPD */
            return (struct result_shape){bytes / (q->opcode == 0x40 ? 4 : 8), q->opcode == 0x40 ? 4 : 8};
        return q->vex && q->opcode == 0x1d ? (struct result_shape){bytes / 4, 2} /* VCVTPS2PH */
                                           : (struct result_shape){0, 0};
    }
    switch (q->opcode) {
    case 0x58: /* ADD, MUL, SUB, DIV */
    case 0x59:
    case 0x5c:
    case 0x5e:
        return f2 || f3 ? (struct result_shape){1, f2 ? 8 : 4}
                        : (struct result_shape){bytes / (p66 ? 8 : 4), p66 ? 8 : 4};
    case 0xd0: /* ADDSUB, HADD, HSUB: F2 is packed single, 66 packed double */
    case 0x7c:
    case 0x7d:
        return (struct result_shape){bytes / (p66 ? 8 : 4), p66 ? 8 : 4};
    case 0x5a: /* CVTPD2PS, CVTSD2SS */
        return p66  ? (struct result_shape){bytes / 8, 4}
               : f2 ? (struct result_shape){1, 4}
                    : (struct result_shape){0, 0};
    default:
        return (struct result_shape){0, 0};
    }
}

/* SDM 1, "Numeric Underflow Exception (#U)": unmasked, a tiny result raises even when it is exact, which the
 * host, run masked, does not report. */
static bool tiny_result(const struct stub_request *q, const union vreg *v)
{
    struct result_shape shape = result_shape(q);
    for (unsigned i = 0; i < shape.count; i++) {
        bool tiny = shape.size == 8 ? !(v->q[i] & 0x7ff0000000000000ull) && (v->q[i] & 0x000fffffffffffffull)
                    : shape.size == 4 ? !(v->d[i] & 0x7f800000u) && (v->d[i] & 0x007fffffu)
                                      : !(v->w[i] & 0x7c00u) && (v->w[i] & 0x03ffu);
        if (tiny)
            return true;
    }
    return false;
}

/* SDM 1, "SIMD Floating-Point Exceptions": flags that came up are merged; an unmasked one raises. */
static void merge_mxcsr(struct cpu *cpu, const struct stub_request *q, uint32_t raised,
                        const union vreg *result, const struct precision_operands *operands)
{
    raised &= 0x3f;
    if (unlikely(!(cpu->mxcsr & MXCSR_UM)) &&
        (tiny_result(q, result) || precision_dot_tiny(q, cpu->mxcsr, operands)))
        raised |= MXCSR_UE;
    uint32_t unmasked = raised & ~(cpu->mxcsr >> 7);
    /* IE, DE and ZE are found before the operation: then nothing is rounded. */
    if (unmasked & 0x07)
        raised &= 0x07;
    else if (unlikely(unmasked & (MXCSR_OE | MXCSR_UE)))
        raised = (raised & ~(uint32_t)MXCSR_PE) |
                 (precision_inexact(q, cpu->mxcsr, operands, raised & MXCSR_PE) ? MXCSR_PE : 0);
    cpu->mxcsr |= raised;
    if (unlikely(unmasked))
        cpu_raise(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD, 0);
}

static void run_any(struct cpu *cpu, const struct uop *u, const struct vec_stub *s)
{
    const struct stub_request *q = &s->q;
    struct stub_frame f = {.host_mxcsr = 0x1f80};
    bool mmx = q->reg == STUB_MMX || q->rm == STUB_MMX;
    void *reg = operand(cpu, q->reg, false, u->d), *rm = operand(cpu, q->rm, q->rm_memory, u->a);
    /* With MXCSR the result is kept back until no exception is known; VCVTPS2PH has it in ModRM.rm. */
    union vreg result;
    bool in_rm = q->mxcsr && q->rm_write;
    void **target = in_rm ? &rm : &reg, *destination = *target;
    unsigned length = (in_rm ? q->rm : q->reg) == STUB_XMM ? (q->vex ? 32 : 16) : 8;

    if (mmx)
        mmx_state(cpu);
    if (q->mxcsr) {
        f.mxcsr = (cpu->mxcsr & ~0x3fu) | 0x1f80;
        memcpy(&result, destination, length);
        *target = &result;
    }
    if (q->xmm0_read)
        memcpy(f.xmm0, &cpu->v[0], 16);
    f.rax = cpu->r[REG_RAX];
    f.rdx = cpu->r[REG_RDX];
    ((stub_code *)s->code)(reg, rm, &f, &cpu->v[u->b], &cpu->v[u->c]);
    if (q->mxcsr) {
        struct precision_operands operands = {in_rm ? reg : destination, in_rm ? destination : rm,
                                              &cpu->v[u->b]};
        merge_mxcsr(cpu, q, f.mxcsr, &result, &operands);
        if (in_rm || q->reg_write)
            memcpy(destination, &result, in_rm && q->rm_memory ? sizeof(result) : length);
    }
    if (q->xmm0_write) {
        memcpy(&cpu->v[0], f.xmm0, 16);
        if (q->vex)
            cpu->v[0].q[2] = cpu->v[0].q[3] = 0;
    }
    if (q->ecx_write)
        cpu->r[REG_RCX] = f.rcx;
    if (q->flags_write)
        flags_set_arith(cpu, f.flags);
    mmx_written(cpu, q->reg, q->reg_write, false, u->d);
    mmx_written(cpu, q->rm, q->rm_write, q->rm_memory, u->a);
}

static bool is_plain(const struct stub_request *q)
{
    bool reg = q->reg == STUB_XMM || q->reg == STUB_NOTHING, rm = q->rm == STUB_XMM || q->rm_memory;
    return reg && rm && !q->xmm0_read && !q->xmm0_write && !q->index_read && !q->ecx_write &&
           !q->flags_write && !q->mxcsr;
}

/* -- Cache --------------------------------------------------------------------------------------------- */

struct stub_cache *stub_cache_new(struct error *e)
{
    struct stub_cache *c = calloc(1, sizeof(*c));
    int fd = memfd_create("droste-stubs", MFD_CLOEXEC);
    if (!c || fd < 0 || ftruncate(fd, CODE_SIZE)) {
        error_set(e, "no memory for host instruction stubs");
        free(c);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    c->write = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    c->run = mmap(NULL, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    c->stubs = calloc(STUBS_MAX, sizeof(*c->stubs));
    c->index = calloc(INDEX_SIZE, sizeof(*c->index));
    close(fd);
    if (c->write == MAP_FAILED || c->run == MAP_FAILED || !c->stubs || !c->index) {
        error_set(e, "no executable memory for host instruction stubs");
        stub_cache_free(c);
        return NULL;
    }
    return c;
}

void stub_cache_free(struct stub_cache *c)
{
    if (!c)
        return;
    if (c->write && c->write != MAP_FAILED)
        munmap(c->write, CODE_SIZE);
    if (c->run && c->run != MAP_FAILED)
        munmap(c->run, CODE_SIZE);
    free(c->stubs);
    free(c->index);
    free(c);
}

const struct vec_stub *stub_get(struct stub_cache *c, const struct stub_request *q, const char *name)
{
    uint64_t h = 0;
    for (unsigned i = 0; i < sizeof(*q); i++)
        h = (h ^ ((const uint8_t *)q)[i]) * 0x100000001b3ull;
    uint32_t at = (uint32_t)(h >> 20) % INDEX_SIZE;
    for (; c->index[at]; at = (at + 1) % INDEX_SIZE) {
        const struct vec_stub *s = &c->stubs[c->index[at] - 1];
        if (!memcmp(&s->q, q, sizeof(*q)))
            return s;
    }
    struct emitter e = {.n = 0};
    emit_stub(&e, q);
    if (c->used + e.n > CODE_SIZE || c->count >= STUBS_MAX)
        return NULL;
    memcpy(c->write + c->used, e.bytes, e.n);
    struct vec_stub *s = &c->stubs[c->count];
    s->code = c->run + c->used;
    s->q = *q;
    s->run = !is_plain(q) ? run_any : q->vex ? run_vex : run_xmm;
    strncpy(s->name, name, sizeof(s->name) - 1);
    c->used += ALIGN_UP(e.n, 16);
    c->index[at] = ++c->count;
    return s;
}

void *stub_x87_slot(struct stub_cache *c, unsigned slot)
{
    return c->x87[slot];
}

void *stub_x87_add(struct stub_cache *c, unsigned slot, const uint8_t *code, unsigned n)
{
    if (c->used + n > CODE_SIZE)
        return NULL;
    memcpy(c->write + c->used, code, n);
    c->x87[slot] = c->run + c->used;
    c->used += ALIGN_UP(n, 16);
    return c->x87[slot];
}
