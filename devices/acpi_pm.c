/*
 * devices/acpi_pm.c -- ACPI fixed hardware.
 *
 * Reference: ACPI specification 6.4, "ACPI Hardware Specification"; Intel ICH9 data sheet, "Power Management
 * I/O". ACPI mode is on from the start as well as switchable, because a kernel that is booted directly had no
 * firmware; the PM timer has 32 bits. Tests: tests/unit/test_dev_ports.c
 */
#include "devices/acpi_pm.h"

#include <string.h>

#define PM1_TMR    BIT(0)
#define PM1_BM     BIT(4)
#define PM1_GBL    BIT(5)
#define PM1_PWRBTN BIT(8)
#define PM1_SLPBTN BIT(9)
#define PM1_RTC    BIT(10)
#define PM1_WAK    BIT(15)
#define PM1_STATUS (PM1_TMR | PM1_BM | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC | PM1_WAK)
#define PM1_ENABLE (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC)

#define CNT_SCI_EN     BIT(0)
#define CNT_BM_RLD     BIT(1)
#define CNT_GBL_RLS    BIT(2)
#define CNT_SLP_TYP(c) ((unsigned)((c) >> 10 & 7))
#define CNT_SLP_EN     BIT(13)

#define HALF_PERIOD BIT(31) /* TMR_STS is set whenever the timer's top bit changes */

static uint64_t pm_ticks(const struct acpi_pm *p)
{
    return device_ticks(p->clock->now, ACPI_PM_TIMER_HZ);
}

static void acpi_pm_update(struct acpi_pm *p)
{
    uint64_t half = pm_ticks(p) / HALF_PERIOD;
    if (half != p->timer_seen) {
        p->timer_seen = half;
        p->status |= PM1_TMR;
    }
    bool level = p->status & p->enable & PM1_ENABLE;
    for (unsigned i = 0; i < sizeof(p->gpe_status); i++)
        level |= p->gpe_status[i] & p->gpe_enable[i];
    level = level && (p->control & CNT_SCI_EN);
    if (p->enable & PM1_TMR)
        clock_arm(p->clock, &p->timer, device_ticks_deadline((half + 1) * HALF_PERIOD, ACPI_PM_TIMER_HZ));
    else
        clock_disarm(p->clock, &p->timer);
    if (level != p->line) {
        p->line = level;
        irq_set(&p->sci, level);
    }
}

static void acpi_pm_expire(void *owner)
{
    acpi_pm_update(owner);
}

void acpi_pm_power_button(struct acpi_pm *p)
{
    p->status |= PM1_PWRBTN;
    acpi_pm_update(p);
}

void acpi_pm_gpe(struct acpi_pm *p, unsigned n)
{
    if (n / 8 >= sizeof(p->gpe_status))
        return;
    p->gpe_status[n / 8] |= (uint8_t)(1u << n % 8);
    acpi_pm_update(p);
}

static void acpi_pm_control(struct acpi_pm *p, uint16_t value)
{
    /* SCI_EN is the SMI command's to change; ACPI lets software preserve it. */
    p->control = (uint16_t)((p->control & CNT_SCI_EN) | (value & (CNT_BM_RLD | 7u << 10)));
    if (!(value & CNT_SLP_EN))
        return;
    if (CNT_SLP_TYP(value) == ACPI_S5_SLP_TYP)
        power_request(p->power, POWER_OFF, 0);
    else
        log_unimplemented(p->log, "acpi sleep type %u", CNT_SLP_TYP(value));
}

/* The block byte by byte, so that every access size works; the timer is read whole. */
static uint8_t pm_read_byte(const struct acpi_pm *p, uint64_t offset)
{
    switch (offset) {
    case 0:
    case 1:
        return (uint8_t)(p->status >> offset * 8);
    case 2:
    case 3:
        return (uint8_t)(p->enable >> (offset - 2) * 8);
    case 4:
    case 5:
        return (uint8_t)(p->control >> (offset - 4) * 8);
    case 8:
    case 9:
    case 10:
    case 11:
        return (uint8_t)(pm_ticks(p) >> (offset - 8) * 8);
    default:
        if (offset >= 0x20 && offset < 0x28)
            return p->gpe_status[offset - 0x20];
        if (offset >= 0x28 && offset < 0x30)
            return p->gpe_enable[offset - 0x28];
        return 0;
    }
}

