/*
 * base/error.h -- host-side failures as values that carry one sentence for people.
 *
 * A function that can fail takes `struct error *e` last and returns false (or NULL); the caller that ends the
 * program prints e->message. Guest faults never travel this way (see cpu_raise).
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "base/types.h"

struct error {
    char message[512]; /* one line, no newline, names the option, file and offset */
};

/* Fills e (may be NULL) and returns false, so that `return error_set(e, ...)` reads well. */
bool error_set(struct error *e, const char *format, ...) PRINTF_LIKE(2, 3);

/* Our own bug: prints the condition, place and the message, then aborts. Never on anything a guest controls.
 */
#define require(cond, ...) ((cond) ? (void)0 : require_failed(#cond, __FILE__, __LINE__, __VA_ARGS__))
NORETURN void require_failed(const char *cond, const char *file, int line, const char *format, ...)
    PRINTF_LIKE(4, 5);

#endif
