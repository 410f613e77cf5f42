/*
 * devices/rtc.c -- MC146818 real-time clock.
 *
 * Reference: Motorola MC146818A data sheet; Intel ICH9 data sheet, "Real Time Clock". The time is a view of
 * virtual time from a start given at creation. The update takes no time: UIP shows in the 244 microseconds
 * before it. Flags that nobody waits for are worked out when register C is read, so an idle clock has no
 * timer. Tests: tests/unit/test_dev_rtc.c
 */
#include "devices/rtc.h"

#include <string.h>

#define RTC_HZ 32768ull

enum {
    REG_SECONDS = 0,
    REG_SECONDS_ALARM,
    REG_MINUTES,
    REG_MINUTES_ALARM,
    REG_HOURS,
    REG_HOURS_ALARM,
    REG_WEEKDAY,
    REG_DAY,
    REG_MONTH,
    REG_YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    REG_CENTURY = 0x32,
};

#define A_UIP  0x80
#define B_SET  0x80
#define B_PIE  0x40
#define B_AIE  0x20
#define B_UIE  0x10
#define B_DM   0x04 /* binary */
#define B_24H  0x02
#define C_IRQF 0x80
#define C_PF   0x40
#define C_AF   0x20
#define C_UF   0x10

/* -- Calendar ------------------------------------------------------------------------------------------ */

/* Days since 1970-01-01 of a proleptic Gregorian date; years start in March so that leap days come last. */
static int64_t days_from_date(int64_t y, unsigned m, unsigned d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (int64_t)(m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void date_from_days(int64_t days, int64_t *y, unsigned *m, unsigned *d)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *d = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    *m = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    *y = yoe + era * 400 + (*m <= 2);
}

static uint8_t encode(const struct rtc *r, unsigned v)
{
    return (uint8_t)(r->cmos[REG_B] & B_DM ? v : v / 10 % 10 << 4 | v % 10);
}

static unsigned decode(const struct rtc *r, uint8_t v)
{
    return r->cmos[REG_B] & B_DM ? v : (v >> 4) * 10u + (v & 15);
}

static uint8_t encode_hour(const struct rtc *r, unsigned h)
{
    if (r->cmos[REG_B] & B_24H)
        return encode(r, h);
    return encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? 0x80 : 0);
}

