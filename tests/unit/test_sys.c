/*
 * tests/unit/test_sys.c -- CPUID, the MSR table, the local APIC, models and the state description of a
 * processor.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cpu/lapic.h"
#include "cpu/msr.h"
#include "cpu/system.h"

struct rig {
    struct bus bus;
    struct phys phys;
    struct clock clock;
    struct cpu_model model;
    struct cpu *cpu;
    unsigned eoi_count, ipi_count;
    uint8_t eoi_vector;
    struct intr_msg ipi;
    unsigned shorthand;
};

static void rig_eoi(void *owner, uint8_t vector)
{
    struct rig *r = owner;
    r->eoi_count++;
    r->eoi_vector = vector;
}

static uint8_t rig_acknowledge(void *owner)
{
    (void)owner;
    return 0x77;
}

static void rig_ipi(void *owner, uint32_t source, unsigned shorthand, const struct intr_msg *m)
{
    struct rig *r = owner;
    (void)source;
    r->ipi_count++;
    r->ipi = *m;
    r->shorthand = shorthand;
}

static struct rig *rig_new(const char *model, uint32_t id, uint32_t count)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct error e;
    cr_assert(cpu_model_parse(&r->model, model, &e), "%s", e.message);
    bus_init(&r->bus, NULL);
    clock_init(&r->clock);
    cr_assert(phys_init(&r->phys, 4 << 20, 0xc0000000, &r->bus, &e));
    r->cpu = aligned_alloc(64, ALIGN_UP(sizeof(struct cpu), 64));
    struct cpu_wiring w = {.phys = &r->phys,
                           .bus = &r->bus,
                           .clock = &r->clock,
                           .model = &r->model,
                           .id = id,
                           .cpu_count = count,
                           .intr = {r, rig_eoi, rig_acknowledge, rig_ipi}};
    cr_assert(cpu_init(r->cpu, &w, &e), "%s", e.message);
    return r;
}

static void rig_free(struct rig *r)
{
    cpu_free(r->cpu);
    free(r->cpu);
    phys_free(&r->phys);
    free(r);
}

/* -- State -------------------------------------------------------------------------------------------------
 */

Test(sys, state_is_described)
{
    const struct state_desc *const descs[] = {&cpu_state, &lapic_state};
    for (unsigned i = 0; i < ARRAY_LEN(descs); i++) {
        struct state_gap gaps[8];
        state_check(descs[i]);
        uint32_t n = state_coverage(descs[i], gaps, ARRAY_LEN(gaps));
        cr_expect_eq(n, 0, "%s: %u bytes not described, first at %u", descs[i]->name, n, gaps[0].offset);
    }
}

/* -- CPUID --------------------------------------------------------------------------------------------------
 */

Test(sys, cpuid_frequencies_agree)
{
    struct rig *r = rig_new("max", 0, 1);
    uint32_t o[4];
    cpu_cpuid(r->cpu, 0x15, 0, o);
    cr_expect_eq((uint64_t)o[2] * o[1] / o[0], CLOCK_HZ);
    cpu_cpuid(r->cpu, 0x16, 0, o);
    cr_expect_eq(o[0] * 1000000ull, CLOCK_HZ);
    rig_free(r);
}

Test(sys, cpuid_features_follow_the_model)
{
    struct rig *r = rig_new("Icelake-Server,-sse4.2,-x2apic", 0, 4);
    uint32_t o[4];
    cpu_cpuid(r->cpu, 1, 0, o);
    cr_expect_eq(o[0], 0x606a6);
    cr_expect_eq(o[2] >> 20 & 1, 0);
    cr_expect_eq(o[2] >> 21 & 1, 0);
    cr_expect_eq(o[2] >> 31, 0, "HYPERVISOR");
    cr_expect_eq(o[3] >> 28 & 1, 1, "HTT with more than one processor");
    cpu_cpuid(r->cpu, 0xb, 1, o);
    cr_expect_eq(o[0], 2);
    cr_expect_eq(o[1], 4);
    cpu_cpuid(r->cpu, 0x1f, 0, o);
    uint32_t beyond[4];
    cpu_cpuid(r->cpu, 0x77, 0, beyond);
    cr_expect_arr_eq(o, beyond, sizeof(o), "above the highest basic leaf");
    rig_free(r);
}

