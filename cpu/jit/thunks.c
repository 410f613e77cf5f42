/*
 * cpu/jit/thunks.c -- the way in and out of translated code, and its calls to C.
 *
 * A thunk spills the pinned guest registers (and the vector registers while they are live), calls C on the
 * stack of C code, and reloads; C (R11) survives, A and B are callee-saved in the System V ABI. Arguments of
 * a call that runs a micro-op: A its address, B its index in the block. The return address of a thunk is
 * taken off at once, so that R_CPU is right in it. C that raises, exits or enters a VM never returns:
 * jit_unwind() drops its frames and goes on in translated code.
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

#include "cpu/flags.h"
#include "cpu/ir/helper.h"
#include "cpu/vmx/vmx.h"

const uint8_t jit_host_of[16] = {
    [REG_RAX] = H_RAX, [REG_RCX] = H_RCX, [REG_RDX] = H_RDX, [REG_RBX] = H_RBX,
    [REG_RSP] = H_R10, [REG_RBP] = H_RBP, [REG_RSI] = H_RSI, [REG_RDI] = H_RDI,
    [REG_R8] = H_R8,   [REG_R9] = H_R9,   [REG_R10] = 0xff,  [REG_R11] = 0xff,
    [REG_R12] = 0xff,  [REG_R13] = H_R12, [REG_R14] = 0xff,  [REG_R15] = 0xff,
};

/* -- What the thunks call ------------------------------------------------------------------------------ */

static struct block *block_of(const struct uop *u, unsigned index)
{
    return (struct block *)(uintptr_t)(u - index) - 1;
}

static void begin(struct cpu *cpu, const struct uop *u, unsigned index)
{
    if (cpu->cc_op)
        jit_settle_flags(cpu);
    if (cpu->x87_live)
        jit_x87_spill(cpu);
    cpu->block = block_of(u, index);
    cpu->uop = u;
    struct jit_stats *stats = &cpu->code->jit->stats;
    stats->steps[u->op]++;
    if (u->op == UOP_HELPER)
        stats->helpers[u->aux & 255]++;
}

/* What translated code takes for granted behind a call. */
struct before {
    uint64_t generation, stack_drops;
    const struct tlb *tlb;
};

static struct before before(const struct cpu *cpu)
{
    return (struct before){cpu->mmu.generation, cpu->mmu.stack_drops, cpu->tlb};
}

/* Not 0: the block was left, cpu->rip is set. */
static uint64_t after(struct cpu *cpu, const struct uop *u, const struct before *was)
{
    const uint64_t generation = was->generation;
    if (likely(!interp_leave_wanted(cpu, generation) && cpu->tlb == was->tlb &&
               cpu->mmu.stack_drops == was->stack_drops))
        return 0;
    interp_finish(cpu, cpu->block, u, generation);
    return 1;
}

/* A micro-op that does not end its block. */
static uint64_t call_step(struct cpu *cpu, const struct uop *u, uint64_t index)
{
    const struct before was = before(cpu);
    begin(cpu, u, (unsigned)index);
    interp_step(cpu, cpu->block, u);
    return after(cpu, u, &was);
}

static uint64_t call_helper(struct cpu *cpu, const struct uop *u, uint64_t index)
{
    const struct before was = before(cpu);
    const struct helper_info *h = &helper_info[u->aux];
    begin(cpu, u, (unsigned)index);
    if (h->flags & H_TIME)
        cpu_sync(cpu);
    h->fn(cpu, u);
    return after(cpu, u, &was);
}

/* The code to go on with; NULL: leave. */
static void *next_code(struct cpu *cpu)
{
    cpu->block = NULL;
    cpu->jit_edge = NULL;
    return cpu->attention ? NULL : jit_lookup(cpu->code->jit, cpu);
}

/* After a VM entry or exit, or a fault: what the loop of cpu_run() does, but for anything that is rare. */
static void *call_unwound(struct cpu *cpu, uint64_t event)
{
    cpu->jit_edge = NULL;
    if (event) {
        cpu->clock->now = cpu->slice_end - (uint64_t)cpu->budget;
        event_deliver(cpu);
    }
    if (cpu->budget <= 0)
        return NULL;
    if (cpu->vmx_non_root && cpu->slice_end - (uint64_t)cpu->budget >= vmx_next_deadline(cpu))
        return NULL;
    return next_code(cpu);
}

