/*
 * base/error.c -- fills error values, and ends the program when our own code is wrong.
 *
 * Promise: a message is one line, whatever text (file names, file content) was formatted into it.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

bool error_set(struct error *e, const char *format, ...)
{
    if (!e)
        return false;
    va_list args;
    va_start(args, format);
    vsnprintf(e->message, sizeof(e->message), format, args);
    va_end(args);
    for (char *p = e->message; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    return false;
}

NORETURN void require_failed(const char *cond, const char *file, int line, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "droste: internal error at %s:%d: %s is false: ", file, line, cond);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    fflush(stderr);
    abort();
}