Test(sys, models_are_refused_clearly)
{
    static const char *const bad[] = {"host", "486", "max,+pdcm", "max,+nosuch", "max,sse2", "max,", "max,+"};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct cpu_model m;
        struct error e = {""};
        cr_expect_not(cpu_model_parse(&m, bad[i], &e), "%s", bad[i]);
        cr_expect_neq(e.message[0], 0, "%s", bad[i]);
    }
}

/* -- MSRs ---------------------------------------------------------------------------------------------- */

Test(sys, msr_table_is_sorted)
{
    cr_assert_gt(msr_row_count, 50);
    for (unsigned i = 0; i < msr_row_count; i++) {
        const struct msr_row *m = &msr_rows[i];
        cr_expect_leq(m->first, m->last, "%s", m->name);
        if (i)
            cr_expect_lt(msr_rows[i - 1].last, m->first, "%s", m->name);
        cr_expect_eq(msr_find(m->first), m, "%s", m->name);
        cr_expect_eq(msr_find(m->last), m, "%s", m->name);
    }
    cr_expect_null(msr_find(0xdeadbeef));
}

/* What is read can be written back, but where that is known not to be so. */
Test(sys, msr_values_round_trip)
{
    struct rig *r = rig_new("max", 0, 1);
    unsigned read = 0;
    for (unsigned i = 0; i < msr_row_count; i++) {
        const struct msr_row *m = &msr_rows[i];
        for (uint32_t a = m->first; a <= m->last; a++) {
            uint64_t v, again;
            if (!cpu_rdmsr(r->cpu, a, &v))
                continue;
            read++;
            if (!cpu_wrmsr(r->cpu, a, v))
                continue;
            cr_expect(cpu_rdmsr(r->cpu, a, &again), "%s", m->name);
            cr_expect_eq(v, again, "%s %#x", m->name, a);
        }
    }
    cr_expect_gt(read, 80);
    rig_free(r);
}

