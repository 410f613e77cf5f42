/*
 * cpu/jit/stub_x86_64.c -- emits and calls host instruction stubs for MMX and SSE forms.
 *
 * SDM 2A, "Instruction Format". The instruction's opcode is kept, its ModRM is replaced: ModRM.reg becomes
 * register 1, ModRM.rm register 2 or [RSI]. Called as code(reg = RDI, rm = RSI, frame = RDX). MXCSR:
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
#include "cpu/jit/stub_internal.h"

#define CODE_SIZE   (4u << 20)
#define STUBS_MAX   16384u
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
    struct vec_stub *stubs; /* STUBS_MAX of them; open addressing */
    uint32_t count;
    void *x87[STUB_X87_SLOTS];
};

typedef void stub_code(void *reg, void *rm, struct stub_frame *frame);

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

enum { MXCSR_UE = 1 << 4, MXCSR_UM = 1 << 11 };

#define FRAME(member) ((uint8_t)offsetof(struct stub_frame, member))

static void emit_operand_moves(struct emitter *e, uint8_t class, bool second, bool store)
{
    uint8_t modrm = second ? 0x16 : 0x0f; /* register 2, [RSI]; register 1, [RDI] */
    switch (class) {
    case STUB_XMM:
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

static void emit_instruction(struct emitter *e, const struct stub_request *q)
{
    if (q->prefix)
        EMIT(e, q->prefix);
    if (q->rex_w)
        EMIT(e, 0x48);
    EMIT(e, 0x0f);
    if (q->map != STUB_MAP_0F)
        EMIT(e, q->map == STUB_MAP_0F38 ? 0x38 : 0x3a);
    uint8_t reg = q->extension == 0xff ? 1 : q->extension;
    EMIT(e, q->opcode, (uint8_t)(reg << 3 | (q->rm_memory ? 0x06 : 0xc2)));
    if (q->has_imm)
        EMIT(e, q->imm);
}

static void emit_stub(struct emitter *e, const struct stub_request *q)
{
    EMIT(e, 0x49, 0x89, 0xd0); /* MOV R8, RDX: the frame */
    if (q->extension == 0xff && q->reg_read)
        emit_operand_moves(e, q->reg, false, false);
    if (!q->rm_memory && q->rm_read)
        emit_operand_moves(e, q->rm, true, false);
    if (q->xmm0_read)
        EMIT(e, 0xf3, 0x41, 0x0f, 0x6f, 0x40, FRAME(xmm0));
    if (q->index_read) {
        EMIT(e, 0x49, 0x8b, 0x40, FRAME(rax));
        EMIT(e, 0x49, 0x8b, 0x50, FRAME(rdx));
    }
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
        emit_operand_moves(e, q->reg, false, true);
    if (!q->rm_memory && q->rm_write)
        emit_operand_moves(e, q->rm, true, true);
    if (q->reg == STUB_MMX || q->rm == STUB_MMX)
        EMIT(e, 0x0f, 0x77); /* EMMS */
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
    ((stub_code *)s->code)(&cpu->v[u->d], &cpu->v[u->a], NULL);
}

/* SDM 1, "Numeric Underflow Exception (#U)": unmasked, a tiny result raises even when it is exact, which the
 * host, run masked, does not report. */
static bool tiny_result(const struct stub_request *q, const union vreg *v)
{
    bool arithmetic = q->map == STUB_MAP_0F &&
                      (q->opcode == 0x58 || q->opcode == 0x59 || q->opcode == 0x5c || q->opcode == 0x5e ||
                       q->opcode == 0xd0 || q->opcode == 0x7c || q->opcode == 0x7d);
    bool narrowing = q->map == STUB_MAP_0F && q->opcode == 0x5a && (q->prefix == 0x66 || q->prefix == 0xf2);
    bool dot = q->map == STUB_MAP_0F3A && (q->opcode == 0x40 || q->opcode == 0x41);
    if (!arithmetic && !narrowing && !dot)
        return false;
    bool scalar = q->prefix == 0xf2 || q->prefix == 0xf3;
    bool wide = !narrowing && (q->prefix == 0x66 || q->prefix == 0xf2) && !(dot && q->opcode == 0x40);
    if (q->opcode == 0xd0 || q->opcode == 0x7c ||
        q->opcode == 0x7d) { /* F2 is packed single, 66 packed double */
        scalar = false;
        wide = q->prefix == 0x66;
    }
    for (unsigned i = 0; i < (scalar ? 1u : wide || narrowing ? 2u : 4u); i++) {
        bool tiny = wide ? (v->q[i] & 0x7ff0000000000000ull) == 0 && (v->q[i] & 0x000fffffffffffffull)
                         : (v->d[i] & 0x7f800000u) == 0 && (v->d[i] & 0x007fffffu);
        if (tiny)
            return true;
    }
    return false;
}

static void run_any(struct cpu *cpu, const struct uop *u, const struct vec_stub *s)
{
    const struct stub_request *q = &s->q;
    struct stub_frame f = {.host_mxcsr = 0x1f80};
    bool mmx = q->reg == STUB_MMX || q->rm == STUB_MMX;
    void *reg = operand(cpu, q->reg, false, u->d), *rm = operand(cpu, q->rm, q->rm_memory, u->a);
    union vreg result; /* MXCSR: kept back until no exception is known */

    if (mmx)
        mmx_state(cpu);
    if (q->mxcsr) {
        f.mxcsr = (cpu->mxcsr & ~0x3fu) | 0x1f80;
        memcpy(&result, reg, 16);
    }
    if (q->xmm0_read)
        memcpy(f.xmm0, &cpu->v[0], 16);
    f.rax = cpu->r[REG_RAX];
    f.rdx = cpu->r[REG_RDX];
    ((stub_code *)s->code)(q->mxcsr ? &result : reg, rm, &f);
    if (q->mxcsr) {
        uint32_t raised = f.mxcsr & 0x3f;
        if (unlikely(!(cpu->mxcsr & MXCSR_UM)) && tiny_result(q, &result))
            raised |= MXCSR_UE;
        uint32_t unmasked = raised & ~(cpu->mxcsr >> 7);
        /* IE, DE and ZE are found before the operation: then nothing is rounded. */
        if (unmasked & 0x07)
            raised &= 0x07;
        cpu->mxcsr |= raised;
        if (unlikely(unmasked))
            cpu_raise(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD, 0);
        if (q->reg_write)
            memcpy(reg, &result, q->reg == STUB_XMM ? 16 : 8);
    }
    if (q->xmm0_write)
        memcpy(&cpu->v[0], f.xmm0, 16);
    if (q->ecx_write)
        cpu->r[REG_RCX] = f.rcx;
    if (q->flags_write)
        flags_set_arith(cpu, f.flags);
    mmx_written(cpu, q->reg, q->reg_write, false, u->d);
    mmx_written(cpu, q->rm, q->rm_write, q->rm_memory, u->a);
}

static bool plain_xmm(const struct stub_request *q)
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
    close(fd);
    if (c->write == MAP_FAILED || c->run == MAP_FAILED || !c->stubs) {
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
    free(c);
}

const struct vec_stub *stub_get(struct stub_cache *c, const struct stub_request *q, const char *name)
{
    uint64_t h = 0;
    for (unsigned i = 0; i < sizeof(*q); i++)
        h = (h ^ ((const uint8_t *)q)[i]) * 0x100000001b3ull;
    uint32_t at = (uint32_t)(h >> 20) % STUBS_MAX;
    while (c->stubs[at].run) {
        if (!memcmp(&c->stubs[at].q, q, sizeof(*q)))
            return &c->stubs[at];
        at = (at + 1) % STUBS_MAX;
    }
    struct emitter e = {.n = 0};
    emit_stub(&e, q);
    if (c->used + e.n > CODE_SIZE || c->count >= STUBS_MAX - 1)
        return NULL;
    memcpy(c->write + c->used, e.bytes, e.n);
    struct vec_stub *s = &c->stubs[at];
    s->code = c->run + c->used;
    s->q = *q;
    s->run = plain_xmm(q) ? run_xmm : run_any;
    strncpy(s->name, name, sizeof(s->name) - 1);
    c->used += ALIGN_UP(e.n, 16);
    c->count++;
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