/* A guard whose bit is set. 0: go on, 1: leave, else the code to go on with after a VM exit. It returns
 * through all of its callers, since a host predicts that better than the jump of jit_unwind(). */
static uint64_t call_guard(struct cpu *cpu, const struct uop *u, uint64_t index)
{
    const struct before was = before(cpu);
    begin(cpu, u, (unsigned)index);
    if (unlikely(!vmx_guard_exit(cpu, (unsigned)u->imm)))
        return after(cpu, u, &was);
    cpu->budget--;
    void *code = call_unwound(cpu, false);
    return code ? (uintptr_t)code : 1;
}

static void *call_step_end(struct cpu *cpu, const struct uop *u, uint64_t index)
{
    begin(cpu, u, (unsigned)index);
    interp_step(cpu, cpu->block, u);
    return next_code(cpu);
}

static void *call_rest_end(struct cpu *cpu, const struct uop *u, uint64_t index)
{
    begin(cpu, u, (unsigned)index);
    interp_rest(cpu, cpu->block, u);
    return next_code(cpu);
}

static void *call_helper_end(struct cpu *cpu, const struct uop *u, uint64_t index)
{
    begin(cpu, u, (unsigned)index);
    cpu_sync(cpu);
    helper_info[u->aux].fn(cpu, u);
    cpu->rip = cpu->next_rip;
    return next_code(cpu);
}

/* Interprets from a vector or x87 micro-op to the block's end: a guest with unmasked exceptions. */
static uint64_t call_rest(struct cpu *cpu, const struct uop *u, uint64_t index)
{
    begin(cpu, u, (unsigned)index);
    interp_rest(cpu, cpu->block, u);
    return 1;
}

/* Does not look at x87 registers: they stay where they are. */
static void call_settle(struct cpu *cpu)
{
    if (cpu->cc_op)
        jit_settle_flags(cpu);
    uint64_t f = flags_arith(cpu);
    cpu->cc_cf = f & 1;
    cpu->jit_scratch = (f & 0xd5) << 8 | (f >> 11 & 1);
}

/* -- Emission ------------------------------------------------------------------------------------------ */

static void move_pinned(struct asm_buf *a, bool store)
{
    for (unsigned i = 0; i < 16; i++)
        if (jit_host_of[i] != R_NONE) {
            if (store)
                asm_store(a, 3, jit_host_of[i], guest_mem(i));
            else
                asm_load(a, 3, jit_host_of[i], guest_mem(i));
        }
    if (!store)
        asm_load(a, 3, R_TLB, CPU_MEM(tlb));
}

static void move_vectors(struct jit *j, struct asm_buf *a, bool store)
{
    for (unsigned i = 0; i < 16; i++) {
        if (j->avx)
            asm_vex(a, 1, 0, 0, 1, store ? 0x11 : 0x10, i, 0, vector_mem(i)); /* VMOVUPS */
        else
            asm_op(a, 2, store ? 0x0f29 : 0x0f28, i, vector_mem(i)); /* MOVAPS */
    }
}

/* Clobbers flags only. */
static void spill_vectors(struct jit *j, struct asm_buf *a)
{
    asm_op(a, 0, 0x80, 7, CPU_MEM(vec_live));
    asm_byte(a, 0); /* CMP vec_live, 0 */
    uint8_t *none = asm_jcc(a, CC_E);
    move_vectors(j, a, true);
    asm_op(a, 2, 0x0fae, 3, CPU_MEM(mxcsr)); /* STMXCSR */
    asm_store_imm(a, 2, CPU_MEM(jit_scratch), 0x1f80);
    asm_op(a, 2, 0x0fae, 2, CPU_MEM(jit_scratch)); /* LDMXCSR */
    if (j->avx) {
        asm_byte(a, 0xc5);
        asm_byte(a, 0xf8);
        asm_byte(a, 0x77); /* VZEROUPPER: C code is SSE */
    }
    asm_store_imm(a, 0, CPU_MEM(vec_live), 0);
    asm_patch(none, a->at);
}

/* fn(cpu, A, B), after the guest's registers were spilled. */
static void call_c(struct asm_buf *a, const void *fn)
{
    asm_lea(a, 3, H_RDI, rm_mem(R_CPU, -(int32_t)offsetof(struct cpu, r)));
    asm_mov(a, H_RSI, R_A);
    asm_mov(a, H_RDX, R_B);
    asm_mov(a, H_RBX, R_CPU);
    asm_load(a, 3, H_RSP, CPU_MEM(jit_sp));
    asm_imm64(a, H_RAX, (uint64_t)(uintptr_t)fn);
    asm_op(a, 2, 0xff, 2, rm_reg(H_RAX));
    asm_mov(a, R_CPU, H_RBX);
}

