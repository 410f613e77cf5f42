/*
 * devices/rtc.h -- MC146818 real-time clock with 256 bytes of CMOS memory, ports 70h to 73h.
 */
#ifndef DEVICES_RTC_H
#define DEVICES_RTC_H

#include "devices/device.h"

struct rtc {
    uint8_t cmos[256];       /* memory; the time registers count only while SET stops the clock */
    uint8_t index[2];        /* ports 70h and 72h */
    bool nmi_disabled;       /* port 70h bit 7 */
    int64_t seconds;         /* since 1970, of the second that began at tick `origin` */
    uint64_t origin;         /* tick at which a second began: the phase of the divider */
    uint64_t checked_second; /* whole seconds since origin up to which UF and AF have been looked at */
    uint64_t checked_period; /* the same for PF, in 32.768 kHz clocks */
    bool line;
    struct timer second_timer;
    struct timer period_timer;
    struct clock *clock;
    struct irq_line irq;
    int64_t start_seconds; /* wiring: the time at power on */
};

/* `start` is the time at power on, in seconds since 1970 (never the host's clock read here). */
bool rtc_init(struct rtc *r, struct bus *bus, struct clock *clock, int64_t start, struct irq_line irq8,
              struct error *e);
void rtc_reset(struct rtc *r);
/* CMOS bytes in which firmware reports memory below and above 4 GB. */
void rtc_set_memory(struct rtc *r, uint64_t below_4g, uint64_t above_4g);
extern const struct state_desc rtc_state;

#endif
