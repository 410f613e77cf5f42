/*
 * machine/wake.c -- could a timer of the board ever wake a machine all of whose processors sleep?
 *
 * While none of them runs, masks and priorities stay as they are: what a timer leads to can be read off the
 * interrupt controllers. No is said only when it is certain. A timer that runs out for good needs no answer:
 * it is asked again when it has gone. So what matters are those that tick for ever: 8254, RTC, HPET, PM timer
 * and the local APICs'.
 */
#include "machine/machine.h"

#include "cpu/lapic.h"

enum { LINE_PIT = 0, LINE_RTC = 8, LINE_SCI = 9 };

static bool intr_wakes(const struct machine *m)
{
    for (uint32_t i = 0; i < m->cpu_count; i++)
        if (lapic_intr_wakes(&m->cpus[i]))
            return true;
    return false;
}

/* An edge on ISA line n gets through the 8259 pair or the IOAPIC. */
static bool isa_wakes(const struct machine *m, unsigned n)
{
    if (ioapic_pin_open(&m->ioapic, n == LINE_PIT ? 2 : n))
        return true;
    return i8259_would_request(&m->pic, n) && intr_wakes(m);
}

static bool hpet_wakes(const struct machine *m, unsigned n)
{
    unsigned kind, pin;
    if (!hpet_would_interrupt(&m->hpet, n, &kind, &pin))
        return false;
    if (kind == 0)
        return true; /* a message */
    return kind == 1 ? isa_wakes(m, pin) : ioapic_pin_open(&m->ioapic, pin);
}

static bool wakes(const struct machine *m, const struct timer *t)
{
    if (t == &m->pit.timer)
        return isa_wakes(m, LINE_PIT);
    /* The RTC's and the SCI's lines stay high until a processor has been there. */
    if (t == &m->rtc.second_timer || t == &m->rtc.period_timer)
        return !m->rtc.line && isa_wakes(m, LINE_RTC);
    if (t == &m->pm.timer)
        return !m->pm.line && isa_wakes(m, LINE_SCI);
    for (unsigned n = 0; n < HPET_TIMERS; n++)
        if (t == &m->hpet.timers[n].timer)
            return hpet_wakes(m, n);
    for (uint32_t i = 0; i < m->cpu_count; i++)
        if (t == &m->cpus[i].lapic->timer)
            return lapic_timer_wakes(&m->cpus[i]);
    return t != &m->poll_timer;
}

bool machine_timer_wakes(const struct machine *m)
{
    for (uint32_t i = 0; i < m->clock.heap_count; i++)
        if (wakes(m, m->clock.heap[i]))
            return true;
    return false;
}
