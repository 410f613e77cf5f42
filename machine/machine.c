/*
 * machine/machine.c -- creation, reset and end of a machine.
 */
#include "machine/machine.h"

#include <stdlib.h>
#include <string.h>

#include "bios/boot.h"
#include "cpu/exec.h"
#include "cpu/jit/jit.h"

static bool make_cpus(struct machine *m, struct error *e)
{
    struct cpu_wiring w = {.phys = &m->phys,
                           .bus = &m->bus,
                           .clock = &m->clock,
                           .log = m->log,
                           .trace = &m->trace,
                           .code = m->code,
                           .stubs = m->stubs,
                           .model = &m->model,
                           .intr = machine_interrupt_source(m),
                           .cpu_count = m->config.cpus};
    m->cpus = aligned_alloc(64, ALIGN_UP(m->config.cpus * sizeof(struct cpu), 64));
    if (!m->cpus)
        return error_set(e, "not enough host memory for %u processors", m->config.cpus);
    memset(m->cpus, 0, m->config.cpus * sizeof(struct cpu));
    for (uint32_t i = 0; i < m->config.cpus; i++) {
        w.id = i;
        if (!cpu_init(&m->cpus[i], &w, e))
            return false;
        m->cpu_count++;
    }
    return true;
}

/* No back end for this host is no error: then everything is interpreted. */
static bool attach_jit(struct machine *m, struct error *e)
{
    if (!m->config.jit || jit_attach(m->code, m->config.jit_hot, m->config.jit_cache, e))
        return true;
    if (e->message[0])
        return false;
    log_warn(m->log, "jit: no back end for this host's processor; interpreting");
    return true;
}

bool machine_init(struct machine *m, const struct machine_config *c, struct error *e)
{
    memset(m, 0, sizeof(*m));
    m->config = *c;
    m->log = c->log;
    m->model = c->model;
    clock_init(&m->clock);
    trace_init(&m->trace, &m->clock.now);
    bus_init(&m->bus, m->log);
    machine_interrupts_init(m);
    bool ok = phys_init(&m->phys, c->memory, PCI_MMIO_BASE, &m->bus, e) &&
              (m->code = code_cache_new(&m->phys, e)) != NULL && (m->stubs = stub_cache_new(e)) != NULL &&
              attach_jit(m, e) && machine_wire(m, e) && make_cpus(m, e) && machine_register(m, e) &&
              machine_reset(m, e);
    if (!ok)
        machine_free(m);
    return ok;
}

void machine_free(struct machine *m)
{
    for (uint32_t i = 0; i < m->cpu_count; i++)
        cpu_free(&m->cpus[i]);
    free(m->cpus);
    code_cache_free(m->code);
    stub_cache_free(m->stubs);
    machine_hash_forget(m);
    if (m->phys.ram)
        phys_free(&m->phys);
    m->cpus = NULL;
    m->cpu_count = 0;
    m->code = NULL;
    m->stubs = NULL;
}

/* Puts the registers that the loader asks for into the bootstrap processor. */
static void enter_kernel(struct cpu *cpu, const struct boot_state *b)
{
    cpu->cr0 = b->cr0;
    cpu->cr3 = b->cr3;
    cpu->cr4 = b->cr4;
    cpu->efer = b->efer;
    memcpy(cpu->r, b->gpr, sizeof(b->gpr));
    cpu->rip = b->rip;
    cpu->gdtr.base = b->gdt_base;
    cpu->gdtr.limit = b->gdt_limit;
    for (unsigned i = 0; i < 6; i++) {
        const struct boot_segment *s = &b->segments[i];
        cpu->seg[i] =
            (struct segment){.selector = s->selector, .base = s->base, .limit = s->limit, .ar = s->ar};
    }
    cpu_set_rflags(cpu, FLAG_1);
    cpu_mode_changed(cpu);
}

bool machine_reset(struct machine *m, struct error *e)
{
    struct boot_state boot;
    bool again = m->turn.resets != 0;
    if (again) {
        /* The images are loaded into clean memory, as at power on. */
        code_cache_clear(m->code);
        for (uint32_t i = 0; i < m->cpu_count; i++)
            mmu_drop_all(&m->cpus[i].mmu);
        machine_hash_forget(m);
        phys_clear(&m->phys);
    }
    machine_reset_devices(m);
    for (uint32_t i = 0; i < m->cpu_count; i++)
        cpu_reset(&m->cpus[i], false);
    m->turn.cpu = 0;
    m->turn.left = 0;
    if (!m->config.boot.kernel)
        return true;
    if (!bios_load_kernel(&m->phys, &m->config.boot, &boot, e))
        return false;
    enter_kernel(&m->cpus[0], &boot);
    return true;
}