static void push(struct asm_buf *a, unsigned r)
{
    if (r >= 8)
        asm_byte(a, 0x41);
    asm_byte(a, 0x50 | (r & 7));
}
static void pop(struct asm_buf *a, unsigned r)
{
    if (r >= 8)
        asm_byte(a, 0x41);
    asm_byte(a, 0x58 | (r & 7));
}

static const uint8_t saved[] = {H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15};

static void leave(struct asm_buf *a)
{
    asm_load(a, 3, H_RSP, CPU_MEM(jit_sp));
    asm_alu_imm(a, 3, 0, rm_reg(H_RSP), 8);
    for (unsigned i = ARRAY_LEN(saved); i-- > 0;)
        pop(a, saved[i]);
    asm_byte(a, 0xc3);
}

static uint8_t *thunk(struct asm_buf *a)
{
    while ((uintptr_t)a->at & 15)
        asm_byte(a, 0xcc);
    return a->at;
}

/* A thunk that is called. */
static uint8_t *called(struct asm_buf *a)
{
    uint8_t *t = thunk(a);
    asm_op(a, 2, 0x8f, 0, CPU_MEM(jit_return)); /* POP; its address counts from RSP behind the pop */
    return t;
}

static void spill_all(struct jit *j, struct asm_buf *a)
{
    move_pinned(a, true);
    asm_store(a, 3, R_C, CPU_MEM(jit_c));
    spill_vectors(j, a);
}

/* Vector registers are loaded when they are next wanted. Touches no flag. */
static void reload_all(struct asm_buf *a)
{
    asm_load(a, 3, R_C, CPU_MEM(jit_c));
    move_pinned(a, false);
}

/* Touches no flag. */
static void back(struct asm_buf *a)
{
    asm_op(a, 2, 0xff, 6, CPU_MEM(jit_return)); /* PUSH */
    asm_byte(a, 0xc3);
}

/* Spill, call fn(cpu, u, index), leave when it says so, reload, return. */
static uint8_t *call_thunk(struct jit *j, struct asm_buf *a, const void *fn)
{
    uint8_t *t = called(a);
    spill_all(j, a);
    call_c(a, fn);
    asm_op(a, 3, 0x85, H_RAX, rm_reg(H_RAX));
    uint8_t *out = asm_jcc(a, CC_NE);
    reload_all(a);
    back(a);
    asm_patch(out, a->at);
    leave(a);
    return t;
}

/* The guest's registers into the host's, and to the code in RAX. */
static void go_on(struct asm_buf *a)
{
    asm_mov(a, R_A, H_RAX);
    move_pinned(a, false);
    asm_op(a, 2, 0xff, 4, rm_reg(R_A)); /* JMP A */
}

static uint8_t *guard_thunk(struct jit *j, struct asm_buf *a)
{
    uint8_t *t = called(a);
    spill_all(j, a);
    call_c(a, (const void *)call_guard);
    asm_alu_imm(a, 3, 7, rm_reg(H_RAX), 1);
    uint8_t *out = asm_jcc(a, CC_E), *on = asm_jcc(a, CC_B);
    go_on(a);
    asm_patch(on, a->at);
    reload_all(a);
    back(a);
    asm_patch(out, a->at);
    leave(a);
    return t;
}

/* Spill, call fn(cpu, u, index), go on at the code that it returns or leave. */
static uint8_t *end_thunk(struct jit *j, struct asm_buf *a, const void *fn)
{
    uint8_t *t = thunk(a);
    move_pinned(a, true);
    spill_vectors(j, a);
    call_c(a, fn);
    asm_op(a, 3, 0x85, H_RAX, rm_reg(H_RAX));
    uint8_t *out = asm_jcc(a, CC_E);
    go_on(a);
    asm_patch(out, a->at);
    leave(a);
    return t;
}

/* CF into cc_cf, with A as it was. */
static void put_carry(struct asm_buf *a)
{
    asm_op(a, 0, 0x0f92, 0, CPU_MEM(cc_cf)); /* SETC */
    asm_load(a, 3, R_A, CPU_MEM(jit_scratch));
}

