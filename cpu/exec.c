/*
 * cpu/exec.c -- the loop that runs a processor: find a block, run it, look at events at exact instruction
 * counts.
 *
 * SDM 3A, "Prioritization of Concurrent Events" (the order itself is in event.c).
 * Time: between blocks now = slice_end - budget. Inside a block the whole block is already subtracted, so
 *       now = slice_end - (budget + instructions of it not yet done). A delivered event takes one tick, so
 * that no sequence of faults can stop the clock. Not here: what micro-ops do (ir/interp.c), what events do
 * (event.c).
 */
#include "cpu/cache.h"

#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "base/trace.h"
#include "cpu/flags.h"
#include "cpu/ir/interp.h"
#include "cpu/jit/jit.h"
#include "cpu/lift/lift.h"
#include "cpu/profile.h"
#include "cpu/vmx/vmx.h"

/* -- Where are we -------------------------------------------------------------------------------------- */

void cpu_sync(struct cpu *cpu)
{
    const struct block *b = cpu->block;
    if (!b)
        return;
    unsigned i = cpu->uop->insn;
    uint64_t mask = cpu->key & KEY_L ? ~0ull : 0xffffffffull;
    cpu->rip = (cpu->r[REG_PAGE] + b->insns[i].offset) & mask;
    cpu->next_rip = (cpu->rip + b->insns[i].length) & mask;
    cpu->clock->now = cpu->slice_end - (uint64_t)(cpu->budget + b->insn_count - (int)i);
}

/* Between blocks: there cpu_sync() does nothing, and time is what the budget says. */
static void sync_outside(struct cpu *cpu)
{
    cpu->clock->now = cpu->slice_end - (uint64_t)cpu->budget;
}

unsigned cpu_insn_length(const struct cpu *cpu)
{
    return cpu->block ? cpu->block->insns[cpu->uop->insn].length : 0;
}

void cpu_events_changed(struct cpu *cpu)
{
    uint64_t next = cpu->clock->next;
    if (unlikely(cpu->vmx_non_root)) {
        uint64_t deadline = vmx_next_deadline(cpu);
        if (deadline <= cpu->clock->now)
            cpu->attention |= ATTN_VMX; /* due already: event_poll() sees to it, no later stop is needed */
        else
            next = MIN(next, deadline);
    }
    if (next < cpu->slice_end) {
        /* The running instruction always completes: the earliest stop is the boundary after it. */
        uint64_t earliest = cpu->clock->now + (cpu->block ? 1 : 0);
        uint64_t end = MAX(next, earliest);
        if (end < cpu->slice_end) {
            cpu->budget -= (int64_t)(cpu->slice_end - end);
            cpu->slice_end = end;
            cpu->attention |= ATTN_LEAVE;
        }
    }
}

/* Gives back what the running block has not done: the running instruction counts as not executed. */
static void leave_block(struct cpu *cpu)
{
    if (cpu->block) {
        block_pay(cpu, cpu->uop->insn - cpu->block->insn_count);
        cpu->block = NULL;
    }
}

/* -- Raising ------------------------------------------------------------------------------------------- */

void cpu_raise_event(struct cpu *cpu, const struct event *ev)
{
    cpu_sync(cpu);
    leave_block(cpu);
    cpu->event = *ev;
    cpu->event.valid = true;
    if (cpu->jit_running)
        jit_unwind(cpu, true);
    longjmp(cpu->jump, JUMP_EVENT);
}

void cpu_raise(struct cpu *cpu, unsigned vector, uint32_t error_code)
{
    static const uint32_t with_error = BIT(EXC_DF) | BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) |
                                       BIT(EXC_PF) | BIT(EXC_AC) | BIT(EXC_CP);
    struct event ev = {.vector = (uint8_t)vector, .type = EVENT_HARDWARE_EXCEPTION, .error_code = error_code};
    ev.has_error = with_error >> vector & 1;
    cpu_raise_event(cpu, &ev);
}

