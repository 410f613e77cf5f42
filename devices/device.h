/*
 * devices/device.h -- what every device file shares.
 *
 * A device is a struct, `X_init` (wiring, regions on the bus, timers on the clock), `X_reset`, and a state
 * description. It sees the machine only through the bus, interrupt lines, DMA and the clock.
 */
#ifndef DEVICES_DEVICE_H
#define DEVICES_DEVICE_H

#include "base/clock.h"
#include "base/error.h"
#include "base/intr.h"
#include "base/log.h"
#include "base/types.h"
#include "mmu/bus.h"
#include "snapshots/state.h"

/* After loading, a timer holds its saved deadline but is not (or wrongly) placed in the heap. */
static inline void device_timer_reload(struct clock *c, struct timer *t)
{
    uint64_t deadline = t->deadline;
    clock_disarm(c, t);
    clock_arm(c, t, deadline);
}

/* Ticks of an oscillator of `hz` since power on, and the first moment at which it has made `ticks`. */
static inline uint64_t device_ticks(uint64_t now, uint64_t hz)
{
    return clock_scale(now, hz, CLOCK_HZ);
}

static inline uint64_t device_ticks_deadline(uint64_t ticks, uint64_t hz)
{
    unsigned __int128 t = ((unsigned __int128)ticks * CLOCK_HZ + hz - 1) / hz;
    return t >= CLOCK_NEVER ? CLOCK_NEVER : (uint64_t)t;
}

/* Adds a port range or an MMIO range whose owner needs no handle; false when it is taken. */
static inline bool device_add_pio(struct bus *b, uint16_t base, uint32_t size, const struct bus_ops *ops,
                                  void *owner, const char *name, struct error *e)
{
    return bus_add_pio(b, base, size, ops, owner, name, e) >= 0;
}

static inline bool device_add_mmio(struct bus *b, uint64_t base, uint64_t size, const struct bus_ops *ops,
                                   void *owner, const char *name, struct error *e)
{
    return bus_add_mmio(b, base, size, ops, owner, name, e) >= 0;
}

#endif