/* Flags that were settled: by a VM entry or exit, or other C code. With cc_aux of 0 the result gives all six.
 */
static void quick_settled(struct asm_buf *a, bool carry)
{
    asm_alu_imm(a, 3, 7, CPU_MEM(cc_op), FK_SETTLED);
    uint8_t *open = asm_jcc(a, CC_NE), *odd = NULL;
    if (carry) {
        asm_op(a, 3, 0x0fba, 4, CPU_MEM(cc_aux)); /* BT */
        asm_byte(a, 63);
        put_carry(a);
    } else {
        asm_alu_imm(a, 3, 7, CPU_MEM(cc_aux), 0);
        odd = asm_jcc(a, CC_NE);
        asm_load(a, 3, R_A, CPU_MEM(cc_result));
        asm_op(a, 3, 0x85, R_A, rm_reg(R_A)); /* TEST */
    }
    back(a);
    asm_patch(open, a->at);
    if (odd)
        asm_patch(odd, a->at);
}

/* The flags of the commonest recipes, made by the operation itself; `carry`: only CF, into cc_cf. Uses A; a
 * recipe of another kind comes to the end. */
static void quick_flags(struct asm_buf *a, bool carry)
{
    static const uint8_t kinds[] = {FK_CMP, FK_TEST, FK_SUB, FK_LOGIC, FK_ADD};
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        unsigned kind = kinds[i];
        asm_load(a, 3, R_A, CPU_MEM(cc_op));
        asm_alu_imm(a, 3, 5, rm_reg(R_A), (int32_t)kind << 2);
        asm_alu_imm(a, 3, 7, rm_reg(R_A), 3);
        uint8_t *other = asm_jcc(a, CC_A);
        for (unsigned size = 4; size-- > 0;) {
            uint8_t *not = NULL;
            if (size) {
                asm_alu_imm(a, 2, 7, rm_reg(R_A), (int32_t)size);
                not = asm_jcc(a, CC_NE);
            }
            asm_load(a, 3, R_A, CPU_MEM(cc_a));
            if (kind == FK_CMP) {
                asm_alu(a, size, 7, R_A, CPU_MEM(cc_b));
            } else if (kind == FK_TEST) {
                asm_op_w(a, size, 0x84, R_A, CPU_MEM(cc_b));
            } else if (kind == FK_LOGIC) {
                asm_op_w(a, size, 0x84, R_A, rm_reg(R_A));
            } else {
                bool add = kind == FK_ADD;
                asm_alu(a, size, add ? 5 : 0, R_A, CPU_MEM(cc_b));
                asm_alu(a, size, add ? 0 : 5, R_A, CPU_MEM(cc_b));
            }
            if (carry)
                put_carry(a);
            back(a);
            if (not )
                asm_patch(not, a->at);
        }
        asm_patch(other, a->at);
    }
}

/* unwind(cpu, event): back on the stack of translated code. */
static uint8_t *unwind_thunk(struct asm_buf *a)
{
    uint8_t *t = thunk(a);
    asm_lea(a, 3, R_CPU, rm_mem(H_RDI, (int32_t)offsetof(struct cpu, r)));
    asm_mov(a, R_A, H_RSI);
    call_c(a, (const void *)call_unwound);
    asm_op(a, 3, 0x85, H_RAX, rm_reg(H_RAX));
    uint8_t *out = asm_jcc(a, CC_E);
    go_on(a);
    asm_patch(out, a->at);
    leave(a);
    return t;
}

enum flags_wanted { FLAGS_LOAD, FLAGS_SETTLE, FLAGS_CARRY };

static uint8_t *flags_thunk(struct jit *j, struct asm_buf *a, enum flags_wanted wanted)
{
    uint8_t *t = called(a);
    if (wanted != FLAGS_SETTLE) {
        bool carry = wanted == FLAGS_CARRY;
        if (carry)
            asm_store(a, 3, R_A, CPU_MEM(jit_scratch));
        quick_settled(a, carry);
        quick_flags(a, carry);
        if (carry)
            asm_load(a, 3, R_A, CPU_MEM(jit_scratch));
    }
    spill_all(j, a);
    call_c(a, (const void *)call_settle);
    if (wanted == FLAGS_LOAD) {
        asm_load(a, 2, H_RAX, CPU_MEM(jit_scratch));
        asm_byte(a, 0x04); /* ADD AL, 7FH: OF */
        asm_byte(a, 0x7f);
        asm_byte(a, 0x9e); /* SAHF */
    }
    reload_all(a);
    back(a);
    return t;
}

