/*
 * cpu/jit/stub.h -- host instruction stubs: vector and x87 instructions run by the host's own instruction.
 *
 * A stub is emitted once per instruction form and immediate, with fixed host registers, and is shared by all
 * processors of a machine. Promise of cpu/jit/: what depends on the host's processor is here and nowhere
 * else.
 *
 *     struct stub_request q = {.map = STUB_MAP_0F, .opcode = 0x58, .reg = STUB_XMM, .reg_write = true, ...};
 *     const struct vec_stub *s = stub_get(stubs, &q, "addps");
 *     s->run(cpu, u, s);          operands: u->d ModRM.reg, u->a ModRM.rm, u->b VEX.vvvv, u->c imm[7:4]
 */
#ifndef CPU_JIT_STUB_H
#define CPU_JIT_STUB_H

#include "base/error.h"
#include "cpu/cpu.h"

struct stub_cache;

enum stub_class { STUB_NOTHING, STUB_XMM /* or YMM */, STUB_MMX, STUB_GPR };
enum stub_map { STUB_MAP_0F, STUB_MAP_0F38, STUB_MAP_0F3A };

/* An instruction form without its registers: what the emitted bytes and the way of calling depend on. */
struct stub_request {
    uint8_t prefix; /* mandatory prefix: 0, 66H, F2H, F3H */
    uint8_t map;    /* enum stub_map */
    uint8_t opcode;
    uint8_t extension; /* ModRM.reg as part of the opcode; FFH: it is a register */
    uint8_t imm;
    uint8_t reg, rm; /* enum stub_class of the operands in ModRM.reg and ModRM.rm */
    bool rex_w;
    bool has_imm;
    bool rm_memory; /* rm is memory: the operand is v[a], already loaded, or to be stored afterwards */
    bool reg_read, reg_write, rm_read, rm_write;
    bool xmm0_read, xmm0_write; /* implicit XMM0 (BLENDV, PCMPxSTRM) */
    bool index_read;            /* EAX and EDX are lengths (PCMPESTRx) */
    bool ecx_write;             /* ECX is the result (PCMPxSTRI) */
    bool flags_write;
    bool mxcsr; /* rounds and raises by MXCSR */
    /* VEX-encoded: vector registers are 256 bits wide, and what is written is written whole. */
    bool vex;
    uint8_t vex_l; /* 0: 128 bits, 1: 256; 0 where it is ignored */
    bool vex_w;
    uint8_t vvvv; /* enum stub_class of the operand in VEX.vvvv: STUB_NOTHING or STUB_XMM */
    bool vvvv_read, vvvv_write;
    bool is4; /* imm[7:4] is a register that is read */
};

/* The interpreter calls s->run(cpu, u, s). May raise #XM, #MF. */
struct vec_stub {
    void (*run)(struct cpu *cpu, const struct uop *u, const struct vec_stub *s);
    void *code; /* emitted host code */
    struct stub_request q;
    char name[16]; /* mnemonic, for printing */
};

struct stub_cache *stub_cache_new(struct error *e);
void stub_cache_free(struct stub_cache *c);
/* The stub for q, emitted at its first use; NULL when the cache is full or the host is no x86-64. The host
 * must have the instruction: stub_host_has(). */
const struct vec_stub *stub_get(struct stub_cache *c, const struct stub_request *q, const char *name);

/* False when stubs of feature f's instructions cannot run on this host; true for features without stubs. */
bool stub_host_has(enum feature f);

#endif