void cpu_raise_ud(struct cpu *cpu)
{
    cpu_raise(cpu, EXC_UD, 0);
}

void cpu_raise_gp0(struct cpu *cpu)
{
    cpu_raise(cpu, EXC_GP, 0);
}

void cpu_raise_mmu(struct cpu *cpu, const struct mmu_fault *f, enum seg_reg seg)
{
    cpu_sync(cpu);
    switch (f->kind) {
    case MMU_FAULT_PAGE: {
        struct event ev = {.vector = EXC_PF,
                           .type = EVENT_HARDWARE_EXCEPTION,
                           .has_error = true,
                           .error_code = f->error_code,
                           .qualification = f->linear};
        cpu_raise_event(cpu, &ev);
    }
    case MMU_FAULT_CANONICAL:
        cpu_raise(cpu, seg == SEG_SS ? EXC_SS : EXC_GP, 0);
    default:
        vmx_ept_fault(cpu, f);
    }
}

void cpu_resume(struct cpu *cpu)
{
    leave_block(cpu);
    cpu->budget--;
    if (cpu->jit_running)
        jit_unwind(cpu, false);
    longjmp(cpu->jump, JUMP_RESUME);
}

/* -- Finding a block ----------------------------------------------------------------------------------- */

static gpa_t fetch_translate(struct cpu *cpu, gva_t linear)
{
    struct mmu_fault f;
    gpa_t gpa;
    /* No block runs, so nobody else brings the time up to date before a VM exit that is made here. */
    sync_outside(cpu);
    if (!mmu_translate(&cpu->mmu, linear, MMU_EXEC, 0, &gpa, &f))
        cpu_raise_mmu(cpu, &f, SEG_CS);
    uint64_t value;
    if (unlikely(cpu->vmx_non_root))
        vmx_apic_access(cpu, gpa, linear, 1, false, true, &value);
    return gpa;
}

static gpa_t fetch_gpa(struct cpu *cpu, gva_t linear)
{
    gpa_t gpa;
    return likely(tlb_exec_hit(cpu->tlb, linear, &gpa)) ? gpa : fetch_translate(cpu, linear);
}

/* Bytes at gpa up to the end of its page: RAM in place, anything else through the bus. */
static const uint8_t *fetch_bytes(struct cpu *cpu, gpa_t gpa, unsigned n, uint8_t buf[16])
{
    const uint8_t *p = phys_ram(cpu->phys, gpa, n);
    if (p)
        return p;
    n = MIN(n, 15u);
    sync_outside(cpu); /* a device can tell the time */
    for (unsigned i = 0; i < n; i++)
        buf[i] = (uint8_t)bus_read_mmio(cpu->bus, gpa + i, 1);
    return buf;
}

static void lift_exit(struct ir *ir, uint32_t offset)
{
    struct uop *u = ir_emit(ir, UOP_EXIT, 0);
    u->imm = offset;
}