static uint64_t acpi_pm_read(void *owner, uint64_t offset, unsigned size)
{
    struct acpi_pm *p = owner;
    uint64_t v = 0;
    acpi_pm_update(p);
    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)pm_read_byte(p, offset + i) << i * 8;
    return v;
}

static void acpi_pm_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_pm *p = owner;
    if ((offset == 4 || offset == 5) && size == 1) {
        uint16_t c = offset == 4 ? (uint16_t)((p->control & 0xff00) | value)
                                 : (uint16_t)((p->control & 0xff) | value << 8);
        acpi_pm_control(p, c);
    } else if (offset == 4) {
        acpi_pm_control(p, (uint16_t)value);
    } else {
        for (unsigned i = 0; i < size; i++) {
            uint64_t o = offset + i;
            uint8_t v = (uint8_t)(value >> i * 8);
            if (o < 2)
                p->status &= (uint16_t) ~((unsigned)v << o * 8);
            else if (o < 4)
                p->enable = (uint16_t)(((p->enable & ~(0xffu << (o - 2) * 8)) | (unsigned)v << (o - 2) * 8) &
                                       PM1_ENABLE);
            else if (o >= 0x20 && o < 0x28)
                p->gpe_status[o - 0x20] &= (uint8_t)~v;
            else if (o >= 0x28 && o < 0x30)
                p->gpe_enable[o - 0x28] = v;
        }
    }
    acpi_pm_update(p);
}

static uint64_t smi_read(void *owner, uint64_t offset, unsigned size)
{
    struct acpi_pm *p = owner;
    (void)size;
    return p->smi[offset & 1];
}

static void smi_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_pm *p = owner;
    (void)size;
    p->smi[offset & 1] = (uint8_t)value;
    if (offset == 0 && value == ACPI_ENABLE_CMD)
        p->control |= CNT_SCI_EN;
    else if (offset == 0 && value == ACPI_DISABLE_CMD)
        p->control &= ~CNT_SCI_EN;
    acpi_pm_update(p);
}

void acpi_pm_reset(struct acpi_pm *p)
{
    p->status = p->enable = 0;
    p->control = CNT_SCI_EN;
    memset(p->gpe_status, 0, sizeof(p->gpe_status));
    memset(p->gpe_enable, 0, sizeof(p->gpe_enable));
    p->smi[0] = p->smi[1] = 0;
    p->timer_seen = pm_ticks(p) / HALF_PERIOD;
    acpi_pm_update(p);
}

bool acpi_pm_init(struct acpi_pm *p, struct bus *bus, struct clock *clock, struct irq_line sci,
                  const struct power *power, struct log *log, struct error *e)
{
    static const struct bus_ops ops = {acpi_pm_read, acpi_pm_write, 4};
    static const struct bus_ops smi_ops = {smi_read, smi_write, 1};
    memset(p, 0, sizeof(*p));
    p->clock = clock;
    p->sci = sci;
    p->power = power;
    p->log = log;
    clock_add_timer(clock, &p->timer, "acpi pm timer", acpi_pm_expire, p);
    acpi_pm_reset(p);
    return device_add_pio(bus, ACPI_PM_BASE, 0x30, &ops, p, "acpi pm", e) &&
           device_add_pio(bus, ACPI_SMI_CMD, 2, &smi_ops, p, "smi command", e);
}

static bool acpi_pm_after_load(void *s, struct error *e)
{
    struct acpi_pm *p = s;
    (void)e;
    device_timer_reload(p->clock, &p->timer);
    return true;
}

static const struct state_field acpi_pm_fields[] = {
    STATE(struct acpi_pm, status),
    STATE(struct acpi_pm, enable),
    STATE(struct acpi_pm, control),
    STATE(struct acpi_pm, gpe_status),
    STATE(struct acpi_pm, gpe_enable),
    STATE(struct acpi_pm, smi),
    STATE(struct acpi_pm, line),
    STATE(struct acpi_pm, timer_seen),
    STATE_SUB(struct acpi_pm, timer, timer_state),
    STATE_SKIP(struct acpi_pm, clock, "wiring"),
    STATE_SKIP(struct acpi_pm, sci, "wiring"),
    STATE_SKIP(struct acpi_pm, power, "wiring"),
    STATE_SKIP(struct acpi_pm, log, "wiring"),
};
const struct state_desc acpi_pm_state =
    STATE_DESC("acpi_pm", struct acpi_pm, 1, acpi_pm_fields, acpi_pm_after_load);
