/*
 * devices/power.h -- how a device ends or restarts the machine.
 */
#ifndef DEVICES_POWER_H
#define DEVICES_POWER_H

#include "base/types.h"

enum power_request {
    POWER_RESET, /* whole-platform reset (port CF9, i8042 pulse, port 92h) */
    POWER_OFF,   /* ACPI S5 */
    POWER_EXIT,  /* isa-debug-exit: the program ends with `status` */
};

struct power {
    void *owner;
    /* Called inside a device access; the machine acts on it after the instruction. */
    void (*request)(void *owner, enum power_request request, int status);
};

static inline void power_request(const struct power *p, enum power_request request, int status)
{
    if (p && p->request)
        p->request(p->owner, request, status);
}

#endif
