/*
 * lib/bench.h -- what the images that are timed from outside share: options, and the lines between which they
 * are timed.
 *
 * A line `BENCH NAME begin` is written out before the work starts, `BENCH NAME end` after it. An emulator's
 * time stamps may be virtual, so whoever reads the serial port takes the time.
 */
#pragma once
#include "guest.h"

/* The text behind `key=` on the command line, or NULL. */
static inline const char *bench_option(const char *key)
{
    size_t n = strlen(key);
    for (const char *at = command_line; *at; at++) {
        if ((at == command_line || at[-1] == ' ') && !memcmp(at, key, n) && at[n] == '=') {
            return at + n + 1;
        }
    }
    return NULL;
}

static inline uint64_t bench_number(const char *key, uint64_t otherwise)
{
    const char *text = bench_option(key);
    uint64_t value = 0;
    for (; text && *text >= '0' && *text <= '9'; text++) {
        value = value * 10 + (uint64_t)(*text - '0');
    }
    return value ? value : otherwise;
}

/* Is the option `key=word`? */
static inline bool bench_is(const char *key, const char *word)
{
    const char *text = bench_option(key);
    size_t n = strlen(word);
    return text && !memcmp(text, word, n) && (!text[n] || text[n] == ' ');
}

static inline void bench_line(const char *what)
{
    const char *name = bench_option("name");
    print("BENCH ");
    for (name = name ? name : "image"; *name && *name != ' '; name++) {
        print_char(*name);
    }
    print(" %s\n", what);
    /* The transmitter is empty: nothing of the line is left to do. */
    for (int spin = 0; spin < 100000 && !(inb(0x3fd) & 0x40); spin++) {
    }
}