static unsigned decode_hour(const struct rtc *r, uint8_t v)
{
    if (r->cmos[REG_B] & B_24H)
        return decode(r, v);
    return decode(r, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

/* -- Time ---------------------------------------------------------------------------------------------- */

static bool rtc_running(const struct rtc *r)
{
    /* Divider 010b runs; 11xb holds it in reset; SET stops the registers, not the divider. */
    return !(r->cmos[REG_B] & B_SET) && (r->cmos[REG_A] >> 4 & 7) == 2;
}

/* A second may begin in the future after a divider reset, hence signed. */
static int64_t rtc_elapsed(const struct rtc *r)
{
    int64_t d = (int64_t)(r->clock->now - r->origin);
    return d >= 0 ? d / (int64_t)CLOCK_HZ : -1;
}

static void rtc_fill(struct rtc *r)
{
    int64_t t = r->seconds + rtc_elapsed(r), y;
    int64_t days = (t >= 0 ? t : t - 86399) / 86400;
    unsigned s = (unsigned)(t - days * 86400), m, d;
    date_from_days(days, &y, &m, &d);
    r->cmos[REG_SECONDS] = encode(r, s % 60);
    r->cmos[REG_MINUTES] = encode(r, s / 60 % 60);
    r->cmos[REG_HOURS] = encode_hour(r, s / 3600);
    r->cmos[REG_WEEKDAY] = encode(r, (unsigned)(((days + 4) % 7 + 7) % 7) + 1);
    r->cmos[REG_DAY] = encode(r, d);
    r->cmos[REG_MONTH] = encode(r, m);
    r->cmos[REG_YEAR] = encode(r, (unsigned)((y % 100 + 100) % 100));
    r->cmos[REG_CENTURY] = encode(r, (unsigned)(y / 100 % 100));
}

/* Takes the time from the registers; values out of range carry over, as no calendar check is made. */
static void rtc_take(struct rtc *r)
{
    int64_t y = decode(r, r->cmos[REG_CENTURY]) * 100 + decode(r, r->cmos[REG_YEAR]);
    unsigned m = decode(r, r->cmos[REG_MONTH]);
    int64_t days = days_from_date(y, m >= 1 && m <= 12 ? m : 1, decode(r, r->cmos[REG_DAY]));
    r->seconds = days * 86400 + decode_hour(r, r->cmos[REG_HOURS]) * 3600 +
                 decode(r, r->cmos[REG_MINUTES]) * 60 + decode(r, r->cmos[REG_SECONDS]);
    r->seconds -= rtc_elapsed(r);
    r->checked_second = (uint64_t)MAX(rtc_elapsed(r), 0);
}

static bool rtc_uip(const struct rtc *r)
{
    if (!rtc_running(r))
        return false;
    uint64_t phase = (uint64_t)(r->clock->now - r->origin) % CLOCK_HZ;
    if ((int64_t)(r->clock->now - r->origin) < 0)
        phase = CLOCK_HZ - (r->origin - r->clock->now) % CLOCK_HZ;
    return phase >= CLOCK_HZ - 244000;
}

/* -- Interrupts ---------------------------------------------------------------------------------------- */

static void rtc_update_line(struct rtc *r)
{
    /* The flags and the enables have the same bit positions in registers C and B. */
    bool level = r->cmos[REG_C] & r->cmos[REG_B] & (C_PF | C_AF | C_UF);
    r->cmos[REG_C] = (uint8_t)((r->cmos[REG_C] & ~C_IRQF) | (level ? C_IRQF : 0));
    if (level == r->line)
        return;
    r->line = level;
    irq_set(&r->irq, level);
}

static bool alarm_matches(const struct rtc *r, int64_t t)
{
    static const struct {
        uint8_t reg;
        unsigned divisor, modulus;
    } parts[] = {{REG_SECONDS_ALARM, 1, 60}, {REG_MINUTES_ALARM, 60, 60}, {REG_HOURS_ALARM, 3600, 24}};
    int64_t s = ((t % 86400) + 86400) % 86400;
    for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
        uint8_t v = r->cmos[parts[i].reg];
        if ((v & 0xc0) == 0xc0) /* "don't care" */
            continue;
        unsigned want = parts[i].reg == REG_HOURS_ALARM ? decode_hour(r, v) : decode(r, v);
        if (want != s / parts[i].divisor % parts[i].modulus)
            return false;
    }
    return true;
}

/* Clocks of 32.768 kHz between two periodic interrupts, 0 when off. */
static uint64_t rtc_period(const struct rtc *r)
{
    unsigned rate = r->cmos[REG_A] & 15;
    if (!rate || (r->cmos[REG_A] >> 4 & 7) != 2)
        return 0;
    return 1ull << ((rate < 3 ? rate + 7 : rate) - 1);
}

static uint64_t rtc_clocks(const struct rtc *r)
{
    int64_t d = (int64_t)(r->clock->now - r->origin);
    return d > 0 ? clock_scale((uint64_t)d, RTC_HZ, CLOCK_HZ) : 0;
}

/* Sets the flags of everything that happened up to now. */
static void rtc_catch_up(struct rtc *r)
{
    int64_t elapsed = rtc_elapsed(r);
    if (rtc_running(r) && elapsed > 0 && (uint64_t)elapsed > r->checked_second) {
        uint64_t n = MIN((uint64_t)elapsed - r->checked_second, 86400u);
        r->cmos[REG_C] |= C_UF;
        for (uint64_t i = 0; i < n && !(r->cmos[REG_C] & C_AF); i++)
            if (alarm_matches(r, r->seconds + elapsed - (int64_t)i))
                r->cmos[REG_C] |= C_AF;
    }
    r->checked_second = (uint64_t)MAX(elapsed, 0);
    uint64_t period = rtc_period(r), clocks = rtc_clocks(r);
    if (period && clocks / period > r->checked_period / period)
        r->cmos[REG_C] |= C_PF;
    r->checked_period = clocks;
    rtc_update_line(r);
}

static void rtc_arm(struct rtc *r)
{
    uint64_t period = rtc_period(r);
    if (rtc_running(r) && (r->cmos[REG_B] & (B_AIE | B_UIE)))
        clock_arm(r->clock, &r->second_timer, r->origin + (uint64_t)(rtc_elapsed(r) + 1) * CLOCK_HZ);
    else
        clock_disarm(r->clock, &r->second_timer);
    if (period && (r->cmos[REG_B] & B_PIE)) {
        uint64_t next = (rtc_clocks(r) / period + 1) * period;
        clock_arm(r->clock, &r->period_timer, r->origin + device_ticks_deadline(next, RTC_HZ));
    } else {
        clock_disarm(r->clock, &r->period_timer);
    }
}

static void rtc_expire(void *owner)
{
    struct rtc *r = owner;
    rtc_catch_up(r);
    rtc_arm(r);
}

/* -- Ports --------------------------------------------------------------------------------------------- */

static bool is_time(unsigned i)
{
    return i == REG_SECONDS || i == REG_MINUTES || i == REG_HOURS || (i >= REG_WEEKDAY && i <= REG_YEAR) ||
           i == REG_CENTURY;
}

static uint8_t rtc_get(struct rtc *r, unsigned i)
{
    uint8_t v;
    if (is_time(i) && rtc_running(r))
        rtc_fill(r);
    switch (i) {
    case REG_A:
        return (r->cmos[REG_A] & 0x7f) | (rtc_uip(r) ? A_UIP : 0);
    case REG_C: /* reading acknowledges */
        rtc_catch_up(r);
        v = r->cmos[REG_C];
        r->cmos[REG_C] = 0;
        rtc_update_line(r);
        return v;
    case REG_D:
        return 0x80; /* the battery is good */
    default:
        return r->cmos[i];
    }
}

static void rtc_put_a(struct rtc *r, uint8_t v)
{
    bool was = (r->cmos[REG_A] >> 4 & 7) == 2, runs = (v >> 4 & 7) == 2;
    if (was && !runs && !(r->cmos[REG_B] & B_SET))
        rtc_fill(r);
    r->cmos[REG_A] = v & 0x7f;
    if (!was && runs) { /* the first update comes half a second after the divider's reset ends */
        r->origin = r->clock->now - CLOCK_HZ / 2;
        r->checked_period = 0;
        rtc_take(r);
    }
}

static void rtc_put_b(struct rtc *r, uint8_t v)
{
    bool was = rtc_running(r);
    if (was)
        rtc_fill(r); /* the registers as they were in the old format; software rewrites them on a change */
    if (v & B_SET)
        v &= ~B_UIE;
    r->cmos[REG_B] = v;
    if (!was && rtc_running(r))
        rtc_take(r);
}

static void rtc_put(struct rtc *r, unsigned i, uint8_t v)
{
    rtc_catch_up(r);
    switch (i) {
    case REG_A:
        rtc_put_a(r, v);
        break;
    case REG_B:
        rtc_put_b(r, v);
        break;
    case REG_C:
    case REG_D:
        break; /* read-only */
    default:
        if (is_time(i) && rtc_running(r)) {
            rtc_fill(r);
            r->cmos[i] = v;
            rtc_take(r);
        } else {
            r->cmos[i] = v;
        }
    }
    rtc_update_line(r);
    rtc_arm(r);
}

static uint64_t rtc_read(void *owner, uint64_t offset, unsigned size)
{
    struct rtc *r = owner;
    (void)size;
    if (offset & 1)
        return rtc_get(r, r->index[offset >> 1] | (offset & 2 ? 0x80 : 0));
    return offset ? r->index[1] : (uint64_t)(r->index[0] | (r->nmi_disabled ? 0x80 : 0));
}

static void rtc_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct rtc *r = owner;
    (void)size;
    if (offset & 1) {
        rtc_put(r, r->index[offset >> 1] | (offset & 2 ? 0x80 : 0), (uint8_t)value);
        return;
    }
    r->index[offset >> 1] = value & 0x7f;
    if (!offset)
        r->nmi_disabled = value & 0x80;
}