/* Lifts instructions from `linear` on into c->ir. Returns the page of a second part, or 0. */
static gpa_t translate_block(struct cpu *cpu, gva_t linear, gpa_t gpa, uint32_t key)
{
    struct ir *ir = cpu->code->ir;
    struct lift l = {.ir = ir,
                     .key = key & ~(uint32_t)KEY_SINGLE,
                     .model = cpu->model,
                     .stubs = cpu->stubs,
                     .log = cpu->log,
                     .offset = (uint32_t)(gpa & PAGE_MASK)};
    bool ram = phys_page(cpu->phys, gpa) != NULL;
    unsigned most = (key & KEY_SINGLE) || !ram ? 1 : 32;
    uint8_t buf[16];

    ir_reset(ir);
    while (ir->insn_count < most && l.offset < PAGE_SIZE) {
        unsigned avail = PAGE_SIZE - l.offset;
        uint32_t uops = ir->uop_count, insns = ir->insn_count, offset = l.offset;
        enum lift_result r =
            lift_insn(&l, fetch_bytes(cpu, (gpa & ~PAGE_MASK) + l.offset, avail, buf), avail);
        if (r == LIFT_TRUNCATED || ir->overflow ||
            (insns && ir->uop_count - uops > ARRAY_LEN(cpu->tail) - 2)) {
            ir->uop_count = uops;
            ir->insn_count = insns;
            ir->overflow = false;
            l.offset = offset;
            if (insns)
                break;
            /* The only instruction crosses into the next page. */
            gpa_t second = fetch_gpa(cpu, (linear + avail) & (key & KEY_L ? ~0ull : 0xffffffffull));
            for (unsigned i = 0; i < 15; i++) {
                uint8_t one[16];
                gpa_t at = i < avail ? gpa + i : second + (i - avail);
                buf[i] = *fetch_bytes(cpu, at, 1, one);
            }
            r = lift_insn(&l, buf, 15);
            if (r == LIFT_OK)
                lift_exit(ir, l.offset);
            return second;
        }
        if (r == LIFT_END)
            return 0;
        if (insns == 0 && ir->uop_count > ARRAY_LEN(cpu->tail) - 2)
            break;
    }
    lift_exit(ir, l.offset);
    return 0;
}

static struct block *translated(struct cpu *cpu, gva_t linear, gpa_t gpa, uint32_t key)
{
    struct code_cache *c = cpu->code;
    code_cache_collect(c);
    gpa_t gpa2 = translate_block(cpu, linear, gpa, key);
    if (!(key & KEY_SINGLE))
        ir_optimise(c->ir);
    ir_finish(c->ir->uops, c->ir->uop_count);
    interp_prepare(c->ir->uops, c->ir->uop_count, key);
    struct block *b = code_cache_add(c, gpa, gpa2, key);
    require(b, "out of host memory for translated code");
    if (unlikely(c->profile != NULL))
        b->profile = profile_row(c->profile, cpu->phys, linear, b);
    if (unlikely(trace_on(cpu->trace, TRACE_in_asm) || trace_on(cpu->trace, TRACE_op)))
        dump_block(cpu, b, cpu->rip);
    return b;
}

/* The block at cpu->rip for the current mode; raises instruction-fetch faults. */
static struct block *find_block(struct cpu *cpu, bool single)
{
    uint64_t rip = cpu->rip, base = 0;
    uint32_t key = cpu->key | (single ? KEY_SINGLE : 0);
    if (unlikely(!(key & KEY_L))) {
        const struct segment *cs = &cpu->seg[SEG_CS];
        if (rip > cs->limit)
            cpu_raise_gp0(cpu);
        base = cs->base;
    }
    gva_t linear = base + rip;
    if (!(key & KEY_L))
        linear &= 0xffffffffull;
    gpa_t gpa = fetch_gpa(cpu, linear);
    struct block *b = code_cache_find(cpu->code, gpa, key);
    if (unlikely(b && b->gpa2)) {
        gva_t next = ((linear | PAGE_MASK) + 1) & (key & KEY_L ? ~0ull : 0xffffffffull);
        if (fetch_gpa(cpu, next) != b->gpa2) {
            code_cache_drop(cpu->code, b);
            b = NULL;
        }
    }
    if (unlikely(b && !phys_page(cpu->phys, gpa))) { /* device bytes may differ at each fetch */
        code_cache_drop(cpu->code, b);
        b = NULL;
    }
    if (unlikely(!b))
        b = translated(cpu, linear, gpa, key);
    if (unlikely(!(key & (KEY_L | KEY_FLAT)))) {
        const struct ir_insn *last = &b->insns[b->insn_count - 1];
        if (rip + (last->offset + last->length - b->insns[0].offset) - 1 > cpu->seg[SEG_CS].limit) {
            if (!single)
                return find_block(cpu, true);
            cpu_raise_gp0(cpu);
        }
    }
    cpu->r[REG_PAGE] = rip - (linear & PAGE_MASK);
    return b;
}

