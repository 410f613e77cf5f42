/*
 * cpu/jit/emit_vec.c -- vector micro-ops: the guest's instruction emitted again, with our operands.
 *
 * XMM (YMM) 0 to 15 are the host's own while cpu->vec_live is set; temporaries are in struct cpu. The host's
 * MXCSR has the guest's rounding and all exceptions masked; a guest that unmasks one is interpreted.
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

#include "cpu/jit/stub.h"

void emit_need_vec(struct emit *e)
{
    if (e->s.vec_live)
        return;
    asm_alu_imm(&e->a, 0, 7, CPU_MEM(vec_live), 0);
    e->s.host_mask = 0;
    e->s.vec_live = true;
    struct cold *c = emit_cold(e, COLD_VEC, asm_jcc(&e->a, CC_E));
    c->before.vec_live = false;
    c->open = false;
    c->back = e->a.at;
}

bool emit_vector(struct emit *e)
{
    (void)e;
    return false;
}

#endif
