/*
 * vmx/vmx.c -- life of struct vmx, the cache of VMCSs, its state description, names for statistics.
 *
 * SDM 3C, "Software Use of Virtual-Machine Control Structures": a VMCS that is active may be cached by the
 * processor; software makes the region up to date with VMCLEAR. Not here: the fields (vmcs.c), instructions
 * (instructions.c). Watch:  --                                        Tests: tests/unit/test_vmx_tables.c,
 * test_vmx_entry.c
 */
#include "cpu/vmx/internal.h"

#include <stdlib.h>

static void clear(struct vmx *x)
{
    x->vmcs = x->linked = NULL;
    x->current = x->linked_address = x->vmxon_pointer = VMX_NO_VMCS;
    x->use_stamp = 0;
    x->timer_deadline = CLOCK_NEVER;
    x->tsc_multiplier = 0;
    x->ple_first = x->ple_last = 0;
    x->ple_running = x->virtual_nmi_blocked = x->injecting = false;
    x->mtf_wait = x->mtf_now = x->trap_pending = x->virtual_interrupt = false;
    x->trap_reason = 0;
    x->trap_qualification = 0;
    x->iret_tick = CLOCK_NEVER;
    memset(x->cache, 0, sizeof(x->cache));
    for (unsigned i = 0; i < VMX_CACHE_SIZE; i++) {
        x->cache[i].address = VMX_NO_VMCS;
        x->cache[i].dirty = DIRTY_ALL;
    }
    vmx_cache_index(x);
}

bool vmx_init(struct cpu *cpu, struct error *e)
{
    cpu->vmx = calloc(1, sizeof(*cpu->vmx));
    if (!cpu->vmx)
        return error_set(e, "no host memory for the VMX state of a processor");
    cpu->vmx->cpu = cpu;
    vmx_caps_init(&cpu->vmx->caps, cpu->model);
    vmcs_slots_init(cpu->vmx->slots, &cpu->vmx->caps);
    cpu->mmu.ept_ad_supported = true;
    cpu->mmu.ept_execute_only = true;
    clear(cpu->vmx);
    vmx_timer_init(cpu);
    return true;
}

void vmx_free(struct cpu *cpu)
{
    if (cpu->vmx)
        clock_remove_timer(cpu->clock, &cpu->vmx->timer);
    free(cpu->vmx);
    cpu->vmx = NULL;
}

void vmx_reset(struct cpu *cpu)
{
    vmx_timer_stop(cpu);
    clear(cpu->vmx);
    cpu->vmx_on = cpu->vmx_non_root = false;
    cpu->vmx_guards = 0;
    cpu->tsc_offset = 0;
    cpu->mmu.pml.enabled = false;
    cpu->mmu.pml.index = NULL;
    cpu->attention &= ~(uint32_t)(ATTN_VMX | ATTN_MTF);
}

/* -- The cache of VMCSs -------------------------------------------------------------------------------- */

static unsigned hint_of(gpa_t address)
{
    return (unsigned)(address >> PAGE_SHIFT) * 0x9e3779b1u >> 24 & (VMX_CACHE_HINTS - 1);
}

void vmx_cache_index(struct vmx *x)
{
    for (unsigned i = 0; i < VMX_CACHE_SIZE; i++)
        x->cached[i] = x->cache[i].address;
}

struct vmcs *vmx_cache_find(struct vmx *x, gpa_t address)
{
    uint8_t *hint = &x->cache_hint[hint_of(address)];
    if (likely(x->cached[*hint] == address))
        return &x->cache[*hint];
    for (unsigned i = 0; i < VMX_CACHE_SIZE; i++) {
        if (x->cached[i] == address) {
            *hint = (uint8_t)i;
            return &x->cache[i];
        }
    }
    return NULL;
}

void vmx_cache_drop(struct vmx *x, struct vmcs *v)
{
    memset(v, 0, sizeof(*v));
    v->address = x->cached[v - x->cache] = VMX_NO_VMCS;
    v->dirty = DIRTY_ALL;
}

struct vmcs *vmx_cache_get(struct cpu *cpu, gpa_t address)
{
    struct vmx *x = cpu->vmx;
    struct vmcs *v = vmx_cache_find(x, address);
    if (!v) {
        for (unsigned i = 0; i < VMX_CACHE_SIZE; i++) {
            struct vmcs *c = &x->cache[i];
            if (c->address == VMX_NO_VMCS) {
                v = c;
                break;
            }
            if (c != x->vmcs && c != x->linked && (!v || c->used < v->used))
                v = c;
        }
        if (v->address != VMX_NO_VMCS)
            vmcs_store_region(v, cpu->phys);
        vmcs_load_region(v, cpu->phys, address);
        x->cached[v - x->cache] = address;
    }
    v->used = ++x->use_stamp;
    return v;
}

/* -- State --------------------------------------------------------------------------------------------- */

