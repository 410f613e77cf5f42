/*
 * base/trace.h -- trace events: what the machine did, stamped with the instruction count.
 *
 * The ring belongs to a machine. An event costs one bit test while it is off. A trace is a function of the
 * run: the stamps are virtual time, so two equal runs give equal traces. A NULL trace is allowed everywhere.
 *
 *     trace_init(&m->trace, &m->clock.now);
 *     trace_enable(&m->trace, "vmx_*", NULL);
 *     trace_vmx_entry(&m->trace, rip, vpid);
 *
 * Who calls trace_*() has written clock.now before, as before anything that can see time.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdio.h>
#include "base/types.h"

#define TRACE_ARGS 6
#define TRACE_RING 4096 /* records kept, a power of two */

enum trace_event {
#define TRACE(name, params, values, text) TRACE_##name,
#include "base/trace.def"
#undef TRACE
    TRACE_COUNT
};

struct trace_record {
    uint64_t stamp; /* ticks of virtual time */
    uint16_t event; /* enum trace_event */
    uint16_t cpu;   /* index of the processor whose turn it was */
    uint32_t reserved;
    uint64_t args[TRACE_ARGS];
};

struct trace {
    uint64_t enabled[(TRACE_COUNT + 63) / 64]; /* one bit an event */
    const uint64_t *now;                       /* the machine's clock */
    FILE *out;                                 /* also write each event as it happens; may be NULL */
    uint16_t cpu;                              /* set by whoever gives processors their turns */
    uint64_t count;                            /* records ever written; the ring holds the last TRACE_RING */
    struct trace_record ring[TRACE_RING];
};

/* No event is on. `now` stays with the owner. */
void trace_init(struct trace *t, const uint64_t *now);
/*
 * Turns events on or off by a comma-separated list of glob patterns ("vmx_*,msr_write"); a pattern that
 * starts with '-' turns off. Returns false, with the pattern's place in *bad (may be NULL), if one matches no
 * event.
 */
bool trace_enable(struct trace *t, const char *patterns, const char **bad);
const char *trace_name(enum trace_event event);
/* "123456 cpu0 vmx_entry rip=0x... vpid=1", without newline; always terminated. Returns its length. */
size_t trace_format(const struct trace_record *r, char *line, size_t size);
/* Writes the last `max` records, oldest first. */
void trace_dump(const struct trace *t, FILE *out, uint64_t max);
/* The slow half of every trace_<name>(). */
void trace_emit(struct trace *t, enum trace_event event, const uint64_t *args, unsigned arg_count);

static inline bool trace_on(const struct trace *t, enum trace_event event)
{
    return t && unlikely(t->enabled[event / 64] >> (event % 64) & 1);
}

#define TRACE_LIST(...)   __VA_ARGS__
#define TRACE_PARAMS(...) struct trace *t, __VA_ARGS__
#define TRACE(name, params, values, text)                                                                    \
    static inline void trace_##name(TRACE_PARAMS params)                                                     \
    {                                                                                                        \
        if (trace_on(t, TRACE_##name)) {                                                                     \
            const uint64_t args[] = {TRACE_LIST values};                                                     \
            _Static_assert(sizeof(args) <= TRACE_ARGS * 8, "too many values in trace event " #name);         \
            trace_emit(t, TRACE_##name, args, ARRAY_LEN(args));                                              \
        }                                                                                                    \
    }
#include "base/trace.def"
#undef TRACE

#endif