/* A = jit_find(cpu, C); ZF: nothing found. */
static uint8_t *find_thunk(struct jit *j, struct asm_buf *a)
{
    uint8_t *t = called(a);
    spill_all(j, a);
    asm_mov(a, R_A, R_C);
    call_c(a, (const void *)jit_find);
    asm_mov(a, R_A, H_RAX);
    reload_all(a);
    asm_op(a, 3, 0x85, R_A, rm_reg(R_A));
    back(a);
    return t;
}

static uint8_t *vec_load_thunk(struct jit *j, struct asm_buf *a)
{
    uint8_t *t = called(a);
    asm_store(a, 3, H_RAX, CPU_MEM(jit_scratch));
    asm_load(a, 2, H_RAX, CPU_MEM(mxcsr));
    asm_op(a, 2, 0xf7, 2, rm_reg(H_RAX)); /* NOT */
    asm_op(a, 2, 0xf7, 0, rm_reg(H_RAX)); /* TEST: any exception unmasked? */
    asm_u32(a, 0x1f80);
    asm_load(a, 3, H_RAX, CPU_MEM(jit_scratch));
    uint8_t *unmasked = asm_jcc(a, CC_NE);
    asm_op(a, 2, 0x0fae, 2, CPU_MEM(mxcsr));
    move_vectors(j, a, false);
    asm_store_imm(a, 0, CPU_MEM(vec_live), 1);
    back(a);
    asm_patch(unmasked, a->at);
    move_pinned(a, true);
    call_c(a, (const void *)call_rest);
    leave(a);
    return t;
}

static uint8_t *x87_load_thunk(struct jit *j, struct asm_buf *a)
{
    uint8_t *t = called(a);
    spill_all(j, a);
    call_c(a, (const void *)jit_x87_load);
    asm_op(a, 0, 0x84, H_RAX, rm_reg(H_RAX)); /* TEST */
    uint8_t *unmasked = asm_jcc(a, CC_E);
    reload_all(a);
    back(a);
    asm_patch(unmasked, a->at);
    call_c(a, (const void *)call_rest);
    leave(a);
    return t;
}

bool jit_make_thunks(struct jit *j, size_t room)
{
    struct asm_buf buf = {.at = j->write, .end = j->write + room}, *a = &buf;

    j->enter = thunk(a); /* void enter(struct cpu *, void *code) */
    for (unsigned i = 0; i < ARRAY_LEN(saved); i++)
        push(a, saved[i]);
    asm_alu_imm(a, 3, 5, rm_reg(H_RSP), 8);
    asm_store(a, 3, H_RSP, rm_mem(H_RDI, (int32_t)offsetof(struct cpu, jit_sp)));
    asm_lea(a, 3, R_CPU, rm_mem(H_RDI, (int32_t)offsetof(struct cpu, r)));
    asm_mov(a, R_A, H_RSI);
    asm_store_imm(a, 0, CPU_MEM(jit_running), 1);
    move_pinned(a, false);
    asm_op(a, 2, 0xff, 4, rm_reg(R_A));

    j->exit = thunk(a); /* jumped to */
    move_pinned(a, true);
    spill_vectors(j, a);
    leave(a);

    j->slow = call_thunk(j, a, (const void *)call_step);
    j->guard = guard_thunk(j, a);
    j->helper = call_thunk(j, a, (const void *)call_helper);
    j->step_end = end_thunk(j, a, (const void *)call_step_end);
    j->rest_end = end_thunk(j, a, (const void *)call_rest_end);
    j->helper_end = end_thunk(j, a, (const void *)call_helper_end);
    j->vec_load = vec_load_thunk(j, a);
    j->x87_load = x87_load_thunk(j, a);
    j->flags = flags_thunk(j, a, FLAGS_LOAD);
    j->settle = flags_thunk(j, a, FLAGS_SETTLE);
    j->carry = flags_thunk(j, a, FLAGS_CARRY);
    j->find = find_thunk(j, a);
    j->unwind = unwind_thunk(a);
    j->run_unwind = j->run + (j->unwind - j->write);
    j->thunks = (size_t)(a->at - j->write);
    return !a->full;
}

#endif
