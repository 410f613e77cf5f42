/*
 * frontend/stats.c -- counts of a run as JSON.
 */
#include "frontend/stats.h"

#include "cpu/cache.h"
#include "cpu/ir/helper.h"
#include "cpu/jit/jit.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cpu/vmx/vmx.h"

static void number(cJSON *o, const char *name, uint64_t v)
{
    cJSON_AddNumberToObject(o, name, (double)v);
}

static cJSON *translated(const struct jit *j)
{
    const struct jit_stats *s = jit_statistics(j);
    cJSON *o = cJSON_CreateObject();
    number(o, "blocks", s->blocks);
    number(o, "bytes", s->bytes);
    number(o, "links", s->links);
    number(o, "flushes", s->flushes);
    number(o, "evictions", s->evictions);
    number(o, "evicted_blocks", s->evicted);
    number(o, "exits", s->exits);
    /* What translated code had run in C. */
    cJSON *steps = cJSON_AddObjectToObject(o, "in_c");
    for (unsigned i = 0; i < UOP_COUNT; i++)
        if (s->steps[i] && i != UOP_HELPER)
            number(steps, uop_info[i].name, s->steps[i]);
    cJSON *helpers = cJSON_AddObjectToObject(o, "helpers");
    for (unsigned i = 0; i < HELPER_COUNT && i < ARRAY_LEN(s->helpers); i++)
        if (s->helpers[i])
            number(helpers, helper_info[i].name, s->helpers[i]);
    return o;
}

static cJSON *processor(const struct cpu *cpu)
{
    cJSON *o = cJSON_CreateObject();
    uint64_t l2 = MIN(cpu->insns, cpu->insns_non_root);
    uint64_t insns = cpu->insns - cpu->paused, insns_l2 = MIN(l2 - MIN(l2, cpu->paused_non_root), insns);
    number(o, "instructions", insns);
    number(o, "instructions_l1", insns - insns_l2);
    number(o, "instructions_l2", insns_l2);
    /* Time is virtual: one tick, a nanosecond, an instruction; PAUSE takes longer. */
    cJSON_AddNumberToObject(o, "virtual_seconds_l1", (double)(cpu->insns - l2) / CLOCK_HZ);
    cJSON_AddNumberToObject(o, "virtual_seconds_l2", (double)l2 / CLOCK_HZ);
    number(o, "vm_entries", vmx_entry_count(cpu));
    cJSON *exits = cJSON_AddObjectToObject(o, "vm_exits");
    for (unsigned reason = 0; reason < VMX_EXIT_REASONS; reason++)
        if (vmx_exit_count(cpu, reason))
            number(exits, vmx_exit_reason_name(reason), vmx_exit_count(cpu, reason));
    const struct mmu_stats *s = &cpu->mmu.stats;
    number(o, "tlb_fills", s->fills);
    number(o, "walks", s->walks);
    number(o, "walks_2d", s->walks_2d);
    number(o, "ept_walks", s->ept_walks);
    number(o, "context_switches", s->context_switches);
    number(o, "translations_dropped", s->drops);
    return o;
}

/* The host's time by what processors were doing when it was sampled. */
static void host_time(cJSON *o, const struct sampler *s, double seconds)
{
    uint64_t all = s->l1 + s->l2 + s->idle;
    double one = all ? seconds / (double)all : 0;
    number(o, "samples", all);
    cJSON_AddNumberToObject(o, "wall_seconds_l1", (double)s->l1 * one);
    cJSON_AddNumberToObject(o, "wall_seconds_l2", (double)s->l2 * one);
    cJSON_AddNumberToObject(o, "wall_seconds_idle", (double)s->idle * one);
}

bool stats_write(const struct machine *m, const struct sampler *s, const char *path, double seconds,
                 struct error *e)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "wall_seconds", seconds);
    host_time(o, s, seconds);
    number(o, "ticks", m->clock.now);
    uint64_t instructions = 0;
    cJSON *cpus = cJSON_CreateArray();
    for (uint32_t i = 0; i < m->cpu_count; i++) {
        instructions += m->cpus[i].insns;
        cJSON_AddItemToArray(cpus, processor(&m->cpus[i]));
    }
    number(o, "instructions", instructions);
    cJSON_AddNumberToObject(o, "mips", seconds > 0 ? (double)instructions / seconds / 1e6 : 0);
    if (m->code->jit)
        cJSON_AddItemToObject(o, "jit", translated(m->code->jit));
    cJSON_AddItemToObject(o, "processors", cpus);
    const struct code_cache_stats *c = &m->code->stats;
    number(o, "blocks_translated", c->translated);
    number(o, "blocks_dropped", c->dropped);
    char *text = cJSON_Print(o);
    cJSON_Delete(o);
    FILE *f = text ? fopen(path, "w") : NULL;
    bool ok = f && fputs(text, f) >= 0 && fputc('\n', f) >= 0;
    if (f && fclose(f))
        ok = false;
    cJSON_free(text);
    return ok || error_set(e, "--stats %s: %s", path, strerror(errno));
}
