/*
 * devices/hpet.h -- High Precision Event Timer: a 64-bit counter of 10 ns ticks and three comparators.
 */
#ifndef DEVICES_HPET_H
#define DEVICES_HPET_H

#include "devices/device.h"

#define HPET_BASE      0xfed00000u
#define HPET_TIMERS    3u
#define HPET_HZ        100000000ull
#define HPET_PERIOD_FS 10000000u   /* femtoseconds a tick */
#define HPET_ID        0x8086a201u /* low half of the capability register, for the ACPI table */

struct hpet_timer {
    uint64_t config;     /* writable bits of the configuration register */
    uint64_t comparator; /* as read; advances by `period` in periodic mode */
    uint64_t period;     /* last value written to the accumulator */
    uint64_t fsb;        /* address << 32 | data */
    bool line;           /* its interrupt line, as last set */
    uint8_t line_kind;   /* where that line is: 0 none, 1 ISA, 2 IOAPIC pin */
    uint8_t line_pin;
    struct timer timer;
    struct hpet *hpet;
};

struct hpet {
    uint64_t config;  /* bit 0 enable, bit 1 legacy replacement */
    uint64_t status;  /* bit n: level-triggered timer n has fired */
    uint64_t counter; /* value while halted; while enabled, counter at tick `since` */
    uint64_t since;   /* HPET tick of power-on time at which `counter` held */
    bool pit_level;   /* the 8254's line 0 and the RTC's line 8, passed on unless legacy replacement is on */
    bool rtc_level;
    struct hpet_timer timers[HPET_TIMERS];
    struct clock *clock;
    const struct intr_sink *sink; /* for FSB delivery */
    struct irq_line isa;          /* set(n = ISA line); n of the struct is unused */
    struct irq_line ioapic;       /* set(n = IOAPIC pin) */
    struct log *log;
};

bool hpet_init(struct hpet *h, struct bus *bus, uint64_t base, struct clock *clock, struct irq_line isa,
               struct irq_line ioapic, const struct intr_sink *sink, struct log *log, struct error *e);
void hpet_reset(struct hpet *h);
/* The 8254 (n = 0) and the RTC (n = 8) reach their ISA lines through here; an irq_line's `set`. */
void hpet_legacy_irq(void *owner, unsigned n, bool level);
/* Timer n would send a message, or raise the line *kind and *pin (as in struct hpet_timer), when it fires. */
bool hpet_would_interrupt(const struct hpet *h, unsigned n, unsigned *kind, unsigned *pin);
extern const struct state_desc hpet_state;

#endif