void rtc_set_memory(struct rtc *r, uint64_t below_4g, uint64_t above_4g)
{
    uint64_t kb = MIN(below_4g > 0x100000 ? (below_4g - 0x100000) >> 10 : 0, 0xffffull);
    uint64_t blocks = MIN(below_4g > 0x1000000 ? (below_4g - 0x1000000) >> 16 : 0, 0xffffull);
    uint64_t high = MIN(above_4g >> 16, 0xffffffull);
    store_le(&r->cmos[0x15], 640, 2);
    store_le(&r->cmos[0x17], kb, 2);
    store_le(&r->cmos[0x30], kb, 2);
    store_le(&r->cmos[0x34], blocks, 2);
    store_le(&r->cmos[0x5b], high, 3);
}

/* A platform reset clears the interrupt enables; time and memory live on the battery. */
void rtc_reset(struct rtc *r)
{
    r->cmos[REG_B] &= ~(B_PIE | B_AIE | B_UIE);
    r->cmos[REG_C] = 0;
    r->index[0] = r->index[1] = 0;
    r->nmi_disabled = false;
    rtc_update_line(r);
    rtc_arm(r);
}

bool rtc_init(struct rtc *r, struct bus *bus, struct clock *clock, int64_t start, struct irq_line irq8,
              struct error *e)
{
    static const struct bus_ops ops = {rtc_read, rtc_write, 1};
    memset(r, 0, sizeof(*r));
    r->clock = clock;
    r->irq = irq8;
    r->start_seconds = start;
    r->origin = clock->now;
    r->seconds = start;
    clock_add_timer(clock, &r->second_timer, "rtc second", rtc_expire, r);
    clock_add_timer(clock, &r->period_timer, "rtc period", rtc_expire, r);
    r->cmos[REG_A] = 0x26;
    r->cmos[REG_B] = B_24H;
    r->cmos[0x14] = 0x04; /* equipment: a keyboard, no floppy */
    rtc_fill(r);
    rtc_reset(r);
    return device_add_pio(bus, 0x70, 4, &ops, r, "rtc", e);
}

