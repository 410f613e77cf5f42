/*
 * machine/board.c -- the board's wiring: which device sits where and whose line goes where.
 *
 * A q35-like PC: host bridge with ECAM, 8259 pair and IOAPIC side by side, legacy devices at their ISA
 * addresses. ISA line n goes to 8259 input n and to IOAPIC pin n; line 0 to pin 2, as the MADT says. Order:
 * the order of init calls is the order of timer ids and of the state list; it must not change lightly.
 */
#include "machine/machine.h"

#include <stdio.h>

#include "bios/boot.h"
#include "cpu/lapic.h"
#include "cpu/vmx/vmx.h"

static void isa_set(void *owner, unsigned n, bool level)
{
    struct machine *m = owner;
    i8259_set_irq(&m->pic, n, level);
    ioapic_set_irq(&m->ioapic, n == 0 ? 2 : n, level);
}

static struct irq_line isa_line(struct machine *m, unsigned n)
{
    return (struct irq_line){.owner = m, .set = isa_set, .n = n};
}

/* The 8254 and the RTC go through the HPET, which can take their lines over (legacy replacement). */
static struct irq_line legacy_line(struct machine *m, unsigned n)
{
    return (struct irq_line){.owner = &m->hpet, .set = hpet_legacy_irq, .n = n};
}

static void power_requested(void *owner, enum power_request request, int status)
{
    struct machine *m = owner;
    if (m->end != MACHINE_RUNNING)
        return;
    switch (request) {
    case POWER_RESET:
        m->reset_wanted = true;
        break;
    case POWER_OFF:
        m->end = MACHINE_OFF;
        break;
    case POWER_EXIT:
        m->end = MACHINE_EXIT;
        m->status = status & 0xff;
        break;
    }
    /* The processor that did it leaves at its next instruction boundary. */
    m->cpus[m->turn.cpu].attention |= ATTN_STOP;
}

static void a20_set(void *owner, bool enabled)
{
    struct machine *m = owner;
    if (!enabled)
        log_unimplemented(m->log, "A20 gate closed");
}

static void poll_tick(void *owner)
{
    struct machine *m = owner;
    if (m->config.poll(m->config.owner))
        machine_arm_poll(m);
}

void machine_arm_poll(struct machine *m)
{
    if (m->config.poll)
        clock_arm(&m->clock, &m->poll_timer, (m->clock.now / MACHINE_POLL_TICKS + 1) * MACHINE_POLL_TICKS);
}

/* Slots 4 and up of bus 0. */
static bool add_drive(struct machine *m, uint32_t n, struct error *e)
{
    char serial[20];
    snprintf(serial, sizeof(serial), "droste-%u", n);
    return virtio_blk_init(&m->drives[n], &m->pci, (uint8_t)((4 + n) << 3), &m->phys, &m->clock,
                           m->config.drives[n], serial, m->log, e);
}

bool machine_wire(struct machine *m, struct error *e)
{
    struct bus *bus = &m->bus;
    struct clock *clock = &m->clock;
    struct irq_line isa = {.owner = m, .set = isa_set};
    struct irq_line ioapic = {.owner = &m->ioapic, .set = ioapic_set_irq};
    struct irq_line pic = {.owner = &m->pic, .set = i8259_set_irq};
    m->power = (struct power){.owner = m, .request = power_requested};
    m->a20 = (struct a20_line){.owner = m, .set = a20_set};
    portcf9_init(&m->portcf9, &m->power);
    bool ok = ioapic_init(&m->ioapic, bus, IOAPIC_BASE, BIOS_IOAPIC_ID, &m->sink, m->log, e) &&
              i8259_init(&m->pic, bus, &m->sink, e) &&
              hpet_init(&m->hpet, bus, HPET_BASE, clock, isa, ioapic, &m->sink, m->log, e) &&
              i8254_init(&m->pit, bus, clock, legacy_line(m, 0), e) &&
              rtc_init(&m->rtc, bus, clock, m->config.rtc_start, legacy_line(m, 8), e) &&
              uart_init(&m->uart, bus, 0x3f8, clock, isa_line(m, 4), m->config.serial, e) &&
              i8042_init(&m->kbd, bus, isa_line(m, 1), isa_line(m, 12), &m->power, &m->a20, e) &&
              port92_init(&m->port92, bus, &m->power, &m->a20, e) && port80_init(&m->port80, bus, e) &&
              acpi_pm_init(&m->pm, bus, clock, isa_line(m, 9), &m->power, m->log, e) &&
              pci_init(&m->pci, bus, &m->sink, ioapic, pic, &m->portcf9, m->log, e);
    if (!ok)
        return false;
    rtc_set_memory(&m->rtc, m->phys.low_size, m->phys.ram_size - m->phys.low_size);
    if (m->config.debug_exit && !debugexit_init(&m->debugexit, bus, m->config.debug_exit_base,
                                                m->config.debug_exit_size, &m->power, e))
        return false;
    for (uint32_t i = 0; i < m->config.drive_count; i++)
        if (!add_drive(m, i, e))
            return false;
    if (m->config.poll) {
        clock_add_timer(clock, &m->poll_timer, "poll", poll_tick, m);
        machine_arm_poll(m);
    }
    return true;
}

