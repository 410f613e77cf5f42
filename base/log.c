/*
 * base/log.c -- writes log lines and counts what the guest asked for and we lack.
 */
#include "base/log.h"

#include <stdarg.h>
#include <string.h>

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warning",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

void log_init(struct log *l, FILE *out, enum log_level level)
{
    memset(l, 0, sizeof(*l));
    l->out = out;
    l->level = level;
}

void log_write(struct log *l, enum log_level level, const char *format, ...)
{
    if (!l || !l->out || level > l->level)
        return;
    va_list args;
    fprintf(l->out, "droste: %s: ", level_names[level]);
    va_start(args, format);
    vfprintf(l->out, format, args);
    va_end(args);
    fputc('\n', l->out);
    fflush(l->out);
}

void log_unimplemented(struct log *l, const char *format, ...)
{
    if (!l)
        return;
    char what[sizeof(l->unimplemented[0].what)];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);

    for (uint32_t i = 0; i < l->unimplemented_count; i++) {
        if (!strcmp(l->unimplemented[i].what, what)) {
            l->unimplemented[i].count++;
            return;
        }
    }
    /* A guest can invent any number of items, so the last slot gathers what no longer fits. */
    if (l->unimplemented_count == LOG_UNIMPLEMENTED_MAX) {
        l->unimplemented[LOG_UNIMPLEMENTED_MAX - 1].count++;
        return;
    }
    uint32_t slot = l->unimplemented_count++;
    if (slot == LOG_UNIMPLEMENTED_MAX - 1)
        snprintf(what, sizeof(what), "others");
    memcpy(l->unimplemented[slot].what, what, sizeof(what));
    l->unimplemented[slot].count = 1;
    log_write(l, LOG_WARN, "unimplemented: %s", what);
}

void log_unimplemented_summary(const struct log *l, FILE *out)
{
    if (!l || !out || !l->unimplemented_count)
        return;
    fprintf(out, "unimplemented:");
    for (uint32_t i = 0; i < l->unimplemented_count; i++)
        fprintf(out, "%s %s (%llu)", i ? "," : "", l->unimplemented[i].what,
                (unsigned long long)l->unimplemented[i].count);
    fputc('\n', out);
}
