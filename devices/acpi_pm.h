/*
 * devices/acpi_pm.h -- ACPI fixed hardware: PM1a event and control, PM timer, GPE0, SMI command port.
 */
#ifndef DEVICES_ACPI_PM_H
#define DEVICES_ACPI_PM_H

#include "devices/device.h"
#include "devices/power.h"

#define ACPI_PM_BASE     0x600u
#define ACPI_PM1_EVT     (ACPI_PM_BASE + 0x00)
#define ACPI_PM1_CNT     (ACPI_PM_BASE + 0x04)
#define ACPI_PM_TMR      (ACPI_PM_BASE + 0x08)
#define ACPI_GPE0        (ACPI_PM_BASE + 0x20)
#define ACPI_GPE0_LENGTH 16u
#define ACPI_SMI_CMD     0xb2u
#define ACPI_ENABLE_CMD  0x02u
#define ACPI_DISABLE_CMD 0x03u
#define ACPI_SCI_IRQ     9u
#define ACPI_S5_SLP_TYP  7u
#define ACPI_PM_TIMER_HZ 3579545ull

struct acpi_pm {
    uint16_t status, enable; /* PM1a event registers */
    uint16_t control;        /* PM1a control: SCI_EN, BM_RLD, SLP_TYP */
    uint8_t gpe_status[ACPI_GPE0_LENGTH / 2];
    uint8_t gpe_enable[ACPI_GPE0_LENGTH / 2];
    uint8_t smi[2]; /* ports B2h and B3h as written */
    bool line;
    uint64_t timer_seen; /* half-periods of the PM timer (its top bit's changes) already in TMR_STS */
    struct timer timer;
    struct clock *clock;
    struct irq_line sci;
    const struct power *power;
    struct log *log;
};

bool acpi_pm_init(struct acpi_pm *p, struct bus *bus, struct clock *clock, struct irq_line sci,
                  const struct power *power, struct log *log, struct error *e);
void acpi_pm_reset(struct acpi_pm *p);
void acpi_pm_power_button(struct acpi_pm *p);
/* A general-purpose event (0 to 63) happens. */
void acpi_pm_gpe(struct acpi_pm *p, unsigned n);
extern const struct state_desc acpi_pm_state;

#endif