/* -- State --------------------------------------------------------------------------------------------- */

static const struct state_field turn_fields[] = {
    STATE(struct machine_turn, cpu),      STATE_SKIP(struct machine_turn, reserved, "padding"),
    STATE(struct machine_turn, left),     STATE(struct machine_turn, resets),
    STATE(struct machine_turn, last_run),
};
static const struct state_desc turn_state = STATE_DESC("turn", struct machine_turn, 1, turn_fields, NULL);

bool machine_register(struct machine *m, struct error *e)
{
    (void)e;
    struct state_list *l = &m->states;
    char name[32];
    state_register(l, "clock", &clock_state, &m->clock);
    state_register(l, "turn", &turn_state, &m->turn);
    for (uint32_t i = 0; i < m->cpu_count; i++) {
        snprintf(name, sizeof(name), "cpu%u", i);
        state_register(l, name, &cpu_state, &m->cpus[i]);
        snprintf(name, sizeof(name), "lapic%u", i);
        state_register(l, name, &lapic_state, m->cpus[i].lapic);
        snprintf(name, sizeof(name), "vmx%u", i);
        state_register(l, name, &vmx_state, m->cpus[i].vmx);
    }
    state_register(l, "ioapic", &ioapic_state, &m->ioapic);
    state_register(l, "pic", &i8259_state, &m->pic);
    state_register(l, "hpet", &hpet_state, &m->hpet);
    state_register(l, "pit", &i8254_state, &m->pit);
    state_register(l, "rtc", &rtc_state, &m->rtc);
    state_register(l, "uart", &uart_state, &m->uart);
    state_register(l, "kbd", &i8042_state, &m->kbd);
    state_register(l, "port92", &port92_state, &m->port92);
    state_register(l, "portcf9", &portcf9_state, &m->portcf9);
    state_register(l, "port80", &port80_state, &m->port80);
    state_register(l, "pm", &acpi_pm_state, &m->pm);
    state_register(l, "pci", &pci_state, &m->pci);
    for (uint32_t i = 0; i < m->config.drive_count; i++) {
        snprintf(name, sizeof(name), "drive%u", i);
        state_register(l, name, &virtio_blk_state, &m->drives[i]);
    }
    return true;
}

void machine_reset_devices(struct machine *m)
{
    ioapic_reset(&m->ioapic);
    i8259_reset(&m->pic);
    hpet_reset(&m->hpet);
    i8254_reset(&m->pit);
    rtc_reset(&m->rtc);
    uart_reset(&m->uart);
    i8042_reset(&m->kbd);
    port92_reset(&m->port92);
    portcf9_reset(&m->portcf9);
    port80_reset(&m->port80);
    acpi_pm_reset(&m->pm);
    for (uint32_t i = 0; i < m->config.drive_count; i++)
        virtio_blk_reset(&m->drives[i]);
    pci_reset(&m->pci);
    pci_assign(&m->pci);
}
