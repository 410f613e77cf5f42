/*
 * tests/lockstep/report.c -- what differs between two machines, and which instructions may have done it.
 */
#include "tests/lockstep/lockstep.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cpu/exec.h"
#include "cpu/lift/lift.h"

static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

/* What differs, as far as an instruction can be found that wrote it. */
struct difference {
    uint32_t registers; /* by number; bit 16: flags; bit 17: memory */
};

static void value(struct difference *d, unsigned bit, const char *name, uint64_t a, uint64_t b)
{
    if (a == b)
        return;
    printf("     %-10s interp %016" PRIx64 "  jit %016" PRIx64 "\n", name, a, b);
    if (bit < 32)
        d->registers |= 1u << bit;
}

static void registers(struct difference *d, const struct cpu *a, const struct cpu *b)
{
    char name[16];
    for (unsigned i = 0; i < 16; i++)
        value(d, i, names[i], a->r[i], b->r[i]);
    value(d, 32, "rip", a->rip, b->rip);
    value(d, 16, "rflags", cpu_rflags(a), cpu_rflags(b));
    value(d, 32, "cr0", a->cr0, b->cr0);
    value(d, 32, "cr2", a->cr2, b->cr2);
    value(d, 32, "cr3", a->cr3, b->cr3);
    value(d, 32, "cr4", a->cr4, b->cr4);
    value(d, 32, "dr6", a->dr[6], b->dr[6]);
    value(d, 32, "dr7", a->dr[7], b->dr[7]);
    value(d, 32, "mxcsr", a->mxcsr, b->mxcsr);
    value(d, 32, "fcw", a->x87.fcw, b->x87.fcw);
    value(d, 32, "fsw", a->x87.fsw, b->x87.fsw);
    value(d, 32, "fpu top", a->x87.top, b->x87.top);
    value(d, 32, "fpu tags", a->x87.ftw, b->x87.ftw);
    value(d, 32, "fop", a->x87.fop, b->x87.fop);
    value(d, 32, "fip", a->x87.fip, b->x87.fip);
    value(d, 32, "fdp", a->x87.fdp, b->x87.fdp);
    value(d, 32, "insns", a->insns, b->insns);
    value(d, 32, "cpl", a->cpl, b->cpl);
    value(d, 32, "activity", a->activity, b->activity);
    value(d, 32, "shadow sti", a->shadow_sti, b->shadow_sti);
    value(d, 32, "shadow ss", a->shadow_mov_ss, b->shadow_mov_ss);
    value(d, 32, "pending db", a->pending_db, b->pending_db);
    value(d, 32, "event", a->event.valid << 8 | a->event.vector, b->event.valid << 8 | b->event.vector);
    for (unsigned i = 0; i < 8; i++)
        for (unsigned k = 0; k < 2; k++) {
            snprintf(name, sizeof(name), "fpu r%u.%u", i, k);
            value(d, 32, name, a->x87.r[i].q[k], b->x87.r[i].q[k]);
        }
    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < ARRAY_LEN(a->v[0].q); k++) {
            snprintf(name, sizeof(name), "ymm%u.%u", i, k);
            value(d, 32, name, a->v[i].q[k], b->v[i].q[k]);
        }
}

static void memory(struct difference *d, const struct machine *a, const struct machine *b)
{
    unsigned shown = 0;
    for (uint64_t i = 0; i < a->phys.ram_size && shown < 8; i += 8) {
        uint64_t x = load_le(a->phys.ram + i, 8), y = load_le(b->phys.ram + i, 8);
        if (x == y)
            continue;
        printf("     ram %06" PRIx64 " interp %016" PRIx64 "  jit %016" PRIx64 "\n", i, x, y);
        d->registers |= 1u << 17;
        shown++;
    }
}

static void items(const struct machine *a, const struct machine *b)
{
    for (uint32_t i = 0; i < a->states.count; i++) {
        const struct state_item *x = &a->states.items[i], *y = &b->states.items[i];
        if (state_hash(x->desc, x->ptr, 0) == state_hash(y->desc, y->ptr, 0))
            continue;
        printf("     state of %s:", x->name);
        for (uint32_t k = 0; k < x->desc->field_count; k++) {
            const struct state_field *f = &x->desc->fields[k];
            struct state_desc one = *x->desc;
            one.fields = f;
            one.field_count = 1;
            if (state_hash(&one, x->ptr, 0) != state_hash(&one, y->ptr, 0))
                printf(" %s", f->name);
        }
        printf("\n");
    }
}

/* -- Instructions -------------------------------------------------------------------------------------- */

static int register_number(ZydisRegister reg)
{
    ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    return full >= ZYDIS_REGISTER_RAX && full <= ZYDIS_REGISTER_R15 ? (int)(full - ZYDIS_REGISTER_RAX) : -1;
}

static bool wrote(const struct trace_step *s, uint32_t what)
{
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    if (!insn_decode(s->key, s->bytes, 15, &zi, op))
        return false;
    if ((what >> 16 & 1) && zi.cpu_flags &&
        (zi.cpu_flags->modified | zi.cpu_flags->set_0 | zi.cpu_flags->set_1 | zi.cpu_flags->undefined))
        return true;
    for (unsigned i = 0; i < zi.operand_count; i++) {
        if (!(op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        int n = op[i].type == ZYDIS_OPERAND_TYPE_REGISTER ? register_number(op[i].reg.value) : -1;
        if ((n >= 0 && (what >> n & 1)) || (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && (what >> 17 & 1)))
            return true;
    }
    return false;
}

void report_step(const struct trace_step *s, const char *mark)
{
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    ZydisFormatter formatter;
    char text[160] = "(bad)";
    unsigned length = 1;
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    if (insn_decode(s->key, s->bytes, 15, &zi, op)) {
        ZydisFormatterFormatInstruction(&formatter, &zi, op, zi.operand_count_visible, text, sizeof(text),
                                        s->rip, NULL);
        length = zi.length;
    }
    printf("     %s %08" PRIx64 " ", mark, s->rip);
    for (unsigned i = 0; i < length; i++)
        printf("%02x", s->bytes[i]);
    printf("  %s\n", text);
}

void report_difference(struct pair *m, const struct trace_step *steps, unsigned count)
{
    struct difference d = {0};
    if (m->interp->end != m->jit->end || m->interp->clock.now != m->jit->clock.now)
        printf("     interp end %d at %" PRIu64 ", jit end %d at %" PRIu64 "\n", m->interp->end,
               m->interp->clock.now, m->jit->end, m->jit->clock.now);
    registers(&d, &m->interp->cpus[0], &m->jit->cpus[0]);
    memory(&d, m->interp, m->jit);
    items(m->interp, m->jit);
    unsigned suspect = count;
    for (unsigned i = count; i-- > 0 && suspect == count;)
        if (wrote(&steps[i], d.registers))
            suspect = i;
    for (unsigned i = count > 24 && suspect > count - 24 ? count - 24 : 0; i < count; i++)
        report_step(&steps[i], i == suspect ? "*" : " ");
}