Test(sys, msr_reserved_bits)
{
    struct rig *r = rig_new("max", 0, 1);
    static const struct {
        uint32_t index;
        uint64_t value;
    } bad[] = {
        {0x277, 2},
        {0x277, 1ull << 59},
        {0x2ff, 0x800 | 2},
        {0x250, 0x0200000000000000ull},
        {0x3a, 5},
        {0x48, 1 << 3},
        {0x49, 2},
        {0xc0000080, 1 << 16},
        {0xc0000082, 1ull << 47},
        {0x1b, 0xfee00400},
        {0x401, 1},
        {0xda0, 1},
        {0x175, 1ull << 63},
        {0xfe, 0},
        {0x10a, 0},
        {0x802, 0},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        cr_expect_not(cpu_wrmsr(r->cpu, bad[i].index, bad[i].value), "msr %#x", bad[i].index);
    rig_free(r);
}

Test(sys, tsc_and_adjust)
{
    struct rig *r = rig_new("max", 0, 1);
    uint64_t v;
    r->clock.now = 1000;
    cr_assert(cpu_wrmsr(r->cpu, 0x10, 5000));
    cr_assert(cpu_rdmsr(r->cpu, 0x3b, &v));
    cr_expect_eq(v, 4000);
    r->clock.now = 1500;
    cr_assert(cpu_rdmsr(r->cpu, 0x10, &v));
    cr_expect_eq(v, 5500);
    rig_free(r);
}

/* -- Local APIC ---------------------------------------------------------------------------------------- */

static void lapic_enable(struct rig *r)
{
    lapic_write(r->cpu, 0xf0, 4, 0x1ff);
}

static void send(struct rig *r, uint8_t vector, bool level)
{
    struct intr_msg m = {.mode = INTR_FIXED, .vector = vector, .level = level, .assert_ = true};
    lapic_deliver(r->cpu, &m);
}

Test(lapic, priorities)
{
    struct rig *r = rig_new("max", 0, 1);
    send(r, 0x40, false);
    cr_expect_not(lapic_pending(r->cpu), "software-disabled");
    lapic_enable(r);
    send(r, 0x40, false);
    send(r, 0x51, false);
    cr_expect(lapic_pending(r->cpu));
    cr_expect(r->cpu->attention & ATTN_INTR);
    cr_expect_eq(lapic_acknowledge(r->cpu), 0x51);
    cr_expect_not(lapic_pending(r->cpu), "40H is below the one in service");
    cr_expect_eq(lapic_read(r->cpu, 0xa0, 4), 0x50, "PPR");
    lapic_write(r->cpu, 0xb0, 4, 0);
    cr_expect(lapic_pending(r->cpu));
    lapic_write(r->cpu, 0x80, 4, 0x40);
    cr_expect_not(lapic_pending(r->cpu), "TPR holds its own class");
    cr_expect_eq(r->cpu->cr8, 4);
    lapic_write(r->cpu, 0x80, 4, 0x30);
    cr_expect_eq(lapic_acknowledge(r->cpu), 0x40);
    cr_expect_eq(r->eoi_count, 0);
    rig_free(r);
}

Test(lapic, level_eoi_is_broadcast)
{
    struct rig *r = rig_new("max", 0, 1);
    lapic_enable(r);
    send(r, 0x61, true);
    cr_expect_eq(lapic_acknowledge(r->cpu), 0x61);
    lapic_write(r->cpu, 0xb0, 4, 0);
    cr_expect_eq(r->eoi_count, 1);
    cr_expect_eq(r->eoi_vector, 0x61);
    rig_free(r);
}

/* SDM 3A, "Spurious-Interrupt Vector Register": bit 12, where bit 24 of the version says that it is there. */
Test(lapic, eoi_broadcast_suppression)
{
    struct rig *r = rig_new("max", 0, 1);
    cr_expect(lapic_read(r->cpu, 0x30, 4) >> 24 & 1);
    lapic_write(r->cpu, 0xf0, 4, 0x11ff);
    cr_expect_eq(lapic_read(r->cpu, 0xf0, 4), 0x11ff);
    send(r, 0x61, true);
    cr_expect_eq(lapic_acknowledge(r->cpu), 0x61);
    lapic_write(r->cpu, 0xb0, 4, 0);
    cr_expect_eq(r->eoi_count, 0);
    cr_expect_eq(lapic_read(r->cpu, 0x130, 4), 0, "no longer in service");
    rig_free(r);
}

/* An SMI goes to firmware and comes back: its count is all that is left. */
Test(lapic, smi_is_counted)
{
    struct rig *r = rig_new("max", 0, 1);
    uint64_t v;
    struct intr_msg m = {.mode = INTR_SMI, .assert_ = true};
    r->cpu->activity = ACTIVITY_HLT;
    lapic_deliver(r->cpu, &m);
    cr_expect(cpu_runnable(r->cpu));
    cr_expect_not(event_poll(r->cpu));
    cr_assert(cpu_rdmsr(r->cpu, 0x34, &v));
    cr_expect_eq(v, 1);
    cr_expect_eq(r->cpu->activity, ACTIVITY_HLT, "the HLT state is gone back to");
    cr_expect_not(cpu_runnable(r->cpu));
    rig_free(r);
}

/* The registers lie over RAM, for this processor's loads and stores, and they do so after loading as well. */
Test(lapic, base_over_ram)
{
    struct rig *r = rig_new("max", 0, 1);
    struct error e;
    phys_store(&r->phys, 0x5030, 4, 0x12345678);
    cr_expect_eq(cpu_phys_read(r->cpu, 0x5030, 4), 0x12345678);
    cr_assert(cpu_wrmsr(r->cpu, 0x1b, 0x5900));
    uint64_t version = lapic_read(r->cpu, 0x30, 4);
    cr_expect_eq(cpu_phys_read(r->cpu, 0x5030, 4), version);
    cpu_phys_write(r->cpu, 0x5080, 4, 0x40);
    cr_expect_eq(lapic_tpr(r->cpu), 0x40);
    cr_expect_eq(phys_load(&r->phys, 0x5080, 4), 0);
    r->cpu->mmu.local_apic = 0;
    cr_assert(cpu_loaded(r->cpu, &e), "%s", e.message);
    cr_expect_eq(cpu_phys_read(r->cpu, 0x5030, 4), version);
    cr_assert(cpu_wrmsr(r->cpu, 0x1b, 0x5d00), "x2APIC mode has no page");
    cr_expect_eq(cpu_phys_read(r->cpu, 0x5030, 4), 0x12345678);
    rig_free(r);
}

/* IA32_MCG_CAP.CMCI_P is 0: there is no LVT CMCI register, and the LVT has six entries. */
Test(lapic, no_cmci)
{
    struct rig *r = rig_new("max", 0, 1);
    uint64_t v;
    cr_assert(cpu_rdmsr(r->cpu, 0x179, &v));
    cr_expect_not(v >> 10 & 1);
    cr_expect_eq(lapic_read(r->cpu, 0x30, 4) >> 16 & 0xff, 5);
    lapic_read(r->cpu, 0x2f0, 4);
    lapic_write(r->cpu, 0x280, 4, 0);
    cr_expect_eq(lapic_read(r->cpu, 0x280, 4), 0x80, "illegal register address");
    rig_free(r);
}

Test(lapic, extint_through_lint0)
{
    struct rig *r = rig_new("max", 0, 1);
    lapic_set_intr(r->cpu, true);
    cr_expect_not(lapic_pending(r->cpu), "LINT0 is masked after reset");
    lapic_enable(r);
    lapic_write(r->cpu, 0x350, 4, 0x700);
    cr_expect(lapic_pending(r->cpu));
    cr_expect_eq(lapic_acknowledge(r->cpu), 0x77);
    lapic_set_intr(r->cpu, false);
    cr_expect_not(lapic_pending(r->cpu));
    rig_free(r);
}

Test(lapic, timer_counts_the_crystal)
{
    struct rig *r = rig_new("max", 0, 1);
    lapic_enable(r);
    lapic_write(r->cpu, 0x3e0, 4, 0xb);     /* divide by 1 */
    lapic_write(r->cpu, 0x320, 4, 0x20031); /* periodic */
    lapic_write(r->cpu, 0x380, 4, 100);
    cr_expect_eq(r->clock.next, 4000);
    r->clock.now = 1000;
    cr_expect_eq(lapic_read(r->cpu, 0x390, 4), 75);
    for (unsigned i = 1; i <= 3; i++) {
        r->clock.now = i * 4000;
        clock_run(&r->clock);
        cr_expect_eq(lapic_acknowledge(r->cpu), 0x31);
        lapic_write(r->cpu, 0xb0, 4, 0);
    }
    cr_expect_eq(r->clock.next, 16000);
    lapic_write(r->cpu, 0x380, 4, 0);
    cr_expect_eq(r->clock.next, CLOCK_NEVER);
    rig_free(r);
}

Test(lapic, tsc_deadline)
{
    struct rig *r = rig_new("max", 0, 1);
    uint64_t v;
    lapic_enable(r);
    cpu_wrmsr(r->cpu, 0x3b, 500);
    lapic_write(r->cpu, 0x320, 4, 0x40032);
    cr_assert(cpu_wrmsr(r->cpu, 0x6e0, 2500));
    cr_expect_eq(r->clock.next, 2000);
    r->clock.now = 2000;
    clock_run(&r->clock);
    cr_expect_eq(lapic_acknowledge(r->cpu), 0x32);
    cr_assert(cpu_rdmsr(r->cpu, 0x6e0, &v));
    cr_expect_eq(v, 0);
    rig_free(r);
}

Test(lapic, destinations)
{
    struct rig *r = rig_new("max", 5, 8);
    cr_expect(lapic_match(r->cpu, 5, false));
    cr_expect(lapic_match(r->cpu, 0xff, false));
    cr_expect_not(lapic_match(r->cpu, 4, false));
    lapic_write(r->cpu, 0xd0, 4, 0x20000000);
    cr_expect(lapic_match(r->cpu, 0x21, true));
    cr_expect_not(lapic_match(r->cpu, 0x11, true));
    lapic_write(r->cpu, 0xe0, 4, 0); /* cluster */
    lapic_write(r->cpu, 0xd0, 4, 0x12000000);
    cr_expect(lapic_match(r->cpu, 0x12, true));
    cr_expect_not(lapic_match(r->cpu, 0x22, true));
    cr_assert(cpu_wrmsr(r->cpu, 0x1b, 0xfee00c00));
    cr_expect(lapic_match(r->cpu, 0x20, true), "x2APIC: bit 5 of cluster 0");
    cr_expect_not(lapic_match(r->cpu, 0xff, false), "x2APIC: a 32-bit ID");
    rig_free(r);
}

Test(lapic, x2apic)
{
    struct rig *r = rig_new("max", 3, 4);
    uint64_t v;
    cr_expect_not(cpu_rdmsr(r->cpu, 0x802, &v), "not enabled");
    cr_assert(cpu_wrmsr(r->cpu, 0x1b, 0xfee00c00));
    cr_expect_not(cpu_wrmsr(r->cpu, 0x1b, 0xfee00800), "x2APIC to xAPIC");
    cr_assert(cpu_rdmsr(r->cpu, 0x802, &v));
    cr_expect_eq(v, 3);
    cr_assert(cpu_rdmsr(r->cpu, 0x80d, &v));
    cr_expect_eq(v, 8);
    cr_assert(cpu_wrmsr(r->cpu, 0x80f, 0x1ff));
    cr_expect_not(cpu_wrmsr(r->cpu, 0x80b, 1), "EOI takes 0 only");
    cr_expect_not(cpu_wrmsr(r->cpu, 0x80e, 0), "no DFR");
    cr_assert(cpu_wrmsr(r->cpu, 0x83f, 0x45));
    cr_expect_eq(lapic_acknowledge(r->cpu), 0x45);
    cr_assert(cpu_wrmsr(r->cpu, 0x830, 0x0000000100004041ull));
    cr_expect_eq(r->ipi_count, 1);
    cr_expect_eq(r->ipi.dest, 1);
    cr_expect_eq(r->ipi.vector, 0x41);
    rig_free(r);
}

Test(lapic, bad_vector_is_an_error)
{
    struct rig *r = rig_new("max", 0, 1);
    lapic_enable(r);
    lapic_write(r->cpu, 0x370, 4, 0xfe);
    lapic_write(r->cpu, 0x310, 4, 0);
    lapic_write(r->cpu, 0x300, 4, 0x4005);
    cr_expect_eq(r->ipi_count, 0);
    cr_expect_eq(lapic_acknowledge(r->cpu), 0xfe);
    lapic_write(r->cpu, 0x280, 4, 0);
    cr_expect_eq(lapic_read(r->cpu, 0x280, 4), 1 << 5);
    rig_free(r);
}

/* A processor that waits takes INIT and SIPI; the others see no SIPI. */
Test(sys, init_and_sipi)
{
    struct rig *r = rig_new("max", 1, 2);
    struct intr_msg sipi = {.mode = INTR_SIPI, .vector = 0x9a, .assert_ = true};
    cr_expect_eq(r->cpu->activity, ACTIVITY_WAIT_SIPI);
    cr_expect_not(cpu_runnable(r->cpu));
    lapic_deliver(r->cpu, &sipi);
    cr_expect(cpu_runnable(r->cpu));
    cr_expect(event_poll(r->cpu));
    cr_expect_eq(r->cpu->seg[SEG_CS].base, 0x9a000);
    cr_expect_eq(r->cpu->rip, 0);
    lapic_deliver(r->cpu, &sipi);
    cr_expect_not(r->cpu->sipi_pending);
    rig_free(r);
}