static bool rtc_after_load(void *s, struct error *e)
{
    struct rtc *r = s;
    /* Seconds beyond some hundred million years would overflow the calendar. */
    if (r->seconds > INT64_MAX / 4 || r->seconds < INT64_MIN / 4 || r->index[0] > 0x7f || r->index[1] > 0x7f)
        return error_set(e, "rtc: impossible time or index");
    device_timer_reload(r->clock, &r->second_timer);
    device_timer_reload(r->clock, &r->period_timer);
    return true;
}

static const struct state_field rtc_fields[] = {
    STATE(struct rtc, cmos),
    STATE(struct rtc, index),
    STATE(struct rtc, nmi_disabled),
    STATE(struct rtc, seconds),
    STATE(struct rtc, origin),
    STATE(struct rtc, checked_second),
    STATE(struct rtc, checked_period),
    STATE(struct rtc, line),
    STATE_SUB(struct rtc, second_timer, timer_state),
    STATE_SUB(struct rtc, period_timer, timer_state),
    STATE_SKIP(struct rtc, clock, "wiring"),
    STATE_SKIP(struct rtc, irq, "wiring"),
    STATE_SKIP(struct rtc, start_seconds, "wiring"),
};
const struct state_desc rtc_state = STATE_DESC("rtc", struct rtc, 1, rtc_fields, rtc_after_load);