static bool after_load(void *s, struct error *e)
{
    struct vmx *x = s;
    vmx_cache_index(x);
    x->vmcs = x->current == VMX_NO_VMCS ? NULL : vmx_cache_find(x, x->current);
    x->linked = x->linked_address == VMX_NO_VMCS ? NULL : vmx_cache_find(x, x->linked_address);
    if (!x->vmcs && x->current != VMX_NO_VMCS)
        return error_set(e, "vmx: the current VMCS %#llx is not in the cache",
                         (unsigned long long)x->current);
    if (!x->linked && x->linked_address != VMX_NO_VMCS)
        return error_set(e, "vmx: the linked VMCS is not in the cache");
    for (unsigned i = 0; i < VMX_CACHE_SIZE; i++)
        for (unsigned j = 0; j < i; j++)
            if (x->cache[i].address != VMX_NO_VMCS && x->cache[i].address == x->cache[j].address)
                return error_set(e, "vmx: VMCS %#llx is cached twice",
                                 (unsigned long long)x->cache[i].address);
    return true;
}

static const struct state_field fields[] = {
    STATE_SKIP(struct vmx, vmcs, "found by `current`"),
    STATE_SKIP(struct vmx, linked, "found by `linked_address`"),
    STATE_SKIP(struct vmx, cpu, "wiring"),
    STATE(struct vmx, vmxon_pointer),
    STATE(struct vmx, current),
    STATE(struct vmx, linked_address),
    STATE(struct vmx, use_stamp),
    STATE(struct vmx, timer_deadline),
    STATE_SKIP(struct vmx, timer, "armed again by timer_deadline in vmx_loaded()"),
    STATE_SKIP(struct vmx, tsc_multiplier, "derived from the VMCS in vmx_loaded()"),
    STATE(struct vmx, ple_first),
    STATE(struct vmx, ple_last),
    STATE(struct vmx, ple_running),
    STATE(struct vmx, virtual_nmi_blocked),
    STATE(struct vmx, injecting),
    STATE(struct vmx, mtf_wait),
    STATE(struct vmx, mtf_now),
    STATE(struct vmx, trap_pending),
    STATE(struct vmx, trap_reason),
    STATE(struct vmx, trap_qualification),
    STATE(struct vmx, virtual_interrupt),
    STATE(struct vmx, iret_tick),
    STATE_SUB(struct vmx, cache, vmcs_state),
    STATE_SKIP(struct vmx, cached, "the addresses in cache[]"),
    STATE_SKIP(struct vmx, cache_hint, "checked at each use"),
    STATE_SKIP(struct vmx, caps, "computed from the processor model"),
    STATE_SKIP(struct vmx, slots, "computed from the processor model"),
    STATE_SKIP(struct vmx, entries, "statistics"),
    STATE_SKIP(struct vmx, exits, "statistics"),
};
const struct state_desc vmx_state = STATE_DESC("vmx", struct vmx, 1, fields, after_load);

/* A VMCS in use has passed the checks of VM entry: what they exclude must not come in by a file. Rows that
 * look at the processor or at memory were true then, not necessarily now. */
static bool entered_vmcs_possible(struct cpu *cpu, struct error *e)
{
    for (unsigned i = 0; i < check_row_count; i++) {
        const struct check_info *r = &check_rows[i];
        if (r->group != CHECK_CONTROL && r->group != CHECK_HOST)
            continue;
        if (!strstr(r->inputs, "cpu") && !strstr(r->inputs, "memory") &&
            !vmx_check_row(cpu, cpu->vmx->vmcs, i))
            return error_set(e, "vmx: a VMCS in use breaks a rule of VM entry: %s", r->sentence);
    }
    return true;
}

bool vmx_loaded(struct cpu *cpu, struct error *e)
{
    struct vmx *x = cpu->vmx;
    if (cpu->vmx_non_root && (!cpu->vmx_on || !x->vmcs))
        return error_set(e, "vmx: non-root operation without a current VMCS");
    if (cpu->vmx_non_root && !entered_vmcs_possible(cpu, e))
        return false;
    if (!cpu->vmx_non_root && (x->timer_deadline != CLOCK_NEVER || x->linked || x->trap_pending ||
                               x->mtf_now || x->mtf_wait || x->virtual_interrupt))
        return error_set(e, "vmx: state of non-root operation outside of it");
    if (x->injecting)
        return error_set(e, "vmx: an event in delivery");
    vmx_timer_arm(cpu);
    vmx_derive(cpu);
    return true;
}

/* -- Names and counts ---------------------------------------------------------------------------------- */

static const struct {
    const char *name, *title, *qualification;
} reasons[EXIT_REASON_COUNT] = {
#define EXIT_REASON(number, name, title, qualification) [number] = {#name, title, qualification},
#include "cpu/vmx/exit_reasons.def"
#undef EXIT_REASON
};

const char *vmx_exit_reason_name(unsigned reason)
{
    reason &= 0xffff;
    return reason < EXIT_REASON_COUNT && reasons[reason].name ? reasons[reason].name : "RESERVED";
}

const char *vmx_exit_reason_title(unsigned reason)
{
    reason &= 0xffff;
    return reason < EXIT_REASON_COUNT && reasons[reason].title ? reasons[reason].title
                                                               : "reserved exit reason";
}

const char *vmx_exit_qualification_meaning(unsigned reason)
{
    reason &= 0xffff;
    return reason < EXIT_REASON_COUNT && reasons[reason].qualification ? reasons[reason].qualification : "";
}

uint64_t vmx_entry_count(const struct cpu *cpu)
{
    return cpu->vmx->entries;
}

uint64_t vmx_exit_count(const struct cpu *cpu, unsigned reason)
{
    return reason < EXIT_REASON_COUNT ? cpu->vmx->exits[reason] : 0;
}