/* After `from` left towards cpu->rip, whose block is b: remember it for the next time. */
static void remember(struct cpu *cpu, struct block *b)
{
    struct code_cache *c = cpu->code;
    /* Each entry of a block counts, and each use of a translation is verified: blocks come back here. */
    if (unlikely(c->profile || cpu->mmu.verify))
        return;
    /* Outside flat segments each entry checks the code segment's limit. */
    if (b->gpa2 || (b->key & KEY_SINGLE) || !(b->key & (KEY_L | KEY_FLAT)) || !phys_page(cpu->phys, b->gpa))
        return;
    struct jump_entry *j = &c->jumps[cpu->id][jump_hash(cpu->rip)];
    *j = (struct jump_entry){.rip = cpu->rip,
                             .cs_base = cpu->seg[SEG_CS].base,
                             .page = cpu->r[REG_PAGE],
                             .generation = cpu->mmu.generation,
                             .tlb = cpu->tlb,
                             .block = b,
                             .key = cpu->key};
}

/* The block at cpu->rip when it was remembered and nothing has changed since; NULL: find it. */
static struct block *remembered(struct cpu *cpu)
{
    const struct jump_entry *j = &cpu->code->jumps[cpu->id][jump_hash(cpu->rip)];
    if (j->rip != cpu->rip || j->key != cpu->key || j->tlb != cpu->tlb ||
        j->generation != cpu->mmu.generation || j->cs_base != cpu->seg[SEG_CS].base || !j->block ||
        !j->block->valid || cpu->budget < j->block->insn_count)
        return NULL;
    cpu->r[REG_PAGE] = j->page;
    return j->block;
}

/* -- The loop ------------------------------------------------------------------------------------------ */

static void interpret(struct cpu *cpu, struct block *b)
{
    cpu->budget -= b->insn_count;
    profile_enter(cpu, b);
    interp_run(cpu, b);
}

static void run_single(struct cpu *cpu)
{
    bool tf = cpu->rflags & FLAG_TF, shadow = cpu->attention & ATTN_SHADOW;
    if (unlikely(cpu->dr[7] & 0xff) && !(cpu->rflags & FLAG_RF))
        debug_check_insn(cpu);
    cpu->rf_loaded = false; /* an IRET that was not stepped has left it */
    interpret(cpu, find_block(cpu, true));
    event_after_instruction(cpu, tf, shadow);
}

/* -- With a back end ----------------------------------------------------------------------------------- */

static void run_one(struct cpu *cpu)
{
    interpret(cpu, find_block(cpu, true));
}

/* The block at cpu->rip, when that needs no walk. */
static struct block *known_block(const struct cpu *cpu)
{
    gpa_t gpa;
    if (!(cpu->key & KEY_L) || !tlb_exec_hit(cpu->tlb, cpu->rip, &gpa))
        return NULL;
    return code_cache_find(cpu->code, gpa, cpu->key);
}

/* False: translated code led to a dropped block; cpu->rip is to be looked up again, if the budget lasts. */
static bool run_code(struct cpu *cpu, void *code)
{
    struct jit *j = cpu->code->jit;
    struct block *b;
    switch (jit_run(j, cpu, code)) {
    case JIT_DEAD:
        return cpu->budget <= 0;
    case JIT_TUNE:
        jit_measured(j, cpu, find_block(cpu, false));
        return cpu->budget <= 0;
    case JIT_BUDGET:
        b = known_block(cpu);
        if (b)
            jit_sample(j, cpu, b);
        if (cpu->budget > 0)
            run_one(cpu);
        return true;
    default:
        return true;
    }
}

/* Runs one block by the interpreter, or translated code until it leaves. `edge`: by which exit the last
 * translated code left; its successor is at cpu->rip. */
