/*
 * base/trace.c -- the ring of trace records and their text.
 *
 * The hot path stores numbers only; text is made on demand from the row's format.
 * Tests: tests/unit/test_base.c
 */
#include "base/trace.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <string.h>

static const struct {
    const char *name, *text;
} trace_rows[] = {
#define TRACE(name, params, values, text) {#name, text},
#include "base/trace.def"
#undef TRACE
};

void trace_init(struct trace *t, const uint64_t *now)
{
    memset(t, 0, sizeof(*t));
    t->now = now;
}

const char *trace_name(enum trace_event event)
{
    return (unsigned)event < TRACE_COUNT ? trace_rows[event].name : "unknown";
}

bool trace_enable(struct trace *t, const char *patterns, const char **bad)
{
    while (*patterns) {
        char pattern[64];
        const char *start = patterns;
        size_t n = strcspn(patterns, ",");
        bool on = patterns[0] != '-';
        bool matched = false;

        patterns += n + (patterns[n] == ',');
        if (n == 0)
            continue;
        const char *text = start + !on;
        n -= !on;
        if (n < sizeof(pattern)) {
            memcpy(pattern, text, n);
            pattern[n] = 0;
            for (unsigned i = 0; i < TRACE_COUNT; i++) {
                if (fnmatch(pattern, trace_rows[i].name, 0) != 0)
                    continue;
                matched = true;
                if (on)
                    t->enabled[i / 64] |= BIT(i % 64);
                else
                    t->enabled[i / 64] &= ~BIT(i % 64);
            }
        }
        if (!matched) {
            if (bad)
                *bad = start;
            return false;
        }
    }
    return true;
}

void trace_emit(struct trace *t, enum trace_event event, const uint64_t *args, unsigned arg_count)
{
    struct trace_record *r = &t->ring[t->count++ % TRACE_RING];
    r->stamp = t->now ? *t->now : 0;
    r->event = (uint16_t)event;
    r->cpu = t->cpu;
    r->reserved = 0;
    memset(r->args, 0, sizeof(r->args));
    memcpy(r->args, args, arg_count * sizeof(args[0]));
    if (t->out) {
        char line[256];
        trace_format(r, line, sizeof(line));
        fprintf(t->out, "%s\n", line);
    }
}

/* --- Text ------------------------------------------------------------------------------------------------
 */

static size_t append(char *line, size_t size, size_t at, const char *text, size_t n)
{
    for (size_t i = 0; i < n && at + 1 < size; i++)
        line[at++] = text[i];
    line[at] = 0;
    return at;
}

static int format_value(char *buffer, size_t size, char conversion, uint64_t v)
{
    switch (conversion) {
    case 'x':
        return snprintf(buffer, size, "0x%" PRIx64, v);
    case 'u':
        return snprintf(buffer, size, "%" PRIu64, v);
    case 'd':
        return snprintf(buffer, size, "%" PRId64, (int64_t)v);
    case 'r':
        return snprintf(buffer, size, "%s", v ? "write" : "read");
    default:
        return snprintf(buffer, size, "%%%c", conversion);
    }
}

size_t trace_format(const struct trace_record *r, char *line, size_t size)
{
    char buffer[64];
    size_t at = 0;
    unsigned arg = 0;

    if (!size)
        return 0;
    int n = snprintf(buffer, sizeof(buffer), "%" PRIu64 " cpu%u ", r->stamp, r->cpu);
    at = append(line, size, at, buffer, (size_t)n);
    if (r->event >= TRACE_COUNT)
        return append(line, size, at, "unknown", 7);
    at = append(line, size, at, trace_rows[r->event].name, strlen(trace_rows[r->event].name));
    at = append(line, size, at, " ", 1);
    for (const char *p = trace_rows[r->event].text; *p; p++) {
        if (*p != '%' || !p[1]) {
            at = append(line, size, at, p, 1);
            continue;
        }
        n = format_value(buffer, sizeof(buffer), *++p, arg < TRACE_ARGS ? r->args[arg] : 0);
        arg++;
        at = append(line, size, at, buffer, (size_t)n);
    }
    return at;
}

void trace_dump(const struct trace *t, FILE *out, uint64_t max)
{
    uint64_t kept = MIN(t->count, (uint64_t)TRACE_RING);
    for (uint64_t i = t->count - MIN(kept, max); i < t->count; i++) {
        char line[256];
        trace_format(&t->ring[i % TRACE_RING], line, sizeof(line));
        fprintf(out, "%s\n", line);
    }
}
