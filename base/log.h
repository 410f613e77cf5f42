/*
 * base/log.h -- messages for people and the count of what the guest asked for and we lack.
 *
 * A log belongs to a machine. A NULL log is allowed everywhere and writes nothing.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdio.h>
#include "base/types.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

#define LOG_UNIMPLEMENTED_MAX 256

struct log {
    FILE *out;            /* where lines go; NULL means nowhere */
    enum log_level level; /* lines above this level are dropped */
    struct {
        char what[64]; /* e.g. "msr 0x1a4" or "insn vaddps" */
        uint64_t count;
    } unimplemented[LOG_UNIMPLEMENTED_MAX];
    uint32_t unimplemented_count;
};

void log_init(struct log *l, FILE *out, enum log_level level);
void log_write(struct log *l, enum log_level level, const char *format, ...) PRINTF_LIKE(3, 4);
/* Counts `what`; its first occurrence also writes one line "unimplemented: what". */
void log_unimplemented(struct log *l, const char *format, ...) PRINTF_LIKE(2, 3);
/* One line with every unimplemented item and its count; nothing when there is none. */
void log_unimplemented_summary(const struct log *l, FILE *out);

#define log_error(l, ...) log_write(l, LOG_ERROR, __VA_ARGS__)
#define log_warn(l, ...)  log_write(l, LOG_WARN, __VA_ARGS__)
#define log_info(l, ...)  log_write(l, LOG_INFO, __VA_ARGS__)
#define log_debug(l, ...) log_write(l, LOG_DEBUG, __VA_ARGS__)

#endif