static void run_translated(struct cpu *cpu, struct jit_edge *edge)
{
    struct code_cache *c = cpu->code;
    void *code = edge ? NULL : jit_lookup(c->jit, cpu);
    if (code && run_code(cpu, code))
        return;
    const struct jit_stats *stats = jit_statistics(c->jit);
    uint64_t page = cpu->r[REG_PAGE], cleared = c->stats.cleared, evictions = stats->evictions;
    struct block *b = find_block(cpu, false);
    if (!b->code && ++b->runs >= c->hot && !b->refused)
        jit_translate(c->jit, cpu, b);
    if (cpu->budget < b->insn_count) {
        run_one(cpu);
        return;
    }
    if (!b->code) {
        interpret(cpu, b);
        return;
    }
    jit_remember(c->jit, cpu, b);
    /* Only within one page of one context does a link need no further check. */
    bool there = c->stats.cleared == cleared && stats->evictions == evictions;
    if (edge && there && !cpu->mmu.verify && cpu->r[REG_PAGE] == page && !b->gpa2)
        jit_link(c->jit, edge, b);
    run_code(cpu, b->code);
}

uint64_t cpu_run(struct cpu *cpu, uint64_t ticks)
{
    uint64_t start = cpu->clock->now;
    struct code_cache *c = cpu->code;
    if (!c->jumps[cpu->id]) {
        c->jumps[cpu->id] = calloc(1u << JUMP_BITS, sizeof(struct jump_entry));
        require(c->jumps[cpu->id], "out of host memory for the jump cache");
    }
    cpu->block = NULL;
    cpu->jit_edge = NULL;
    if (cpu->vmx_non_root)
        cpu->insns_non_root -= start;
    cpu->slice_end = start + ticks;
    cpu->budget = (int64_t)ticks;
    cpu_events_changed(cpu);

    int jumped = _setjmp(cpu->jump);
    cpu->jit_edge = NULL;
    if (jumped == JUMP_EVENT) {
        sync_outside(cpu);
        event_deliver(cpu);
    }
    while (cpu->budget > 0) {
        if (unlikely(cpu->vmx_non_root) && cpu->slice_end - (uint64_t)cpu->budget >= vmx_next_deadline(cpu))
            cpu->attention |= ATTN_VMX;
        if (unlikely(cpu->attention)) {
            if (cpu->attention & ATTN_STOP) {
                cpu->attention &= ~(uint32_t)ATTN_STOP;
                break;
            }
            cpu->attention &= ~(uint32_t)ATTN_LEAVE;
            sync_outside(cpu);
            if (!event_poll(cpu))
                break;
            if (cpu->attention & (ATTN_SINGLE | ATTN_SHADOW)) {
                run_single(cpu);
                continue;
            }
        }
        if (c->jit && !trace_on(cpu->trace, TRACE_block)) {
            struct jit_edge *edge = cpu->attention ? NULL : jit_exit_edge(cpu);
            cpu->jit_edge = NULL;
            run_translated(cpu, edge);
            continue;
        }
        struct block *b = remembered(cpu);
        if (!b) {
            b = find_block(cpu, false);
            if (unlikely(cpu->budget < b->insn_count)) {
                b = find_block(cpu, true);
            } else {
                remember(cpu, b);
            }
        }
        if (unlikely(trace_on(cpu->trace, TRACE_block))) {
            sync_outside(cpu);
            trace_block(cpu->trace, cpu->rip, b->key, cpu->r[REG_RSP], cpu->r[REG_RAX]);
            cpu->attention |= ATTN_LEAVE; /* so that no block follows without coming back here */
        }
        interpret(cpu, b);
    }
    sync_outside(cpu);
    uint64_t used = cpu->clock->now - start;
    cpu->insns += used;
    if (cpu->vmx_non_root)
        cpu->insns_non_root += cpu->clock->now;
    return used;
}
